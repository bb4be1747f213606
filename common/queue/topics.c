/* The delays of retries go in; the names, partitions and retention of all topics come out: THE TABLE. */
#include "common/queue/topics.h"

#include <stdio.h>
#include <string.h>

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)
#define MIB (INT64_C(1) << 20)
#define DEAD_LETTERS(group) { group ".dlq", 1, 30 * DAY_MS, 4 * MIB, "what " group " gave up: the record as it was, the reason in headers" }

/* A topic of one partition keeps the order of all its records. */
static const struct topic fixed_topics[] = {
	/* name, partitions, retention, largest record, key → value. A dead letter is a record and more */
	{ TOPIC_POSTS, 0, 7 * DAY_MS, 2 * MIB, "author → post" },
	{ TOPIC_COMMANDS, 0, 7 * DAY_MS, 2 * MIB, "id of the thing changed → command" },
	{ TOPIC_CHUNKS, 0, 7 * DAY_MS, 2 * MIB, "post.number → one chunk of a long friend list" },
	{ TOPIC_RESULTS, 64, HOUR_MS, 2 * MIB, "no key, partition = gateway number → outcome of a command" },
	{ TOPIC_PRODUCT_EVENTS, 0, 7 * DAY_MS, 2 * MIB, "product → created or deleted (CloudEvents headers)" },
	DEAD_LETTERS("command"),
	DEAD_LETTERS("fanout"),
	DEAD_LETTERS("chunk"),
	DEAD_LETTERS("index"),
	DEAD_LETTERS("relay.rabbitmq"),
	DEAD_LETTERS("relay.redis"),
	DEAD_LETTERS("relay.webhook"),
};
#define FIXED_TOPICS (sizeof(fixed_topics) / sizeof(fixed_topics[0]))

static const struct consumer_group fixed_groups[] = {
	/* group, topic, has retry topics: where order does not matter */
	{ "command", TOPIC_COMMANDS, false, false },
	{ "fanout", TOPIC_POSTS, true, false },
	{ "chunk", TOPIC_CHUNKS, true, false },
	{ "index", TOPIC_POSTS, true, false },
	{ "relay.rabbitmq", TOPIC_PRODUCT_EVENTS, false, false },
	{ "relay.redis", TOPIC_PRODUCT_EVENTS, false, false },
	{ "relay.webhook", TOPIC_PRODUCT_EVENTS, false, false },
};
#define FIXED_GROUPS (sizeof(fixed_groups) / sizeof(fixed_groups[0]))

/* The tables with the retry topics of this process's settings behind the fixed rows. */
#define RETRIES_MAX (FIXED_GROUPS * DELAYS_MAX)
static struct topic topics[FIXED_TOPICS + RETRIES_MAX];
static struct consumer_group groups[FIXED_GROUPS + RETRIES_MAX];
static char retry_names[RETRIES_MAX][TOPIC_NAME_MAX];
static struct delays delays;

const struct topic *const topic_table = topics;
const struct consumer_group *const consumer_group_table = groups;
size_t topic_count, consumer_group_count;

const struct topic *topic_find(const char *name)
{
	for (size_t i = 0; i < topic_count; i++) {
		if (strcmp(topic_table[i].name, name) == 0)
			return &topic_table[i];
	}
	return NULL;
}

/* Kafka's rule for names; its length is bounded by the setting's row. */
static bool is_topic_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	return name[strspn(name, allowed)] == '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int topic_of_request_log(const struct settings *settings, struct topic *out, struct err *err)
{
	const char *name = settings->gateway.request_log_topic;

	if (!is_topic_name(name))
		return err_set(err, ERR_INVALID, "setting gateway.request_log_topic: \"%s\" is no name for a topic "
			"(letters, digits, '.', '_' and '-')", name);
	if (topic_find(name) != NULL)
		return err_set(err, ERR_INVALID, "setting gateway.request_log_topic: %s has records of another kind", name);
	*out = (struct topic){ name[0] != '\0' ? name : NULL, 0, 7 * DAY_MS, MIB, "no key → one request of the gateway, as a line" };
	return 0;
}

void topic_retry(const char *group, size_t stage, char out[TOPIC_NAME_MAX])
{
	snprintf(out, TOPIC_NAME_MAX, "%s.retry.%s", group, delays.list[stage].name);
}

const struct delays *topics_delays(void)
{
	return &delays;
}

/* As many partitions as the topic that the records come from, so that a key stays where it is. */
static void add_retry(const struct consumer_group *group, size_t stage)
{
	char *name = retry_names[topic_count - FIXED_TOPICS];
	const struct topic *origin = topic_find(group->topic);

	topic_retry(group->group, stage, name);
	topics[topic_count++] = (struct topic){ name, origin->partitions, 30 * DAY_MS, 4 * MIB,
		"what the group could not do yet: the record as it was, when it is due and why in headers" };
	groups[consumer_group_count++] = (struct consumer_group){ group->group, name, false, true };
}

static void add_retries(void)
{
	topic_count = FIXED_TOPICS;
	consumer_group_count = FIXED_GROUPS;
	for (size_t i = 0; i < FIXED_GROUPS; i++)
		for (size_t stage = 0; fixed_groups[i].has_retries && stage < delays.count; stage++)
			add_retry(&fixed_groups[i], stage);
}

/* The fixed rows are there before anybody asks. */
static void __attribute__((constructor)) fill_tables(void)
{
	memcpy(topics, fixed_topics, sizeof(fixed_topics));
	memcpy(groups, fixed_groups, sizeof(fixed_groups));
	topic_count = FIXED_TOPICS;
	consumer_group_count = FIXED_GROUPS;
}

int topics_open(const struct settings *settings, struct err *err)
{
	struct delays wanted;
	struct err why = ERR_INIT;

	if (delays_parse(settings->retry_delays != NULL ? settings->retry_delays : DELAYS_INITIAL, &wanted, &why) < 0)
		return err_set(err, ERR_FATAL, "setting worker.retry_delays: %s", why.message);
	if (memcmp(&wanted, &delays, sizeof(wanted)) == 0)
		return 0; /* others may be reading */
	delays = wanted;
	add_retries();
	return 0;
}

void topic_dead_letter(const char *group, char out[TOPIC_NAME_MAX])
{
	snprintf(out, TOPIC_NAME_MAX, "%s.dlq", group);
}
