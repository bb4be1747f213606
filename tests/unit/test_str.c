/* str: strict readings, with what each must refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/str.h"

#define S(literal) ((struct slice){ literal, sizeof(literal) - 1 })

static void slices_compare_and_trim(void **state)
{
	(void)state;
	assert_true(slice_is(S("abc"), "abc"));
	assert_false(slice_is(S("abc"), "ab"));
	assert_false(slice_is(S("ab"), "abc"));
	assert_true(slice_is(SLICE_NONE, ""));
	assert_null(slice_of(NULL).data);
	assert_true(slice_is_nocase(S("Content-TYPE"), "content-type"));
	assert_false(slice_is_nocase(S("[a"), "{a"));  /* differ by the bit that makes letters small */
	assert_false(slice_is_nocase(S("abc"), "abcd"));
	assert_true(slice_is(slice_trim(S(" \t a b\t ")), "a b"));
	assert_int_equal(0, slice_trim(S(" \t ")).len);
	assert_int_equal(0, slice_trim(SLICE_NONE).len);
	assert_true(slice_is(slice_trim(S("\na\n")), "\na\n"));
}

static void cut_walks_all_parts(void **state)
{
	struct slice rest = S("a,,b,");

	(void)state;
	assert_true(slice_is(slice_cut(&rest, ','), "a"));
	assert_true(slice_is(slice_cut(&rest, ','), ""));
	assert_true(slice_is(slice_cut(&rest, ','), "b"));
	assert_non_null(rest.data); /* an empty last part is still to come */
	assert_int_equal(0, slice_cut(&rest, ',').len);
	assert_null(rest.data);
}

static void int64_there_and_back(void **state)
{
	static const int64_t numbers[] = { 0, 1, -1, 9, 10, 4711, INT64_MAX, INT64_MIN };

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		char text[STR_INT64];
		int64_t back = 42;
		const size_t len = str_put_int64(numbers[i], text);

		assert_int_equal(strlen(text), len);
		assert_true(str_int64(slice_of(text), &back));
		assert_true(back == numbers[i]);
	}
}

static void int64_reads_plain_decimals(void **state)
{
	static const struct {
		const char *text;
		int64_t number;
	} rows[] = {
		{ "0", 0 }, { "7", 7 }, { "-1", -1 }, { "10", 10 }, { "9007199254740993", INT64_C(9007199254740993) },
		{ "9223372036854775807", INT64_MAX }, { "-9223372036854775808", INT64_MIN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t number = 42;

		assert_true(str_int64(slice_of(rows[i].text), &number));
		assert_true(number == rows[i].number);
	}
}

static void int64_refuses_the_rest(void **state)
{
	static const char *const rows[] = {
		"", "-", "+1", "01", "-01", "-0", "00", " 1", "1 ", "1x", "x", "1.0", "1e3", "0x10", "--1", "1-", "9223372036854775808",
		"-9223372036854775809", "18446744073709551616", "99999999999999999999999999", "\xd9\xa1",
	};
	int64_t number = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (str_int64(slice_of(rows[i]), &number))
			fail_msg("\"%s\" was read as %lld", rows[i], (long long)number);
	}
	assert_false(str_int64(SLICE_NONE, &number));
	assert_false(str_int64(S("1\0"), &number));
	assert_int_equal(42, number); /* untouched */
}

static void ids_end_at_2_to_53(void **state)
{
	int64_t id = 0;

	(void)state;
	assert_true(str_id(S("1"), &id));
	assert_true(str_id(S("9007199254740991"), &id));
	assert_true(id == ID_MAX);
	assert_false(str_id(S("9007199254740992"), &id));
	assert_false(str_id(S("0"), &id));
	assert_false(str_id(S("-1"), &id));
	assert_false(str_id(S("007"), &id));
}

