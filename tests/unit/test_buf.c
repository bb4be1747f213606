/* buf: growth, the NUL behind, numbers, detaching. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

static void an_empty_buf_is_an_empty_text(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_string_equal("", b.data);
	buf_add(&b, NULL, 0);
	buf_reset(&b);
	assert_string_equal("", b.data);
	buf_release(&b);
	buf_release(&b);
	assert_string_equal("", b.data);
	assert_string_equal("", buf_empty);
}

static void it_grows_and_stays_terminated(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		buf_add_char(&b, (char)('a' + i % 26));
		assert_int_equal(i + 1, b.len);
		assert_int_equal('\0', b.data[b.len]);
	}
	for (int i = 0; i < 10000; i++)
		assert_int_equal('a' + i % 26, b.data[i]);
	buf_reset(&b);
	assert_int_equal(0, b.len);
	assert_string_equal("", b.data);
	assert_true(b.size > 10000);
	buf_release(&b);
}

static void reserve_then_add_does_not_move(void **state)
{
	struct buf b = BUF_INIT;
	char *at;

	(void)state;
	buf_reserve(&b, 1000);
	at = b.data;
	for (int i = 0; i < 1000; i++)
		buf_add(&b, "x", 1);
	assert_ptr_equal(at, b.data);
	buf_release(&b);
}

static void numbers_are_decimal(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_add_int(&b, INT64_MIN);
	buf_add_char(&b, ' ');
	buf_add_int(&b, INT64_MAX);
	buf_add_str(&b, " ");
	buf_add_int(&b, 0);
	buf_addf(&b, " %s=%d", "x", -10);
	assert_string_equal("-9223372036854775808 9223372036854775807 0 x=-10", b.data);
	assert_int_equal(strlen(b.data), b.len);
	buf_release(&b);
}

static void long_formats_fit(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_addf(&b, "%0500d|%0500d", 1, 2);
	assert_int_equal(1001, b.len);
	assert_int_equal('1', b.data[499]);
	assert_int_equal('2', b.data[1000]);
	buf_release(&b);
}

static void detaching_leaves_an_empty_buf(void **state)
{
	struct buf b = BUF_INIT;
	char *none = buf_detach(&b);
	char *text;

	(void)state;
	assert_string_equal("", none);
	assert_ptr_not_equal(buf_empty, none);
	buf_add(&b, "a\0b", 3);
	text = buf_detach(&b);
	assert_memory_equal("a\0b", text, 4);
	assert_int_equal(0, b.len);
	assert_ptr_equal(buf_empty, b.data);
	free(none);
	free(text);
}

static void mem_copies_and_zeroes(void **state)
{
	char *copy = mem_dup("a\0b", 3);
	char *zero = mem_array(10, 10);
	char *nothing = mem_array(0, 8);

	(void)state;
	assert_memory_equal("a\0b", copy, 4);
	for (int i = 0; i < 100; i++)
		assert_int_equal(0, zero[i]);
	assert_non_null(nothing);
	zero = mem_grow(zero, 1000, 10);
	assert_int_equal(0, zero[99]);
	free(copy);
	free(zero);
	free(nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_buf_is_an_empty_text),
		cmocka_unit_test(it_grows_and_stays_terminated),
		cmocka_unit_test(reserve_then_add_does_not_move),
		cmocka_unit_test(numbers_are_decimal),
		cmocka_unit_test(long_formats_fit),
		cmocka_unit_test(detaching_leaves_an_empty_buf),
		cmocka_unit_test(mem_copies_and_zeroes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
