/* participant: somebody who posts and reads. No I/O. Texts in model structs are borrowed (from a JSON tree, or a database
 * row), unless a struct says that it owns its source. */
#ifndef FEEDMILL_MODEL_PARTICIPANT_H
#define FEEDMILL_MODEL_PARTICIPANT_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/json.h"

#define PARTICIPANT_NAME_MAX 50 /* characters */

struct participant {
	int64_t id;
	struct slice name;
};

/* As post_check(). */
int participant_check(const struct participant *participant, const char **member, struct err *err);

/* A participant's link, as bodies carry it: "/participant/N"; a bare "N" is read too. */
#define LINK_TEXT 40
void link_format(int64_t id, char out[LINK_TEXT]);
bool link_parse(struct slice text, int64_t *id);
void json_put_link(struct json_writer *w, const char *key, int64_t id);

void participant_write(struct json_writer *w, const char *key, const struct participant *participant); /* {"id","name","link"} */

#endif
