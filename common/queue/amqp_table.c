/* Headers and properties go in as rabbitmq-c or we have them, copies as the other has them come out. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/queue/amqp_private.h"

/* ---- memory */

#define CHUNK 2048

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	_Alignas(16) char bytes[];
};

void *arena_get(struct amqp_arena *arena, size_t size)
{
	const size_t need = (size + 15) & ~(size_t)15;
	struct arena_chunk *chunk = arena->chunks;
	void *out;

	if (chunk == NULL || chunk->size - chunk->used < need) {
		const size_t room = need > CHUNK ? need : CHUNK;

		chunk = mem_alloc(sizeof(*chunk) + room);
		chunk->used = 0;
		chunk->size = room;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	out = chunk->bytes + chunk->used;
	chunk->used += need;
	memset(out, 0, need);
	return out;
}

struct slice arena_copy(struct amqp_arena *arena, amqp_bytes_t bytes)
{
	char *copy = arena_get(arena, bytes.len + 1);

	if (bytes.len > 0)
		memcpy(copy, bytes.bytes, bytes.len);
	return (struct slice){ copy, bytes.len };
}

void arena_release(struct amqp_arena *arena)
{
	while (arena->chunks != NULL) {
		struct arena_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
}

amqp_bytes_t bytes_of(struct slice text)
{
	return (amqp_bytes_t){ text.len, (void *)text.data };
}

/* ---- making fields */

struct amqp_field amqp_text(const char *name, struct slice text)
{
	return (struct amqp_field){ name, { .type = AMQP_VALUE_TEXT, .text = text } };
}

struct amqp_field amqp_int(const char *name, int64_t number)
{
	return (struct amqp_field){ name, { .type = AMQP_VALUE_INT, .number = number } };
}

struct amqp_field amqp_bool(const char *name, bool truth)
{
	return (struct amqp_field){ name, { .type = AMQP_VALUE_BOOL, .truth = truth } };
}

struct amqp_field amqp_null(const char *name)
{
	return (struct amqp_field){ name, { .type = AMQP_VALUE_NULL } };
}

const struct amqp_value *amqp_table_value(const struct amqp_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (table->fields[i].name != NULL && strcmp(table->fields[i].name, name) == 0)
			return &table->fields[i].value;
	return NULL;
}

/* ---- from the library */

static struct amqp_value value_from(struct amqp_arena *arena, const amqp_field_value_t *in, int depth, bool *is_cut);

static struct amqp_table entries_from(struct amqp_arena *arena, const amqp_table_t *in, int depth, bool *is_cut)
{
	struct amqp_field *fields = arena_get(arena, sizeof(*fields) * (size_t)(in->num_entries > 0 ? in->num_entries : 1));

	for (int i = 0; i < in->num_entries; i++) {
		fields[i].name = arena_copy(arena, in->entries[i].key).data;
		fields[i].value = value_from(arena, &in->entries[i].value, depth, is_cut);
	}
	return (struct amqp_table){ fields, (size_t)(in->num_entries > 0 ? in->num_entries : 0) };
}

static struct amqp_table elements_from(struct amqp_arena *arena, const amqp_array_t *in, int depth, bool *is_cut)
{
	struct amqp_field *fields = arena_get(arena, sizeof(*fields) * (size_t)(in->num_entries > 0 ? in->num_entries : 1));

	for (int i = 0; i < in->num_entries; i++)
		fields[i].value = value_from(arena, &in->entries[i], depth, is_cut);
	return (struct amqp_table){ fields, (size_t)(in->num_entries > 0 ? in->num_entries : 0) };
}

static double decimal_of(amqp_decimal_t decimal)
{
	double real = decimal.value;

	for (int i = 0; i < decimal.decimals; i++)
		real /= 10;
	return real;
}

static struct amqp_value number_value(int64_t number)
{
	return (struct amqp_value){ .type = AMQP_VALUE_INT, .number = number };
}

static struct amqp_value value_from(struct amqp_arena *arena, const amqp_field_value_t *in, int depth, bool *is_cut)
{
	switch (in->kind) {
	case AMQP_FIELD_KIND_BOOLEAN: return (struct amqp_value){ .type = AMQP_VALUE_BOOL, .truth = in->value.boolean != 0 };
	case AMQP_FIELD_KIND_I8: return number_value(in->value.i8);
	case AMQP_FIELD_KIND_U8: return number_value(in->value.u8);
	case AMQP_FIELD_KIND_I16: return number_value(in->value.i16);
	case AMQP_FIELD_KIND_U16: return number_value(in->value.u16);
	case AMQP_FIELD_KIND_I32: return number_value(in->value.i32);
	case AMQP_FIELD_KIND_U32: return number_value(in->value.u32);
	case AMQP_FIELD_KIND_I64: return number_value(in->value.i64);
	case AMQP_FIELD_KIND_U64: return number_value(in->value.u64 > INT64_MAX ? INT64_MAX : (int64_t)in->value.u64);
	case AMQP_FIELD_KIND_TIMESTAMP:
		return (struct amqp_value){ .type = AMQP_VALUE_TIME, .number = in->value.u64 > INT64_MAX ? INT64_MAX : (int64_t)in->value.u64 };
	case AMQP_FIELD_KIND_F32: return (struct amqp_value){ .type = AMQP_VALUE_FLOAT, .real = (double)in->value.f32 };
	case AMQP_FIELD_KIND_F64: return (struct amqp_value){ .type = AMQP_VALUE_FLOAT, .real = in->value.f64 };
	case AMQP_FIELD_KIND_DECIMAL: return (struct amqp_value){ .type = AMQP_VALUE_FLOAT, .real = decimal_of(in->value.decimal) };
	case AMQP_FIELD_KIND_UTF8:
	case AMQP_FIELD_KIND_BYTES: return (struct amqp_value){ .type = AMQP_VALUE_TEXT, .text = arena_copy(arena, in->value.bytes) };
	case AMQP_FIELD_KIND_TABLE:
	case AMQP_FIELD_KIND_ARRAY: break;
	default: return (struct amqp_value){ .type = AMQP_VALUE_NULL };
	}
	if (depth == 0) {
		*is_cut = true;
		return (struct amqp_value){ .type = AMQP_VALUE_NULL };
	}
	if (in->kind == AMQP_FIELD_KIND_TABLE)
		return (struct amqp_value){ .type = AMQP_VALUE_TABLE, .items = entries_from(arena, &in->value.table, depth - 1, is_cut) };
	return (struct amqp_value){ .type = AMQP_VALUE_ARRAY, .items = elements_from(arena, &in->value.array, depth - 1, is_cut) };
}

struct amqp_table table_from_library(struct amqp_arena *arena, const amqp_table_t *table, bool *is_cut)
{
	return entries_from(arena, table, AMQP_DEPTH, is_cut);
}

/* ---- to the library */

static amqp_field_value_t value_to(struct amqp_arena *arena, const struct amqp_value *in);

amqp_table_t table_to_library(struct amqp_arena *arena, struct amqp_table table)
{
	amqp_table_entry_t *entries = arena_get(arena, sizeof(*entries) * (table.count > 0 ? table.count : 1));

	for (size_t i = 0; i < table.count; i++) {
		entries[i].key = bytes_of(slice_of(table.fields[i].name));
		entries[i].value = value_to(arena, &table.fields[i].value);
	}
	return (amqp_table_t){ (int)table.count, entries };
}

static amqp_array_t array_to(struct amqp_arena *arena, struct amqp_table items)
{
	amqp_field_value_t *entries = arena_get(arena, sizeof(*entries) * (items.count > 0 ? items.count : 1));

	for (size_t i = 0; i < items.count; i++)
		entries[i] = value_to(arena, &items.fields[i].value);
	return (amqp_array_t){ (int)items.count, entries };
}

static amqp_field_value_t value_to(struct amqp_arena *arena, const struct amqp_value *in)
{
	amqp_field_value_t out = { .kind = AMQP_FIELD_KIND_VOID };

	switch (in->type) {
	case AMQP_VALUE_NULL: break;
	case AMQP_VALUE_BOOL:
		out.kind = AMQP_FIELD_KIND_BOOLEAN;
		out.value.boolean = in->truth;
		break;
	case AMQP_VALUE_INT:
		out.kind = AMQP_FIELD_KIND_I64;
		out.value.i64 = in->number;
		break;
	case AMQP_VALUE_FLOAT:
		out.kind = AMQP_FIELD_KIND_F64;
		out.value.f64 = in->real;
		break;
	case AMQP_VALUE_TEXT:
		out.kind = str_utf8_valid(in->text) ? AMQP_FIELD_KIND_UTF8 : AMQP_FIELD_KIND_BYTES; /* clients of Python take no other as text */
		out.value.bytes = bytes_of(in->text);
		break;
	case AMQP_VALUE_TIME:
		out.kind = AMQP_FIELD_KIND_TIMESTAMP;
		out.value.u64 = (uint64_t)in->number;
		break;
	case AMQP_VALUE_TABLE:
		out.kind = AMQP_FIELD_KIND_TABLE;
		out.value.table = table_to_library(arena, in->items);
		break;
	case AMQP_VALUE_ARRAY:
		out.kind = AMQP_FIELD_KIND_ARRAY;
		out.value.array = array_to(arena, in->items);
		break;
	}
	return out;
}

/* ---- properties: the short texts by a table, each with its flag and its places in both structs */

static const struct {
	amqp_flags_t flag;
	size_t theirs, ours;
	const char *name;
} texts[] = {
#define TEXT(flag, field) { flag, offsetof(amqp_basic_properties_t, field), offsetof(struct amqp_properties, field), #field }
	TEXT(AMQP_BASIC_CONTENT_TYPE_FLAG, content_type),
	TEXT(AMQP_BASIC_CONTENT_ENCODING_FLAG, content_encoding),
	TEXT(AMQP_BASIC_CORRELATION_ID_FLAG, correlation_id),
	TEXT(AMQP_BASIC_REPLY_TO_FLAG, reply_to),
	TEXT(AMQP_BASIC_EXPIRATION_FLAG, expiration),
	TEXT(AMQP_BASIC_MESSAGE_ID_FLAG, message_id),
	TEXT(AMQP_BASIC_TYPE_FLAG, type),
	TEXT(AMQP_BASIC_USER_ID_FLAG, user_id),
	TEXT(AMQP_BASIC_APP_ID_FLAG, app_id),
};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))

