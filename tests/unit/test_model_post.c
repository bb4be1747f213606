/* Posts and chunks: the values of feed.posts and feed.chunks, byte by byte, and every way in which one can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "common/model/post.h"

#define AT_MS INT64_C(1769860800123) /* 2026-01-31T12:00:00.123Z */
#define AT "\"posted_at\":\"2026-01-31T12:00:00.123Z\""

static struct post sample(const char *subject, const char *story)
{
	return (struct post){ .id = 9007199254740991, .from = 7, .posted_at_ms = AT_MS, .subject = slice_of(subject), .story = slice_of(story) };
}

static void encodes_exactly(void **state)
{
	struct post post = sample("a \"quote\"", "line\nline \xf0\x9f\x98\x80");
	struct buf out = BUF_INIT;

	(void)state;
	post_encode(&post, &out);
	assert_string_equal(out.data, "{\"v\":1,\"id\":9007199254740991,\"from\":7," AT
				      ",\"subject\":\"a \\\"quote\\\"\",\"story\":\"line\\nline \xf0\x9f\x98\x80\"}");
	buf_release(&out);
}

static void comes_back_as_it_was(void **state)
{
	static const char *const stories[] = { "", "x", "<b>\\/\t\x01\x7f</b>", "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d", "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
		"\xef\xbf\xbf\xe2\x80\xae" };

	(void)state;
	for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
		struct post post = sample(stories[i], stories[i]);
		struct post back;
		struct buf out = BUF_INIT;
		struct err err = ERR_INIT;

		post_encode(&post, &out);
		assert_int_equal(post_decode(&back, (struct slice){ out.data, out.len }, &err), 0);
		assert_true(back.id == post.id && back.from == post.from && back.posted_at_ms == post.posted_at_ms);
		assert_true(slice_equal(back.subject, post.subject));
		assert_true(slice_equal(back.story, post.story));
		post_release(&back);
		assert_null(back.source);
		post_release(&back);
		buf_release(&out);
	}
}

static void unknown_fields_are_ignored(void **state)
{
	struct post post;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(post_decode(&post, slice_of("{\"new\":[{\"id\":3}],\"story\":\"s\",\"subject\":\"t\"," AT ",\"from\":2,\"id\":1,\"v\":1}"), &err), 0);
	assert_int_equal(post.id, 1);
	post_release(&post);
}

struct wrong {
	const char *value;
	const char *says; /* part of the message */
};

static void check_wrong(const struct wrong *wrong, size_t count, int (*decode)(struct slice value, struct err *err))
{
	for (size_t i = 0; i < count; i++) {
		struct err err = ERR_INIT;

		if (decode(slice_of(wrong[i].value), &err) != -1)
			fail_msg("taken: %s", wrong[i].value);
		assert_int_equal(err.kind, ERR_INVALID);
		if (strstr(err.message, wrong[i].says) == NULL)
			fail_msg("%s: says \"%s\", not \"%s\"", wrong[i].value, err.message, wrong[i].says);
	}
}

static int decode_post(struct slice value, struct err *err)
{
	struct post untouched = { .id = 42 };
	int rc = post_decode(&untouched, value, err);

	assert_true(rc == 0 || untouched.id == 42);
	if (rc == 0)
		post_release(&untouched);
	return rc;
}

#define REST ",\"from\":7," AT ",\"subject\":\"s\",\"story\":\"t\"}"

static void wrong_posts(void **state)
{
	static const struct wrong wrong[] = {
		{ NULL, "no value" },
		{ "", "post" },
		{ "{\"v\":1,", "post" },
		{ "[]", "must be an object, not array" },
		{ "\"post\"", "must be an object, not string" },
		{ "{\"id\":1" REST, "v is missing" },
		{ "{\"v\":0,\"id\":1" REST, "v must be a whole number" },
		{ "{\"v\":2,\"id\":1" REST, "v must be a whole number" },
		{ "{\"v\":\"1\",\"id\":1" REST, "v must be of type number, not string" },
		{ "{\"v\":1" REST, "id is missing" },
		{ "{\"v\":1,\"id\":0" REST, "id must be a whole number from 1 to 9007199254740991" },
		{ "{\"v\":1,\"id\":-1" REST, "id must be" },
		{ "{\"v\":1,\"id\":1.0" REST, "id must be" },
		{ "{\"v\":1,\"id\":1e3" REST, "id must be" },
		{ "{\"v\":1,\"id\":9007199254740992" REST, "id must be" },
		{ "{\"v\":1,\"id\":99999999999999999999" REST, "id must be" },
		{ "{\"v\":1,\"id\":\"1\"" REST, "id must be of type number, not string" },
		{ "{\"v\":1,\"id\":null" REST, "id must be of type number, not null" },
		{ "{\"v\":1,\"id\":1,\"id\":2" REST, "post" },
		{ "{\"v\":1,\"id\":1,\"from\":true," AT ",\"subject\":\"s\",\"story\":\"t\"}", "from must be of type number, not boolean" },
		{ "{\"v\":1,\"id\":1,\"from\":7,\"subject\":\"s\",\"story\":\"t\"}", "posted_at is missing" },
		{ "{\"v\":1,\"id\":1,\"from\":7,\"posted_at\":1769860800,\"subject\":\"s\",\"story\":\"t\"}", "posted_at must be of type string, not number" },
		{ "{\"v\":1,\"id\":1,\"from\":7,\"posted_at\":\"2026-02-30T00:00:00Z\",\"subject\":\"s\",\"story\":\"t\"}", "posted_at must be an RFC 3339" },
		{ "{\"v\":1,\"id\":1,\"from\":7,\"posted_at\":\"2026-01-31\",\"subject\":\"s\",\"story\":\"t\"}", "posted_at must be an RFC 3339" },
		{ "{\"v\":1,\"id\":1,\"from\":7," AT ",\"subject\":null,\"story\":\"t\"}", "subject must be of type string, not null" },
		{ "{\"v\":1,\"id\":1,\"from\":7," AT ",\"subject\":\"s\"}", "story is missing" },
		{ "{\"v\":1,\"id\":1,\"from\":7," AT ",\"subject\":\"s\",\"story\":{}}", "story must be of type string, not object" },
		{ "{\"v\":1,\"id\":1,\"from\":7," AT ",\"subject\":\"s\",\"story\":\"a\\u0000b\"}", "post" },
		{ "{\"v\":1,\"id\":1,\"from\":7," AT ",\"subject\":\"s\",\"story\":\"\xff\"}", "post" },
		{ "{\"V\":1,\"ID\":1" REST, "v is missing" },
	};

	(void)state;
	check_wrong(wrong, sizeof(wrong) / sizeof(wrong[0]), decode_post);
}

