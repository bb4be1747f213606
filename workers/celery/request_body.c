/* A body as a text of JSON goes in; arguments, and what follows the task, come out. */
#include <stddef.h>

#include "workers/celery/request_parts.h"

static const struct json *unless_null(const struct json *node)
{
	if (node == NULL || json_type(node) == JSON_NULL)
		return NULL;
	return json_type(node) == JSON_ARRAY && json_first(node) == NULL ? NULL : node;
}

static int read_embed(struct request *r, const struct json *embed, struct err *err)
{
	const struct json *lists[3];

	if (embed == NULL || json_type(embed) == JSON_NULL)
		return 0;
	if (json_type(embed) != JSON_OBJECT)
		return request_wrong(err, "the body's third element is no object");
	lists[0] = r->callbacks = unless_null(json_get(embed, "callbacks"));
	lists[1] = r->errbacks = unless_null(json_get(embed, "errbacks"));
	lists[2] = r->chain = unless_null(json_get(embed, "chain"));
	r->chord = unless_null(json_get(embed, "chord"));
	for (int i = 0; i < 3; i++)
		if (lists[i] != NULL && json_type(lists[i]) != JSON_ARRAY)
			return request_wrong(err, "callbacks, errbacks and chain must be lists");
	return 0;
}

static int read_arguments(struct request *r, const struct json *args, const struct json *kwargs, struct err *err)
{
	if (args == NULL || json_type(args) != JSON_ARRAY)
		return request_wrong(err, "args is no list");
	if (kwargs == NULL || json_type(kwargs) != JSON_OBJECT)
		return request_wrong(err, "kwargs is no object");
	r->args = args;
	r->kwargs = kwargs;
	return 0;
}

static int read_body_v2(struct request *r, struct err *err)
{
	const struct json *args, *kwargs, *embed;

	if (json_type(r->tree) != JSON_ARRAY || (args = json_first(r->tree)) == NULL || (kwargs = json_next(args)) == NULL)
		return request_wrong(err, "the body is not [args, kwargs, embed]");
	embed = json_next(kwargs);
	if (embed != NULL && json_next(embed) != NULL)
		return request_wrong(err, "the body is not [args, kwargs, embed]");
	return read_arguments(r, args, kwargs, err) < 0 ? -1 : read_embed(r, embed, err);
}

/* ---- version 1: everything in the body; or what its headers do not say */

static const struct {
	const char *key, *other, *header; /* in the body, there too, and in headers */
	size_t offset;
} body_texts[] = {
	{ "task", NULL, "task", offsetof(struct request, task) },
	{ "id", NULL, "id", offsetof(struct request, id) },
	{ "root_id", NULL, "root_id", offsetof(struct request, root_id) },
	{ "parent_id", NULL, "parent_id", offsetof(struct request, parent_id) },
	{ "taskset", "group", "group", offsetof(struct request, group) },
	{ "shadow", NULL, "shadow", offsetof(struct request, shadow) },
	{ "origin", NULL, "origin", offsetof(struct request, origin) },
	{ "eta", NULL, "eta", offsetof(struct request, eta) },
	{ "expires", NULL, "expires", offsetof(struct request, expires) },
};
#define BODY_TEXTS (sizeof(body_texts) / sizeof(body_texts[0]))

/* Copies: the tree is built anew. */
static struct slice body_text(struct request *r, const char *key)
{
	const struct json *node = json_get(r->tree, key);
	const struct slice text = node != NULL ? json_string(node) : SLICE_NONE;
	struct slice kept = { r->texts_memory.data + r->texts_memory.len, text.len };

	if (text.len == 0 || text.len > REQUEST_NAME_MAX)
		return SLICE_NONE;
	buf_add(&r->texts_memory, text.data, text.len + 1);
	return kept;
}

/* said: headers that win, also by a null; NULL: none do. */
static bool is_said(const struct amqp_table *said, const char *header)
{
	return said != NULL && amqp_table_value(said, header) != NULL;
}

static void take_texts(struct request *r, const struct amqp_table *said)
{
	buf_reserve(&r->texts_memory, BODY_TEXTS * (REQUEST_NAME_MAX + 1)); /* does not move from now on */
	for (size_t i = 0; i < BODY_TEXTS; i++) {
		struct slice *out = (struct slice *)(void *)((char *)r + body_texts[i].offset);

		if (is_said(said, body_texts[i].header))
			continue;
		*out = body_text(r, body_texts[i].key);
		if (out->len == 0 && body_texts[i].other != NULL)
			*out = body_text(r, body_texts[i].other);
	}
}

/* As version 2 has it, so that a child or a later try reads one form alone. */
static int rewrite_body(struct request *r, struct err *err)
{
	static const char *const embedded[] = { "callbacks", "errbacks", "chain", "chord" };
	const struct json *args = json_get(r->tree, "args"), *kwargs = json_get(r->tree, "kwargs");
	struct buf text = BUF_INIT;
	struct json_writer w = JSON_WRITER(&text);

	json_open(&w, NULL, '[');
	json_put_raw(&w, NULL, slice_of(""));
	if (args != NULL)
		json_write_node(&text, args);
	else
		buf_add_str(&text, "[]");
	buf_add_char(&text, ',');
	if (kwargs != NULL)
		json_write_node(&text, kwargs);
	else
		buf_add_str(&text, "{}");
	w.comma = true;
	json_open(&w, NULL, '{');
	for (size_t i = 0; i < sizeof(embedded) / sizeof(embedded[0]); i++) {
		const struct json *node = json_get(r->tree, embedded[i]);

		json_put_raw(&w, embedded[i], slice_of(node == NULL ? "null" : ""));
		if (node != NULL)
			json_write_node(&text, node);
	}
	json_close(&w, '}');
	json_close(&w, ']');
	json_free(r->tree);
	buf_release(&r->body_memory);
	r->body_memory = text;
	r->body = (struct slice){ text.data, text.len };
	r->packed = r->sealed = SLICE_NONE; /* that is not what it says any more */
	r->tree = json_parse_answer(r->body, err);
	return r->tree == NULL ? -1 : read_body_v2(r, err);
}

static int read_v1(struct request *r, const struct amqp_table *said, struct err *err)
{
	const struct json *retries = is_said(said, "retries") ? NULL : json_get(r->tree, "retries");

	if (json_type(r->tree) != JSON_OBJECT)
		return request_wrong(err, "no header task, and the body is no task of version 1");
	take_texts(r, said);
	if (retries != NULL && json_type(retries) != JSON_NULL && (!json_int64(retries, &r->retries) || r->retries < 0))
		return request_wrong(err, "retries is no number");
	if (!is_said(said, "timelimit") && request_limits(r, json_get(r->tree, "timelimit"), err) < 0)
		return -1;
	return rewrite_body(r, err);
}

int request_body(struct request *r, const struct amqp_table *headers, struct err *err)
{
	r->tree = json_parse_answer(r->body, err);
	if (r->tree == NULL)
		return -1;
	if (r->task.len == 0)
		return read_v1(r, NULL, err);
	return json_get(r->tree, "args") != NULL ? read_v1(r, headers, err) : read_body_v2(r, err);
}
