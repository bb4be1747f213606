/* uuid and trace: the random identifiers, there and back, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/trace.h"
#include "common/base/uuid.h"

static void v7_carries_the_time(void **state)
{
	char a[UUID_TEXT], b[UUID_TEXT];
	int64_t before = clock_wall_ms();
	int64_t at = 0, id;

	(void)state;
	uuid_v7(a);
	uuid_v7(b);
	assert_int_equal(36, strlen(a));
	assert_string_not_equal(a, b);
	assert_int_equal('7', a[14]);
	assert_non_null(strchr("89ab", a[19]));
	assert_true(uuid_is_v7(slice_of(a), &at));
	assert_true(at >= before && at <= clock_wall_ms());
	assert_false(uuid_is_post(slice_of(a), &id));
}

static void post_ids_ride_in_v8(void **state)
{
	static const int64_t rows[] = { 1, 31, 32, 33, INT64_C(1) << 40, INT64_C(0x123456789abcd), ID_MAX - 1, ID_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[UUID_TEXT];
		int64_t id = 0, at;

		uuid_of_post(rows[i], text);
		assert_int_equal('8', text[14]);
		assert_true(uuid_is_post(slice_of(text), &id));
		assert_true(id == rows[i]);
		assert_false(uuid_is_v7(slice_of(text), &at));
	}
}

static void a_post_uuid_has_this_layout(void **state)
{
	char text[UUID_TEXT];
	int64_t id;

	(void)state;
	uuid_of_post(INT64_C(0x1fffffffffffff), text);
	assert_string_equal("ffffffff-ffff-8fed-be00-000000000000", text);
	uuid_of_post(33, text);
	assert_string_equal("00000000-0001-8fed-8200-000000000000", text);
	assert_true(uuid_is_post(slice_of("FFFFFFFF-FFFF-8FED-BE00-000000000000"), &id));
	assert_true(id == ID_MAX);
}

static void other_texts_are_no_post(void **state)
{
	static const char *const rows[] = {
		"", "00000000-0001-8fed-8200-00000000000", "00000000-0001-8fed-8200-0000000000000", "00000000-0001-8fed-8200-000000000001",
		"00000000-0001-8fed-8201-000000000000", "00000000-0001-8fed-c200-000000000000", "00000000-0001-8fec-8200-000000000000",
		"00000000-0001-7fed-8200-000000000000", "00000000-0000-8fed-8000-000000000000", "00000000-0001-8fed-0200-000000000000",
		"00000000-0001-8fed-8200_000000000000", "0000000000-01-8fed-8200-000000000000", "0000000g-0001-8fed-8200-000000000000",
		"{0000000-0001-8fed-8200-00000000000}", "000000000001-8fed-8200-0000000000000",
	};
	int64_t id = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (uuid_is_post(slice_of(rows[i]), &id))
			fail_msg("\"%s\" was taken as post %lld", rows[i], (long long)id);
	}
	assert_false(uuid_is_post(SLICE_NONE, &id));
	assert_int_equal(42, id);
}

static void other_texts_are_no_v7(void **state)
{
	static const char *const rows[] = {
		"", "0189f7a0-1234-7abc-8def-0123456789a", "0189f7a0-1234-7abc-8def-0123456789ab0", "0189f7a0-1234-4abc-8def-0123456789ab",
		"0189f7a0-1234-7abc-cdef-0123456789ab", "0189f7a0-1234-7abc-7def-0123456789ab", "0189f7a0x1234-7abc-8def-0123456789ab",
		"0189f7a0-1234-7abc-8def-0123456789aB ", " 189f7a0-1234-7abc-8def-0123456789ab", "0189f7a0-1234-7abc-8def-0123456789a\xc3",
	};
	int64_t at = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (uuid_is_v7(slice_of(rows[i]), &at))
			fail_msg("\"%s\" was taken", rows[i]);
	}
	assert_int_equal(42, at);
	assert_true(uuid_is_v7(slice_of("0189F7a0-1234-7abc-8def-0123456789aB"), &at));
	assert_true(at == INT64_C(0x0189f7a01234));
}

static void a_trace_goes_there_and_back(void **state)
{
	static const char text[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	struct trace trace;
	char out[TRACE_TEXT], id[33];

	(void)state;
	assert_true(trace_parse(slice_of(text), &trace));
	trace_format(&trace, out);
	assert_string_equal(text, out);
	trace_id_format(&trace, id);
	assert_string_equal("4bf92f3577b34da6a3ce929d0e0e4736", id);
}

static void a_later_version_is_read_as_ours(void **state)
{
	struct trace trace;
	char out[TRACE_TEXT];

	(void)state;
	assert_true(trace_parse(slice_of("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes-later"), &trace));
	trace_format(&trace, out);
	assert_string_equal("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", out);
}

static void other_headers_are_no_trace(void **state)
{
	static const char *const rows[] = {
		"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
		"00 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	};
	struct trace trace, before;

	(void)state;
	memset(&trace, 7, sizeof(trace));
	before = trace;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (trace_parse(slice_of(rows[i]), &trace))
			fail_msg("\"%s\" was taken", rows[i]);
	}
	assert_false(trace_parse(SLICE_NONE, &trace));
	assert_memory_equal(&before, &trace, sizeof(trace));
}

static void a_child_keeps_the_trace_and_has_its_own_span(void **state)
{
	struct trace parent, child, other;

	(void)state;
	trace_start(&parent);
	trace_start(&other);
	assert_memory_not_equal(parent.trace_id, other.trace_id, sizeof(parent.trace_id));
	assert_int_equal(0, parent.flags);
	parent.flags = 1;
	trace_child(&parent, &child);
	assert_memory_equal(parent.trace_id, child.trace_id, sizeof(parent.trace_id));
	assert_memory_not_equal(parent.span_id, child.span_id, sizeof(parent.span_id));
	assert_int_equal(1, child.flags);
}

static void a_derived_uuid_is_the_same_each_time(void **state)
{
	const struct slice parent = slice_of("0189d2f4-5a8e-4c1b-9b7a-3f2e1d0c9b8a");
	char a[UUID_TEXT], b[UUID_TEXT] = "untouched";

	(void)state;
	assert_true(uuid_derive(parent, slice_of("next 0"), a));
	assert_string_equal("a0f9a460-cefe-8af0-a4d7-ada7448f5ea4", a);
	assert_true(uuid_derive(slice_of("0189D2F4-5A8E-4C1B-9B7A-3F2E1D0C9B8A"), slice_of("next 0"), b));
	assert_string_equal(a, b);
	assert_true(uuid_derive(parent, slice_of("next 1"), b));
	assert_string_not_equal(a, b);
	assert_false(uuid_derive(slice_of("nightly"), slice_of("next 0"), b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(v7_carries_the_time),
		cmocka_unit_test(post_ids_ride_in_v8),
		cmocka_unit_test(a_post_uuid_has_this_layout),
		cmocka_unit_test(other_texts_are_no_post),
		cmocka_unit_test(other_texts_are_no_v7),
		cmocka_unit_test(a_derived_uuid_is_the_same_each_time),
		cmocka_unit_test(a_trace_goes_there_and_back),
		cmocka_unit_test(a_later_version_is_read_as_ours),
		cmocka_unit_test(other_headers_are_no_trace),
		cmocka_unit_test(a_child_keeps_the_trace_and_has_its_own_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
