/* revoked: ids of tasks that are not to run, for a while: at most so many, the oldest go first. Also used for other sets of ids. */
#ifndef FEEDMILL_WORKERS_CELERY_REVOKED_H
#define FEEDMILL_WORKERS_CELERY_REVOKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/json.h"

#define REVOKED_MAX 50000
#define REVOKED_MS (INT64_C(10800) * 1000) /* unless keep_ms is set */
#define REVOKED_TEXT_MAX (6 << 20)         /* bytes of what is written of a set, as a file and as a message: the newest that fit */

struct revoked {
	struct revoked_id **buckets;
	struct revoked_id *first, *last; /* oldest first */
	size_t count, max;
	int64_t keep_ms; /* how long; set it after revoked_init() */
	bool is_changed; /* since it was last saved */
};

void revoked_init(struct revoked *revoked, size_t max);
void revoked_release(struct revoked *revoked);
bool revoked_add(struct revoked *revoked, struct slice id, int64_t wall_ms); /* false: it was there */
bool revoked_has(const struct revoked *revoked, struct slice id);
bool revoked_take(struct revoked *revoked, struct slice id); /* true: it was there, and is no more */
void revoked_forget(struct revoked *revoked, int64_t now_wall_ms); /* those that are too old */

/* The oldest are left out where all would be too long.
 * {"id": [seconds as a float, "id"], …}: as Celery's nodes tell each other; *_ids: ["id", …]. */
void revoked_write(const struct revoked *revoked, struct json_writer *w, const char *key);
void revoked_write_ids(const struct revoked *revoked, struct json_writer *w, const char *key);
void revoked_merge(struct revoked *revoked, const struct json *object);

int revoked_save(struct revoked *revoked, const char *path, struct err *err); /* a new file in its place, synced */
int revoked_load(struct revoked *revoked, const char *path, struct err *err); /* no file: nothing; a too large one: the part that fits */

#endif
