/* MessagePack goes in, JSON comes out, written while it is read; and the other way round.
 *
 * The trees of msgpack-c are as large as a message says that it is. So its parser is used without them: each value that it finds is a call
 * of one of the functions read_*(), and a list that claims four thousand million values costs nothing until they come. */
#include "workers/celery/msgpack.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/json.h"
#include "workers/jobs/job.h"

#define MSGPACK_EMBED_STACK_SIZE JSON_DEPTH /* of lists and maps within each other */
#include <msgpack/pack.h>
#include <msgpack/unpack.h>
#include <msgpack/unpack_define.h>

bool msgpack_is(struct slice content_type)
{
	struct slice rest = content_type;

	return slice_is_nocase(slice_trim(slice_cut(&rest, ';')), MSGPACK_TYPE);
}

/* ---- MessagePack in */

struct reader {
	struct buf *out;
	struct err *err;
	size_t values, max_values, max_len;
	bool is_name; /* what comes next is the name of a map's member */
};

/* What the parser keeps of each value while it reads. */
struct item {
	unsigned left; /* of a list or map: members that are still to come */
};

static int refuse(struct reader *r, const char *why)
{
	return err_set(r->err, ERR_INVALID, "MessagePack: %s", why);
}

/* Before each value that is not a name. */
static int begin(struct reader *r, struct item *item)
{
	*item = (struct item){ 0 };
	if (r->is_name)
		return refuse(r, "the name of a map's member is no text");
	if (++r->values > r->max_values)
		return err_set(r->err, ERR_INVALID, "MessagePack: there are more than %zu values", r->max_values);
	return r->out->len <= r->max_len ? 0 : refuse(r, "it is too large as JSON");
}

static int put(struct reader *r, struct item *item, const char *word)
{
	if (begin(r, item) < 0)
		return -1;
	buf_add_str(r->out, word);
	return 0;
}

static inline struct item read_root(struct reader *r)
{
	(void)r;
	return (struct item){ 0 };
}

static inline int read_nil(struct reader *r, struct item *item)
{
	return put(r, item, "null");
}

static inline int read_true(struct reader *r, struct item *item)
{
	return put(r, item, "true");
}

static inline int read_false(struct reader *r, struct item *item)
{
	return put(r, item, "false");
}

static inline int read_int64(struct reader *r, int64_t number, struct item *item)
{
	if (begin(r, item) < 0)
		return -1;
	buf_add_int(r->out, number);
	return 0;
}

static inline int read_uint64(struct reader *r, uint64_t number, struct item *item)
{
	if (begin(r, item) < 0)
		return -1;
	buf_addf(r->out, "%llu", (unsigned long long)number);
	return 0;
}

#define READ_NUMBER(type) \
	static inline int read_##type(struct reader *r, type##_t number, struct item *item) \
	{ \
		return read_int64(r, number, item); \
	}
READ_NUMBER(int8)
READ_NUMBER(int16)
READ_NUMBER(int32)
READ_NUMBER(uint8)
READ_NUMBER(uint16)
READ_NUMBER(uint32)

/* The fewest digits that are this number again; and it stays a float to whoever reads it. */
static inline int read_double(struct reader *r, double number, struct item *item)
{
	char text[40];

	if (begin(r, item) < 0)
		return -1;
	if (!isfinite(number))
		return refuse(r, "NaN and infinities are not accepted");
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, number);
		if (strtod(text, NULL) == number)
			break;
	}
	buf_add_str(r->out, text);
	if (strpbrk(text, ".e") == NULL)
		buf_add_str(r->out, ".0");
	return 0;
}

static inline int read_float(struct reader *r, float number, struct item *item)
{
	return read_double(r, (double)number, item);
}

