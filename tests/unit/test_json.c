/* json: what RFC 8259 takes and refuses, our own bounds, exact numbers, and writing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/json.h"

#define S(literal) ((struct slice){ literal, sizeof(literal) - 1 })

static struct json *good(struct slice text)
{
	struct err err = ERR_INIT;
	struct json *root = json_parse(text, &err);

	if (root == NULL)
		fail_msg("%.*s: %s", (int)text.len, text.data, err.message);
	assert_int_equal(ERR_NONE, err.kind);
	return root;
}

static void bad(struct slice text, const char *why)
{
	struct err err = ERR_INIT;
	struct json *root = json_parse(text, &err);

	if (root != NULL)
		fail_msg("%.*s was accepted", (int)text.len, text.data);
	assert_int_equal(ERR_INVALID, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("%.*s: expected \"%s\" in \"%s\"", (int)text.len, text.data, why, err.message);
}

static void the_grammar_is_taken(void **state)
{
	static const char *const rows[] = {
		"null", "true", "false", "0", "-0", "-1", "1.5", "1e3", "1E+3", "1.25e-7", "0.0", "0e0", "\"\"", "[]", "{}", " [ ] ",
		"\t{\r\n}\n", "[1,2]", "[[],{}]", "{\"\":1}", "{\"a\":{\"a\":1}}", "[{\"a\":1},{\"a\":1}]", "{\"a\":1,\"A\":1}",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"", "\"\\ud83d\\ude00\"", "\"\x7f\"", "\"\xf4\x8f\xbf\xbf\"", "\"\xef\xbf\xbf\"",
		"\"\xe2\x80\xae\"", "{\"e\xcc\x81\":1,\"\xc3\xa9\":1}", "12345678901234567890123456789012345678901234567890",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_free(good(slice_of(rows[i])));
}

static void anything_else_is_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "empty" }, { " ", "byte 1: expected a value" }, { "nul", "a value" }, { "nulll", "byte 4: expected nothing" },
		{ "True", "a value" }, { "NaN", "a value" }, { "Infinity", "a value" }, { "-Infinity", "a digit" }, { "'a'", "a value" },
		{ "01", "byte 1: expected nothing" }, { "-01", "nothing" }, { "1.", "a digit" }, { ".5", "a value" }, { "-", "a digit" },
		{ "+1", "a value" }, { "1e", "a digit" }, { "1e+", "a digit" }, { "0x10", "nothing" }, { "1.e3", "a digit" }, { "- 1", "a digit" },
		{ "1e400", "out of range" }, { "[1,-1e400]", "byte 3: the number is out of range" },
		{ "[1,]", "byte 3: expected a value" }, { "[,1]", "a value" }, { "[1 2]", "',' or ']'" }, { "[1", "',' or ']'" }, { "[", "a value" },
		{ "]", "a value" }, { "[1}", "',' or ']'" }, { "{\"a\":1,}", "a key in double quotes" }, { "{a:1}", "a key" }, { "{1:1}", "a key" },
		{ "{\"a\" 1}", "':'" }, { "{\"a\":}", "a value" }, { "{\"a\":1 \"b\":2}", "',' or '}'" }, { "{\"a\"", "':'" }, { "{", "a string" },
		{ "{\"a\":1]", "',' or '}'" }, { "1 2", "nothing behind" }, { "{}{}", "nothing behind" }, { "{} x", "nothing behind" },
		{ "[1]\f", "nothing behind" }, { "\v1", "a value" }, { "/**/1", "a value" }, { "1//", "nothing behind" },
		{ "\xef\xbb\xbf{}", "a value" }, { "{}\xef\xbb\xbf", "nothing behind" }, { "\xff", "a value" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		bad(slice_of(rows[i].text), rows[i].why);
	bad(SLICE_NONE, "empty");
	bad(S("1\0"), "nothing behind");
	bad(S("\0"), "a value");
}

