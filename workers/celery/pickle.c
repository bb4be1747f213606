/* A JSON value goes in, the pickle of the same Python value comes out. */
#include "workers/celery/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "workers/jobs/job.h"

static void add_u32(struct buf *out, uint32_t n)
{
	const char bytes[] = { (char)n, (char)(n >> 8), (char)(n >> 16), (char)(n >> 24) };

	buf_add(out, bytes, sizeof(bytes));
}

static void add_text(struct buf *out, struct slice text)
{
	buf_add_char(out, 'X'); /* BINUNICODE */
	add_u32(out, (uint32_t)text.len);
	buf_add(out, text.data, text.len);
}

static void add_double(struct buf *out, double real)
{
	uint64_t bits;

	memcpy(&bits, &real, sizeof(bits));
	buf_add_char(out, 'G'); /* BINFLOAT, big-endian */
	for (int shift = 56; shift >= 0; shift -= 8)
		buf_add_char(out, (char)(bits >> shift));
}

static void add_number(struct buf *out, const struct json *node)
{
	const struct slice digits = json_number(node);
	int64_t number;

	if (json_int64(node, &number) && number >= INT32_MIN && number <= INT32_MAX) {
		buf_add_char(out, 'J'); /* BININT */
		add_u32(out, (uint32_t)(int32_t)number);
	} else if (memchr(digits.data, '.', digits.len) == NULL && memchr(digits.data, 'e', digits.len) == NULL &&
		memchr(digits.data, 'E', digits.len) == NULL) {
		buf_addf(out, "L%.*sL\n", (int)digits.len, digits.data); /* LONG, in digits */
	} else {
		add_double(out, strtod(digits.data, NULL));
	}
}

static void add_node(struct buf *out, const struct json *node);

static void add_dict(struct buf *out, const struct json *node)
{
	buf_add_str(out, "}("); /* EMPTY_DICT MARK … SETITEMS */
	for (const struct json *child = json_first(node); child != NULL; child = json_next(child)) {
		add_text(out, slice_of(json_key(child)));
		add_node(out, child);
	}
	buf_add_char(out, 'u');
}

/* What kombu makes of bytes, dates and the like when it writes JSON, and undoes when it reads JSON. */
static bool is_kombus(const struct json *node)
{
	return job_plain(node) != node || json_string(job_typed(node, "base64")).data != NULL;
}

static void add_node(struct buf *out, const struct json *node)
{
	switch (json_type(node)) {
	case JSON_NULL:
		buf_add_char(out, 'N');
		return;
	case JSON_BOOL:
		buf_add_char(out, json_bool(node) ? '\x88' : '\x89');
		return;
	case JSON_NUMBER:
		add_number(out, node);
		return;
	case JSON_STRING:
		add_text(out, json_string(node));
		return;
	case JSON_ARRAY:
		buf_add_str(out, "]("); /* EMPTY_LIST MARK … APPENDS */
		for (const struct json *child = json_first(node); child != NULL; child = json_next(child))
			add_node(out, child);
		buf_add_char(out, 'e');
		return;
	case JSON_OBJECT:
		if (!is_kombus(node)) {
			add_dict(out, node);
			return;
		}
		buf_add_str(out, "ckombu.utils.json\nobject_hook\n"); /* GLOBAL … TUPLE1 REDUCE: its reader of JSON undoes it here too */
		add_dict(out, node);
		buf_add_str(out, "\x85R");
		return;
	}
}

void pickle_write(struct buf *out, const struct json *node)
{
	buf_add(out, "\x80\x02", 2);
	add_node(out, node);
	buf_add_char(out, '.');
}