/* start, here and below: of all that is parsed. at is nothing where len is 0. */
static inline int read_str(struct reader *r, const char *start, const char *at, unsigned len, struct item *item)
{
	const struct slice text = { len > 0 ? at : "", len };
	const bool is_name = r->is_name;
	struct json_writer w = JSON_WRITER(r->out);

	(void)start;
	r->is_name = false;
	if (is_name)
		*item = (struct item){ 0 };
	else if (begin(r, item) < 0)
		return -1;
	if (!str_utf8_valid(text) || memchr(text.data, '\0', text.len) != NULL)
		return refuse(r, "a text is not valid UTF-8, or has a NUL");
	json_put_string(&w, NULL, text);
	if (is_name)
		buf_add_char(r->out, ':');
	return 0;
}

static inline int read_bin(struct reader *r, const char *start, const char *at, unsigned len, struct item *item)
{
	const struct slice raw = { len > 0 ? at : "", len };
	const bool is_text = str_utf8_valid(raw) && memchr(raw.data, '\0', raw.len) == NULL;
	struct json_writer w = JSON_WRITER(r->out);

	(void)start;
	if (begin(r, item) < 0)
		return -1;
	json_open(&w, NULL, '{');
	json_put_string(&w, "__type__", slice_of(is_text ? "bytes" : "base64"));
	if (is_text) {
		json_put_string(&w, "__value__", raw);
	} else {
		json_put_raw(&w, "__value__", slice_of("\""));
		base64_encode(r->out, raw.data, raw.len);
		buf_add_char(r->out, '"');
	}
	json_close(&w, '}');
	return 0;
}

static inline int read_ext(struct reader *r, const char *start, const char *at, unsigned len, struct item *item)
{
	(void)start;
	(void)at;
	(void)len;
	*item = (struct item){ 0 };
	return refuse(r, "extension types are not accepted");
}

static int open_container(struct reader *r, const char *brackets, unsigned count, struct item *item)
{
	if (begin(r, item) < 0)
		return -1;
	item->left = count;
	buf_add_char(r->out, brackets[0]);
	if (count == 0)
		buf_add_char(r->out, brackets[1]);
	return 0;
}

static inline int read_array(struct reader *r, unsigned count, struct item *item)
{
	return open_container(r, "[]", count, item);
}

static inline int read_map(struct reader *r, unsigned count, struct item *item)
{
	if (open_container(r, "{}", count, item) < 0)
		return -1;
	r->is_name = count > 0;
	return 0;
}

/* Behind each member. */
static inline int read_array_item(struct reader *r, struct item *array, struct item item)
{
	(void)item;
	array->left--;
	buf_add_char(r->out, array->left > 0 ? ',' : ']');
	return 0;
}

static inline int read_map_item(struct reader *r, struct item *map, struct item name, struct item item)
{
	(void)name;
	(void)item;
	map->left--;
	r->is_name = map->left > 0;
	buf_add_char(r->out, map->left > 0 ? ',' : '}');
	return 0;
}

/* From here on: struct parse_context, parse_init(), parse_execute(). */
#define msgpack_unpack_struct(name) struct parse##name
#define msgpack_unpack_func(type, name) static inline type parse##name
#define msgpack_unpack_callback(name) read##name
#define msgpack_unpack_object struct item
#define msgpack_unpack_user struct reader
#include <msgpack/unpack_template.h>

/* Why it was not read to its end; what a function above has said stays. */
static void explain(struct parse_context *parser, int rc, size_t used, bool is_all)
{
	struct reader *r = &parser->user;

	if (r->err->kind != ERR_NONE)
		return;
	if (rc > 0 && !is_all)
		refuse(r, "there is more behind the value");
	else if (rc > 0)
		refuse(r, "it is too large as JSON");
	else if (rc == 0)
		refuse(r, "it ends early");
	else if (parser->top >= JSON_DEPTH)
		refuse(r, "nested too deeply");
	else
		err_set(r->err, ERR_INVALID, "MessagePack, byte %zu: no value begins like that", used);
}

