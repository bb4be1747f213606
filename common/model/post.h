/* post: what somebody wrote; the value of feed.posts:
 *   {"v":1,"id":N,"from":N,"posted_at":"2026-01-31T12:00:00.123Z","subject":"…","story":"…"}
 * No I/O. */
#ifndef FEEDMILL_MODEL_POST_H
#define FEEDMILL_MODEL_POST_H

#include "common/base/err.h"
#include "common/base/json.h"

#define POST_SUBJECT_MAX 4000 /* characters */
#define POST_STORY_MAX 65535  /* characters */

struct post {
	int64_t id;
	int64_t from;
	int64_t posted_at_ms;
	struct slice subject, story;
	struct json *source; /* owned; what subject and story point into, or NULL when they are borrowed */
};

void post_encode(const struct post *post, struct buf *out);
/* ERR_INVALID: not JSON, another version, a field that is missing or out of range. Unknown fields are ignored. */
int post_decode(struct post *out, struct slice value, struct err *err);
void post_release(struct post *post);
/* The limits above, of what a client sends as of what a record holds: a post that passes is never refused by post_decode().
 * -1: ERR_INVALID, and *member is the one that is wrong. */
int post_check(const struct post *post, const char **member, struct err *err);

/* Elements of the lists: {"id","from","occurred","posted_at","subject","story"}, and for inbound "to" behind "from".
 * `occurred` is the date in the process's zone. */
void post_write_outbound(struct json_writer *w, const struct post *post);
void post_write_inbound(struct json_writer *w, const struct post *post, int64_t to);

/* One chunk of a long friend list; the value of feed.chunks: {"v":1,"post":N,"from":N,"chunk":N}. */
struct chunk {
	int64_t post;
	int64_t from;
	int64_t number; /* from 0 */
};

void chunk_encode(const struct chunk *chunk, struct buf *out);
int chunk_decode(struct chunk *out, struct slice value, struct err *err);
#define CHUNK_KEY 48
void chunk_key(const struct chunk *chunk, char out[CHUNK_KEY]); /* "POST.NUMBER": spreads the chunks over the partitions */

#endif
