/* A delivery goes in, a request comes out, or the reason why there is none. */
#include "workers/celery/request.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "workers/celery/unpack.h"
#include "workers/celery/wire.h"

#define AMQP_HEADERS_SEEN 64
#define TEXT_MAX 4096          /* bytes of a header that is kept for people */
#define YEARS_MAX_MS (INT64_C(100) * 366 * 86400 * 1000)
#define LIMIT_MAX_S 31622400.0 /* a year */

/* ---- fields */

static int wrong(struct err *err, const char *what)
{
	return err_set(err, ERR_INVALID, "%s", what);
}

bool request_time(struct slice text, int64_t *out)
{
	char zoned[64];

	if (clock_parse_rfc3339(text, out))
		return true;
	if (text.len >= sizeof(zoned) - 1)
		return false;
	snprintf(zoned, sizeof(zoned), "%.*sZ", (int)text.len, text.data);
	return clock_parse_rfc3339(slice_of(zoned), out);
}

static int read_time(struct slice text, int64_t *out, struct err *err, const char *what)
{
	if (text.len == 0 || request_time(text, out))
		return 0;
	return err_set(err, ERR_INVALID, "%s is no time: %.*s", what, (int)(text.len < 60 ? text.len : 60), text.data);
}

static bool limit_ms(const struct json *node, int64_t *out)
{
	double seconds;

	if (json_type(node) == JSON_NULL)
		return true;
	if (json_type(node) != JSON_NUMBER)
		return false;
	seconds = strtod(json_number(node).data, NULL);
	if (!(seconds >= 0 && seconds <= LIMIT_MAX_S))
		return false;
	*out = (int64_t)(seconds * 1000);
	return true;
}

/* [hard, soft], either may be null. */
static int read_limits(struct request *r, const struct json *list, struct err *err)
{
	const struct json *hard, *soft;

	if (list == NULL || json_type(list) == JSON_NULL)
		return 0;
	hard = json_type(list) == JSON_ARRAY ? json_first(list) : NULL;
	soft = hard != NULL ? json_next(hard) : NULL;
	if (soft == NULL || !limit_ms(hard, &r->hard_ms) || !limit_ms(soft, &r->soft_ms))
		return wrong(err, "timelimit is not [hard, soft]");
	return 0;
}

static int read_limits_header(struct request *r, const struct amqp_value *value, struct err *err)
{
	struct buf text = BUF_INIT;
	struct json *list;
	int rc = -1;

	if (value->items.count == 2 && value->items.fields[0].value.type == AMQP_VALUE_NULL && value->items.fields[1].value.type == AMQP_VALUE_NULL)
		return 0; /* nearly always */
	wire_write(&text, value);
	list = json_parse((struct slice){ text.data, text.len }, err);
	if (list != NULL)
		rc = read_limits(r, list, err);
	json_free(list);
	buf_release(&text);
	return rc;
}

/* What a header is to us: a text, or a number. */
enum field_kind { FIELD_TEXT, FIELD_LONG, FIELD_INT, FIELD_BOOL, FIELD_OTHER };

static const struct field {
	const char *name;
	enum field_kind kind;
	size_t offset;
} fields[] = {
	{ "task", FIELD_TEXT, offsetof(struct request, task) },
	{ "id", FIELD_TEXT, offsetof(struct request, id) },
	{ "root_id", FIELD_TEXT, offsetof(struct request, root_id) },
	{ "parent_id", FIELD_TEXT, offsetof(struct request, parent_id) },
	{ "group", FIELD_TEXT, offsetof(struct request, group) },
	{ "shadow", FIELD_TEXT, offsetof(struct request, shadow) },
	{ "origin", FIELD_TEXT, offsetof(struct request, origin) },
	{ "lang", FIELD_TEXT, offsetof(struct request, lang) },
	{ "argsrepr", FIELD_LONG, offsetof(struct request, argsrepr) },
	{ "kwargsrepr", FIELD_LONG, offsetof(struct request, kwargsrepr) },
	{ "eta", FIELD_TEXT, offsetof(struct request, eta) },
	{ "expires", FIELD_TEXT, offsetof(struct request, expires) },
	{ "retries", FIELD_INT, offsetof(struct request, retries) },
	{ "group_index", FIELD_INT, offsetof(struct request, group_index) },
	{ "replaced_task_nesting", FIELD_INT, offsetof(struct request, nesting) },
	{ "x-feed-deliveries", FIELD_INT, offsetof(struct request, counted) },
	{ "x-feed-again", FIELD_BOOL, offsetof(struct request, is_repeat) },
	{ "x-feed-received", FIELD_BOOL, offsetof(struct request, is_received) },
	{ "ignore_result", FIELD_BOOL, offsetof(struct request, ignore_result) },
	{ "stamped_headers", FIELD_OTHER, 0 },
	{ "stamps", FIELD_OTHER, 0 },
	{ "timelimit", FIELD_OTHER, 0 },
	{ "compression", FIELD_OTHER, 0 },
	{ "x-delivery-count", FIELD_OTHER, 0 },
	{ "body_encoding", FIELD_OTHER, 0 },
};