void properties_from_library(struct amqp_arena *arena, const amqp_basic_properties_t *in, struct amqp_properties *out, bool *is_cut)
{
	*out = (struct amqp_properties){ 0 };
	for (size_t i = 0; i < TEXTS; i++)
		if (in->_flags & texts[i].flag)
			*(struct slice *)((char *)out + texts[i].ours) = arena_copy(arena, *(const amqp_bytes_t *)((const char *)in + texts[i].theirs));
	if (in->_flags & AMQP_BASIC_HEADERS_FLAG) {
		out->headers = table_from_library(arena, &in->headers, is_cut);
		out->has_headers = true;
	}
	if (in->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG)
		out->delivery_mode = in->delivery_mode;
	if (in->_flags & AMQP_BASIC_PRIORITY_FLAG) {
		out->has_priority = true;
		out->priority = in->priority;
	}
	if (in->_flags & AMQP_BASIC_TIMESTAMP_FLAG)
		out->timestamp_s = in->timestamp > INT64_MAX ? INT64_MAX : (int64_t)in->timestamp;
}

/* As they are encoded: a long before each container, an octet of type before each value, one of length before a name. */
static size_t value_size(const struct amqp_value *value)
{
	size_t size = 1;

	switch (value->type) {
	case AMQP_VALUE_NULL: return size;
	case AMQP_VALUE_BOOL: return size + 1;
	case AMQP_VALUE_INT:
	case AMQP_VALUE_FLOAT:
	case AMQP_VALUE_TIME: return size + 8;
	case AMQP_VALUE_TEXT: return size + 4 + value->text.len;
	case AMQP_VALUE_TABLE:
	case AMQP_VALUE_ARRAY: break;
	}
	size += 4;
	for (size_t i = 0; i < value->items.count; i++)
		size += (value->type == AMQP_VALUE_TABLE ? 1 + strlen(value->items.fields[i].name) : 0) + value_size(&value->items.fields[i].value);
	return size;
}

