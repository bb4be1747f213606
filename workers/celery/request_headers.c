/* Headers of a message go in; what they say of the task comes out, and those that are nobody's here. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "workers/celery/request_parts.h"
#include "workers/celery/wire.h"

#define AMQP_HEADERS_SEEN 64
#define TEXT_MAX 4096          /* bytes of a header that is kept for people */
#define LIMIT_MAX_S 31622400.0 /* a year */

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

int request_limits(struct request *r, const struct json *list, struct err *err)
{
	const struct json *hard, *soft;

	if (list == NULL || json_type(list) == JSON_NULL)
		return 0;
	hard = json_type(list) == JSON_ARRAY ? json_first(list) : NULL;
	soft = hard != NULL ? json_next(hard) : NULL;
	if (soft == NULL || !limit_ms(hard, &r->hard_ms) || !limit_ms(soft, &r->soft_ms))
		return request_wrong(err, "timelimit is not [hard, soft]");
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
		rc = request_limits(r, list, err);
	json_free(list);
	buf_release(&text);
	return rc;
}

/* What a header is to us: a text, or a number. A long one is for people: where it is none (Python shows bytes with a NUL as they are), it is left out. */
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
	const bool is_text = value->type == AMQP_VALUE_TEXT && str_utf8_valid(value->text) && memchr(value->text.data, '\0', value->text.len) == NULL;
	const size_t most = field->kind == FIELD_LONG ? TEXT_MAX : REQUEST_NAME_MAX;

	if (!is_text && field->kind == FIELD_TEXT)
		return err_set(err, ERR_INVALID, "header %s is no text", field->name);
	if (value->text.len > most && field->kind == FIELD_TEXT)
		return err_set(err, ERR_INVALID, "header %s is longer than %zu bytes", field->name, most);
	if (is_text && value->text.len > 0 && value->text.len <= most)
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
		return value->type == AMQP_VALUE_ARRAY ? read_limits_header(r, value, err) : request_wrong(err, "timelimit is no list");
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

int request_headers(struct request *r, const struct amqp_table *headers, struct err *err)
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
