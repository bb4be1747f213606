/* A rig goes in; the reservations of keys are tried on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/store/idempotency.h"
#include "tests/unit/store_suite.h"

#define EMOJI "\xf0\x9f\x90\xb8" /* four bytes */
#define AWKWARD "'\"\\%_`;--\n\r\t\x1a" EMOJI "\xe2\x80\xae\xd7\xa9 <b>&amp;</b>"
#define FAR INT64_C(4503599627370496) /* 2^52: as large as ids get */
#define HELD_MS 600000
#define KEPT_MS 86400000
#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* As a gateway would ask: ids of its own each time. */
static struct idempotency keyed(const char *client, const char *key, const char *hash)
{
	static int64_t next = FAR;
	struct idempotency request = { .entity = ++next, .made_at_ms = clock_wall_ms() + next % 1000, .body = BUF_INIT };

	snprintf(request.client, sizeof(request.client), "%s", client);
	snprintf(request.key, sizeof(request.key), "%s", key);
	snprintf(request.hash, sizeof(request.hash), "%s", hash);
	uuid_v7(request.command);
	return request;
}

static enum reserved reserve_for(struct store *store, struct idempotency *request, int64_t hold_ms, int64_t keep_ms)
{
	enum reserved found = RESERVED_OTHER;

	assert_ok(idempotency_reserve(store, request, hold_ms, keep_ms, &found, &err));
	return found;
}

static enum reserved reserve(struct store *store, struct idempotency *request)
{
	return reserve_for(store, request, HELD_MS, KEPT_MS);
}

static void assert_same_ids(const struct idempotency *wanted, const struct idempotency *got)
{
	assert_string_equal(wanted->command, got->command);
	assert_int_equal(wanted->entity, got->entity);
	assert_int_equal(wanted->made_at_ms, got->made_at_ms);
}

static void a_key_is_reserved_once(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	struct idempotency first = keyed("participant/7", "Key-1", HASH_A), second = first;
	struct idempotency theirs = keyed("participant/8", "Key-1", HASH_A), lower = keyed("participant/7", "key-1", HASH_A);
	const struct idempotency brought = first;

	assert_int_equal(RESERVED_FIRST, reserve(store, &first));
	assert_same_ids(&brought, &first);
	assert_int_equal(RESERVED_BUSY, reserve(other, &second));
	assert_int_equal(RESERVED_FIRST, reserve(other, &theirs));
	assert_int_equal(RESERVED_FIRST, reserve(other, &lower));
	assert_int_equal(3, suite_count(store, "SELECT COUNT(*) FROM idempotency"));
	store_close(other);
}

static void an_answer_is_given_again(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	struct idempotency first = keyed("anonymous", "k", HASH_A), again = keyed("anonymous", "k", HASH_A);
	struct slice large = { mem_alloc(400000), 400000 };

	memset((char *)large.data, 'x', large.len);
	memcpy((char *)large.data, AWKWARD, sizeof(AWKWARD) - 1);
	assert_int_equal(RESERVED_FIRST, reserve(store, &first));
	assert_ok(idempotency_answer(store, &first, 200, large, &err));
	assert_ok(idempotency_answer(store, &first, 202, slice_of("the second word"), &err));
	assert_ok(idempotency_let_go(store, &first, &err));
	assert_ok(idempotency_forget(store, &first, &err));
	assert_int_equal(RESERVED_ANSWERED, reserve(other, &again));
	assert_same_ids(&first, &again);
	assert_int_equal(200, again.status);
	assert_int_equal(large.len, again.body.len);
	assert_memory_equal(large.data, again.body.data, large.len);
	buf_release(&again.body);
	free((char *)large.data);
	store_close(other);
}

static void a_key_of_another_request_is_refused(void **state)
{
	struct store *store = suite_store(state);
	struct idempotency first = keyed("anonymous", "k", HASH_A), other = keyed("anonymous", "k", HASH_B);

	assert_int_equal(RESERVED_FIRST, reserve(store, &first));
	assert_int_equal(RESERVED_OTHER, reserve(store, &other));
	assert_ok(idempotency_answer(store, &first, 200, slice_of("{}"), &err));
	assert_int_equal(RESERVED_OTHER, reserve(store, &other));
	assert_int_equal(0, other.body.len);
}

static void what_was_let_go_is_done_again_under_the_same_ids(void **state)
{
	struct store *store = suite_store(state);
	struct idempotency first = keyed("anonymous", "k", HASH_A), second = keyed("anonymous", "k", HASH_A);
	struct idempotency third = keyed("anonymous", "k", HASH_A);

	assert_int_equal(RESERVED_FIRST, reserve(store, &first));
	assert_ok(idempotency_let_go(store, &first, &err));
	assert_int_equal(RESERVED_AGAIN, reserve(store, &second));
	assert_same_ids(&first, &second);
	/* The first comes back from a long sleep: the row is the second's. */
	assert_ok(idempotency_forget(store, &first, &err));
	assert_ok(idempotency_let_go(store, &first, &err));
	assert_int_equal(RESERVED_BUSY, reserve(store, &third));
	/* But what it knows is true for all. */
	assert_ok(idempotency_answer(store, &first, 200, slice_of("{\"id\":1}"), &err));
	assert_ok(idempotency_answer(store, &second, 202, slice_of("{}"), &err));
	assert_int_equal(RESERVED_ANSWERED, reserve(store, &third));
	assert_int_equal(200, third.status);
	assert_string_equal("{\"id\":1}", third.body.data);
	buf_release(&third.body);
}