/* Limits count characters: four bytes each still fit. */
static void limits_are_in_characters(void **state)
{
	static const char face[] = "\xf0\x9f\x98\x80";
	const size_t limits[] = { POST_SUBJECT_MAX, POST_STORY_MAX };

	(void)state;
	for (int which = 0; which < 2; which++) {
		struct buf text = BUF_INIT;
		struct buf value = BUF_INIT;
		struct err err = ERR_INIT;
		struct post post = sample("", "");
		struct slice *field = which == 0 ? &post.subject : &post.story;

		for (size_t i = 0; i < limits[which]; i++)
			buf_add_str(&text, face);
		*field = (struct slice){ text.data, text.len };
		post_encode(&post, &value);
		assert_int_equal(decode_post((struct slice){ value.data, value.len }, &err), 0);
		buf_add_char(&text, 'x');
		*field = (struct slice){ text.data, text.len };
		buf_reset(&value);
		post_encode(&post, &value);
		assert_int_equal(decode_post((struct slice){ value.data, value.len }, &err), -1);
		assert_non_null(strstr(err.message, which == 0 ? "subject must have 0 to 4000" : "story must have 0 to 65535"));
		buf_release(&text);
		buf_release(&value);
	}
}

static void list_elements(void **state)
{
	struct post post = sample("s", "t");
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);

	(void)state;
	json_open(&w, NULL, '[');
	post_write_outbound(&w, &post);
	post_write_inbound(&w, &post, 9);
	json_close(&w, ']');
	assert_string_equal(out.data, "[{\"id\":9007199254740991,\"from\":\"/participant/7\",\"occurred\":\"2026-01-31\"," AT
				      ",\"subject\":\"s\",\"story\":\"t\"},"
				      "{\"id\":9007199254740991,\"from\":\"/participant/7\",\"to\":\"/participant/9\",\"occurred\":\"2026-01-31\"," AT
				      ",\"subject\":\"s\",\"story\":\"t\"}]");
	buf_release(&out);
}

/* The date is the zone's, the time stays UTC. */
static void occurred_is_in_the_zone(void **state)
{
	struct post post = sample("s", "t");
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);

	(void)state;
	setenv("TZ", "XXX-13", 1); /* 13 hours ahead of UTC */
	tzset();
	post_write_outbound(&w, &post);
	setenv("TZ", "UTC0", 1);
	tzset();
	assert_non_null(strstr(out.data, "\"occurred\":\"2026-02-01\"," AT));
	buf_release(&out);
}

static int decode_chunk(struct slice value, struct err *err)
{
	struct chunk chunk;

	return chunk_decode(&chunk, value, err);
}

static void chunks(void **state)
{
	static const struct wrong wrong[] = {
		{ NULL, "no value" },
		{ "{}", "v is missing" },
		{ "{\"v\":1,\"from\":2,\"chunk\":0}", "post is missing" },
		{ "{\"v\":1,\"post\":1,\"from\":2,\"chunk\":-1}", "chunk must be a whole number from 0" },
		{ "{\"v\":1,\"post\":1,\"from\":2}", "chunk is missing" },
		{ "{\"v\":1,\"post\":1,\"from\":0,\"chunk\":0}", "from must be" },
	};
	struct chunk chunk = { .post = 123, .from = 7, .number = 0 };
	struct chunk back = { 0, 0, 1 };
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	char key[CHUNK_KEY];

	(void)state;
	chunk_encode(&chunk, &out);
	assert_string_equal(out.data, "{\"v\":1,\"post\":123,\"from\":7,\"chunk\":0}");
	assert_int_equal(chunk_decode(&back, slice_of(out.data), &err), 0);
	assert_true(back.post == 123 && back.from == 7 && back.number == 0);
	chunk_key(&chunk, key);
	assert_string_equal(key, "123.0");
	chunk = (struct chunk){ ID_MAX, ID_MAX, ID_MAX };
	chunk_key(&chunk, key);
	assert_string_equal(key, "9007199254740991.9007199254740991");
	check_wrong(wrong, sizeof(wrong) / sizeof(wrong[0]), decode_chunk);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_exactly),
		cmocka_unit_test(comes_back_as_it_was),
		cmocka_unit_test(unknown_fields_are_ignored),
		cmocka_unit_test(wrong_posts),
		cmocka_unit_test(limits_are_in_characters),
		cmocka_unit_test(list_elements),
		cmocka_unit_test(occurred_is_in_the_zone),
		cmocka_unit_test(chunks),
	};

	setenv("TZ", "UTC0", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