/* Senders write their headers in one order: what stood at this place last time is looked at first. */
static const struct field *find_field(struct slice name, size_t position)
{
	static _Thread_local const struct field *last[AMQP_HEADERS_SEEN];
	const struct field **guess = &last[position % AMQP_HEADERS_SEEN];

	if (*guess != NULL && slice_is(name, (*guess)->name))
		return *guess;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (slice_is(name, fields[i].name)) {
			*guess = &fields[i];
			return &fields[i];
		}
	}
	return NULL;
}

static bool starts(struct slice name, const char *prefix)
{
	return name.len >= strlen(prefix) && memcmp(name.data, prefix, strlen(prefix)) == 0;
}

static bool is_broker_header(struct slice name)
{
	return starts(name, "x-death") || starts(name, "x-first-death-") || starts(name, "x-last-death-") || starts(name, "x-delivery-count");
}

bool request_knows(struct slice header)
{
	return find_field(header, AMQP_HEADERS_SEEN - 1) != NULL || is_broker_header(header);
}

static int read_text(struct request *r, const struct field *field, const struct amqp_value *value, struct err *err)
{
	const size_t most = field->kind == FIELD_LONG ? TEXT_MAX : REQUEST_NAME_MAX;

	if (value->type != AMQP_VALUE_TEXT || !str_utf8_valid(value->text) || memchr(value->text.data, '\0', value->text.len) != NULL)
		return err_set(err, ERR_INVALID, "header %s is no text", field->name);
	if (value->text.len > most && field->kind == FIELD_TEXT)
		return err_set(err, ERR_INVALID, "header %s is longer than %zu bytes", field->name, most);
	if (value->text.len > 0 && value->text.len <= most)
		*(struct slice *)(void *)((char *)r + field->offset) = value->text;
	return 0;
}

static int read_field(struct request *r, const struct field *field, const struct amqp_value *value, struct err *err)
{
	if (value->type == AMQP_VALUE_NULL)
		return 0;
	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_LONG:
		return read_text(r, field, value, err);
	case FIELD_INT:
		if (value->type != AMQP_VALUE_INT || value->number < 0 || value->number > INT32_MAX)
			return err_set(err, ERR_INVALID, "header %s is no number from 0 to %d", field->name, INT32_MAX);
		*(int64_t *)(void *)((char *)r + field->offset) = value->number;
		r->has_group_index |= field->offset == offsetof(struct request, group_index);
		return 0;
	case FIELD_BOOL:
		*(bool *)((char *)r + field->offset) = value->type == AMQP_VALUE_BOOL && value->truth;
		return 0;
	default:
		return 0;
	}
}

/* What JSON does not have, a name twice or bytes that are no text, leaves it out. */
static struct slice keep_json(struct buf *memory, const struct amqp_value *value)
{
	struct err err = ERR_INIT;
	struct json *tree;
	bool is_json;

	if (value->type != AMQP_VALUE_TABLE && value->type != AMQP_VALUE_ARRAY)
		return SLICE_NONE;
	if (value->items.count == 0)
		return value->type == AMQP_VALUE_TABLE ? slice_of("{}") : slice_of("[]");
	buf_reset(memory);
	wire_write(memory, value);
	tree = json_parse_answer((struct slice){ memory->data, memory->len }, &err);
	is_json = tree != NULL;
	json_free(tree);
	return is_json ? (struct slice){ memory->data, memory->len } : SLICE_NONE;
}

/* Headers that take more than a look. */
static int read_other(struct request *r, struct slice name, const struct amqp_value *value, struct err *err)
{
	if (slice_is(name, "timelimit")) {
		if (value->type == AMQP_VALUE_NULL)
			return 0;
		return value->type == AMQP_VALUE_ARRAY ? read_limits_header(r, value, err) : wrong(err, "timelimit is no list");
	}
	if (slice_is(name, "stamps"))
		r->stamps = keep_json(&r->stamps_memory, value);
	else if (slice_is(name, "stamped_headers"))
		r->stamped_headers = keep_json(&r->stamped_memory, value);
	else if (slice_is(name, "x-delivery-count") && value->type == AMQP_VALUE_INT && value->number > 0 && value->number <= INT32_MAX)
		r->counted_by_broker = value->number;
	return 0;
}