static void what_was_forgotten_never_was(void **state)
{
	struct store *store = suite_store(state);
	struct idempotency first = keyed("anonymous", "k", HASH_A), other = keyed("anonymous", "k", HASH_B);
	const struct idempotency brought = other;

	assert_int_equal(RESERVED_FIRST, reserve(store, &first));
	assert_ok(idempotency_forget(store, &first, &err));
	assert_int_equal(RESERVED_FIRST, reserve(store, &other));
	assert_same_ids(&brought, &other);
}

struct taker {
	pthread_t thread;
	struct idempotency request;
	enum reserved found;
};

static void *take(void *arg)
{
	struct taker *taker = arg;
	struct store *store = suite_second();

	taker->found = reserve(store, &taker->request);
	store_close(store);
	return NULL;
}

/* Eight at once: of a key that nobody has, then of one whose attempt is over its deadline. */
static void one_of_many_takes_over(void **state)
{
	enum { TAKERS = 8 };
	static const enum reserved wanted[] = { RESERVED_FIRST, RESERVED_AGAIN };
	struct store *store = suite_store(state);
	struct taker takers[TAKERS];

	for (int round = 0; round < 2; round++) {
		int went_on = 0;

		for (int i = 0; i < TAKERS; i++) {
			takers[i].request = keyed("anonymous", "k", HASH_A);
			assert_int_equal(0, pthread_create(&takers[i].thread, NULL, take, &takers[i]));
		}
		for (int i = 0; i < TAKERS; i++) {
			pthread_join(takers[i].thread, NULL);
			went_on += takers[i].found == wanted[round];
			assert_true(takers[i].found == wanted[round] || takers[i].found == RESERVED_BUSY);
		}
		assert_int_equal(1, went_on);
		assert_ok(store_run(store, "UPDATE idempotency SET deadline = deadline - 600001", NULL, 0, NULL, &err));
	}
}

static void an_expired_key_is_new(void **state)
{
	struct store *store = suite_store(state);
	struct idempotency first = keyed("anonymous", "k", HASH_A), other = keyed("anonymous", "k", HASH_B);
	const struct idempotency brought = other;
	int64_t deleted = -1;

	assert_int_equal(RESERVED_FIRST, reserve_for(store, &first, HELD_MS, 1));
	assert_int_equal(RESERVED_OTHER, reserve(store, &other)); /* no attempt expires under way */
	assert_ok(idempotency_prune(store, 10, &deleted, &err));
	assert_int_equal(0, deleted);
	assert_ok(idempotency_answer(store, &first, 200, slice_of("{}"), &err));
	assert_ok(store_run(store, "UPDATE idempotency SET expires = expires - 600001", NULL, 0, NULL, &err));
	assert_int_equal(RESERVED_FIRST, reserve(store, &other));
	assert_same_ids(&brought, &other);
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM idempotency WHERE outcome IS NULL AND body IS NULL"));
}

static void expired_keys_are_pruned(void **state)
{
	struct store *store = suite_store(state);
	int64_t deleted = -1;
	char key[16];

	for (int i = 0; i < 5; i++) {
		struct idempotency request;

		snprintf(key, sizeof(key), "k%d", i);
		request = keyed("anonymous", key, HASH_A);
		assert_int_equal(RESERVED_FIRST, reserve_for(store, &request, 1, KEPT_MS + 1000 * i));
	}
	assert_ok(idempotency_prune(store, 10, &deleted, &err));
	assert_int_equal(0, deleted);
	assert_ok(store_run(store, "UPDATE idempotency SET expires = expires - 86500000 WHERE `key` <> 'k4'", NULL, 0, NULL, &err));
	assert_ok(idempotency_prune(store, 3, &deleted, &err));
	assert_int_equal(3, deleted);
	assert_int_equal(2, suite_count(store, "SELECT COUNT(*) FROM idempotency WHERE `key` IN ('k3', 'k4')"));
	assert_ok(idempotency_prune(store, 3, &deleted, &err));
	assert_int_equal(1, deleted);
	assert_ok(idempotency_prune(store, 3, &deleted, &err));
	assert_int_equal(0, deleted);
}

int idempotency_suite_run(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(a_key_is_reserved_once),
		T(an_answer_is_given_again),
		T(a_key_of_another_request_is_refused),
		T(what_was_let_go_is_done_again_under_the_same_ids),
		T(what_was_forgotten_never_was),
		T(one_of_many_takes_over),
		T(an_expired_key_is_new),
		T(expired_keys_are_pruned),
	};
#undef T

	return cmocka_run_group_tests_name("idempotency", tests, NULL, NULL);
}
