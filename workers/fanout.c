/* Posts go in; outbound rows and one inbound row for each friend of the author come out, many posts in one transaction.
 *
 * The outbound row is the ledger: a post that has one was fanned out or planned, and no friend is read for it again. The server
 * itself turns friends into rows. A friend list longer than `fanout.chunk` is planned in a transaction of its own, and goes to
 * feed.chunks; how long lists are is known for half a minute.
 *
 * A post is a RETRY when it loses its race for a row again and again while it is alone: it goes to a retry topic, others go on. The
 * database that is away, full or read-only is waited for. A post that the database refuses is a dead letter. */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/model/post.h"
#include "common/queue/topics.h"
#include "common/store/posts.h"
#include "common/store/people.h"
#include "common/store/schema.h"
#include "common/store/store.h"
#include "workers/fanout_sizes.h"
#include "workers/reply.h"
#include "workers/worker.h"

#define ROWS_MAX 50000   /* inbound rows of one transaction (one post may have more): undo, locks, time to roll back */
#define ROWS_AT_ONCE 5000 /* likewise of one statement: it ends long before mysql.read_timeout_ms, on a slow disk too */

/* A post of the batch, and what is known of it. */
struct job {
	struct post post;
	size_t item;
	size_t first;  /* index of the first job with the same id: its own, unless the batch has the post twice */
	struct post_state state;
	size_t friends; /* of its author, a moment ago; of a new post */
	bool is_long;  /* new, and to be planned */
	int64_t planned; /* chunks, once it is */
};

struct fanout {
	struct store *store;
	size_t chunk;
	size_t room;
	struct job *jobs;
	size_t count;
	size_t *order; /* scratch: indices of jobs */
	int64_t *ids;
	size_t *counts;
	struct post *posts;
	struct post_state *states;
	bool is_doubtful; /* an outbound row was not taken: it may be there */
	struct fanout_sizes *sizes;
	int64_t *page;
};

/* ---- life cycle */

static const struct worker_settings *fanout_settings(const struct settings *settings)
{
	return &settings->fanout;
}

static int fanout_open(const struct settings *settings, void **state, struct err *err)
{
	struct fanout *fanout = mem_zalloc(sizeof(*fanout));

	if (store_open(settings, &fanout->store, err) < 0) {
		free(fanout);
		return -1;
	}
	fanout->chunk = (size_t)settings->fanout_chunk;
	fanout->room = (size_t)settings->fanout.batch;
	fanout->jobs = mem_array(fanout->room, sizeof(*fanout->jobs));
	fanout->order = mem_array(fanout->room, sizeof(*fanout->order));
	fanout->ids = mem_array(fanout->room, sizeof(*fanout->ids));
	fanout->counts = mem_array(fanout->room, sizeof(*fanout->counts));
	fanout->posts = mem_array(fanout->room, sizeof(*fanout->posts));
	fanout->states = mem_array(fanout->room, sizeof(*fanout->states));
	fanout->sizes = fanout_sizes_new();
	fanout->page = mem_array(fanout->chunk, sizeof(*fanout->page));
	*state = fanout;
	return 0;
}

static void fanout_close(void *state)
{
	struct fanout *fanout = state;

	store_close(fanout->store);
	free(fanout->jobs);
	free(fanout->order);
	free(fanout->ids);
	free(fanout->counts);
	free(fanout->posts);
	free(fanout->states);
	fanout_sizes_free(fanout->sizes);
	free(fanout->page);
	free(fanout);
}

static int fanout_check(void *state, struct err *err)
{
	struct fanout *fanout = state;

	return schema_check(fanout->store, err);
}

/* ---- the batch */

static void decode(struct fanout *fanout, struct batch *batch)
{
	fanout->count = 0;
	for (size_t i = 0; i < batch->count; i++) {
		struct job *job = &fanout->jobs[fanout->count];
		struct err why = ERR_INIT;

		*job = (struct job){ .item = i, .first = fanout->count };
		if (post_decode(&job->post, batch->items[i].record->value, &why) < 0)
			batch_reject(batch, i, &why);
		else
			fanout->count++;
	}
}

