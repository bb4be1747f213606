/* fields: reading the members of a decoded record, strictly. Uses json.
 *
 * A reader remembers the first thing that was wrong, so that a decoder reads all its fields and asks once at the end:
 *   struct fields f;
 *   if (fields_open(&f, "post", value, err) == 0) { out->id = fields_id(&f, "id"); … return fields_done(&f); }
 * Every message names the record, the field, what was wanted and what was there; the kind is ERR_INVALID. Unknown members
 * are ignored. */
#ifndef FEEDMILL_MODEL_FIELDS_H
#define FEEDMILL_MODEL_FIELDS_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/json.h"

#define RECORD_VERSION 1 /* "v" of what is written; read are this one and the one before it, from 1 on */

struct fields {
	const char *what;          /* "post" */
	struct json *root;         /* owned until taken */
	const struct json *object; /* where members are looked for: the root, or one below it */
	const char *within;        /* "data." in front of names in messages, or "" */
	bool is_wrong;
	struct err *err;
};

/* Parses, checks that it is an object and its version. -1: nothing to close. */
int fields_open(struct fields *f, const char *what, struct slice value, struct err *err);
void fields_enter(struct fields *f, const char *name, const char *within); /* members of that object from now on */
/* 0, or -1 when something was wrong, and then the tree is freed. The caller has f->root after 0. */
int fields_done(struct fields *f);
void fields_wrong(struct fields *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The member of that type; NULL (and wrong) when it is missing or of another. */
const struct json *fields_member(struct fields *f, const char *name, enum json_type type);
int64_t fields_id(struct fields *f, const char *name);                         /* 1 … 2^53-1 */
int64_t fields_int(struct fields *f, const char *name, int64_t min, int64_t max);
struct slice fields_string(struct fields *f, const char *name);
struct slice fields_text(struct fields *f, const char *name, size_t min, size_t max); /* lengths in characters */

/* The rule behind it, for the checks of entities (post_check() and the like), whose texts may come from a client as well as from a
 * record. -1: ERR_INVALID. */
int text_check(const char *name, struct slice text, size_t min, size_t max, struct err *err);

#endif