static void keep_custom(struct request *r, const struct amqp_field *field, size_t most)
{
	if (r->custom_fields == NULL)
		r->custom_fields = mem_array(most, sizeof(*r->custom_fields));
	r->custom_fields[r->custom.count++] = *field;
	r->custom.fields = r->custom_fields;
}

static int read_headers(struct request *r, const struct amqp_table *headers, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < headers->count && rc == 0; i++) {
		const struct slice name = slice_of(headers->fields[i].name);
		const struct amqp_value *value = &headers->fields[i].value;
		const struct field *field = find_field(name, i);

		if (field != NULL) {
			rc = field->kind == FIELD_OTHER ? read_other(r, name, value, err) : read_field(r, field, value, err);
		} else if (is_broker_header(name)) {
			r->is_repeat |= starts(name, "x-death");
		} else {
			keep_custom(r, &headers->fields[i], headers->count);
		}
	}
	return rc;
}

static struct slice header_text(const struct amqp_delivery *d, const char *name)
{
	const struct amqp_value *value = amqp_table_value(&d->properties.headers, name);

	return value != NULL && value->type == AMQP_VALUE_TEXT ? value->text : SLICE_NONE;
}

/* ---- the body */

static int check_content(const struct amqp_properties *p, struct err *err)
{
	static const char *const encodings[] = { "utf-8", "utf8", "us-ascii", "base64", "binary" };
	struct slice rest = p->content_type, type = slice_trim(slice_cut(&rest, ';'));

	if (type.len > 0 && !slice_is_nocase(type, "application/json"))
		return err_set(err, ERR_INVALID, "content type \"%.*s\" is refused: application/json alone is read",
			(int)(type.len < 80 ? type.len : 80), type.data);
	if (p->content_encoding.len == 0)
		return 0;
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
		if (slice_is_nocase(p->content_encoding, encodings[i]))
			return 0;
	return err_set(err, ERR_INVALID, "content encoding \"%.*s\" is not known here",
		(int)(p->content_encoding.len < 80 ? p->content_encoding.len : 80), p->content_encoding.data);
}

/* The body as plain text. Base64 is undone before the compression, which the sender applied first. */
static int unwrap(struct request *r, const struct amqp_delivery *d, struct err *err)
{
	const struct slice compression = header_text(d, "compression");
	const bool is_base64 = slice_is_nocase(d->properties.content_encoding, "base64") || slice_is_nocase(header_text(d, "body_encoding"), "base64");
	struct buf plain = BUF_INIT;
	int rc = -1;

	r->body = d->body;
	if (check_content(&d->properties, err) < 0)
		goto out;
	if (is_base64) {
		if (unpack_base64(r->body, &r->body_memory, err) < 0)
			goto out;
		r->body = (struct slice){ r->body_memory.data, r->body_memory.len };
	}
	if (compression.len > 0) {
		if (unpack_compressed(compression, r->body, REQUEST_BODY_MAX, &plain, err) < 0)
			goto out;
		buf_release(&r->body_memory);
		r->body_memory = plain;
		plain = (struct buf)BUF_INIT;
		r->body = (struct slice){ r->body_memory.data, r->body_memory.len };
	}
	rc = 0;
out:
	buf_release(&plain);
	return rc;
}

/* A few packed bytes can be millions of values: they are counted before they are read. */
static int check_values(struct slice json, struct err *err)
{
	size_t count = 1;
	bool is_in_text = false;

	for (size_t i = 0; i < json.len; i++) {
		const char c = json.data[i];

		if (c == '"')
			is_in_text = !is_in_text;
		else if (is_in_text)
			i += c == '\\';
		else
			count += c == ',' || c == '[' || c == '{';
	}
	if (count > REQUEST_VALUES_MAX)
		return err_set(err, ERR_INVALID, "the body has more than %d values of JSON", REQUEST_VALUES_MAX);
	return 0;
}

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
		return wrong(err, "the body's third element is no object");
	lists[0] = r->callbacks = unless_null(json_get(embed, "callbacks"));
	lists[1] = r->errbacks = unless_null(json_get(embed, "errbacks"));
	lists[2] = r->chain = unless_null(json_get(embed, "chain"));
	r->chord = unless_null(json_get(embed, "chord"));
	for (int i = 0; i < 3; i++)
		if (lists[i] != NULL && json_type(lists[i]) != JSON_ARRAY)
			return wrong(err, "callbacks, errbacks and chain must be lists");
	return 0;
}

static int read_arguments(struct request *r, const struct json *args, const struct json *kwargs, struct err *err)
{
	if (args == NULL || json_type(args) != JSON_ARRAY)
		return wrong(err, "args is no list");
	if (kwargs == NULL || json_type(kwargs) != JSON_OBJECT)
		return wrong(err, "kwargs is no object");
	r->args = args;
	r->kwargs = kwargs;
	return 0;
}

