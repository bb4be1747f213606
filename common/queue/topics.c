/* No input; the names, partitions and retention of all topics come out: THE TABLE. */
#include "common/queue/topics.h"

#include <stdio.h>
#include <string.h>

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)
#define MIB (INT64_C(1) << 20)
#define DEAD_LETTERS(group) { group ".dlq", 1, 30 * DAY_MS, 4 * MIB, "what " group " gave up: the record as it was, the reason in headers" }

/* A topic of one partition keeps the order of all its records. */
const struct topic topic_table[] = {
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
const size_t topic_count = sizeof(topic_table) / sizeof(topic_table[0]);

const struct consumer_group consumer_group_table[] = {
	{ "command", TOPIC_COMMANDS },
	{ "fanout", TOPIC_POSTS },
	{ "chunk", TOPIC_CHUNKS },
	{ "index", TOPIC_POSTS },
	{ "relay.rabbitmq", TOPIC_PRODUCT_EVENTS },
	{ "relay.redis", TOPIC_PRODUCT_EVENTS },
	{ "relay.webhook", TOPIC_PRODUCT_EVENTS },
};
const size_t consumer_group_count = sizeof(consumer_group_table) / sizeof(consumer_group_table[0]);

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

void topic_dead_letter(const char *group, char out[TOPIC_NAME_MAX])
{
	snprintf(out, TOPIC_NAME_MAX, "%s.dlq", group);
}
