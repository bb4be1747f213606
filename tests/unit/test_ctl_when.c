/* Times as an operator types them, and bytes as a terminal may show them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/visible.h"
#include "ctl/when.h"

#define NOW INT64_C(1767225600000) /* 2026-01-01T00:00:00Z */

static void times_are_read(void **state)
{
	static const struct {
		const char *text;
		int64_t wall_ms;
	} times[] = {
		{ "2026-01-01T00:00:00Z", NOW }, { "2026-01-01T01:00:00.5+01:00", NOW + 500 }, { "2025-12-31", NOW - 86400000 },
		{ "0s", NOW }, { "90s", NOW - 90000 }, { "15m", NOW - 900000 }, { "2h", NOW - 7200000 }, { "7d", NOW - 7 * INT64_C(86400000) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		int64_t wall_ms = 0;

		assert_true(when_read(times[i].text, NOW, &wall_ms));
		assert_int_equal(times[i].wall_ms, wall_ms);
	}
}

static void what_is_no_time_is_refused(void **state)
{
	static const char *const texts[] = { "", "s", "7", "-1s", "7w", "1.5h", "7 d", "2026-02-30", "2026-01-01T00:00:00", "yesterday", "9999999999d" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int64_t wall_ms = 5;

		assert_false(when_read(texts[i], NOW, &wall_ms));
		assert_int_equal(5, wall_ms);
	}
}

static void expect_visible(struct slice bytes, const char *text)
{
	struct buf line = BUF_INIT;

	visible_add(&line, bytes);
	assert_string_equal(text, line.data);
	buf_release(&line);
}

static void nothing_moves_the_cursor(void **state)
{
	(void)state;
	expect_visible(SLICE_NONE, "null");
	expect_visible(slice_of(""), "");
	expect_visible(slice_of("caf\xc3\xa9 \"x\""), "caf\xc3\xa9 \"x\"");
	expect_visible(slice_of("a\n\x1b[2J\x7f"), "a\\x0a\\x1b[2J\\x7f");
	expect_visible(slice_of("\xc2\x9b"), "\\xc2\\x9b"); /* CSI, as a character */
	expect_visible(slice_of("\xff\xc3\xa9"), "\\xff\\xc3\\xa9"); /* no text: every byte above ASCII */
	expect_visible((struct slice){ "\0", 1 }, "\\x00");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read),
		cmocka_unit_test(what_is_no_time_is_refused),
		cmocka_unit_test(nothing_moves_the_cursor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