static void utf8_takes_what_rfc_3629_takes(void **state)
{
	(void)state;
	assert_true(str_utf8_valid(SLICE_NONE));
	assert_true(str_utf8_valid(S("plain text, longer than eight bytes")));
	assert_true(str_utf8_valid(S("\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf")));
	assert_true(str_utf8_valid(S("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf")));
	assert_true(str_utf8_valid(S("a\0b")));
	assert_int_equal(6, str_utf8_length(S("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 b")));
	assert_int_equal(0, str_utf8_length(SLICE_NONE));
	for (size_t at = 0; at + 3 <= 40; at++) { /* wherever a character stands among others */
		char text[41];

		memset(text, 'x', 40);
		memcpy(text + at, "\xe2\x82\xac", 3);
		assert_int_equal(38, str_utf8_length((struct slice){ text, 40 }));
		assert_int_equal(at + 1, str_utf8_length((struct slice){ text, at + 3 }));
	}
}

static void utf8_refuses_the_rest(void **state)
{
	static const char *const rows[] = {
		"\x80", "\xbf", "\xc0\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
		"\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff", "\xc2", "\xe2\x82",
		"\xf0\x9f\x98", "\xc2\x41", "\xe2\x28\xa1", "\xe2\x82\x28", "\xf0\x28\x8c\xbc", "\xf0\x90\x28\xbc", "\xf0\x90\x8c\x28",
		"eight ok\xc3", "1234567\xff", "12345678\x80",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (str_utf8_valid(slice_of(rows[i])))
			fail_msg("row %zu is not valid", i);
	}
}

static void percent_decoding(void **state)
{
	char out[64];

	(void)state;
	assert_int_equal(4, str_percent_decode(S("a%20b+"), false, out));
	assert_string_equal("a b+", out);
	assert_int_equal(4, str_percent_decode(S("a%20b+"), true, out));
	assert_string_equal("a b ", out);
	assert_int_equal(3, str_percent_decode(S("%2e%2E/"), false, out));
	assert_string_equal("../", out);
}

static void percent_refuses_broken_escapes(void **state)
{
	static const char *const rows[] = { "%", "%2", "a%", "a%2", "%2g", "%g2", "%%20", "%00", "a%00b", "% 20", "%-1" };
	char out[16];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (str_percent_decode(slice_of(rows[i]), true, out) != -1)
			fail_msg("\"%s\" was decoded", rows[i]);
	}
	assert_int_equal(-1, str_percent_decode(S("a\0b"), true, out));
}

static void percent_works_in_place(void **state)
{
	char text[] = "%c3%A9+%2B%25";

	(void)state;
	assert_int_equal(5, str_percent_decode((struct slice){ text, strlen(text) }, true, text));
	assert_string_equal("\xc3\xa9 +%", text);
	assert_int_equal(0, str_percent_decode(SLICE_NONE, true, text));
	assert_string_equal("", text);
}

static void copies_stand_one_behind_another(void **state)
{
	char text[8] = "-------";
	char *at = text;
	struct slice first, empty, none, last;

	(void)state;
	first = slice_put(&at, S("ab"));
	empty = slice_put(&at, S(""));
	none = slice_put(&at, SLICE_NONE);
	last = slice_put(&at, S("c\0d"));
	assert_true(first.data == text && first.len == 2);
	assert_true(empty.data == text + 2 && empty.len == 0);
	assert_true(none.data == NULL && none.len == 0);
	assert_true(last.data == text + 2 && last.len == 3);
	assert_true(at == text + 5);
	assert_memory_equal("abc\0d--", text, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_compare_and_trim),
		cmocka_unit_test(cut_walks_all_parts),
		cmocka_unit_test(int64_there_and_back),
		cmocka_unit_test(int64_reads_plain_decimals),
		cmocka_unit_test(int64_refuses_the_rest),
		cmocka_unit_test(ids_end_at_2_to_53),
		cmocka_unit_test(utf8_takes_what_rfc_3629_takes),
		cmocka_unit_test(utf8_refuses_the_rest),
		cmocka_unit_test(percent_decoding),
		cmocka_unit_test(percent_refuses_broken_escapes),
		cmocka_unit_test(percent_works_in_place),
		cmocka_unit_test(copies_stand_one_behind_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
