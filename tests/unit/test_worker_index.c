/* Posts through the worker index, with a search engine made of this file: what it says about a document is what comes of its
 * record. The real engine's adapter has a test of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/model/post.h"
#include "common/queue/topics.h"
#include "common/store/search.h"
#include "workers/engine/batch.h"
#include "workers/worker.h"

extern const struct worker_ops index_worker;

/* ---- a search engine that finds even ids busy and multiples of 5 wrong, when told to */

static struct {
	bool is_choosy;
	bool is_unwell; /* by its own word */
	int fail_at; /* the call that fails; -1: none */
	int calls;
	size_t documents;
	size_t largest;
	int64_t last_sender;
} engine;

int search_open(const struct settings *settings, struct search **out, struct err *err)
{
	(void)settings;
	(void)err;
	*out = (struct search *)&engine;
	return 0;
}

void search_close(struct search *search)
{
	(void)search;
}

int search_ping(struct search *search, struct err *err)
{
	(void)search;
	return engine.is_unwell ? err_set(err, ERR_UNAVAILABLE, "all shards failed") : 0;
}

int search_add(struct search *search, struct search_document *documents, size_t count, struct err *err)
{
	(void)search;
	if (engine.calls++ == engine.fail_at)
		return err_set(err, ERR_UNAVAILABLE, "away");
	for (size_t i = 0; i < count; i++) {
		documents[i].result = SEARCH_STORED;
		if (engine.is_choosy && documents[i].id % 5 == 0)
			documents[i].result = SEARCH_WRONG;
		else if (engine.is_choosy && documents[i].id % 2 == 0)
			documents[i].result = SEARCH_BUSY;
		snprintf(documents[i].why, sizeof(documents[i].why), "because of %lld", (long long)documents[i].id);
		engine.last_sender = documents[i].sender;
	}
	engine.documents += count;
	engine.largest = count > engine.largest ? count : engine.largest;
	return 0;
}

/* ---- a batch */

#define ROOM 20
static struct record records[ROOM];
static struct item items[ROOM];
static struct buf values[ROOM];
static struct outbox outbox;
static struct batch batch;
static void *worker;

static int setup(void **state)
{
	struct settings settings = { .index = { 1, ROOM, 0 } };
	struct err err = ERR_INIT;

	(void)state;
	memset(&engine, 0, sizeof(engine));
	engine.fail_at = -1;
	batch = (struct batch){ items, 0, &outbox, NULL };
	return index_worker.open(&settings, &worker, &err);
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < batch.count; i++)
		buf_release(&values[i]);
	index_worker.close(worker);
	outbox_release(&outbox);
	return 0;
}

static void add(void)
{
	const size_t i = batch.count++;

	records[i] = (struct record){ .topic = TOPIC_POSTS, .value = { values[i].data, values[i].len } };
	items[i] = (struct item){ .record = &records[i] };
}

static void add_post(int64_t id, struct slice story)
{
	const struct post post = { .id = id, .from = 70 + id, .posted_at_ms = 1767225600000, .subject = slice_of("s"), .story = story };

	values[batch.count] = (struct buf)BUF_INIT;
	post_encode(&post, &values[batch.count]);
	add();
}

static void a_batch_is_one_request(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	for (int64_t id = 1; id <= ROOM; id++)
		add_post(id, slice_of("story"));
	assert_int_equal(0, index_worker.handle(worker, &batch, &err));
	assert_int_equal(1, engine.calls);
	assert_int_equal(ROOM, engine.documents);
	assert_int_equal(70 + ROOM, engine.last_sender);
	for (size_t i = 0; i < ROOM; i++)
		assert_int_equal(DONE, items[i].outcome);
}

static void each_document_has_its_own_outcome(void **state)
{
	static const enum outcome expected[] = { DONE, RETRY, REJECT, DONE, RETRY, REJECT };
	struct err err = ERR_INIT;

	(void)state;
	engine.is_choosy = true;
	add_post(1, slice_of("story"));
	add_post(2, slice_of("story"));
	values[batch.count] = (struct buf)BUF_INIT;
	buf_add_str(&values[batch.count], "{\"v\":1}");
	add();
	add_post(3, slice_of("story"));
	add_post(4, slice_of("story"));
	add_post(5, slice_of("story"));
	assert_int_equal(0, index_worker.handle(worker, &batch, &err));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(expected[i], items[i].outcome);
	assert_string_equal("because of 4", items[4].why.message);
	assert_string_equal("because of 5", items[5].why.message);
}

/* Nobody takes any: the engine is down, and no record is put off for that. Few that nobody takes for long are another matter. */
static void an_engine_that_takes_nothing_is_down(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	engine.is_choosy = true;
	add_post(2, slice_of("story"));
	add_post(4, slice_of("story"));
	add_post(5, slice_of("story")); /* wrong: that says nothing of the others */
	for (unsigned tries = 1; tries < 20; tries++) {
		for (size_t i = 0; i < batch.count; i++)
			items[i].tries = tries;
		assert_int_equal(-1, index_worker.handle(worker, &batch, &err));
		assert_int_equal(ERR_UNAVAILABLE, err.kind);
		assert_non_null(strstr(err.message, "because of 2"));
	}
	items[0].tries = 21; /* one is new: still the engine's trouble */
	assert_int_equal(-1, index_worker.handle(worker, &batch, &err));
	items[1].tries = 21;
	engine.is_unwell = true;
	assert_int_equal(-1, index_worker.handle(worker, &batch, &err)); /* however long it lasts */
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	engine.is_unwell = false;
	for (size_t i = 0; i < batch.count; i++)
		items[i].outcome = DONE;
	assert_int_equal(0, index_worker.handle(worker, &batch, &err));
	assert_int_equal(RETRY, items[0].outcome);
	assert_int_equal(RETRY, items[1].outcome);
	assert_int_equal(REJECT, items[2].outcome);
	for (size_t i = 0; i < batch.count; i++) {
		records[i].topic = "index.retry.5s"; /* refused before, while others were taken */
		items[i].tries = 2;
		items[i].outcome = DONE;
	}
	assert_int_equal(0, index_worker.handle(worker, &batch, &err));
	assert_int_equal(RETRY, items[0].outcome);
	engine.is_unwell = true;
	assert_int_equal(-1, index_worker.handle(worker, &batch, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
}

static void long_stories_are_several_requests_and_one_that_fails_fails_the_batch(void **state)
{
	const size_t len = 65000;
	char *story = mem_alloc(len * 4);
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < len; i++)
		memcpy(story + 4 * i, "\xf0\x9f\x98\x80", 4);
	for (int64_t id = 1; id <= ROOM; id++)
		add_post(id, (struct slice){ story, len * 4 });
	assert_int_equal(0, index_worker.handle(worker, &batch, &err));
	assert_int_equal(2, engine.calls); /* 5.2 MB */
	assert_int_equal(ROOM, engine.documents);
	engine.calls = 0;
	engine.fail_at = 1;
	assert_int_equal(-1, index_worker.handle(worker, &batch, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	free(story);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_batch_is_one_request, setup, teardown),
		cmocka_unit_test_setup_teardown(each_document_has_its_own_outcome, setup, teardown),
		cmocka_unit_test_setup_teardown(an_engine_that_takes_nothing_is_down, setup, teardown),
		cmocka_unit_test_setup_teardown(long_stories_are_several_requests_and_one_that_fails_fails_the_batch, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
