/* topics: the table is complete and consistent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/topics.h"

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
		cmocka_unit_test(the_request_log_is_off_or_a_topic_beside_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
