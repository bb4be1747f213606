/* AMQP values go in, JSON comes out; and the other way round. */
#include "workers/celery/wire.h"

#include <math.h>
#include <stdlib.h>

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

static struct amqp_field *allocate(struct wire *wire, size_t count)
{
	struct wire_block *block = mem_zalloc(sizeof(*block) + count * sizeof(struct amqp_field));

	block->next = wire->blocks;
	wire->blocks = block;
	return (struct amqp_field *)(void *)block->memory;
}

struct amqp_table wire_fields(struct wire *wire, const struct json *container)
{
	size_t count = 0, i = 0;
	struct amqp_field *fields;

	for (const struct json *child = json_first(container); child != NULL; child = json_next(child))
		count++;
	fields = allocate(wire, count);
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

void wire_release(struct wire *wire)
{
	while (wire->blocks != NULL) {
		struct wire_block *block = wire->blocks;

		wire->blocks = block->next;
		free(block);
	}
}
