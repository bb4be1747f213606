/* The job worker's parts that need no broker: messages in and out, encodings, limits, revoked ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "workers/celery/canvas.h"
#include "workers/celery/pickle.h"
#include "workers/celery/python.h"
#include "workers/celery/rates.h"
#include "workers/celery/request.h"
#include "workers/celery/settled.h"
#include "workers/celery/revoked.h"
#include "workers/celery/task.h"
#include "workers/celery/unpack.h"

static struct json *parsed(const char *text)
{
	struct err err = ERR_INIT;
	struct json *node = json_parse_answer(slice_of(text), &err);

	assert_non_null(node);
	return node;
}

/* ---- encodings */

static void base64_both_ways(void **state)
{
	static const struct {
		const char *plain, *coded;
	} rows[] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "\xff\xfe\xfd", "//79" } };
	static const char *const wrong[] = { "A", "Zg=a", "Z*==", "Zg===" };
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_reset(&out);
		base64_encode(&out, rows[i].plain, strlen(rows[i].plain));
		assert_string_equal(rows[i].coded, out.data);
		buf_reset(&out);
		assert_int_equal(0, unpack_base64(slice_of(rows[i].coded), &out, &err));
		assert_string_equal(rows[i].plain, out.data);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		buf_reset(&out);
		assert_int_equal(-1, unpack_base64(slice_of(wrong[i]), &out, &err));
	}
	buf_release(&out);
}

static void compressed_bodies_are_bounded(void **state)
{
	/* zlib.compress(b"[[1, 2], {}, null]") */
	static const unsigned char packed[] = { 0x78, 0x9c, 0x8b, 0x8e, 0x36, 0xd4, 0x51, 0x30, 0x8a, 0xd5, 0x51, 0xa8, 0xae, 0xd5, 0x51, 0xc8, 0x2b,
		0xcd, 0xc9, 0x89, 0x05, 0x00, 0x2e, 0x93, 0x05, 0x6b };
	const struct slice in = { (const char *)packed, sizeof(packed) };
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	(void)state;
	assert_int_equal(0, unpack_compressed(slice_of("application/x-gzip"), in, 1000, &out, &err));
	assert_string_equal("[[1, 2], {}, null]", out.data);
	buf_reset(&out);
	assert_int_equal(-1, unpack_compressed(slice_of("zlib"), in, 10, &out, &err));
	buf_reset(&out);
	assert_int_equal(-1, unpack_compressed(slice_of("zlib"), (struct slice){ in.data, in.len - 6 }, 1000, &out, &err));
	assert_int_equal(-1, unpack_compressed(slice_of("application/x-bz2"), in, 1000, &out, &err)); /* it is none of those */
	assert_int_equal(-1, unpack_compressed(slice_of("application/x-lzma"), in, 1000, &out, &err));
	assert_int_equal(-1, unpack_compressed(slice_of("application/zstd"), in, 1000, &out, &err));
	assert_int_equal(-1, unpack_compressed(slice_of("application/x-brotli"), in, 1000, &out, &err));
	assert_int_equal(-1, unpack_compressed(slice_of("application/x-snappy"), in, 1000, &out, &err));
	assert_non_null(strstr(err.message, "application/x-snappy"));
	buf_release(&out);
}

static void pickles(void **state)
{
	static const struct {
		const char *json, *pickle;
		size_t len;
	} rows[] = {
		{ "null", "\x80\x02N.", 4 },
		{ "true", "\x80\x02\x88.", 4 },
		{ "-2", "\x80\x02J\xfe\xff\xff\xff.", 8 },
		{ "9007199254740993", "\x80\x02L9007199254740993L\n.", 22 },
		{ "0.5", "\x80\x02G\x3f\xe0\0\0\0\0\0\0.", 12 },
		{ "\"\xc3\xa4\"", "\x80\x02X\x02\0\0\0\xc3\xa4.", 10 },
		{ "[1]", "\x80\x02](J\x01\0\0\0e.", 11 },
		{ "{\"a\":null}", "\x80\x02}(X\x01\0\0\0aNu.", 13 },
#define CALLED "\x80\x02" "ckombu.utils.json\nobject_hook\n}(X\x08\0\0\0__type__X\x04\0\0\0dateX\x09\0\0\0__value__X\x01\0\0\0xu\x85R."
		{ "{\"__type__\":\"date\",\"__value__\":\"x\"}", CALLED, sizeof(CALLED) - 1 },
#define NOT_CALLED "\x80\x02}(X\x08\0\0\0__type__X\x04\0\0\0dareX\x09\0\0\0__value__X\x01\0\0\0xu."
		{ "{\"__type__\":\"dare\",\"__value__\":\"x\"}", NOT_CALLED, sizeof(NOT_CALLED) - 1 }, /* of which it would raise an error */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct json *node = parsed(rows[i].json);
		struct buf out = BUF_INIT;

		pickle_write(&out, node);
		assert_int_equal(rows[i].len, out.len);
		assert_memory_equal(rows[i].pickle, out.data, out.len);
		buf_release(&out);
		json_free(node);
	}
}

