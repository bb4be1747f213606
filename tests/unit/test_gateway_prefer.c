/* prefer: what is asked for, in every spelling that RFC 7240 allows, and what is ignored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api-gateway/prefer.h"

static struct prefer of(const char *header)
{
	struct prefer prefer;

	prefer_read(slice_of(header), &prefer);
	return prefer;
}

static void nothing_is_asked_for(void **state)
{
	static const char *const headers[] = { NULL, "", " ", ",", ",,;=", "return=minimal", "handling=lenient; wait=3", "respond-asynchronous",
		"respond-async=no", "x=\"respond-async, wait=3\"", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=\"", "wait=99999999999999999999" };

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct prefer prefer = of(headers[i]);

		if (prefer.respond_async || prefer.wait_s != -1)
			fail_msg("%s was understood", headers[i]);
	}
}

static void respond_async(void **state)
{
	(void)state;
	assert_true(of("respond-async").respond_async);
	assert_true(of("Respond-Async").respond_async);
	assert_true(of("respond-async=\"\"").respond_async);
	assert_true(of("return=minimal,\t respond-async ; foo=bar").respond_async);
	assert_int_equal(-1, of("respond-async").wait_s);
}

static void wait_is_in_seconds_and_bounded(void **state)
{
	(void)state;
	assert_int_equal(0, of("wait=0").wait_s);
	assert_int_equal(10, of("wait=10").wait_s);
	assert_int_equal(10, of("WAIT = \"10\"").wait_s);
	assert_int_equal(PREFER_WAIT_MAX_S, of("wait=100000").wait_s);
	assert_false(of("wait=10").respond_async);
}

static void both_and_the_first_of_two(void **state)
{
	struct prefer prefer = of("respond-async, wait=4, wait=5");

	(void)state;
	assert_true(prefer.respond_async);
	assert_int_equal(4, prefer.wait_s);
	assert_int_equal(-1, of("wait=x, wait=5").wait_s);
}

static void what_was_honoured_is_said(void **state)
{
	struct prefer prefer = of("wait=100");
	char text[PREFER_TEXT];

	(void)state;
	prefer_format_wait(&prefer, text);
	assert_string_equal("wait=60", text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_asked_for),
		cmocka_unit_test(respond_async),
		cmocka_unit_test(wait_is_in_seconds_and_bounded),
		cmocka_unit_test(both_and_the_first_of_two),
		cmocka_unit_test(what_was_honoured_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
