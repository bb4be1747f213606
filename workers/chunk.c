/* Chunks of long friend lists go in, inbound rows come out, one transaction for each chunk.
 *
 * A chunk is a RETRY, as a post is in fanout.c, when it loses its race for a row again and again: it goes to a retry topic, others go on. A
 * chunk that nobody planned is a dead letter at once: its plan is committed before its record is sent. */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/id.h"
#include "common/base/mem.h"
#include "common/model/post.h"
#include "common/store/posts.h"
#include "common/store/prune.h"
#include "common/store/schema.h"
#include "common/store/store.h"
#include "workers/reply.h"
#include "workers/worker.h"

#define SLICE 10000 /* rows in memory at once */

struct chunker {
	struct store *store;
	struct inbound *rows;
};

static const struct worker_settings *chunk_settings(const struct settings *settings)
{
	return &settings->chunk;
}

static int chunk_open(const struct settings *settings, void **state, struct err *err)
{
	struct chunker *chunker = mem_zalloc(sizeof(*chunker));

	if (store_open(settings, &chunker->store, err) < 0) {
		free(chunker);
		return -1;
	}
	chunker->rows = mem_array(SLICE, sizeof(*chunker->rows));
	*state = chunker;
	return 0;
}

static void chunk_close(void *state)
{
	struct chunker *chunker = state;

	store_close(chunker->store);
	free(chunker->rows);
	free(chunker);
}

static int chunk_check(void *state, struct err *err)
{
	struct chunker *chunker = state;

	return schema_check(chunker->store, err);
}

/* Whose post it is the plan says, not the record. */
static int insert_rows(struct chunker *chunker, int64_t post, const struct plan_part *part, struct err *err)
{
	for (size_t from = 0; from < part->count; from += SLICE) {
		const size_t rows = part->count - from < SLICE ? part->count - from : SLICE;

		for (size_t i = 0; i < rows; i++)
			chunker->rows[i] = (struct inbound){ part->friends[from + i], post, part->author };
		if (inbound_insert(chunker->store, chunker->rows, rows, err) < 0)
			return -1;
		FAULT_POINT("chunk.filling");
	}
	return 0;
}

/* Rows of chunks that are done are deleted later, with their margin: see prune.h. The post remembers how many it had. */
static int was_pruned(struct chunker *chunker, const struct chunk *chunk, bool *out, struct err *err)
{
	struct post_state post;

	if (posts_state(chunker->store, chunk->post, &post, err) < 0)
		return -1;
	*out = post.exists && chunk->number < post.chunks && id_time_ms(chunk->post) < clock_wall_ms() - PRUNE_MARGIN_MS;
	return 0;
}

/* Within a transaction. *found false: nobody planned such a chunk. One that is done stays as it is. */
static int fill(struct chunker *chunker, const struct chunk *chunk, bool *found, struct err *err)
{
	struct plan_part part;
	int rc = -1;

	if (plan_take(chunker->store, chunk->post, chunk->number, &part, err) < 0)
		return -1;
	*found = part.found;
	if (part.author == 0) /* somebody has put a plan there by hand */
		part.author = chunk->from;
	if (part.found && !part.done) {
		if (insert_rows(chunker, chunk->post, &part, err) < 0)
			goto out;
		if (plan_done(chunker->store, chunk->post, chunk->number, err) < 0)
			goto out;
	}
	if (!*found && was_pruned(chunker, chunk, found, err) < 0)
		goto out;
	rc = 0;
out:
	free(part.friends);
	return rc;
}

static int apply(struct chunker *chunker, const struct batch *batch, const struct chunk *chunk, bool *found, struct err *err)
{
	if (store_begin(chunker->store, err) < 0)
		return -1;
	if (fill(chunker, chunk, found, err) < 0)
		goto undo;
	if (!batch_still_owned(batch)) {
		err_set(err, ERR_CONFLICT, "the partition is not ours any more");
		goto undo;
	}
	if (store_commit(chunker->store, err) == 0)
		return 0;
undo:
	store_rollback(chunker->store);
	return -1;
}

/* The chunk that finds none left tells the gateway that waits; more than one may find it, and a replay does too. */
static int tell(struct chunker *chunker, struct batch *batch, size_t i, const struct chunk *chunk, struct err *err)
{
	struct post_state post;
	int32_t gateway;

	if (!reply_wanted(batch->items[i].record, &gateway))
		return 0;
	if (posts_state(chunker->store, chunk->post, &post, err) < 0)
		return -1;
	if (post.exists && post.left == 0)
		reply_post_done(batch, i, chunk->post);
	return 0;
}

static int handle_one(struct chunker *chunker, struct batch *batch, size_t i, struct err *err)
{
	struct err why = ERR_INIT;
	struct chunk chunk;
	bool found = false;

	if (chunk_decode(&chunk, batch->items[i].record->value, &why) < 0) {
		batch_reject(batch, i, &why);
		return 0;
	}
	if (apply(chunker, batch, &chunk, &found, err) < 0)
		return -1;
	if (!found) {
		err_set(&why, ERR_INVALID, "post %lld has no planned chunk %lld", (long long)chunk.post, (long long)chunk.number);
		batch_reject(batch, i, &why);
		return 0;
	}
	return tell(chunker, batch, i, &chunk, err);
}

static int chunk_handle(void *state, struct batch *batch, struct err *err)
{
	for (size_t i = 0; i < batch->count; i++)
		if (handle_one(state, batch, i, err) < 0)
			return -1;
	return 0;
}

const struct worker_ops chunk_worker = {
	.settings = chunk_settings,
	.open = chunk_open,
	.dependency = "store",
	.check = chunk_check,
	.handle = chunk_handle,
	.close = chunk_close,
};