static void python_shows_values(void **state)
{
	static const struct {
		const char *json, *repr;
	} rows[] = {
		{ "[1, 2.5, null, true]", "[1, 2.5, None, True]" },
		{ "{\"a\": \"it's\"}", "{'a': \"it's\"}" },
		{ "\"a\\n'\\\"\"", "'a\\n\\'\"'" },
		{ "[]", "[]" },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_reset(&out);
		python_repr_json(&out, slice_of(rows[i].json), 1000);
		assert_string_equal(rows[i].repr, out.data);
	}
	buf_reset(&out);
	python_repr_json(&out, slice_of("\"\xc3\xa4\xc3\xa4\xc3\xa4\""), 4);
	assert_true(str_utf8_valid(buf_slice(&out)));
	assert_true(out.len <= 4 + 3);
	buf_release(&out);
}

/* ---- messages in */

/* A delivery as the adapter makes one; request_read() keeps it only on success, and these live on the stack: it is taken back. */
static struct request *read_message(struct amqp_delivery *delivery, const char *body, struct err *err)
{
	delivery->body = slice_of(body);
	return request_read(delivery, err);
}

static void done(struct request *request)
{
	request->delivery = NULL;
	request_free(request);
}

static void version_2(void **state)
{
	const struct amqp_field limits[] = { amqp_int(NULL, 10), amqp_null(NULL) };
	struct amqp_field headers[] = {
		amqp_text("lang", slice_of("py")), amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")), amqp_null("eta"),
		amqp_int("retries", 2), { "timelimit", { .type = AMQP_VALUE_ARRAY, .items = { limits, 2 } } }, amqp_text("traceparent", slice_of("00-1\"")),
		amqp_text("x-first-death-queue", slice_of("q")),
	};
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true, .reply_to = slice_of("r") } };
	struct err err = ERR_INIT;
	struct request *r = read_message(&delivery, "[[1,2],{\"a\":3},{\"callbacks\":null,\"errbacks\":[],\"chain\":[{\"task\":\"x\"}],\"chord\":null}]", &err);

	(void)state;
	assert_non_null(r);
	assert_true(slice_is(r->task, "add") && slice_is(r->id, "7") && slice_is(r->root_id, "7") && slice_is(r->reply_to, "r"));
	assert_int_equal(2, r->retries);
	assert_int_equal(10000, r->hard_ms);
	assert_int_equal(0, r->soft_ms);
	assert_int_equal(1, r->custom.count);
	assert_string_equal("traceparent", r->custom.fields[0].name);
	assert_true(slice_is(r->custom.fields[0].value.text, "00-1\""));
	assert_null(r->callbacks);
	assert_null(r->errbacks);
	assert_non_null(r->chain);
	done(r);
}

/* The broker sorts headers as it likes; its count is of this message alone, ours of those that it is a copy of. */
static void deliveries_are_added_up_in_any_order(void **state)
{
	const struct amqp_field task = amqp_text("task", slice_of("add")), id = amqp_text("id", slice_of("7"));
	const struct amqp_field ours = amqp_int("x-feed-deliveries", 1), broker = amqp_int("x-delivery-count", 3);
	struct amqp_field orders[2][4] = { { broker, id, task, ours }, { ours, id, task, broker } };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(orders[i]), .has_headers = true } };
		struct request *r = read_message(&delivery, "[[],{},null]", &err);

		assert_non_null(r);
		assert_int_equal(4, r->deliveries);
		assert_int_equal(0, r->custom.count);
		done(r);
	}
}

/* JSON has no name twice and no bytes that are no text; AMQP has both. Nothing of the delivery is needed any more. */
static void headers_of_others_go_on_as_they_came(void **state)
{
	struct amqp_field inside[] = { amqp_int("n", 1), amqp_int("n", 2) };
	struct amqp_field headers[] = {
		amqp_text("task", slice_of("flaky")), amqp_text("twice", slice_of("a")), amqp_text("nul", (struct slice){ "a\0b", 3 }),
		{ "table", { .type = AMQP_VALUE_TABLE, .items = AMQP_TABLE(inside) } }, amqp_text("id", slice_of("7")),
		amqp_text("twice", slice_of("b")), amqp_text("bytes", slice_of("\xff\xfe")), amqp_text("x-first-death-queue", slice_of("q")),
	};
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };
	struct err err = ERR_INIT;
	struct request *r = read_message(&delivery, "[[1],{},null]", &err);
	struct post *post;
	const struct amqp_table *sent;
	const struct amqp_field *last;

	(void)state;
	assert_non_null(r);
	post = outgoing_again(r, "celery", 1, 0, 0, 0);
	done(r);
	memset(headers, 0, sizeof(headers));
	memset(inside, 0, sizeof(inside));
	sent = &post->message.properties.headers;
	assert_true(slice_is(amqp_table_value(sent, "task")->text, "flaky"));
	assert_true(sent->count > 5);
	last = &sent->fields[sent->count - 5];
	assert_string_equal("twice", last[0].name);
	assert_true(slice_is(last[0].value.text, "a"));
	assert_true(last[1].value.text.len == 3 && memcmp(last[1].value.text.data, "a\0b", 3) == 0);
	assert_int_equal(2, last[2].value.items.count);
	assert_string_equal("n", last[2].value.items.fields[1].name);
	assert_int_equal(2, last[2].value.items.fields[1].value.number);
	assert_true(slice_is(last[3].value.text, "b"));
	assert_string_equal("bytes", last[4].name);
	assert_true(slice_is(last[4].value.text, "\xff\xfe"));
	post_free(post);
}