static int compare_posts(const void *left, const void *right, void *arg)
{
	const struct job *jobs = arg;
	const size_t a = *(const size_t *)left, b = *(const size_t *)right;

	if (jobs[a].post.id != jobs[b].post.id)
		return jobs[a].post.id < jobs[b].post.id ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* Lists the jobs, each post once, in id order; the others are told which one is theirs. */
static size_t list_distinct(struct fanout *fanout)
{
	size_t distinct = 0;

	for (size_t j = 0; j < fanout->count; j++)
		fanout->order[j] = j;
	qsort_r(fanout->order, fanout->count, sizeof(*fanout->order), compare_posts, fanout->jobs);
	for (size_t k = 0; k < fanout->count; k++) {
		struct job *job = &fanout->jobs[fanout->order[k]];

		if (distinct > 0 && fanout->jobs[fanout->order[distinct - 1]].post.id == job->post.id)
			job->first = fanout->order[distinct - 1];
		else
			fanout->order[distinct++] = fanout->order[k];
	}
	return distinct;
}

/* Which posts have their outbound row already: none, or those that the ledger says. Leaves the new ones in `order`, and how many. */
static int find_new(struct fanout *fanout, bool looks, size_t *fresh, struct err *err)
{
	const size_t distinct = list_distinct(fanout);

	*fresh = 0;
	for (size_t k = 0; k < distinct; k++)
		fanout->ids[k] = fanout->jobs[fanout->order[k]].post.id;
	if (looks && posts_existing(fanout->store, fanout->ids, distinct, fanout->states, err) < 0)
		return -1;
	for (size_t k = 0; k < distinct; k++) {
		struct job *job = &fanout->jobs[fanout->order[k]];

		job->is_long = false;
		job->state = looks ? fanout->states[k] : (struct post_state){ .exists = false };
		if (SABOTAGED("plan") && job->state.chunks > 0)
			job->state = (struct post_state){ .exists = false };
		if (!job->state.exists)
			fanout->order[(*fresh)++] = fanout->order[k];
	}
	return 0;
}

/* ---- how long each author's list is */

static int compare_authors(const void *left, const void *right, void *arg)
{
	const struct job *jobs = arg;
	const struct job *a = &jobs[*(const size_t *)left], *b = &jobs[*(const size_t *)right];

	if (a->post.from != b->post.from)
		return a->post.from < b->post.from ? -1 : 1;
	return a->post.id < b->post.id ? -1 : a->post.id > b->post.id;
}

/* Of the `fresh` jobs in order of authors; leaves the authors in `ids`. */
static size_t list_unknown(struct fanout *fanout, size_t fresh, int64_t now_ms)
{
	size_t count = 0, size;

	for (size_t k = 0; k < fresh; k++) {
		const int64_t author = fanout->jobs[fanout->order[k]].post.from;

		if ((count == 0 || fanout->ids[count - 1] != author) && !fanout_sizes_get(fanout->sizes, author, now_ms, &size))
			fanout->ids[count++] = author;
	}
	return count;
}

/* Tells each of the `fresh` jobs its author's number of friends, and puts them in order of authors. */
static int find_sizes(struct fanout *fanout, size_t fresh, struct err *err)
{
	const int64_t now_ms = clock_mono_ms();
	size_t unknown, author = 0;

	qsort_r(fanout->order, fresh, sizeof(*fanout->order), compare_authors, fanout->jobs);
	unknown = list_unknown(fanout, fresh, now_ms);
	if (unknown > 0 && friends_count(fanout->store, fanout->ids, unknown, fanout->chunk + 1, fanout->counts, err) < 0)
		return -1;
	for (size_t k = 0; k < fresh; k++) {
		struct job *job = &fanout->jobs[fanout->order[k]];

		while (author < unknown && fanout->ids[author] < job->post.from)
			author++;
		if (author < unknown && fanout->ids[author] == job->post.from)
			job->friends = fanout->counts[author];
		else
			fanout_sizes_get(fanout->sizes, job->post.from, now_ms, &job->friends);
		job->is_long = job->friends > fanout->chunk;
	}
	for (size_t i = 0; i < unknown; i++) /* last: two of these may share a place */
		fanout_sizes_put(fanout->sizes, fanout->ids[i], now_ms, fanout->counts[i]);
	return 0;
}

/* ---- short lists: many posts in one transaction */

static int commit(struct fanout *fanout, const struct batch *batch, struct err *err)
{
	if (!batch_still_owned(batch))
		return err_set(err, ERR_CONFLICT, "a partition of the batch is not ours any more");
	return store_commit(fanout->store, err);
}

/* Inbound rows of the first `posts` in `ids`, whose numbers of friends stand in `counts`. */
static int write_inbound(struct fanout *fanout, size_t posts, struct err *err)
{
	size_t from = 0, rows = 0;

	for (size_t i = 0; i < posts; i++) {
		rows += fanout->counts[i];
		if (rows < ROWS_AT_ONCE && i + 1 < posts)
			continue;
		if (inbound_insert_friends(fanout->store, fanout->ids + from, i + 1 - from, err) < 0)
			return -1;
		from = i + 1;
		rows = 0;
	}
	return 0;
}

/* The rows of short lists; commits and begins again where they are too many for one transaction. */
static int write_short(struct fanout *fanout, const struct batch *batch, size_t fresh, struct err *err)
{
	size_t posts = 0, rows = 0;

	for (size_t k = 0; k < fresh; k++) {
		const struct job *job = &fanout->jobs[fanout->order[k]];
		const bool is_last = k + 1 == fresh;

		if (!job->is_long) {
			fanout->counts[posts] = job->friends;
			fanout->ids[posts] = job->post.id;
			fanout->posts[posts++] = job->post;
			rows += job->friends;
		}
		if (!is_last && rows < ROWS_MAX)
			continue;
		if (posts > 0 && posts_insert(fanout->store, fanout->posts, NULL, posts, err) < 0) {
			fanout->is_doubtful = err->kind == ERR_CONFLICT;
			return -1;
		}
		if (write_inbound(fanout, posts, err) < 0)
			return -1;
		if (!is_last && (commit(fanout, batch, err) < 0 || store_begin(fanout->store, err) < 0))
			return -1;
		posts = rows = 0;
	}
	return 0;
}

static bool has_long(const struct fanout *fanout, size_t fresh)
{
	for (size_t k = 0; k < fresh; k++)
		if (fanout->jobs[fanout->order[k]].is_long)
			return true;
	return false;
}

/* Within a transaction, which is another one at the end where there are many rows. */
static int fan_out(struct fanout *fanout, const struct batch *batch, bool looks, size_t *fresh, struct err *err)
{
	if (find_new(fanout, looks, fresh, err) < 0 || find_sizes(fanout, *fresh, err) < 0)
		return -1;
	if (!looks && has_long(fanout, *fresh)) /* its plan may be there, and nothing is written yet */
		return fan_out(fanout, batch, true, fresh, err);
	return write_short(fanout, batch, *fresh, err);
}

static int in_transaction(struct fanout *fanout, const struct batch *batch, bool looks, size_t *fresh, struct err *err)
{
	if (store_begin(fanout->store, err) < 0)
		return -1;
	if (fan_out(fanout, batch, looks, fresh, err) == 0 && commit(fanout, batch, err) == 0)
		return 0;
	store_rollback(fanout->store);
	return -1;
}

/* Posts are new, but after a crash: the ledger's key tells, and only then is it asked first. */
static int fan_out_all(struct fanout *fanout, const struct batch *batch, size_t *fresh, struct err *err)
{
	fanout->is_doubtful = false;
	if (in_transaction(fanout, batch, false, fresh, err) == 0)
		return 0;
	return fanout->is_doubtful ? in_transaction(fanout, batch, true, fresh, err) : -1;
}

/* ---- long lists: the plan, in a transaction of its own */

static int write_plan(struct fanout *fanout, struct job *job, struct err *err)
{
	int64_t after = 0;
	size_t count;

	job->planned = 0;
	do {
		if (friends_page(fanout->store, job->post.from, after, fanout->page, fanout->chunk, &count, err) < 0)
			return -1;
		if (count == 0)
			break;
		if (plan_add(fanout->store, job->post.id, job->planned, fanout->page, count, err) < 0)
			return -1;
		FAULT_POINT("fanout.planning");
		job->planned++;
		after = fanout->page[count - 1];
	} while (count == fanout->chunk);
	return posts_insert(fanout->store, &job->post, &job->planned, 1, err);
}

static int plan(struct fanout *fanout, const struct batch *batch, struct job *job, struct err *err)
{
	if (store_begin(fanout->store, err) < 0)
		return -1;
	if (write_plan(fanout, job, err) == 0 && commit(fanout, batch, err) == 0) {
		FAULT_POINT("fanout.planned");
		return 0;
	}
	store_rollback(fanout->store);
	return -1;
}

/* ---- what is sent: only after every transaction of the batch */

static void emit_chunk(struct batch *batch, const struct job *job, int64_t number)
{
	const struct chunk chunk = { job->post.id, job->post.from, number };
	struct record record = { .topic = TOPIC_CHUNKS, .partition = -1 };
	const struct slice reply = record_header_get(batch->items[job->item].record, HEADER_REPLY);
	struct buf value = BUF_INIT;
	char key[CHUNK_KEY];

	chunk_encode(&chunk, &value);
	chunk_key(&chunk, key);
	record.key = slice_of(key);
	record.value = (struct slice){ value.data, value.len };
	if (reply.data != NULL)
		record_header_add(&record, HEADER_REPLY, reply);
	batch_emit(batch, job->item, &record);
	buf_release(&value);
}

/* A replay of a planned post: chunks that are not done are sent again, none left is the result. */
static int emit_open_chunks(struct fanout *fanout, struct batch *batch, const struct job *job, struct err *err)
{
	int64_t *numbers = NULL;
	size_t count = 0;

	if (plan_open_chunks(fanout->store, job->post.id, &numbers, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		emit_chunk(batch, job, numbers[i]);
	if (count == 0)
		reply_post_done(batch, job->item, job->post.id);
	free(numbers);
	return 0;
}

static int emit(struct fanout *fanout, struct batch *batch, size_t j, struct err *err)
{
	const struct job *job = &fanout->jobs[j];
	const struct job *first = &fanout->jobs[job->first];

	if (first->state.chunks == 0 && !first->is_long)
		reply_post_done(batch, job->item, job->post.id);
	else if (job != first)
		return 0; /* its chunks are on the way already */
	else if (first->state.chunks > 0)
		return emit_open_chunks(fanout, batch, job, err);
	for (int64_t n = 0; n < job->planned; n++)
		emit_chunk(batch, job, n);
	return 0;
}

static int fanout_handle(void *state, struct batch *batch, struct err *err)
{
	struct fanout *fanout = state;
	size_t fresh = 0;
	int rc = -1;

	decode(fanout, batch);
	if (fanout->count > 0 && fan_out_all(fanout, batch, &fresh, err) < 0)
		goto out;
	for (size_t k = 0; k < fresh; k++) {
		struct job *job = &fanout->jobs[fanout->order[k]];

		if (job->is_long && plan(fanout, batch, job, err) < 0)
			goto out;
	}
	for (size_t j = 0; j < fanout->count; j++)
		if (emit(fanout, batch, j, err) < 0)
			goto out;
	rc = 0;
out:
	for (size_t j = 0; j < fanout->count; j++)
		post_release(&fanout->jobs[j].post);
	return rc;
}

const struct worker_ops fanout_worker = {
	.settings = fanout_settings,
	.open = fanout_open,
	.dependency = "store",
	.check = fanout_check,
	.handle = fanout_handle,
	.close = fanout_close,
};
