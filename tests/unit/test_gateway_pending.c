/* pending: every waiter comes out exactly once, by whichever comes first: report, result, or time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "api-gateway/pending.h"
#include "common/base/clock.h"

#define FAR INT64_C(1000000000000)

static struct waiter *last_expired;
static bool last_was_stored;
static atomic_int expired_count;
static sem_t expired_one;

static void note_expired(struct waiter *waiter, bool is_stored)
{
	last_expired = waiter;
	last_was_stored = is_stored;
	atomic_fetch_add(&expired_count, 1);
	sem_post(&expired_one);
}

static int setup(void **state)
{
	last_expired = NULL;
	atomic_store(&expired_count, 0);
	sem_init(&expired_one, 0, 0);
	*state = pending_new(note_expired);
	return 0;
}

static int teardown(void **state)
{
	pending_close(*state);
	pending_free(*state);
	sem_destroy(&expired_one);
	return 0;
}

static struct waiter waiter_for(int64_t report_by_ms, int64_t answer_by_ms)
{
	struct waiter waiter = { .report_by_ms = report_by_ms, .answer_by_ms = answer_by_ms };

	uuid_v7(waiter.command);
	return waiter;
}

static void one_taker_wins(void **state)
{
	struct waiter waiter = waiter_for(FAR, FAR);

	assert_true(pending_add(*state, &waiter));
	assert_int_equal(1, pending_count(*state));
	assert_true(pending_take(*state, &waiter));
	assert_false(pending_take(*state, &waiter));
	assert_null(pending_find(*state, slice_of(waiter.command)));
	assert_int_equal(0, pending_count(*state));
}

static void a_result_finds_its_waiter_once(void **state)
{
	struct waiter a = waiter_for(FAR, FAR), b = waiter_for(FAR, FAR);

	pending_add(*state, &a);
	pending_add(*state, &b);
	assert_null(pending_find(*state, slice_of("018cc251-f400-7000-8000-000000000000")));
	assert_null(pending_find(*state, slice_of("")));
	assert_ptr_equal(&a, pending_find(*state, slice_of(a.command)));
	assert_null(pending_find(*state, slice_of(a.command))); /* the same result again */
	assert_false(pending_take(*state, &a));
	assert_true(pending_take(*state, &b));
}

static void without_a_report_the_first_deadline_counts(void **state)
{
	struct waiter waiter = waiter_for(FAR, FAR + 50);

	pending_add(*state, &waiter);
	pending_sweep(*state, FAR - 1);
	assert_null(last_expired);
	pending_sweep(*state, FAR);
	assert_ptr_equal(&waiter, last_expired);
	assert_false(last_was_stored);
	assert_false(pending_take(*state, &waiter));
}

/* Its owner may be answering, or gone in all but memory. */
static void a_report_that_comes_after_the_taking_changes_nothing(void **state)
{
	struct waiter waiter = waiter_for(FAR, FAR + 50);

	pending_add(*state, &waiter);
	pending_sweep(*state, FAR);
	assert_ptr_equal(&waiter, last_expired);
	pending_stored(*state, &waiter);
	assert_false(waiter.is_stored);
}

static void once_stored_the_second_deadline_counts(void **state)
{
	struct waiter waiter = waiter_for(FAR, FAR + 50);

	pending_add(*state, &waiter);
	pending_stored(*state, &waiter);
	pending_sweep(*state, FAR + 49);
	assert_null(last_expired);
	pending_sweep(*state, FAR + 50);
	assert_ptr_equal(&waiter, last_expired);
	assert_true(last_was_stored);
}

static void the_sweeper_comes_by_itself(void **state)
{
	struct waiter waiter = waiter_for(clock_mono_ms() + 1, FAR);
	struct timespec until;

	pending_add(*state, &waiter);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	assert_int_equal(0, sem_timedwait(&expired_one, &until));
	assert_ptr_equal(&waiter, last_expired);
}

static void when_closed_all_expire_and_none_comes_in(void **state)
{
	struct waiter waiters[100], late = waiter_for(FAR, FAR);

	for (int i = 0; i < 100; i++) {
		waiters[i] = waiter_for(FAR, FAR);
		pending_add(*state, &waiters[i]);
	}
	pending_close(*state);
	assert_int_equal(100, atomic_load(&expired_count));
	assert_int_equal(0, pending_count(*state));
	assert_false(pending_add(*state, &late));
}

/* Two threads race to take the same waiters while time takes some, too. */
#define RACED 20000

struct race {
	struct pending *pending;
	struct waiter *waiters;
	int taken;
	int by_command;
};

static void *race_to_take(void *arg)
{
	struct race *race = arg;

	for (int i = 0; i < RACED; i++) {
		struct waiter *waiter = &race->waiters[i];

		if (race->by_command)
			race->taken += pending_find(race->pending, slice_of(waiter->command)) != NULL;
		else
			race->taken += pending_take(race->pending, waiter);
	}
	return NULL;
}

static void nobody_is_taken_twice(void **state)
{
	static struct waiter waiters[RACED];
	struct race races[2] = { { *state, waiters, 0, 0 }, { *state, waiters, 0, 1 } };
	pthread_t threads[2];

	for (int i = 0; i < RACED; i++) {
		waiters[i] = waiter_for(i % 10 == 0 ? FAR - 1 : FAR, FAR);
		assert_true(pending_add(*state, &waiters[i]));
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, race_to_take, &races[i]));
	pending_sweep(*state, FAR - 1);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(RACED, races[0].taken + races[1].taken + atomic_load(&expired_count));
	assert_int_equal(0, pending_count(*state));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_taker_wins),
		TEST(a_result_finds_its_waiter_once),
		TEST(without_a_report_the_first_deadline_counts),
		TEST(once_stored_the_second_deadline_counts),
		TEST(a_report_that_comes_after_the_taking_changes_nothing),
		TEST(the_sweeper_comes_by_itself),
		TEST(when_closed_all_expire_and_none_comes_in),
		TEST(nobody_is_taken_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