static void stamps_that_json_does_not_have_are_left_out(void **state)
{
	const struct amqp_field good[] = { amqp_text("customer", slice_of("7")) }, bad[] = { amqp_text("x", (struct slice){ "a\0b", 3 }) };
	const struct amqp_table stamps[] = { AMQP_TABLE(good), AMQP_TABLE(bad) };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct amqp_field headers[] = { amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")),
			{ "stamps", { .type = AMQP_VALUE_TABLE, .items = stamps[i] } } };
		struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };
		struct request *r = read_message(&delivery, "[[],{},null]", &err);
		struct post *post;

		assert_non_null(r);
		assert_true(slice_is(r->stamps, i == 0 ? "{\"customer\":\"7\"}" : ""));
		post = outgoing_again(r, "celery", 1, 0, 0, 0);
		assert_true(slice_is(amqp_table_value(&post->message.properties.headers, "id")->text, "7"));
		post_free(post);
		done(r);
	}
}

/* They would arrive as nobody's message. */
static void headers_that_are_no_json_are_not_sent(void **state)
{
	struct post *post = post_new(slice_of(""), slice_of("q"));

	(void)state;
	post_headers(post, slice_of("{\"task\":\"add\"}"));
	assert_false(post->is_broken);
	assert_int_equal(1, post->message.properties.headers.count);
	post_headers(post, slice_of("{\"a\":1,\"a\":2}"));
	assert_true(post->is_broken);
	assert_int_equal(0, post->message.properties.headers.count);
	post_free(post);
}

static void version_1_becomes_version_2(void **state)
{
	struct amqp_delivery delivery = { .body = SLICE_NONE };
	struct err err = ERR_INIT;
	struct request *r = read_message(&delivery, "{\"task\":\"add\",\"id\":\"7\",\"args\":[1],\"kwargs\":{\"y\":2},\"retries\":1,\"eta\":\"2020-01-01T00:00:00\"}", &err);

	(void)state;
	assert_non_null(r);
	assert_true(slice_is(r->body, "[[1],{\"y\":2},{\"callbacks\":null,\"errbacks\":null,\"chain\":null,\"chord\":null}]"));
	assert_int_equal(1, r->retries);
	assert_true(r->eta_ms == INT64_C(1577836800000));
	done(r);
}

/* Headers of version 2 before a body of version 1. */
static void a_hybrid_takes_from_its_body_what_its_headers_do_not_say(void **state)
{
	struct amqp_field headers[] = { amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")), amqp_null("eta"), amqp_int("retries", 2),
		amqp_text("trace", slice_of("00-1")) };
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };
	struct err err = ERR_INIT;
	struct request *r = read_message(&delivery, "{\"task\":\"other\",\"id\":\"8\",\"args\":[1],\"kwargs\":{\"y\":2},\"retries\":5,\"eta\":\"2050-01-01T00:00:00\","
		"\"root_id\":\"r\",\"parent_id\":\"p\",\"group\":\"g\",\"shadow\":\"s\",\"origin\":\"o\",\"expires\":\"2050-01-01T00:00:00\",\"timelimit\":[3,null],"
		"\"callbacks\":[{\"task\":\"x\"}]}", &err);

	(void)state;
	assert_non_null(r);
	assert_true(slice_is(r->task, "add") && slice_is(r->id, "7") && slice_is(r->root_id, "r") && slice_is(r->parent_id, "p"));
	assert_true(slice_is(r->group, "g") && slice_is(r->shadow, "s") && slice_is(r->origin, "o"));
	assert_int_equal(1, r->custom.count);
	assert_string_equal("trace", r->custom.fields[0].name);
	assert_int_equal(2, r->retries);
	assert_true(r->eta_ms == 0 && r->expires_ms == INT64_C(2524608000000) && r->hard_ms == 3000);
	assert_true(slice_is(r->body, "[[1],{\"y\":2},{\"callbacks\":[{\"task\":\"x\"}],\"errbacks\":null,\"chain\":null,\"chord\":null}]"));
	done(r);
}

