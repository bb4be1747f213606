/* json: JSON texts (RFC 8259), read strictly and written plainly. The only user of cJSON; its types stay in json.c.
 *
 * Reading first runs a strict scan of our own over the text, because cJSON takes much that must be refused: it wants
 * the grammar to the letter, valid UTF-8, no \u0000 and no lone surrogate, each key once an object, at most
 * JSON_DEPTH levels and JSON_KEYS keys, and nothing behind the value. Numbers keep the digits they came with, since
 * cJSON has only doubles. One scan serves the gateway, Kafka records and AMQP bodies.
 *
 * A `struct json` is a node of the tree: the root is freed by json_free(), all others are borrowed from it, and so are
 * the strings. Keys compare exactly. */
#ifndef FEEDMILL_BASE_JSON_H
#define FEEDMILL_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

#define JSON_DEPTH 32
#define JSON_KEYS 1000  /* in the whole text */
#define JSON_DIGITS 60  /* characters of a number; one beyond the range of a double is refused too */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json;

/* NULL and ERR_INVALID with the byte offset and what was expected there. */
struct json *json_parse(struct slice text, struct err *err);
/* The same without JSON_KEYS, for the answer of a server of ours, whose size is bounded where it is read. */
struct json *json_parse_answer(struct slice text, struct err *err);
void json_free(struct json *root); /* NULL is fine */

enum json_type json_type(const struct json *node);
const char *json_type_name(enum json_type type); /* "null", "boolean", "number", "string", "array", "object" */

const struct json *json_get(const struct json *object, const char *key); /* NULL: not there, or not an object */
const struct json *json_first(const struct json *container);             /* first child, or NULL */
const struct json *json_next(const struct json *node);                   /* next sibling, or NULL */
const char *json_key(const struct json *member);                         /* its name in its object */

struct slice json_string(const struct json *node); /* NUL-terminated too; SLICE_NONE unless a string */
struct slice json_number(const struct json *node); /* the digits as they came; SLICE_NONE unless a number */
bool json_bool(const struct json *node);           /* false unless a true */
bool json_int64(const struct json *node, int64_t *out); /* exact; false for 1.0, 1e3, or out of range */

void json_write_node(struct buf *out, const struct json *node); /* compact; numbers with their own digits */

/* Writing: a comma is put where one is due, texts are escaped, nothing is checked against double keys.
 * key NULL: a value in an array, or the root. */
struct json_writer {
	struct buf *out;
	bool comma;
};

#define JSON_WRITER(b) { (b), false }
void json_open(struct json_writer *w, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json_writer *w, char bracket);                 /* '}' or ']' */
void json_put_string(struct json_writer *w, const char *key, struct slice text);
void json_put_int(struct json_writer *w, const char *key, int64_t number);
void json_put_bool(struct json_writer *w, const char *key, bool value);
void json_put_raw(struct json_writer *w, const char *key, struct slice json); /* a JSON text as it stands */
void json_put_node(struct json_writer *w, const char *key, const struct json *node); /* under that key, whatever its own is */

const char *json_library(void); /* "cJSON 1.7.15" */

#endif