static void bad_strings_are_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "\"", "end of the string" }, { "\"a", "end of the string" }, { "\"a\\\"", "end of the string" }, { "\"\\", "behind \\" },
		{ "\"\\x41\"", "behind \\" }, { "\"\\'\"", "behind \\" }, { "\"\\U0041\"", "behind \\" }, { "\"\\u12\"", "hex digits" },
		{ "\"\\u12g4\"", "hex digits" }, { "\"\\u 123\"", "hex digits" }, { "\"\\u-123\"", "hex digits" }, { "\"\\u123", "hex digits" },
		{ "\"a\\u0000b\"", "\\u0000" }, { "{\"\\u0000\":1}", "\\u0000" }, { "\"\\ud800\"", "without a low" }, { "\"\\udbffx\"", "without a low" },
		{ "\"\\ud800\\n\"", "without a low" }, { "\"\\ud800\\u0041\"", "without a low" }, { "\"\\ud800\\ud800\"", "without a low" },
		{ "\"\\udc00\"", "without a high" }, { "\"\\udfff\\ud800\"", "without a high" }, { "\"\\ud83d\\ude0\"", "hex digits" },
		{ "\"a\nb\"", "byte 2: a control" }, { "\"\t\"", "control" }, { "\"\x1f\"", "control" }, { "\"\x80\"", "UTF-8" }, { "\"\xc0\xaf\"", "UTF-8" },
		{ "\"\xed\xa0\x80\"", "UTF-8" }, { "\"\xf5\x80\x80\x80\"", "UTF-8" }, { "\"\xc3\"", "UTF-8" }, { "\"\xe2\x82\"", "UTF-8" },
		{ "{\"\xff\":1}", "byte 1: the string is not valid UTF-8" }, { "\"ok\", \"\xc3\"", "nothing behind" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		bad(slice_of(rows[i].text), rows[i].why);
	bad(S("\"a\0b\""), "control");
	bad(S("\"\\\0\""), "behind \\");
}

static void double_keys_are_found_behind_escapes(void **state)
{
	struct buf many = BUF_INIT;

	(void)state;
	bad(S("{\"a\":1,\"a\":2}"), "\"a\" is there twice");
	bad(S("{\"a\":1,\"\\u0061\":2}"), "\"a\" is there twice");
	bad(S("{\"x\":[1,{\"\\n\":1,\"b\":2,\"\\u000A\":3}]}"), "twice");
	bad(S("{\"\":1,\"\":2}"), "twice");
	bad(S("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"), "twice");
	buf_add_str(&many, "{\"k500\":0");
	for (int i = 0; i < 900; i++)
		buf_addf(&many, ",\"k%d\":%d", i, i);
	buf_add_char(&many, '}');
	bad((struct slice){ many.data, many.len }, "\"k500\" is there twice");
	buf_release(&many);
}

static void add_nested(struct buf *out, int depth, const char *open, const char *inner, char close)
{
	buf_reset(out);
	for (int i = 0; i < depth; i++)
		buf_add_str(out, open);
	buf_add_str(out, inner);
	for (int i = 0; i < depth; i++)
		buf_add_char(out, close);
}

static void depth_has_its_bound(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	add_nested(&b, JSON_DEPTH, "[", "", ']');
	json_free(good((struct slice){ b.data, b.len }));
	add_nested(&b, JSON_DEPTH + 1, "[", "", ']');
	bad((struct slice){ b.data, b.len }, "byte 32: nested too deeply");
	add_nested(&b, JSON_DEPTH, "{\"a\":", "1", '}');
	json_free(good((struct slice){ b.data, b.len }));
	add_nested(&b, JSON_DEPTH + 1, "{\"a\":", "1", '}');
	bad((struct slice){ b.data, b.len }, "nested too deeply");
	add_nested(&b, 100000, "[", "", ']');
	bad((struct slice){ b.data, b.len }, "nested too deeply");
	buf_reset(&b); /* depth is not the number of brackets */
	buf_add_str(&b, "[[]");
	for (int i = 0; i < 100; i++)
		buf_add_str(&b, ",[{}]");
	buf_add_char(&b, ']');
	json_free(good((struct slice){ b.data, b.len }));
	buf_release(&b);
}