static void wrong_messages_are_refused(void **state)
{
	static const char *const bodies[] = { "", "{", "[]", "[[]]", "[{},{}]", "[[],[]]", "[[],{},[]]", "[[],{},{},1]", "[[],{},{\"chain\":{}}]", "[[NaN],{}]",
		"{\"kwargs\":{}}", "{\"args\":{}}", "{\"args\":[],\"kwargs\":[]}" };
	static const char *const ids[] = { "x\r\n\r\nDELETE /jobs/1 HTTP/1.1", "x\n", "\t", "\x7f" };
	struct amqp_field headers[] = { amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")) };
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct err err = ERR_INIT;

		assert_null(read_message(&delivery, bodies[i], &err));
		assert_int_equal(ERR_INVALID, err.kind);
	}
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct err err = ERR_INIT;

		headers[1] = amqp_text("id", slice_of(ids[i]));
		assert_null(read_message(&delivery, "[[],{}]", &err));
		assert_int_equal(ERR_INVALID, err.kind);
	}
	headers[1] = amqp_text("id", slice_of("7"));
	delivery.properties.content_type = slice_of("application/x-python-serialize");
	struct err err = ERR_INIT;

	assert_null(read_message(&delivery, "[[],{}]", &err));
	assert_non_null(strstr(err.message, "refused"));
}

