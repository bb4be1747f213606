/* friendship: two participants who get each other's posts. Symmetric: one id, two rows. No I/O. */
#ifndef FEEDMILL_MODEL_FRIENDSHIP_H
#define FEEDMILL_MODEL_FRIENDSHIP_H

#include "common/base/err.h"
#include "common/base/json.h"

struct friendship {
	int64_t id;
	int64_t from, to; /* `from` is the one who is asked for */
};

int friendship_check(const struct friendship *friendship, const char **member, struct err *err); /* as post_check() */
void friendship_write(struct json_writer *w, const char *key, const struct friendship *friendship); /* {"id","from","to"} */
int64_t friendship_key(const struct friendship *friendship); /* the smaller participant id: the record key */

#endif