static void add_objects(struct buf *out, int objects, int keys)
{
	buf_reset(out);
	buf_add_char(out, '[');
	for (int i = 0; i < objects; i++) {
		buf_add_str(out, i > 0 ? ",{" : "{");
		for (int k = 0; k < keys; k++)
			buf_addf(out, "%s\"k%d\":%d", k > 0 ? "," : "", k, k);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

static void keys_have_their_bound_in_the_whole_text(void **state)
{
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct json *root;

	(void)state;
	add_objects(&b, 1, JSON_KEYS);
	json_free(good((struct slice){ b.data, b.len }));
	add_objects(&b, JSON_KEYS / 4, 4);
	json_free(good((struct slice){ b.data, b.len }));
	add_objects(&b, 1, JSON_KEYS + 1);
	bad((struct slice){ b.data, b.len }, "too many keys");
	add_objects(&b, JSON_KEYS / 4 + 1, 4);
	bad((struct slice){ b.data, b.len }, "too many keys");
	add_objects(&b, 1, 100000);
	bad((struct slice){ b.data, b.len }, "too many keys");
	root = json_parse_answer((struct slice){ b.data, b.len }, &err); /* a server of ours may say that much */
	assert_non_null(root);
	json_free(root);
	buf_release(&b);
}

static void numbers_keep_their_digits(void **state)
{
	struct json *root = good(S("{\"a\":9007199254740993,\"b\":[9223372036854775807,-9223372036854775808,9223372036854775808],"
		"\"c\":1.10,\"d\":1e3,\"e\":{\"f\":1.0},\"g\":-0,\"h\":\"7\",\"i\":\"text\",\"j\":0.1000000000000000055511151231257827}"));
	const struct json *list = json_get(root, "b");
	int64_t n = 42;

	(void)state;
	assert_true(json_int64(json_get(root, "a"), &n) && n == INT64_C(9007199254740993));
	assert_true(json_int64(json_first(list), &n) && n == INT64_MAX);
	assert_true(json_int64(json_next(json_first(list)), &n) && n == INT64_MIN);
	n = 42;
	assert_false(json_int64(json_next(json_next(json_first(list))), &n));
	assert_false(json_int64(json_get(root, "c"), &n));
	assert_false(json_int64(json_get(root, "d"), &n));
	assert_false(json_int64(json_get(json_get(root, "e"), "f"), &n));
	assert_false(json_int64(json_get(root, "h"), &n)); /* a text is no number */
	assert_int_equal(42, n);
	assert_true(slice_is(json_number(json_get(root, "c")), "1.10"));
	assert_true(slice_is(json_number(json_get(root, "d")), "1e3"));
	assert_true(slice_is(json_number(json_get(root, "g")), "-0"));
	assert_true(slice_is(json_number(json_get(root, "j")), "0.1000000000000000055511151231257827"));
	assert_null(json_number(json_get(root, "i")).data);
	json_free(root);
}

static void digits_have_their_bound(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_add_str(&b, "-1.");
	while (b.len < JSON_DIGITS)
		buf_add_char(&b, '3');
	json_free(good((struct slice){ b.data, b.len }));
	buf_add_char(&b, '3');
	bad((struct slice){ b.data, b.len }, "too many digits");
	buf_release(&b);
}

static void the_tree_is_walked(void **state)
{
	struct json *root = good(S("{\"s\":\"a\\u00e9\\n\",\"t\":true,\"f\":false,\"n\":null,\"l\":[1,\"x\"],\"o\":{}}"));
	const struct json *list = json_get(root, "l");

	(void)state;
	assert_int_equal(JSON_OBJECT, json_type(root));
	assert_null(json_key(root));
	assert_true(slice_is(json_string(json_get(root, "s")), "a\xc3\xa9\n"));
	assert_true(json_bool(json_get(root, "t")));
	assert_false(json_bool(json_get(root, "f")));
	assert_int_equal(JSON_BOOL, json_type(json_get(root, "f")));
	assert_int_equal(JSON_NULL, json_type(json_get(root, "n")));
	assert_int_equal(JSON_ARRAY, json_type(list));
	assert_int_equal(JSON_NUMBER, json_type(json_first(list)));
	assert_int_equal(JSON_STRING, json_type(json_next(json_first(list))));
	assert_null(json_next(json_next(json_first(list))));
	assert_null(json_first(json_get(root, "o")));
	assert_string_equal("s", json_key(json_first(root)));
	assert_null(json_get(root, "S"));  /* keys compare exactly */
	assert_null(json_get(list, "x"));
	assert_null(json_get(json_get(root, "s"), "x"));
	assert_null(json_string(list).data);
	assert_false(json_bool(json_get(root, "s")));
	assert_string_equal("boolean", json_type_name(JSON_BOOL));
	assert_string_equal("object", json_type_name(json_type(root)));
	json_free(root);
	json_free(NULL);
}

static void nodes_are_written_with_their_own_digits(void **state)
{
	struct slice text = S("{\"a\":9007199254740993,\"b\":[1.10,1e3,-0,true,false,null,\"\\\"\\\\\\n\\u0001\xc3\xa9\"],\"c\":{},\"d\":[]}");
	struct json *root = good(text);
	struct buf out = BUF_INIT;

	(void)state;
	json_write_node(&out, root);
	assert_string_equal(text.data, out.data);
	buf_reset(&out);
	json_write_node(&out, json_get(root, "b")); /* a member is written without its key and its siblings */
	assert_string_equal("[1.10,1e3,-0,true,false,null,\"\\\"\\\\\\n\\u0001\xc3\xa9\"]", out.data);
	json_free(root);
	buf_release(&out);
}

static void a_node_is_put_under_another_key(void **state)
{
	struct json *root = good(S("{\"a\":[1.10,{\"b\":null}],\"c\":2}"));
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);

	(void)state;
	json_open(&w, NULL, '{');
	json_put_node(&w, "x\"", json_get(root, "a"));
	json_put_node(&w, "c", json_get(root, "c"));
	json_open(&w, "l", '[');
	json_put_node(&w, NULL, json_get(root, "c"));
	json_put_node(&w, NULL, root);
	json_close(&w, ']');
	json_close(&w, '}');
	assert_string_equal("{\"x\\\"\":[1.10,{\"b\":null}],\"c\":2,\"l\":[2,{\"a\":[1.10,{\"b\":null}],\"c\":2}]}", out.data);
	json_free(root);
	buf_release(&out);
}

static void the_writer_puts_commas_and_escapes(void **state)
{
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);
	struct json *root;

	(void)state;
	json_open(&w, NULL, '{');
	json_put_string(&w, "s\"", S("a\0\x1f\b\f\n\r\t\"\\/\x7f"));
	json_put_int(&w, "i", INT64_MIN);
	json_open(&w, "l", '[');
	json_open(&w, NULL, '{');
	json_close(&w, '}');
	json_put_bool(&w, NULL, true);
	json_put_bool(&w, NULL, false);
	json_put_raw(&w, NULL, S("1.10"));
	json_close(&w, ']');
	json_put_string(&w, "e", SLICE_NONE);
	json_close(&w, '}');
	assert_string_equal("{\"s\\\"\":\"a\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\x7f\",\"i\":-9223372036854775808,"
		"\"l\":[{},true,false,1.10],\"e\":\"\"}", out.data);
	buf_reset(&out);
	w = (struct json_writer)JSON_WRITER(&out);
	json_put_string(&w, NULL, S("a\xff\xc3\xa9"));
	root = good((struct slice){ out.data, out.len }); /* bytes that are no UTF-8 do not get through */
	json_free(root);
	buf_release(&out);
}