static void values_of_a_body_are_bounded(void **state)
{
	struct amqp_field headers[] = { amqp_text("task", slice_of("add")), amqp_text("id", slice_of("7")) };
	struct amqp_delivery delivery = { .properties = { .headers = AMQP_TABLE(headers), .has_headers = true } };
	struct err err = ERR_INIT;
	struct request *request;
	struct buf body = BUF_INIT;

	(void)state;
	buf_add_str(&body, "[[\"");
	for (int i = 0; i < REQUEST_VALUES_MAX; i++)
		buf_add_str(&body, "[\\\",");
	buf_add_str(&body, "\"],{}]");
	request = read_message(&delivery, body.data, &err); /* within a text they are none */
	assert_non_null(request);
	done(request);
	buf_reset(&body);
	buf_add_str(&body, "[[0");
	for (int i = 0; i < REQUEST_VALUES_MAX; i++)
		buf_add_str(&body, ",0");
	buf_add_str(&body, "],{}]");
	assert_null(read_message(&delivery, body.data, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_non_null(strstr(err.message, "values"));
	buf_release(&body);
}

static void settled_ids_are_those_of_the_last_minute(void **state)
{
	struct settled settled;
	char *id, text[20];

	(void)state;
	settled_init(&settled);
	settled_add(&settled, slice_of("yesterday"), 1000);
	settled_add(&settled, slice_of("nightly"), 1000 + SETTLED_FLIGHT_MS);
	id = settled_take(&settled, 1001 + SETTLED_FLIGHT_MS);
	assert_string_equal("nightly", id);
	free(id);
	assert_null(settled_take(&settled, 1001 + SETTLED_FLIGHT_MS));
	for (int i = 0; i < SETTLED_MAX + 5; i++) {
		snprintf(text, sizeof(text), "%d", i);
		settled_add(&settled, slice_of(text), 2000);
	}
	id = settled_take(&settled, 2000);
	assert_string_equal("5", id);
	free(id);
	settled_release(&settled);
}

/* ---- messages out */

static void delay_key_has_the_bits(void **state)
{
	struct buf key = BUF_INIT;

	(void)state;
	outgoing_delay_key(5, "q", &key);
	assert_string_equal("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.q", key.data);
	buf_reset(&key);
	outgoing_delay_key(INT64_MAX, "q", &key);
	assert_string_equal("1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.q", key.data);
	buf_release(&key);
}

static bool is_home(void *arg, const char *queue)
{
	(void)arg;
	return strcmp(queue, "home") == 0;
}

/* The delay leads back to our own queues alone: what is for others has its eta, and goes at once. */
static void what_is_for_later_and_for_others_goes_at_once(void **state)
{
	static const char *const rows[][2] = { { "\"queue\":\"home\"", OUTGOING_DELAY_EXCHANGE }, { "\"queue\":\"theirs\"", "" }, { "\"routing_key\":\"theirs\"", "" },
		{ "\"exchange\":\"x\"", "x" }, { "\"priority\":1", OUTGOING_DELAY_EXCHANGE } };
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r") };
	struct buf children = BUF_INIT;
	struct err err = ERR_INIT;
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct canvas canvas;
		struct json *links;

		snprintf(text, sizeof(text), "[{\"task\":\"a\",\"options\":{%s,\"countdown\":60}}]", rows[i][0]);
		links = parsed(text);
		canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
		assert_int_equal(0, canvas_add_all(&canvas, links, slice_of("1"), &err));
		assert_string_equal(rows[i][1], canvas.first->message.exchange);
		assert_int_equal(AMQP_VALUE_TEXT, amqp_table_value(&canvas.first->message.properties.headers, "eta")->type);
		canvas_release(&canvas);
		json_free(links);
	}
	buf_release(&children);
}

static void chain_sends_its_last_element_with_the_rest(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r"), .reply_to = slice_of("reply") };
	struct json *chain = parsed("[{\"task\":\"third\",\"args\":[],\"options\":{}},{\"task\":\"second\",\"args\":[5],\"kwargs\":{},\"options\":{\"task_id\":\"s\"}}]");
	struct buf children = BUF_INIT;
	struct err err = ERR_INIT;
	struct canvas canvas;

	(void)state;
	canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
	assert_int_equal(0, canvas_add_chain(&canvas, chain, slice_of("41"), &err));
	assert_non_null(canvas.first);
	assert_null(canvas.first->next);
	assert_string_equal("home", canvas.first->message.routing_key);
	assert_string_equal("[[41,5],{},{\"callbacks\":null,\"errbacks\":null,\"chain\":[{\"task\":\"third\",\"args\":[],\"options\":{}}],\"chord\":null}]",
		canvas.first->body.data);
	assert_true(slice_is(canvas.first->message.properties.correlation_id, "s"));
	assert_string_equal("[[\"s\",null],null]", children.data);
	canvas_release(&canvas);
	json_free(chain);
	buf_release(&children);
}

static void group_is_flattened_and_a_chord_refused(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r") };
	struct json *links = parsed("[{\"task\":\"celery.group\",\"subtask_type\":\"group\",\"kwargs\":{\"tasks\":[{\"task\":\"a\"},"
		"{\"task\":\"celery.group\",\"subtask_type\":\"group\",\"kwargs\":{\"tasks\":[{\"task\":\"b\"},{\"task\":\"c\"}]}}]}}]");
	struct json *chord = parsed("[{\"task\":\"celery.chord\",\"subtask_type\":\"chord\",\"kwargs\":{}}]");
	struct buf children = BUF_INIT;
	struct err err = ERR_INIT;
	struct canvas canvas;

	(void)state;
	canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
	assert_int_equal(0, canvas_add_all(&canvas, links, slice_of("1"), &err));
	assert_int_equal(3, canvas.count);
	assert_int_equal(-1, canvas_add_all(&canvas, chord, slice_of("1"), &err));
	assert_int_equal(ERR_INVALID, err.kind);
	canvas_release(&canvas);
	json_free(links);
	json_free(chord);
	buf_release(&children);
}

/* What is sent in the field `chain` brings its place along; the first step is nobody's child. */
static void the_last_of_a_chain_is_the_member_of_a_group(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r") };
	struct json *links = parsed("[{\"task\":\"celery.group\",\"subtask_type\":\"group\",\"options\":{\"task_id\":\"g\"},\"kwargs\":{\"tasks\":["
		"{\"task\":\"celery.chain\",\"subtask_type\":\"chain\",\"kwargs\":{\"tasks\":[{\"task\":\"a\",\"options\":{\"task_id\":\"one\"}},"
		"{\"task\":\"b\",\"args\":[7],\"options\":{\"task_id\":\"two\",\"queue\":\"q\"}}]}},{\"task\":\"c\",\"options\":{\"task_id\":\"three\"}}]}}]");
	struct buf children = BUF_INIT;
	struct err err = ERR_INIT;
	struct canvas canvas;

	(void)state;
	canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
	assert_int_equal(0, canvas_add_callbacks(&canvas, links, slice_of("1"), &err));
	assert_int_equal(2, canvas.count);
	assert_int_equal(JSON_NULL, json_type(json_get(canvas.first->headers, "group")));
	assert_string_equal("[[1],{},{\"callbacks\":null,\"errbacks\":null,\"chain\":[{\"task\":\"b\",\"args\":[7],\"options\":{\"queue\":\"q\",\"task_id\":\"two\","
		"\"group_id\":\"g\",\"group_index\":0}}],\"chord\":null}]", canvas.first->body.data);
	assert_true(slice_is(json_string(json_get(canvas.first->next->headers, "group")), "g"));
	assert_true(slice_is(json_number(json_get(canvas.first->next->headers, "group_index")), "1"));
	assert_string_equal("[[\"g\",null],[[[\"two\",null],null],[[\"three\",null],null]]]", children.data);
	canvas_release(&canvas);
	json_free(links);
	buf_release(&children);
}

/* Several callbacks: groups first, then the others as one. The same run again says the same. */
static void several_callbacks_are_a_group(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("0189d2f4-5a8e-4c1b-9b7a-3f2e1d0c9b8a") };
	struct json *links = parsed("[{\"task\":\"a\"},{\"task\":\"celery.group\",\"subtask_type\":\"group\",\"options\":{\"task_id\":\"g\"},"
		"\"kwargs\":{\"tasks\":[{\"task\":\"b\"}]}},{\"task\":\"c\"}]");
	static const char *const tasks[] = { "b", "a", "c" };
	struct buf children[2] = { BUF_INIT, BUF_INIT };
	struct err err = ERR_INIT;

	(void)state;
	for (int run = 0; run < 2; run++) {
		struct canvas canvas;
		struct slice group = SLICE_NONE;
		const struct post *post;

		canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children[run]);
		assert_int_equal(0, canvas_add_callbacks(&canvas, links, slice_of("1"), &err));
		assert_int_equal(3, canvas.count);
		post = canvas.first;
		for (int i = 0; i < 3; i++, post = post->next) {
			const struct slice own = json_string(json_get(post->headers, "group"));

			assert_true(slice_is(json_string(json_get(post->headers, "task")), tasks[i]));
			assert_true(i == 0 ? slice_is(own, "g") : own.len == 36 && (i == 1 || slice_equal(own, group)));
			assert_true(slice_is(json_number(json_get(post->headers, "group_index")), i == 2 ? "1" : "0"));
			group = own;
		}
		canvas_release(&canvas);
	}
	assert_memory_equal("[[\"g\",null],[[[\"", children[0].data, 16);
	assert_string_equal(children[0].data, children[1].data);
	json_free(links);
	buf_release(&children[0]);
	buf_release(&children[1]);
}

