/* JSON values and exceptions go in; what Python would print, or reads as an exception, comes out. */
#include "workers/celery/python.h"

#include <string.h>

static void add_char_escaped(struct buf *out, unsigned char c, char quote)
{
	if (c == (unsigned char)quote || c == '\\')
		buf_addf(out, "\\%c", c);
	else if (c == '\n')
		buf_add_str(out, "\\n");
	else if (c == '\r')
		buf_add_str(out, "\\r");
	else if (c == '\t')
		buf_add_str(out, "\\t");
	else if (c < ' ' || c == 0x7f)
		buf_addf(out, "\\x%02x", c);
	else
		buf_add_char(out, (char)c);
}

void python_repr_text(struct buf *out, struct slice text)
{
	const bool has_single = text.len > 0 && memchr(text.data, '\'', text.len) != NULL;
	const bool has_double = text.len > 0 && memchr(text.data, '"', text.len) != NULL;
	const char quote = has_single && !has_double ? '"' : '\'';

	buf_add_char(out, quote);
	for (size_t i = 0; i < text.len; i++)
		add_char_escaped(out, (unsigned char)text.data[i], quote);
	buf_add_char(out, quote);
}

static void add_node(struct buf *out, const struct json *node, size_t max)
{
	const enum json_type type = json_type(node);
	const char *comma = "";

	if (out->len > max)
		return;
	switch (type) {
	case JSON_NULL:
		buf_add_str(out, "None");
		return;
	case JSON_BOOL:
		buf_add_str(out, json_bool(node) ? "True" : "False");
		return;
	case JSON_NUMBER:
		buf_add(out, json_number(node).data, json_number(node).len);
		return;
	case JSON_STRING:
		python_repr_text(out, json_string(node));
		return;
	default:
		break;
	}
	buf_add_char(out, type == JSON_ARRAY ? '[' : '{');
	for (const struct json *child = json_first(node); child != NULL && out->len <= max; child = json_next(child)) {
		buf_add_str(out, comma);
		if (type == JSON_OBJECT) {
			python_repr_text(out, slice_of(json_key(child)));
			buf_add_str(out, ": ");
		}
		add_node(out, child, max);
		comma = ", ";
	}
	buf_add_char(out, type == JSON_ARRAY ? ']' : '}');
}

/* Never in the middle of a character. */
static void cut(struct buf *out, size_t from, size_t max)
{
	size_t end = from + max;

	if (out->len - from <= max)
		return;
	while (end > from && ((unsigned char)out->data[end] & 0xc0) == 0x80)
		end--;
	out->len = end;
	out->data[end] = '\0';
	buf_add_str(out, "...");
}

void python_repr(struct buf *out, const struct json *node, size_t max)
{
	const size_t from = out->len;

	add_node(out, node, from + max);
	cut(out, from, max);
}

void python_repr_json(struct buf *out, struct slice json, size_t max)
{
	struct err err = ERR_INIT;
	struct json *node = json_parse_answer(json, &err);
	const size_t from = out->len;

	if (node != NULL)
		python_repr(out, node, max);
	else
		buf_add(out, json.data, json.len);
	cut(out, from, max);
	json_free(node);
}

void python_exception(struct buf *out, const struct job_reply *reply)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "exc_type", (struct slice){ reply->type.data, reply->type.len });
	json_put_raw(&w, "exc_message", reply->arguments.len > 0 ? (struct slice){ reply->arguments.data, reply->arguments.len } : slice_of("[]"));
	json_put_string(&w, "exc_module", (struct slice){ reply->module.data, reply->module.len });
	json_close(&w, '}');
}

void python_exception_repr(struct buf *out, const struct job_reply *reply)
{
	struct err err = ERR_INIT;
	struct json *arguments = json_parse_answer((struct slice){ reply->arguments.data, reply->arguments.len }, &err);
	const char *comma = "";

	buf_add(out, reply->type.data, reply->type.len);
	buf_add_char(out, '(');
	for (const struct json *arg = arguments != NULL ? json_first(arguments) : NULL; arg != NULL; arg = json_next(arg)) {
		buf_add_str(out, comma);
		python_repr(out, arg, 1024);
		comma = ", ";
	}
	buf_add_char(out, ')');
	json_free(arguments);
}
