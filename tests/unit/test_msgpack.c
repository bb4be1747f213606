/* MessagePack in and out: what a client's serializer writes, what nobody should, and what becomes of a task that came so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "workers/celery/canvas.h"
#include "workers/celery/msgpack.h"
#include "workers/celery/outgoing.h"

#define PACKED(text) { text, sizeof(text) - 1 }
#define VALUES 1000
#define BYTES 100000

/* What kombu's msgpack writes with use_bin_type, and its other forms. */
static void values_become_json(void **state)
{
	static const struct {
		struct slice packed;
		const char *json;
	} rows[] = {
		{ PACKED("\xc0"), "null" },
		{ PACKED("\xc2"), "false" },
		{ PACKED("\xc3"), "true" },
		{ PACKED("\x00"), "0" },
		{ PACKED("\x7f"), "127" },
		{ PACKED("\xff"), "-1" },
		{ PACKED("\xe0"), "-32" },
		{ PACKED("\xcc\xff"), "255" },
		{ PACKED("\xcd\xff\xff"), "65535" },
		{ PACKED("\xce\xff\xff\xff\xff"), "4294967295" },
		{ PACKED("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615" },
		{ PACKED("\xd0\x80"), "-128" },
		{ PACKED("\xd1\x80\x00"), "-32768" },
		{ PACKED("\xd2\x80\x00\x00\x00"), "-2147483648" },
		{ PACKED("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808" },
		{ PACKED("\xca\x3f\x00\x00\x00"), "0.5" },
		{ PACKED("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"), "1.0" }, /* stays a float in Python */
		{ PACKED("\xcb\x80\x00\x00\x00\x00\x00\x00\x00"), "-0.0" },
		{ PACKED("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1" },
		{ PACKED("\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34"), "0.30000000000000004" },
		{ PACKED("\xcb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50"), "1e+21" },
		{ PACKED("\xa0"), "\"\"" },
		{ PACKED("\xa3" "a\"b"), "\"a\\\"b\"" },
		{ PACKED("\xd9\x02\xc3\xa4"), "\"\xc3\xa4\"" },
		{ PACKED("\xda\x00\x01" "x"), "\"x\"" },
		{ PACKED("\xdb\x00\x00\x00\x01" "x"), "\"x\"" },
		{ PACKED("\xc4\x00"), "{\"__type__\":\"bytes\",\"__value__\":\"\"}" },
		{ PACKED("\xc4\x02" "hi"), "{\"__type__\":\"bytes\",\"__value__\":\"hi\"}" },
		{ PACKED("\xc5\x00\x01\xff"), "{\"__type__\":\"base64\",\"__value__\":\"/w==\"}" },
		{ PACKED("\xc6\x00\x00\x00\x02" "a\x00"), "{\"__type__\":\"base64\",\"__value__\":\"YQA=\"}" },
		{ PACKED("\x90"), "[]" },
		{ PACKED("\x80"), "{}" },
		{ PACKED("\x93\x01\x90\x80"), "[1,[],{}]" },
		{ PACKED("\xdc\x00\x02\x01\x02"), "[1,2]" },
		{ PACKED("\xdd\x00\x00\x00\x01\xc0"), "[null]" },
		{ PACKED("\x82\xa1" "a\x91\x01\xa1" "b\x81\xa1" "c\xc0"), "{\"a\":[1],\"b\":{\"c\":null}}" },
		{ PACKED("\xde\x00\x01\xa0\x80"), "{\"\":{}}" },
		{ PACKED("\xdf\x00\x00\x00\x02\xa1" "a\x80\xa1" "b\x92\x81\xa1" "c\x01\x02"), "{\"a\":{},\"b\":[{\"c\":1},2]}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_INIT;
		struct buf out = BUF_INIT;

		assert_int_equal(0, msgpack_to_json(rows[i].packed, VALUES, BYTES, &out, &err));
		assert_string_equal(rows[i].json, out.data);
		json_free(json_parse(buf_slice(&out), &err));
		assert_int_equal(ERR_NONE, err.kind);
		buf_release(&out);
	}
}

static void what_json_has_not_and_what_is_broken_is_refused(void **state)
{
	static const struct {
		struct slice packed;
		const char *words;
	} rows[] = {
		{ PACKED(""), "ends early" },
		{ PACKED("\xc1"), "byte 0: no value" },
		{ PACKED("\x92\x01\xc1"), "byte 2: no value" },
		{ PACKED("\x01\x02"), "more behind" },
		{ PACKED("\x90\x90"), "more behind" },
		{ PACKED("\x91"), "ends early" },
		{ PACKED("\x92\x01"), "ends early" },
		{ PACKED("\x81\xa1" "a"), "ends early" },
		{ PACKED("\xcd\x01"), "ends early" },
		{ PACKED("\xcb\x00"), "ends early" },
		{ PACKED("\xa5" "abcd"), "ends early" },
		{ PACKED("\xd9"), "ends early" },
		{ PACKED("\xdb\xff\xff\xff\xff" "abcde"), "ends early" }, /* 4 GiB of text in ten bytes */
		{ PACKED("\xc6\xff\xff\xff\xff" "abcde"), "ends early" },
		{ PACKED("\xdd\xff\xff\xff\xff\xc0\xc0\xc0\xc0\xc0"), "ends early" }, /* 4 Gi values */
		{ PACKED("\xdf\xff\xff\xff\xff\xa1" "a\xc0"), "ends early" },
		{ PACKED("\xc9\xff\xff\xff\xff\x01" "abcd"), "extension" },
		{ PACKED("\xd4\x01\x00"), "extension" },
		{ PACKED("\xd6\xff\x00\x00\x00\x00"), "extension" }, /* a timestamp */
		{ PACKED("\xc7\x00\x05"), "extension" },
		{ PACKED("\x81\x01\x02"), "name" },
		{ PACKED("\x81\xc0\x02"), "name" },
		{ PACKED("\x81\xc4\x01" "a\x02"), "name" },
		{ PACKED("\x81\x90\x02"), "name" },
		{ PACKED("\x81\x80\x02"), "name" },
		{ PACKED("\x82\xa1" "a\x81\xa1" "b\x01\x02\x03"), "name" }, /* the second one, behind a map */
		{ PACKED("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "NaN" },
		{ PACKED("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"), "NaN" },
		{ PACKED("\xca\x7f\x80\x00\x00"), "NaN" },
		{ PACKED("\xa1\xff"), "UTF-8" },
		{ PACKED("\xa3\xed\xa0\x80"), "UTF-8" }, /* a surrogate */
		{ PACKED("\xa3" "a\x00" "b"), "NUL" },
		{ PACKED("\x81\xa1\x00\x01"), "NUL" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_INIT;
		struct buf out = BUF_INIT;

		assert_int_equal(-1, msgpack_to_json(rows[i].packed, VALUES, BYTES, &out, &err));
		assert_int_equal(ERR_INVALID, err.kind);
		if (strstr(err.message, rows[i].words) == NULL)
			fail_msg("row %zu: %s", i, err.message);
		assert_true(out.size < 10000);
		buf_release(&out);
	}
}

static int read_nested(int levels, bool is_map)
{
	struct err err = ERR_INIT;
	struct buf packed = BUF_INIT, out = BUF_INIT;
	int rc;

	for (int i = 0; i < levels; i++)
		buf_add_str(&packed, is_map ? "\x81\xa1" "a" : "\x91");
	buf_add_str(&packed, "\xc3");
	rc = msgpack_to_json(buf_slice(&packed), VALUES, BYTES, &out, &err);
	if (rc == 0) { /* as deep as JSON is read, and no deeper */
		struct json *tree = json_parse(buf_slice(&out), &err);

		assert_non_null(tree);
		json_free(tree);
	} else {
		assert_non_null(strstr(err.message, "too deeply"));
	}
	buf_release(&packed);
	buf_release(&out);
	return rc;
}

static void depth_is_that_of_json(void **state)
{
	(void)state;
	for (int is_map = 0; is_map < 2; is_map++) {
		assert_int_equal(0, read_nested(JSON_DEPTH, is_map));
		assert_int_equal(-1, read_nested(JSON_DEPTH + 1, is_map));
		assert_int_equal(-1, read_nested(100000, is_map));
	}
}

static void values_and_bytes_are_bounded(void **state)
{
	struct err err = ERR_INIT;
	struct buf packed = BUF_INIT, out = BUF_INIT;

	(void)state;
	buf_add(&packed, "\xdd\x00\x00\x03\xe7", 5); /* 999, and the list itself */
	for (int i = 0; i < 999; i++)
		buf_add_char(&packed, '\x01');
	assert_int_equal(0, msgpack_to_json(buf_slice(&packed), VALUES, BYTES, &out, &err));
	buf_reset(&out);
	assert_int_equal(-1, msgpack_to_json(buf_slice(&packed), VALUES - 1, BYTES, &out, &err));
	assert_non_null(strstr(err.message, "more than 999 values"));
	buf_reset(&out);
	assert_int_equal(-1, msgpack_to_json(buf_slice(&packed), VALUES, 100, &out, &err));
	assert_non_null(strstr(err.message, "too large"));
	assert_true(out.len < 110);
	buf_reset(&out);
	assert_int_equal(-1, msgpack_to_json((struct slice)PACKED("\xa5" "abcde"), VALUES, 6, &out, &err)); /* the last one too */
	assert_non_null(strstr(err.message, "too large"));
	buf_release(&packed);
	buf_release(&out);
}

/* A name that is twice in one map goes through to whoever reads the JSON, and is refused there. */
static void names_that_are_twice(void **state)
{
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	(void)state;
	assert_int_equal(0, msgpack_to_json((struct slice)PACKED("\x82\xa1" "a\x01\xa1" "a\x02"), VALUES, BYTES, &out, &err));
	assert_null(json_parse_answer(buf_slice(&out), &err));
	buf_release(&out);
}

/* Bytes of a task are changed at random: it is refused, or it is JSON, but for a name that is twice. */
static void any_bytes_do_no_harm(void **state)
{
	static const char task[] = "\x93\x92\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a\xc4\x03" "a\xff" "b\x82\xa1" "k\xd9\x02" "vw\xa1" "l\xdc\x00\x02\xcd\x01\x00\xc0"
		"\x81\xa5" "chain\x91\x80";
	uint32_t seed = 1;
	size_t read = 0;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		struct err err = ERR_INIT;
		struct buf out = BUF_INIT;
		char bytes_of[sizeof(task)];
		size_t len = sizeof(task) - 1;

		memcpy(bytes_of, task, sizeof(task));
		for (int i = 0; i < 1 + round % 4; i++) {
			seed = seed * 1664525 + 1013904223;
			bytes_of[(seed >> 8) % len] = (char)(seed >> 24);
		}
		len -= seed % 7 == 0 ? seed >> 29 : 0;
		if (msgpack_to_json((struct slice){ bytes_of, len }, VALUES, BYTES, &out, &err) == 0) {
			struct json *tree = json_parse_answer(buf_slice(&out), &err);

			if (tree == NULL)
				assert_non_null(strstr(err.message, "twice"));
			read += tree != NULL;
			json_free(tree);
		}
		buf_release(&out);
	}
	assert_true(read > 1000); /* not all of them were refused at once */
}

static void json_becomes_messagepack(void **state)
{
	static const struct {
		const char *json;
		struct slice packed;
	} rows[] = {
		{ "null", PACKED("\xc0") },
		{ "[true,false]", PACKED("\x92\xc3\xc2") },
		{ "-2", PACKED("\xfe") },
		{ "65536", PACKED("\xce\x00\x01\x00\x00") },
		{ "18446744073709551615", PACKED("\xcf\xff\xff\xff\xff\xff\xff\xff\xff") },
		{ "-9223372036854775808", PACKED("\xd3\x80\x00\x00\x00\x00\x00\x00\x00") },
		{ "1.0", PACKED("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00") },
		{ "1e0", PACKED("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00") },
		{ "\"\xc3\xa4\\n\"", PACKED("\xa3\xc3\xa4\n") },
		{ "{\"a\":[],\"b\":{}}", PACKED("\x82\xa1" "a\x90\xa1" "b\x80") },
		{ "{\"__type__\":\"bytes\",\"__value__\":\"hi\"}", PACKED("\xc4\x02" "hi") },
		{ "[{\"__type__\":\"base64\",\"__value__\":\"/wA=\"}]", PACKED("\x91\xc4\x02\xff\x00") },
		{ "{\"__type__\":\"base64\",\"__value__\":\"?\"}", PACKED("\x82\xa8" "__type__\xa6" "base64\xa9" "__value__\xa1?") },
		{ "{\"__type__\":\"date\",\"__value__\":\"x\"}", PACKED("\x82\xa8" "__type__\xa4" "date\xa9" "__value__\xa1x") },
	};
	static const char *const none[] = { "18446744073709551616", "[1,-9223372036854775809]", "{\"a\":1,\"a\":2}", "[", "" };
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_reset(&out);
		assert_true(msgpack_from_json(slice_of(rows[i].json), &out));
		assert_int_equal(rows[i].packed.len, out.len);
		assert_memory_equal(rows[i].packed.data, out.data, out.len);
	}
	buf_reset(&out);
	buf_add_str(&out, "kept");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_false(msgpack_from_json(slice_of(none[i]), &out));
	assert_string_equal("kept", out.data);
	buf_release(&out);
}

/* ---- tasks */

#define ARGUMENTS "\x93\x92\x01\xc4\x01\xff\x80" /* [[1, b"\xff"], {}, … */
#define JSON_ARGUMENTS "[[1,{\"__type__\":\"base64\",\"__value__\":\"/w==\"}],{}"

static struct request *read_message(struct amqp_delivery *delivery, struct slice body, struct err *err)
{
	delivery->body = body;
	delivery->properties.content_type = slice_of("application/x-msgpack");
	delivery->properties.content_encoding = slice_of("binary");
	return request_read(delivery, err);
}

static void done(struct request *request)
{
	request->delivery = NULL;
	request_free(request);
}

static void assert_msgpack(struct post *post, struct slice body)
{
	const struct slice sent = post_body(post, NULL);

	assert_true(slice_equal(sent, body));
	assert_true(slice_is(post->message.properties.content_type, "application/x-msgpack"));
	assert_true(slice_is(post->message.properties.content_encoding, "binary"));
}

/* It is JSON to all that read it, and as it came to who gets a copy: also a float of four bytes, and what looks like bytes of JSON. */
static void a_copy_is_as_it_came(void **state)
{
	static const struct slice bodies[] = {
		PACKED(ARGUMENTS "\xc0"),
		PACKED("\x92\x91\xca\x3f\x00\x00\x00\x80"),
		PACKED("\x92\x91\x82\xa8" "__type__\xa5" "bytes\xa9" "__value__\xa1x\x80"),
	};
	struct amqp_field headers[] = { amqp_text("task", slice_of("echo")), amqp_text("id", slice_of("7")) };
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct request *r = read_message(&delivery, bodies[i], &err);
		struct post *post;

		assert_non_null(r);
		assert_true(r->is_msgpack);
		assert_true(i != 0 || slice_is(r->body, JSON_ARGUMENTS ",null]"));
		post = outgoing_again(r, "celery", 1, 0, 0, 5);
		done(r);
		assert_msgpack(post, bodies[i]);
		post_free(post);
	}
}

static void version_1_is_rewritten(void **state)
{
	struct amqp_delivery delivery = { .properties = { .has_headers = false } };
	const struct slice body = PACKED("\x84\xa4" "task\xa3" "add\xa2" "id\xa1" "7\xa4" "args\x92\x01\x02\xa6" "kwargs\x80");
	struct err err = ERR_INIT;
	struct request *r = read_message(&delivery, body, &err);
	struct post *post;

	(void)state;
	assert_non_null(r);
	assert_true(slice_is(r->task, "add"));
	assert_true(slice_is(r->body, "[[1,2],{},{\"callbacks\":null,\"errbacks\":null,\"chain\":null,\"chord\":null}]"));
	post = outgoing_again(r, "celery", 1, 0, 0, 0);
	done(r);
	assert_msgpack(post, (struct slice)PACKED("\x93\x92\x01\x02\x80\x84\xa9" "callbacks\xc0\xa8" "errbacks\xc0\xa5" "chain\xc0\xa5" "chord\xc0"));
	post_free(post);
}

static bool is_home(void *arg, const char *queue)
{
	(void)arg;
	return strcmp(queue, "home") == 0;
}

/* Who can't read MessagePack would not have got the job before it. What MessagePack has not goes as JSON. */
static void what_follows_is_as_its_job(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r"), .is_msgpack = true };
	const struct slice packed = PACKED("\x93\x92\xc4\x01" "x\x05\x80\x84\xa9" "callbacks\xc0\xa8" "errbacks\xc0\xa5" "chain\xc0\xa5" "chord\xc0");
	struct err err = ERR_INIT;
	struct json *chain = json_parse(slice_of("[{\"task\":\"next\",\"args\":[5]}]"), &err);
	struct buf children = BUF_INIT;
	struct canvas canvas;

	(void)state;
	canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
	assert_int_equal(0, canvas_add_chain(&canvas, chain, slice_of("{\"__type__\":\"bytes\",\"__value__\":\"x\"}"), &err));
	assert_msgpack(canvas.first, packed);
	assert_msgpack(canvas.first, packed); /* sent again */
	canvas_release(&canvas);
	assert_int_equal(0, canvas_add_chain(&canvas, chain, slice_of("18446744073709551616"), &err));
	assert_true(slice_equal(post_body(canvas.first, NULL), buf_slice(&canvas.first->body)));
	assert_true(slice_is(canvas.first->message.properties.content_type, "application/json"));
	canvas_release(&canvas);
	json_free(chain);
	buf_release(&children);
}

static void wrong_tasks_are_refused(void **state)
{
	static const struct slice bodies[] = {
		PACKED(""), PACKED("[[1],{}]"), PACKED("\xc0"), PACKED("\x90"), PACKED("\x92\x80\x80"), PACKED("\x92\x90\x90"), PACKED("\x92\x90\x81\x01\x02"),
		PACKED("\x92\x90\x82\xa1" "a\x01\xa1" "a\x02"), PACKED("\x93\x90\x80\x81\xa5" "chain\x80"), PACKED("\x92\x90\x80\xc0"),
	};
	struct amqp_field headers[] = { amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")) };
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct err err = ERR_INIT;

		assert_null(read_message(&delivery, bodies[i], &err));
		assert_int_equal(ERR_INVALID, err.kind);
	}
}

/* No memory is taken for what a body says that it has. */
static void claims_cost_nothing(void **state)
{
	static const struct slice bodies[] = { PACKED("\xdd\xff\xff\xff\xff\xc0"), PACKED("\xdf\xff\xff\xff\xff\xa0\xc0"), PACKED("\xdb\xff\xff\xff\xff" "x"),
		PACKED("\xc6\xff\xff\xff\xff" "x") };
	struct rusage before, after;
	struct err err = ERR_INIT;

	(void)state;
	getrusage(RUSAGE_SELF, &before);
	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
			struct buf out = BUF_INIT;

			assert_int_equal(-1, msgpack_to_json(bodies[i], VALUES, BYTES, &out, &err));
			assert_true(out.size < 1000);
			buf_release(&out);
		}
	}
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < 10000); /* KiB */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_become_json),
		cmocka_unit_test(what_json_has_not_and_what_is_broken_is_refused),
		cmocka_unit_test(depth_is_that_of_json),
		cmocka_unit_test(values_and_bytes_are_bounded),
		cmocka_unit_test(names_that_are_twice),
		cmocka_unit_test(any_bytes_do_no_harm),
		cmocka_unit_test(json_becomes_messagepack),
		cmocka_unit_test(a_copy_is_as_it_came),
		cmocka_unit_test(version_1_is_rewritten),
		cmocka_unit_test(what_follows_is_as_its_job),
		cmocka_unit_test(wrong_tasks_are_refused),
		cmocka_unit_test(claims_cost_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
