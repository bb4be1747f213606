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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_five_topics_are_there),
		cmocka_unit_test(results_have_a_partition_for_each_gateway_number),
		cmocka_unit_test(names_are_unique_and_short),
		cmocka_unit_test(every_group_reads_a_topic_and_has_dead_letters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