static void options_become_headers(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	const struct request parent = { .id = slice_of("p"), .root_id = slice_of("r") };
	struct json *links = parsed("[{\"task\":\"a\",\"options\":{\"stamped_headers\":[\"one\",\"two\",\"one\",\"none\",7],\"one\":[\"1\"],\"two\":\"2\","
		"\"headers\":{\"trace\":{\"x\":1},\"id\":\"no\",\"x-death\":[]},\"eta\":{\"__type__\":\"datetime\",\"__value__\":\"2050-01-01T00:00:00+00:00\"},"
		"\"expires\":\"2050-01-02T00:00:00\"}}]");
	struct buf children = BUF_INIT, text = BUF_INIT;
	struct err err = ERR_INIT;
	struct canvas canvas;
	const struct json *headers;

	(void)state;
	canvas_init(&canvas, &outgoing, &parent, CANVAS_NEXT, &children);
	assert_int_equal(0, canvas_add_all(&canvas, links, slice_of("1"), &err));
	assert_non_null(canvas.first);
	headers = canvas.first->headers;
	json_write_node(&text, json_get(headers, "stamps"));
	assert_string_equal("{\"one\":[\"1\"],\"two\":\"2\"}", text.data);
	buf_reset(&text);
	json_write_node(&text, json_get(headers, "trace"));
	assert_string_equal("{\"x\":1}", text.data);
	assert_false(slice_is(json_string(json_get(headers, "id")), "no"));
	assert_null(json_get(headers, "x-death"));
	assert_true(slice_is(json_string(json_get(headers, "eta")), "2050-01-01T00:00:00.000000+00:00"));
	assert_true(slice_is(json_string(json_get(headers, "expires")), "2050-01-02T00:00:00"));
	assert_string_equal(OUTGOING_DELAY_EXCHANGE, canvas.first->message.exchange);
	canvas_release(&canvas);
	json_free(links);
	buf_release(&text);
	buf_release(&children);
}

static void what_has_no_id_gets_the_same_one_again(void **state)
{
	const struct outgoing outgoing = { .queue = "home", .node = "n@h", .is_behind_delay = is_home };
	struct request parent = { .id = slice_of("0189d2f4-5a8e-4c1b-9b7a-3f2e1d0c9b8a") };
	struct json *links = parsed("[{\"task\":\"a\"},{\"task\":\"b\",\"options\":{\"task_id\":\"own\"}},{\"task\":\"c\"}]");
	struct buf children[4] = { BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct canvas canvas;

		if (i == 3)
			parent.id = slice_of("nightly");
		canvas_init(&canvas, &outgoing, &parent, i == 2 ? CANVAS_ERROR : CANVAS_NEXT, &children[i]);
		assert_int_equal(0, canvas_add_all(&canvas, links, slice_of("1"), &err));
		assert_int_equal(3, canvas.count);
		assert_true(slice_is(canvas.first->next->message.properties.correlation_id, "own"));
		assert_false(slice_equal(canvas.first->message.properties.correlation_id, canvas.first->next->next->message.properties.correlation_id));
		canvas_release(&canvas);
	}
	assert_string_equal(children[0].data, children[1].data);
	assert_string_not_equal(children[0].data, children[2].data);
	buf_reset(&children[0]);
	struct canvas again;

	canvas_init(&again, &outgoing, &parent, CANVAS_NEXT, &children[0]);
	assert_int_equal(0, canvas_add_all(&again, links, slice_of("1"), &err));
	assert_string_not_equal(children[0].data, children[3].data); /* an id that may be used again */
	canvas_release(&again);
	for (size_t i = 0; i < 4; i++)
		buf_release(&children[i]);
	json_free(links);
}

