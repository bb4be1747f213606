/* record: headers found and added, records released once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/record.h"

static void the_last_header_of_a_name_counts(void **state)
{
	struct record record = { 0 };

	(void)state;
	record_header_add(&record, "a", slice_of("1"));
	record_header_add(&record, "b", slice_of("2"));
	record_header_add(&record, "a", slice_of("3"));
	assert_int_equal(3, record.header_count);
	assert_true(slice_is(record_header_get(&record, "a"), "3"));
	assert_true(slice_is(record_header_get(&record, "b"), "2"));
	assert_null(record_header_get(&record, "c").data);
	assert_null(record_header_get(&record, "A").data);
}

static void a_null_value_is_none(void **state)
{
	struct record record = { 0 };

	(void)state;
	record_header_add(&record, "a", slice_of("1"));
	record_header_add(&record, "a", SLICE_NONE);
	assert_null(record_header_get(&record, "a").data);
}

static void headers_beyond_the_room_are_dropped(void **state)
{
	struct record record = { 0 };

	(void)state;
	for (int i = 0; i < RECORD_HEADERS + 3; i++)
		record_header_add(&record, i < RECORD_HEADERS ? "kept" : "dropped", slice_of("x"));
	assert_int_equal(RECORD_HEADERS, record.header_count);
	assert_null(record_header_get(&record, "dropped").data);
}

static void count_release(void *handle)
{
	(*(int *)handle)++;
}

static void release_happens_once(void **state)
{
	int released = 0;
	struct record record = { .handle = &released, .release = count_release, .offset = 7 };
	struct record borrowed = { .release = count_release };

	(void)state;
	record_release(&record);
	record_release(&record);
	record_release(&borrowed);
	assert_int_equal(1, released);
	assert_int_equal(0, record.offset);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_header_of_a_name_counts),
		cmocka_unit_test(a_null_value_is_none),
		cmocka_unit_test(headers_beyond_the_room_are_dropped),
		cmocka_unit_test(release_happens_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