static void every_cut_of_a_text_is_refused(void **state)
{
	struct slice text = S("{\"a\":[1.5e3,\"\\ud83d\\ude00\xc3\xa9\",true,null],\"b\":{\"c\":-1}}");
	struct err err = ERR_INIT;

	(void)state;
	for (size_t len = 0; len < text.len; len++) {
		char *exact = test_malloc(len + 1); /* so that a read behind the end is seen by the sanitiser */

		memcpy(exact, text.data, len);
		assert_null(json_parse((struct slice){ exact, len }, &err));
		test_free(exact);
	}
	json_free(good(text));
}

static void a_long_string_is_read(void **state)
{
	struct buf b = BUF_INIT;
	struct json *root;

	(void)state;
	buf_add_char(&b, '"');
	while (b.len < 10u << 20)
		buf_add_str(&b, "0123456789\\n\xc3\xa9 0123456789");
	buf_add_char(&b, '"');
	root = good((struct slice){ b.data, b.len });
	assert_true(json_string(root).len > 8u << 20);
	json_free(root);
	buf_release(&b);
}

/* Every byte that a string may hold, at every place of a text that is looked at eight bytes at a time. */
static void strings_come_back_as_they_were(void **state)
{
	(void)state;
	for (size_t at = 0; at < 20; at++) {
		for (int c = 1; c < 0x80; c++) {
			struct buf text = BUF_INIT;
			struct json_writer w = JSON_WRITER(&text);
			char plain[21] = "xxxxxxxxxxxxxxxxxxxx";
			struct json *root;
			struct err err = ERR_INIT;

			plain[at] = (char)c;
			json_open(&w, NULL, '{');
			json_put_string(&w, "s", (struct slice){ plain, 20 });
			json_close(&w, '}');
			root = json_parse((struct slice){ text.data, text.len }, &err);
			assert_non_null(root);
			assert_true(slice_equal(json_string(json_get(root, "s")), (struct slice){ plain, 20 }));
			json_free(root);
			buf_release(&text);
		}
	}
}

/* A control character, a quote or half a character is found wherever it stands. */
static void raw_bytes_are_refused_everywhere(void **state)
{
	static const char bytes[] = { 1, 0x1f, '"', '\\', (char)0x80, (char)0xff };

	(void)state;
	for (size_t at = 0; at < 20; at++) {
		for (size_t b = 0; b < sizeof(bytes); b++) {
			char text[25] = "\"xxxxxxxxxxxxxxxxxxxx\"";
			struct err err = ERR_INIT;

			text[1 + at] = bytes[b];
			assert_null(json_parse((struct slice){ text, 22 }, &err));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_grammar_is_taken),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(bad_strings_are_refused),
		cmocka_unit_test(double_keys_are_found_behind_escapes),
		cmocka_unit_test(depth_has_its_bound),
		cmocka_unit_test(keys_have_their_bound_in_the_whole_text),
		cmocka_unit_test(numbers_keep_their_digits),
		cmocka_unit_test(digits_have_their_bound),
		cmocka_unit_test(the_tree_is_walked),
		cmocka_unit_test(nodes_are_written_with_their_own_digits),
		cmocka_unit_test(a_node_is_put_under_another_key),
		cmocka_unit_test(the_writer_puts_commas_and_escapes),
		cmocka_unit_test(strings_come_back_as_they_were),
		cmocka_unit_test(raw_bytes_are_refused_everywhere),
		cmocka_unit_test(every_cut_of_a_text_is_refused),
		cmocka_unit_test(a_long_string_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