/* ---- limits */

static void rate_is_kept(void **state)
{
	static const char *const wrong[] = { "x", "1/x", "-1/s", "1/", "/s", "nan/s" };
	struct rates rates = { NULL, 0 };
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, rates_read(&rates, slice_of("a=2/s, b=6/m"), &err));
	assert_int_equal(0, rates_take(&rates, slice_of("a"), 0));
	assert_in_range(rates_take(&rates, slice_of("a"), 0), 499000, 501000);
	assert_int_equal(0, rates_take(&rates, slice_of("a"), 501000));
	assert_int_equal(0, rates_take(&rates, slice_of("a"), 60000000)); /* a long rest saves up one start, no more */
	assert_true(rates_take(&rates, slice_of("a"), 60000000) > 0);
	assert_int_equal(0, rates_take(&rates, slice_of("b"), 0));
	assert_in_range(rates_take(&rates, slice_of("b"), 0), 9999000, 10001000);
	assert_int_equal(0, rates_take(&rates, slice_of("nobody"), 0));
	assert_int_equal(0, rates_set(&rates, slice_of("a"), slice_of("0"), 0, &err));
	for (int i = 0; i < 10; i++)
		assert_int_equal(0, rates_take(&rates, slice_of("a"), 0));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(-1, rates_set(&rates, slice_of("a"), slice_of(wrong[i]), 0, &err));
	rates_release(&rates);
}

static void revoked_ids_are_bounded_and_kept(void **state)
{
	char path[] = "/tmp/feedmill-revoked-XXXXXX", id[32];
	const int fd = mkstemp(path);
	struct revoked revoked, again;
	struct err err = ERR_INIT;
	const int64_t now = clock_wall_ms();

	(void)state;
	close(fd);
	unlink(path);
	revoked_init(&revoked, REVOKED_MAX);
	revoked_init(&again, REVOKED_MAX);
	assert_int_equal(0, revoked_load(&revoked, path, &err)); /* no file yet */
	for (int i = 0; i < REVOKED_MAX + 10; i++) {
		snprintf(id, sizeof(id), "id-%d", i);
		assert_true(revoked_add(&revoked, slice_of(id), now));
	}
	assert_false(revoked_add(&revoked, slice_of("id-50000"), now));
	assert_int_equal(REVOKED_MAX, revoked.count);
	assert_false(revoked_has(&revoked, slice_of("id-9")));
	assert_true(revoked_has(&revoked, slice_of("id-10")));
	assert_int_equal(0, revoked_save(&revoked, path, &err));
	assert_int_equal(0, revoked_load(&again, path, &err));
	assert_int_equal(REVOKED_MAX, again.count);
	assert_true(revoked_has(&again, slice_of("id-50009")));
	revoked_forget(&again, now + REVOKED_MS + 1000);
	assert_int_equal(0, again.count);
	revoked_release(&revoked);
	revoked_release(&again);
	unlink(path);
}

static void revoked_ids_can_be_taken_from_anywhere(void **state)
{
	static const char *const ids[] = { "a", "b", "c", "d" };
	static const size_t orders[][4] = { { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 2, 0, 3 } };

	(void)state;
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct revoked revoked;

		revoked_init(&revoked, 10);
		for (size_t n = 0; n < 4; n++)
			assert_true(revoked_add(&revoked, slice_of(ids[n]), 1000));
		for (size_t n = 0; n < 4; n++) {
			assert_true(revoked_take(&revoked, slice_of(ids[orders[i][n]])));
			assert_false(revoked_take(&revoked, slice_of(ids[orders[i][n]])));
			assert_int_equal(3 - n, revoked.count);
			for (size_t other = n + 1; other < 4; other++)
				assert_true(revoked_has(&revoked, slice_of(ids[orders[i][other]])));
		}
		assert_null(revoked.first);
		assert_null(revoked.last);
		assert_true(revoked_add(&revoked, slice_of("e"), 1000));
		revoked_forget(&revoked, 1001 + REVOKED_MS);
		assert_int_equal(0, revoked.count);
		revoked_release(&revoked);
	}
}

/* A retry, a copy with a count, and what came out of a delay are messages of their own. */
static void messages_of_one_id_are_told_apart(void **state)
{
	struct request requests[] = { { .id = slice_of("7") }, { .id = slice_of("7"), .retries = 1 }, { .id = slice_of("7"), .counted = 1 },
		{ .id = slice_of("7"), .is_repeat = true }, { .id = slice_of("71") } };
	char room[2][TASK_KEY_MAX];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		const struct task one = { .request = &requests[i] };

		for (size_t j = 0; j < 5; j++) {
			const struct task other = { .request = &requests[j] };

			assert_int_equal(i == j, slice_equal(task_key(&one, room[0]), task_key(&other, room[1])));
		}
	}
	requests[0].counted_by_broker = requests[0].deliveries = 3; /* of the same message, each time another */
	assert_true(slice_is(task_key(&(struct task){ .request = &requests[0] }, room[0]), "7"));
}

