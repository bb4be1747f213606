/* Posts go in, documents of the search engine come out, many in one request.
 *
 * A post is a RETRY when the engine refuses its document as busy (429, 503, a shard that is away) and takes others of the same batch: it
 * goes to a retry topic, the others go on. When it takes none, the engine counts as down, and the batch waits; but when it is asked and says
 * that it is well, documents that came from a retry topic, and few that nobody takes for long, are more likely a matter of those documents, and
 * go to the next retry topic. A document that no mapping takes is a dead letter. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/post.h"
#include "common/queue/topics.h"
#include "common/store/search.h"
#include "workers/worker.h"

#define REQUEST_BYTES (4 << 20) /* texts of one request */
#define FEW 8        /* documents */
#define PATIENCE 20  /* tries, about three quarters of a minute */

struct index {
	struct search *search;
	size_t room;
	struct post *posts; /* what the documents point into */
	struct search_document *documents;
	size_t *items; /* documents[d] is of item items[d] */
};

static const struct worker_settings *index_settings(const struct settings *settings)
{
	return &settings->index;
}

static int index_open(const struct settings *settings, void **state, struct err *err)
{
	struct index *index = mem_zalloc(sizeof(*index));

	if (search_open(settings, &index->search, err) < 0) {
		free(index);
		return -1;
	}
	index->room = (size_t)settings->index.batch;
	index->posts = mem_array(index->room, sizeof(*index->posts));
	index->documents = mem_array(index->room, sizeof(*index->documents));
	index->items = mem_array(index->room, sizeof(*index->items));
	*state = index;
	return 0;
}

static void index_close(void *state)
{
	struct index *index = state;

	search_close(index->search);
	free(index->posts);
	free(index->documents);
	free(index->items);
	free(index);
}

static int index_check(void *state, struct err *err)
{
	struct index *index = state;

	return search_ping(index->search, err);
}

/* Posts that can be read become documents; the others are rejected. Returns how many there are. */
static size_t decode(struct index *index, struct batch *batch)
{
	size_t count = 0;

	for (size_t i = 0; i < batch->count; i++) {
		struct post *post = &index->posts[count];
		struct err why = ERR_INIT;

		*post = (struct post){ 0 };
		if (post_decode(post, batch->items[i].record->value, &why) < 0) {
			batch_reject(batch, i, &why);
			continue;
		}
		index->documents[count] = (struct search_document){
			.id = post->id,
			.sender = post->from,
			.subject = post->subject,
			.story = post->story,
			.posted_at_ms = post->posted_at_ms,
		};
		index->items[count++] = i;
	}
	return count;
}

static void judge(const struct index *index, struct batch *batch, size_t d)
{
	const struct search_document *document = &index->documents[d];
	struct err why = ERR_INIT;

	if (document->result == SEARCH_BUSY) {
		err_set(&why, ERR_UNAVAILABLE, "%s", document->why);
		batch_retry(batch, index->items[d], &why);
	} else if (document->result == SEARCH_WRONG) {
		err_set(&why, ERR_INVALID, "%s", document->why);
		batch_reject(batch, index->items[d], &why);
	}
}

/* All that could be stored are refused as busy: an error, unless they are few and were tried for long, or come from a retry topic, and the
 * engine says that it is well. */
static int check_busy(struct index *index, const struct batch *batch, size_t count, struct err *err)
{
	size_t busy = 0;
	unsigned tries = PATIENCE;
	bool any_new = false; /* else all have been refused before, while others were taken */

	for (size_t d = 0; d < count; d++) {
		const struct search_document *document = &index->documents[d];

		if (document->result == SEARCH_STORED)
			return 0;
		if (document->result != SEARCH_BUSY)
			continue;
		busy++;
		any_new |= strcmp(batch->items[index->items[d]].record->topic, TOPIC_POSTS) == 0;
		if (batch->items[index->items[d]].tries < tries)
			tries = batch->items[index->items[d]].tries;
	}
	if (busy == 0)
		return 0;
	if ((!any_new || (busy <= FEW && tries >= PATIENCE)) && search_ping(index->search, err) == 0)
		return 0;
	for (size_t d = 0; d < count; d++)
		if (index->documents[d].result == SEARCH_BUSY)
			return err_set(err, ERR_UNAVAILABLE, "search: %s", index->documents[d].why);
	return 0;
}

static size_t slice_end(const struct index *index, size_t from, size_t count)
{
	size_t bytes = 0;
	size_t end = from;

	while (end < count && (end == from || bytes < REQUEST_BYTES)) {
		bytes += index->documents[end].subject.len + index->documents[end].story.len;
		end++;
	}
	return end;
}

/* Slices that were stored before one fails are stored again with the batch: each document has its post's id. */
static int index_handle(void *state, struct batch *batch, struct err *err)
{
	struct index *index = state;
	const size_t count = decode(index, batch);
	size_t end;
	int rc = -1;

	for (size_t d = 0; d < count; d = end) {
		end = slice_end(index, d, count);
		if (search_add(index->search, &index->documents[d], end - d, err) < 0)
			goto out;
	}
	if (check_busy(index, batch, count, err) < 0)
		goto out;
	for (size_t d = 0; d < count; d++)
		judge(index, batch, d);
	rc = 0;
out:
	for (size_t d = 0; d < count; d++)
		post_release(&index->posts[d]);
	return rc;
}

const struct worker_ops index_worker = {
	.settings = index_settings,
	.open = index_open,
	.dependency = "search",
	.check = index_check,
	.handle = index_handle,
	.close = index_close,
};
