/* err: messages, kinds, wrapping, and their bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/err.h"

static void set_fills_kind_and_message(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(-1, err_set(&err, ERR_CONFLICT, "row %d of %s", 7, "friend"));
	assert_int_equal(ERR_CONFLICT, err.kind);
	assert_string_equal("row 7 of friend", err.message);
	err_clear(&err);
	assert_int_equal(ERR_NONE, err.kind);
	assert_string_equal("", err.message);
}

static void wrap_puts_words_before_and_keeps_the_kind(void **state)
{
	static const char *const words[] = { "while reading", "while reading:", "while reading: " };
	struct err err;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		err_set(&err, ERR_FULL, "disk");
		assert_int_equal(-1, err_wrap(&err, "%s", words[i]));
		assert_string_equal("while reading: disk", err.message);
		assert_int_equal(ERR_FULL, err.kind);
	}
}

static void a_message_may_quote_itself(void **state)
{
	struct err err;

	(void)state;
	err_set(&err, ERR_INVALID, "inner");
	err_set(&err, ERR_FATAL, "outer (%s)", err.message);
	assert_string_equal("outer (inner)", err.message);
}

static void long_messages_are_cut_not_spilled(void **state)
{
	char words[1000];
	struct {
		struct err err;
		char guard[8];
	} s;

	(void)state;
	memset(words, 'w', sizeof(words) - 1);
	words[sizeof(words) - 1] = '\0';
	memset(&s, 'g', sizeof(s));
	err_set(&s.err, ERR_INVALID, "%s", words);
	assert_int_equal(sizeof(s.err.message) - 1, strlen(s.err.message));
	err_wrap(&s.err, "%s", words);
	assert_int_equal(sizeof(s.err.message) - 1, strlen(s.err.message));
	assert_memory_equal("gggggggg", s.guard, 8);
}

static void every_kind_has_its_name(void **state)
{
	(void)state;
	assert_string_equal("none", err_kind_name(ERR_NONE));
	assert_string_equal("invalid", err_kind_name(ERR_INVALID));
	assert_string_equal("unavailable", err_kind_name(ERR_UNAVAILABLE));
	assert_string_equal("conflict", err_kind_name(ERR_CONFLICT));
	assert_string_equal("unknown", err_kind_name(ERR_UNKNOWN));
	assert_string_equal("full", err_kind_name(ERR_FULL));
	assert_string_equal("fatal", err_kind_name(ERR_FATAL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_fills_kind_and_message),
		cmocka_unit_test(wrap_puts_words_before_and_keeps_the_kind),
		cmocka_unit_test(a_message_may_quote_itself),
		cmocka_unit_test(long_messages_are_cut_not_spilled),
		cmocka_unit_test(every_kind_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
