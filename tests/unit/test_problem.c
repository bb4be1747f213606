/* problem: documents written and read, cut texts, strange bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/json.h"
#include "common/http/problem.h"

static struct slice in(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

static void it_is_written_as_a_document(void **state)
{
	struct problem problem;
	struct buf out = BUF_INIT;

	(void)state;
	problem_set(&problem, 400, "/price", "price is %s", "\"negative\"");
	problem_write(&problem, &out);
	assert_string_equal("{\"title\":\"Bad Request\",\"status\":400,\"detail\":\"price is \\\"negative\\\"\",\"pointer\":\"/price\"}", out.data);
	buf_reset(&out);
	problem_set(&problem, 404, "", "no participant 7");
	problem_write(&problem, &out);
	assert_string_equal("{\"title\":\"Not Found\",\"status\":404,\"detail\":\"no participant 7\"}", out.data);
	buf_release(&out);
}

static void what_was_written_is_read(void **state)
{
	struct problem before, after;
	struct buf out = BUF_INIT;

	(void)state;
	memset(&after, 'x', sizeof(after));
	problem_set(&before, 409, "/from", "na\xc3\xafve \xf0\x9f\x98\x80 \\ \"quoted\"\n");
	problem_write(&before, &out);
	assert_int_equal(0, problem_read(&after, in(&out)));
	assert_int_equal(409, after.status);
	assert_string_equal(before.title, after.title);
	assert_string_equal(before.detail, after.detail);
	assert_string_equal("/from", after.pointer);
	buf_release(&out);
}

static void something_else_is_not_read(void **state)
{
	static const char *const others[] = {
		"", "null", "[]", "{}", "{\"title\":\"x\"}", "{\"title\":\"x\",\"detail\":\"y\"}",
		"{\"title\":\"x\",\"detail\":\"y\",\"status\":\"400\"}", "{\"title\":\"x\",\"detail\":\"y\",\"status\":200}",
		"{\"title\":\"x\",\"detail\":\"y\",\"status\":600}", "{\"title\":1,\"detail\":\"y\",\"status\":400}",
		"{\"title\":\"x\",\"detail\":null,\"status\":400}", "{\"title\":\"x\",\"detail\":\"y\",\"status\":400",
	};
	struct problem problem;

	(void)state;
	problem_set(&problem, 404, "", "as it was");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(-1, problem_read(&problem, slice_of(others[i])));
		assert_string_equal("as it was", problem.detail);
	}
}

/* However it is cut and whatever it quotes, the document is JSON. */
static void long_and_broken_details_stay_json(void **state)
{
	struct err err = ERR_INIT;
	char text[1200];

	(void)state;
	for (size_t lead = 0; lead < 8; lead++) {
		struct buf out = BUF_INIT;
		struct problem problem;
		struct json *root;
		size_t at = lead;

		memset(text, 'a', lead);
		for (; at + 4 < sizeof(text); at += 4)
			memcpy(text + at, "\xf0\x9f\x98\x80", 4);
		text[at] = '\0';
		problem_set(&problem, 400, text, "%s", text);
		problem_write(&problem, &out);
		root = json_parse(in(&out), &err);
		assert_non_null(root);
		assert_true(json_string(json_get(root, "detail")).len > sizeof(problem.detail) - 5);
		assert_true(json_string(json_get(root, "pointer")).len > sizeof(problem.pointer) - 5);
		json_free(root);
		buf_release(&out);
	}
}

static void bytes_that_are_not_utf8_are_replaced(void **state)
{
	struct problem problem;

	(void)state;
	problem_set(&problem, 400, "/a\xff", "bad byte \xc3( and \x80");
	assert_string_equal("bad byte ?( and ?", problem.detail);
	assert_string_equal("/a?", problem.pointer);
}

static void a_detail_may_be_made_from_itself(void **state)
{
	struct problem problem;

	(void)state;
	problem_set(&problem, 400, "", "inner");
	problem_set(&problem, 503, "", "outer: %s", problem.detail);
	assert_string_equal("outer: inner", problem.detail);
}

static void every_status_has_a_title(void **state)
{
	(void)state;
	assert_string_equal("Unprocessable Content", problem_title(422));
	assert_string_equal("Gateway Timeout", problem_title(504));
	assert_string_equal("Client Error", problem_title(499));
	assert_string_equal("Server Error", problem_title(599));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_written_as_a_document),
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(something_else_is_not_read),
		cmocka_unit_test(long_and_broken_details_stay_json),
		cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
		cmocka_unit_test(a_detail_may_be_made_from_itself),
		cmocka_unit_test(every_status_has_a_title),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