int msgpack_to_json(struct slice packed, size_t max_values, size_t max_len, struct buf *out, struct err *err)
{
	struct err why = ERR_INIT;
	struct parse_context parser = { .user = { .out = out, .err = &why, .max_values = max_values, .max_len = max_len } };
	size_t used = 0;
	int rc = 0;

	parse_init(&parser);
	if (packed.len > 0)
		rc = parse_execute(&parser, packed.data, packed.len, &used); /* 1: a value; 0: there is more to it; else -1 or less */
	if (rc > 0 && used == packed.len && out->len <= max_len)
		return 0;
	explain(&parser, rc, used, used == packed.len);
	*err = why;
	return -1;
}

/* ---- MessagePack out */

static int add(void *out, const char *data, size_t len)
{
	buf_add(out, data, len);
	return 0;
}

static void write_text(msgpack_packer *p, struct slice text)
{
	msgpack_pack_str(p, text.len);
	msgpack_pack_str_body(p, text.data, text.len);
}

static bool write_number(msgpack_packer *p, const struct json *node)
{
	const char *digits = json_number(node).data;
	unsigned long long large;
	int64_t number;

	if (json_int64(node, &number)) {
		msgpack_pack_int64(p, number);
		return true;
	}
	if (strpbrk(digits, ".eE") != NULL) {
		msgpack_pack_double(p, strtod(digits, NULL));
		return true;
	}
	errno = 0;
	large = strtoull(digits, NULL, 10);
	if (errno != 0 || digits[0] == '-')
		return false;
	msgpack_pack_uint64(p, large);
	return true;
}

/* What kombu makes of bytes. false: it is nothing of the kind. */
static bool write_bytes(msgpack_packer *p, const struct json *node)
{
	const struct slice text = json_string(job_typed(node, "bytes")), coded = json_string(job_typed(node, "base64"));
	struct buf decoded = BUF_INIT;
	const bool is_text = text.data != NULL, is_coded = !is_text && coded.data != NULL && base64_decode(&decoded, coded);
	const struct slice raw = is_text ? text : buf_slice(&decoded);

	if (is_text || is_coded) {
		msgpack_pack_bin(p, raw.len);
		msgpack_pack_bin_body(p, raw.data, raw.len);
	}
	buf_release(&decoded);
	return is_text || is_coded;
}

static bool write_value(msgpack_packer *p, const struct json *node);

/* No deeper than JSON_DEPTH. */
static bool write_container(msgpack_packer *p, const struct json *node)
{
	const bool is_map = json_type(node) == JSON_OBJECT;
	bool is_written = true;
	size_t count = 0;

	for (const struct json *child = json_first(node); child != NULL; child = json_next(child))
		count++;
	if (is_map)
		msgpack_pack_map(p, count);
	else
		msgpack_pack_array(p, count);
	for (const struct json *child = json_first(node); child != NULL && is_written; child = json_next(child)) {
		if (is_map)
			write_text(p, slice_of(json_key(child)));
		is_written = write_value(p, child);
	}
	return is_written;
}

static bool write_value(msgpack_packer *p, const struct json *node)
{
	switch (json_type(node)) {
	case JSON_NULL:
		msgpack_pack_nil(p);
		return true;
	case JSON_BOOL:
		if (json_bool(node))
			msgpack_pack_true(p);
		else
			msgpack_pack_false(p);
		return true;
	case JSON_NUMBER:
		return write_number(p, node);
	case JSON_STRING:
		write_text(p, json_string(node));
		return true;
	case JSON_OBJECT:
		return write_bytes(p, node) || write_container(p, node);
	case JSON_ARRAY:
		return write_container(p, node);
	}
	return false;
}

bool msgpack_from_json(struct slice json, struct buf *out)
{
	struct buf packed = BUF_INIT;
	struct err err = ERR_INIT;
	struct json *tree = json_parse_answer(json, &err);
	msgpack_packer packer;
	bool is_written;

	msgpack_packer_init(&packer, &packed, add);
	is_written = tree != NULL && write_value(&packer, tree);
	if (is_written)
		buf_add(out, packed.data, packed.len);
	json_free(tree);
	buf_release(&packed);
	return is_written;
}