size_t amqp_properties_size(const struct amqp_properties *p)
{
	const struct amqp_value headers = { .type = AMQP_VALUE_TABLE, .items = p->headers };
	size_t size = 2 + value_size(&headers) - 1 + 1 + 1 + 8; /* flags; headers without a type; mode, priority, timestamp */

	for (size_t i = 0; i < TEXTS; i++)
		size += 1 + ((const struct slice *)(const void *)((const char *)p + texts[i].ours))->len;
	return size;
}

int properties_to_library(struct amqp_arena *arena, const struct amqp_properties *in, amqp_basic_properties_t *out, struct err *err)
{
	*out = (amqp_basic_properties_t){ 0 };
	for (size_t i = 0; i < TEXTS; i++) {
		const struct slice text = *(const struct slice *)((const char *)in + texts[i].ours);

		if (text.data == NULL)
			continue;
		if (text.len > 255)
			return err_set(err, ERR_INVALID, "%s of an AMQP message has %zu bytes; 255 fit", texts[i].name, text.len);
		*(amqp_bytes_t *)((char *)out + texts[i].theirs) = bytes_of(text);
		out->_flags |= texts[i].flag;
	}
	if (in->has_headers || in->headers.count > 0) {
		out->headers = table_to_library(arena, in->headers);
		out->_flags |= AMQP_BASIC_HEADERS_FLAG;
	}
	if (in->delivery_mode != 0) {
		out->delivery_mode = (uint8_t)in->delivery_mode;
		out->_flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
	}
	if (in->has_priority) {
		out->priority = in->priority;
		out->_flags |= AMQP_BASIC_PRIORITY_FLAG;
	}
	if (in->timestamp_s != 0) {
		out->timestamp = (uint64_t)in->timestamp_s;
		out->_flags |= AMQP_BASIC_TIMESTAMP_FLAG;
	}
	return 0;
}