static struct slice long_id(char *out, size_t size, int number)
{
	snprintf(out, size, "%06d\"%0190d", number, 0);
	return slice_of(out);
}

/* A file and a message of them have bounds: the newest stay. */
static void long_ids_are_written_as_far_as_they_fit(void **state)
{
	char path[] = "/tmp/feedmill-revoked-XXXXXX", id[256];
	const int fd = mkstemp(path);
	struct revoked revoked, again;
	struct buf text = BUF_INIT;
	struct json_writer w = JSON_WRITER(&text);
	struct err err = ERR_INIT;

	(void)state;
	close(fd);
	revoked_init(&revoked, REVOKED_MAX);
	revoked_init(&again, REVOKED_MAX);
	for (int i = 0; i < REVOKED_MAX; i++)
		revoked_add(&revoked, long_id(id, sizeof(id), i), clock_wall_ms());
	revoked_write(&revoked, &w, NULL);
	assert_in_range(text.len, REVOKED_TEXT_MAX / 2, REVOKED_TEXT_MAX);
	assert_int_equal(0, revoked_save(&revoked, path, &err));
	assert_int_equal(0, revoked_load(&again, path, &err));
	assert_true(revoked_has(&again, long_id(id, sizeof(id), REVOKED_MAX - 1)));
	assert_false(revoked_has(&again, long_id(id, sizeof(id), 0)));
	assert_in_range(again.count, 10000, REVOKED_MAX - 1);
	revoked_release(&revoked);
	revoked_release(&again);
	buf_release(&text);
	unlink(path);
}

static void too_large_a_file_is_read_as_far_as_it_goes(void **state)
{
	char path[] = "/tmp/feedmill-revoked-XXXXXX", id[256];
	const int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");
	struct revoked revoked;
	struct err err = ERR_INIT;

	(void)state;
	assert_non_null(file);
	fprintf(file, "{\"revoked\":{");
	for (int i = 0; i < 100000; i++)
		fprintf(file, "%s\"%0190d-],%d\":[%lld.5,\"\"]", i > 0 ? "," : "", 0, i, (long long)(clock_wall_ms() / 1000 - 60));
	fprintf(file, "}}");
	assert_int_equal(0, fclose(file));
	revoked_init(&revoked, REVOKED_MAX * 4);
	assert_int_equal(0, revoked_load(&revoked, path, &err));
	assert_in_range(revoked.count, 10000, 99999);
	snprintf(id, sizeof(id), "%0190d-],%d", 0, 0);
	assert_true(revoked_has(&revoked, slice_of(id)));
	revoked_release(&revoked);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_both_ways),
		cmocka_unit_test(compressed_bodies_are_bounded),
		cmocka_unit_test(pickles),
		cmocka_unit_test(python_shows_values),
		cmocka_unit_test(version_2),
		cmocka_unit_test(deliveries_are_added_up_in_any_order),
		cmocka_unit_test(headers_of_others_go_on_as_they_came),
		cmocka_unit_test(stamps_that_json_does_not_have_are_left_out),
		cmocka_unit_test(headers_that_are_no_json_are_not_sent),
		cmocka_unit_test(version_1_becomes_version_2),
		cmocka_unit_test(a_hybrid_takes_from_its_body_what_its_headers_do_not_say),
		cmocka_unit_test(wrong_messages_are_refused),
		cmocka_unit_test(values_of_a_body_are_bounded),
		cmocka_unit_test(settled_ids_are_those_of_the_last_minute),
		cmocka_unit_test(delay_key_has_the_bits),
		cmocka_unit_test(what_is_for_later_and_for_others_goes_at_once),
		cmocka_unit_test(chain_sends_its_last_element_with_the_rest),
		cmocka_unit_test(group_is_flattened_and_a_chord_refused),
		cmocka_unit_test(the_last_of_a_chain_is_the_member_of_a_group),
		cmocka_unit_test(several_callbacks_are_a_group),
		cmocka_unit_test(options_become_headers),
		cmocka_unit_test(what_has_no_id_gets_the_same_one_again),
		cmocka_unit_test(rate_is_kept),
		cmocka_unit_test(revoked_ids_are_bounded_and_kept),
		cmocka_unit_test(revoked_ids_can_be_taken_from_anywhere),
		cmocka_unit_test(messages_of_one_id_are_told_apart),
		cmocka_unit_test(long_ids_are_written_as_far_as_they_fit),
		cmocka_unit_test(too_large_a_file_is_read_as_far_as_it_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
