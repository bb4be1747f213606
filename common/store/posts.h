/* posts: outbound (the ledger of posts), inbound, and the plans of long friend lists, in the store. Uses store, model.
 *
 * A plan pins the friends: each chunk keeps its list of friend ids (fanout_chunk.friends: ascending, each as the difference to
 * the one before, LEB128), so that a friend who comes between plan and chunk gets nothing, and the chunk reads no friends. */
#ifndef FEEDMILL_STORE_POSTS_H
#define FEEDMILL_STORE_POSTS_H

#include "common/base/buf.h"
#include "common/model/post.h"
#include "common/store/store.h"

struct post_state {
	bool exists;
	int64_t chunks; /* 0: fanned out in its own transaction */
	int64_t left;   /* chunks not done */
};

/* states[i].exists and .chunks of ids[i] (not .left); one round trip. */
int posts_existing(struct store *store, const int64_t *ids, size_t count, struct post_state *states, struct err *err);
int posts_state(struct store *store, int64_t id, struct post_state *state, struct err *err);

/* Outbound rows; chunks: NULL for all 0. A duplicate id is ERR_CONFLICT. */
int posts_insert(struct store *store, const struct post *posts, const int64_t *chunks, size_t count, struct err *err);

struct inbound {
	int64_t participant, post, from;
};
/* Sorts the rows by primary key, then inserts; a row that is there stays. */
int inbound_insert(struct store *store, struct inbound *rows, size_t count, struct err *err);

/* One row for each friend that the author of each of these posts has now: read and written in the server, nothing comes here. The posts
 * have their outbound rows; a row that is there stays. */
int inbound_insert_friends(struct store *store, const int64_t *posts, size_t count, struct err *err);

typedef int post_row_fn(void *arg, const struct post *post);
/* Newest first, ids below `before` (0: from the newest). */
int outbound_list(struct store *store, int64_t participant, int64_t before, size_t limit, post_row_fn *row, void *arg, struct err *err);
int inbound_list(struct store *store, int64_t participant, int64_t before, size_t limit, post_row_fn *row, void *arg, struct err *err);

/* ---- plans */
void friends_pack(const int64_t *ids, size_t count, struct buf *out);                      /* ascending ids */
int friends_unpack(struct slice packed, int64_t **ids, size_t *count, struct err *err);    /* caller frees */

int plan_add(struct store *store, int64_t post, int64_t number, const int64_t *friends, size_t count, struct err *err);
/* Numbers of the chunks of a post that are not done; caller frees. */
int plan_open_chunks(struct store *store, int64_t post, int64_t **numbers, size_t *count, struct err *err);
struct plan_part {
	bool found, done;
	int64_t author;   /* as the post's outbound row says */
	int64_t *friends; /* caller frees; NULL when it is done */
	size_t count;
};
/* Locks the chunk until the transaction ends. */
int plan_take(struct store *store, int64_t post, int64_t number, struct plan_part *part, struct err *err);
int plan_done(struct store *store, int64_t post, int64_t number, struct err *err);

#endif
