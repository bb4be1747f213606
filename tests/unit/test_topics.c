/* topics: the table is complete and consistent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/topics.h"
#include "workers/worker.h"

#define HOUR_MS INT64_C(3600000)

static void the_five_topics_are_there(void **state)
{
	static const char *const names[] = { TOPIC_POSTS, TOPIC_COMMANDS, TOPIC_CHUNKS, TOPIC_RESULTS, TOPIC_PRODUCT_EVENTS };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct topic *topic = topic_find(names[i]);

		assert_non_null(topic);
		assert_string_equal(names[i], topic->name);
	}
	assert_null(topic_find("feed.unknown"));
	assert_null(topic_find(""));
}

static void results_have_a_partition_for_each_gateway_number(void **state)
{
	(void)state;
	assert_int_equal(64, topic_find(TOPIC_RESULTS)->partitions); /* as many as id.h has gateway numbers */
	assert_int_equal(HOUR_MS, topic_find(TOPIC_RESULTS)->retention_ms);
	assert_int_equal(7 * 24 * HOUR_MS, topic_find(TOPIC_POSTS)->retention_ms);
}

static void names_are_unique_and_short(void **state)
{
	(void)state;
	for (size_t i = 0; i < topic_count; i++) {
		assert_ptr_equal(&topic_table[i], topic_find(topic_table[i].name));
		assert_in_range(strlen(topic_table[i].name), 1, TOPIC_NAME_MAX - 1 - 64); /* 64: the longest prefix */
		assert_true(topic_table[i].retention_ms > 0);
		assert_non_null(topic_table[i].help);
	}
}

static void every_group_reads_a_topic_and_has_dead_letters(void **state)
{
	char name[TOPIC_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < consumer_group_count; i++) {
		assert_non_null(topic_find(consumer_group_table[i].topic));
		topic_dead_letter(consumer_group_table[i].group, name);
		assert_non_null(topic_find(name));
		assert_int_equal(30 * 24 * HOUR_MS, topic_find(name)->retention_ms);
	}
	topic_dead_letter("fanout", name);
	assert_string_equal("fanout.dlq", name);
}

static void retry_topics_follow_the_setting(void **state)
{
	struct settings settings = { .retry_delays = (char[]){ "2s, 30m" } };
	struct err err = ERR_INIT;
	size_t retries = 0;

	(void)state;
	assert_int_equal(0, topics_open(&settings, &err));
	assert_null(topic_find("index.retry.5s"));
	assert_null(topic_find("command.retry.2s")); /* order counts: in place */
	assert_int_equal(1800000, topics_delays()->list[1].ms);
	for (size_t i = 0; i < consumer_group_count; i++) {
		const struct consumer_group *group = &consumer_group_table[i];
		char name[TOPIC_NAME_MAX];

		for (size_t stage = 0; group->has_retries && stage < 2; stage++, retries++) {
			topic_retry(group->group, stage, name);
			assert_non_null(topic_find(name));
			assert_int_equal(topic_find(group->topic)->partitions, topic_find(name)->partitions);
			assert_int_equal(30 * 24 * HOUR_MS, topic_find(name)->retention_ms);
		}
		assert_true(!group->is_retry || strstr(group->topic, ".retry.") != NULL);
	}
	assert_int_equal(6, retries);
	settings.retry_delays = (char[]){ "5 s" };
	assert_int_equal(-1, topics_open(&settings, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	assert_non_null(topic_find("index.retry.2s")); /* as before */
	settings.retry_delays = NULL;
	assert_int_equal(0, topics_open(&settings, &err));
	assert_non_null(topic_find("index.retry.10m"));
}

/* The two tables say the same of every worker. */
static void workers_and_groups_agree(void **state)
{
	(void)state;
	for (size_t w = 0; w < worker_count; w++) {
		const struct worker_entry *entry = &worker_table[w];
		size_t found = 0;

		for (size_t i = 0; i < consumer_group_count && entry->ops != NULL; i++) {
			const struct consumer_group *group = &consumer_group_table[i];

			if (strcmp(group->group, entry->name) != 0 || group->is_retry)
				continue;
			found++;
			assert_string_equal(entry->topic, group->topic);
			assert_int_equal(entry->retries == RETRY_BY_TOPIC, group->has_retries);
		}
		assert_int_equal(entry->ops != NULL, found);
	}
}

static int request_log(char *name, struct topic *out, struct err *err)
{
	const struct settings settings = { .gateway.request_log_topic = name };

	return topic_of_request_log(&settings, out, err);
}

static void the_request_log_is_off_or_a_topic_beside_the_table(void **state)
{
	char off[] = "", feed[] = "feed", fine[] = "A.request-log_1";
	char *wrong[] = { (char[]){ "." }, (char[]){ ".." }, (char[]){ "a b" }, (char[]){ "a/b" }, (char[]){ TOPIC_POSTS },
		(char[]){ "index.dlq" } };
	struct topic topic;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, request_log(off, &topic, &err));
	assert_null(topic.name);
	assert_int_equal(0, request_log(feed, &topic, &err));
	assert_string_equal("feed", topic.name);
	assert_true(topic.retention_ms > 0);
	assert_int_equal(0, request_log(fine, &topic, &err));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(-1, request_log(wrong[i], &topic, &err));
		assert_int_equal(ERR_INVALID, err.kind);
		assert_non_null(strstr(err.message, "gateway.request_log_topic"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_five_topics_are_there),
		cmocka_unit_test(results_have_a_partition_for_each_gateway_number),
		cmocka_unit_test(names_are_unique_and_short),
		cmocka_unit_test(every_group_reads_a_topic_and_has_dead_letters),
		cmocka_unit_test(retry_topics_follow_the_setting),
		cmocka_unit_test(names_are_unique_and_short), /* with the retry topics */
		cmocka_unit_test(workers_and_groups_agree),
		cmocka_unit_test(the_request_log_is_off_or_a_topic_beside_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
