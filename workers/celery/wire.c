/* AMQP values go in, JSON comes out; and the other way round. */
#include "workers/celery/wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct wire_block {
	struct wire_block *next;
	max_align_t memory[];
};

void wire_put(struct json_writer *w, const char *key, const struct amqp_value *value)
{
	char number[40];

	switch (value->type) {
	case AMQP_VALUE_BOOL:
		json_put_bool(w, key, value->truth);
		return;
	case AMQP_VALUE_INT:
	case AMQP_VALUE_TIME:
		json_put_int(w, key, value->number);
		return;
	case AMQP_VALUE_FLOAT:
		snprintf(number, sizeof(number), "%.17g", value->real);
		json_put_raw(w, key, slice_of(isfinite(value->real) ? number : "null"));
		return;
	case AMQP_VALUE_TEXT:
		json_put_string(w, key, value->text);
		return;
	case AMQP_VALUE_TABLE:
	case AMQP_VALUE_ARRAY:
		json_open(w, key, value->type == AMQP_VALUE_TABLE ? '{' : '[');
		for (size_t i = 0; i < value->items.count; i++)
			wire_put(w, value->items.fields[i].name, &value->items.fields[i].value);
		json_close(w, value->type == AMQP_VALUE_TABLE ? '}' : ']');
		return;
	default:
		json_put_raw(w, key, slice_of("null"));
		return;
	}
}

void wire_write(struct buf *out, const struct amqp_value *value)
{
	struct json_writer w = JSON_WRITER(out);

	wire_put(&w, NULL, value);
}

static void *allocate(struct wire *wire, size_t size)
{
	struct wire_block *block = mem_zalloc(sizeof(*block) + size);

	block->next = wire->blocks;
	wire->blocks = block;
	return block->memory;
}

struct amqp_table wire_fields(struct wire *wire, const struct json *container)
{
	size_t count = 0, i = 0;
	struct amqp_field *fields;

	for (const struct json *child = json_first(container); child != NULL; child = json_next(child))
		count++;
	fields = allocate(wire, count * sizeof(*fields));
	for (const struct json *child = json_first(container); child != NULL; child = json_next(child), i++) {
		fields[i].name = json_key(child);
		wire_value(wire, child, &fields[i].value);
	}
	return (struct amqp_table){ fields, count };
}

void wire_value(struct wire *wire, const struct json *node, struct amqp_value *out)
{
	*out = (struct amqp_value){ .type = AMQP_VALUE_NULL };
	switch (json_type(node)) {
	case JSON_NULL:
		return;
	case JSON_BOOL:
		out->type = AMQP_VALUE_BOOL;
		out->truth = json_bool(node);
		return;
	case JSON_NUMBER:
		out->type = AMQP_VALUE_INT;
		if (!json_int64(node, &out->number)) {
			out->type = AMQP_VALUE_FLOAT;
			out->real = strtod(json_number(node).data, NULL);
		}
		return;
	case JSON_STRING:
		out->type = AMQP_VALUE_TEXT;
		out->text = json_string(node);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		out->type = json_type(node) == JSON_ARRAY ? AMQP_VALUE_ARRAY : AMQP_VALUE_TABLE;
		out->items = wire_fields(wire, node);
		return;
	}
}

/* ---- copies */

static struct slice copy_text(struct wire *wire, struct slice text)
{
	char *copy;

	if (text.data == NULL)
		return text;
	copy = allocate(wire, text.len + 1);
	memcpy(copy, text.data, text.len);
	return (struct slice){ copy, text.len };
}

static struct amqp_field copy_field(struct wire *wire, const struct amqp_field *field)
{
	struct amqp_field copy = *field;

	if (field->name != NULL)
		copy.name = copy_text(wire, slice_of(field->name)).data;
	copy.value.text = copy_text(wire, field->value.text);
	copy.value.items = wire_add(wire, AMQP_NO_TABLE, field->value.items);
	return copy;
}

struct amqp_table wire_add(struct wire *wire, struct amqp_table to, struct amqp_table more)
{
	struct amqp_field *fields;

	if (more.count == 0)
		return to;
	fields = allocate(wire, (to.count + more.count) * sizeof(*fields));
	if (to.count > 0)
		memcpy(fields, to.fields, to.count * sizeof(*fields));
	for (size_t i = 0; i < more.count; i++)
		fields[to.count + i] = copy_field(wire, &more.fields[i]);
	return (struct amqp_table){ fields, to.count + more.count };
}

void wire_release(struct wire *wire)
{
	while (wire->blocks != NULL) {
		struct wire_block *block = wire->blocks;

		wire->blocks = block->next;
		free(block);
	}
}