static int read_body_v2(struct request *r, struct err *err)
{
	const struct json *args, *kwargs, *embed;

	if (json_type(r->tree) != JSON_ARRAY || (args = json_first(r->tree)) == NULL || (kwargs = json_next(args)) == NULL)
		return wrong(err, "the body is not [args, kwargs, embed]");
	embed = json_next(kwargs);
	if (embed != NULL && json_next(embed) != NULL)
		return wrong(err, "the body is not [args, kwargs, embed]");
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
	r->tree = json_parse_answer(r->body, err);
	return r->tree == NULL ? -1 : read_body_v2(r, err);
}

static int read_v1(struct request *r, const struct amqp_table *said, struct err *err)
{
	const struct json *retries = is_said(said, "retries") ? NULL : json_get(r->tree, "retries");

	if (json_type(r->tree) != JSON_OBJECT)
		return wrong(err, "no header task, and the body is no task of version 1");
	take_texts(r, said);
	if (retries != NULL && json_type(retries) != JSON_NULL && (!json_int64(retries, &r->retries) || r->retries < 0))
		return wrong(err, "retries is no number");
	if (!is_said(said, "timelimit") && read_limits(r, json_get(r->tree, "timelimit"), err) < 0)
		return -1;
	return rewrite_body(r, err);
}

/* ---- all of it */

static int check(struct request *r, struct err *err)
{
	if (r->task.len == 0)
		return wrong(err, "there is no task name");
	if (r->id.len == 0)
		return wrong(err, "there is no task id");
	if (str_has_control(r->id)) /* handlers send it on in headers of HTTP and mail */
		return wrong(err, "there are control characters in the task id");
	if (r->id.len > REQUEST_ID_MAX)
		return err_set(err, ERR_INVALID, "the task id is longer than %d bytes", REQUEST_ID_MAX);
	if (r->retries > REQUEST_RETRIES_MAX)
		return wrong(err, "retries is out of range");
	if (read_time(r->eta, &r->eta_ms, err, "eta") < 0 || read_time(r->expires, &r->expires_ms, err, "expires") < 0)
		return -1;
	if (r->eta_ms > clock_wall_ms() + YEARS_MAX_MS)
		return wrong(err, "eta is more than a hundred years away");
	if (r->root_id.len == 0)
		r->root_id = r->id;
	return 0;
}

static int read_tree(struct request *r, const struct amqp_table *headers, struct err *err)
{
	if (r->task.len == 0)
		return read_v1(r, NULL, err);
	return json_get(r->tree, "args") != NULL ? read_v1(r, headers, err) : read_body_v2(r, err);
}

static int fill(struct request *r, const struct amqp_delivery *d, struct err *err)
{
	const struct amqp_properties *p = &d->properties;

	r->redelivered = d->redelivered;
	r->priority = p->has_priority ? p->priority : REQUEST_NO_PRIORITY;
	r->reply_to = p->reply_to.len <= REQUEST_NAME_MAX ? p->reply_to : SLICE_NONE;
	r->correlation_id = p->correlation_id;
	r->exchange = d->exchange;
	r->routing_key = d->routing_key;
	if (d->body_size > AMQP_BODY_MAX)
		return err_set(err, ERR_INVALID, "the body has %llu bytes; %u are read", (unsigned long long)d->body_size, AMQP_BODY_MAX);
	if (read_headers(r, &p->headers, err) < 0)
		return -1;
	r->deliveries = r->counted + r->counted_by_broker;
	if (unwrap(r, d, err) < 0)
		return -1;
	if (check_values(r->body, err) < 0)
		return -1;
	r->tree = json_parse_answer(r->body, err);
	if (r->tree == NULL)
		return -1;
	if (read_tree(r, &p->headers, err) < 0)
		return -1;
	return check(r, err);
}

struct request *request_bare(struct amqp_delivery *delivery)
{
	struct request *r = mem_zalloc(sizeof(*r));

	r->stamps_memory = r->stamped_memory = r->body_memory = r->texts_memory = (struct buf)BUF_INIT;
	r->delivery = delivery;
	return r;
}

struct request *request_read(struct amqp_delivery *delivery, struct err *err)
{
	struct request *r = request_bare(NULL);

	if (fill(r, delivery, err) < 0) {
		request_free(r);
		return NULL;
	}
	r->delivery = delivery;
	return r;
}

void request_free(struct request *r)
{
	if (r == NULL)
		return;
	json_free(r->tree);
	free(r->custom_fields);
	buf_release(&r->stamps_memory);
	buf_release(&r->stamped_memory);
	buf_release(&r->body_memory);
	buf_release(&r->texts_memory);
	amqp_delivery_free(r->delivery);
	free(r);
}
