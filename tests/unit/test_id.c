/* id: ids rise, carry time and gateway, and stop where the lease or the clock says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/mem.h"

#define HOUR INT64_C(3600000)

static struct id_source leased(int gateway, int64_t from_ms, int64_t until_ms)
{
	struct id_source source;

	id_source_init(&source);
	id_source_grant(&source, gateway, from_ms, until_ms);
	return source;
}

static void refused(struct id_source *source, const char *why)
{
	struct err err = ERR_INIT;
	int64_t id = 42;

	assert_int_equal(-1, id_next(source, &id, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, err.message);
	assert_int_equal(42, id);
}

static int64_t next_of(struct id_source *source)
{
	struct err err = ERR_INIT;
	int64_t id = 0;

	if (id_next(source, &id, &err) < 0)
		fail_msg("%s", err.message);
	return id;
}

static void nothing_before_a_grant(void **state)
{
	struct id_source source;

	(void)state;
	id_source_init(&source);
	refused(&source, "no gateway number");
}

static void ids_carry_time_and_gateway(void **state)
{
	int64_t now = clock_wall_ms();
	struct id_source source = leased(63, 0, now + HOUR);
	int64_t id = next_of(&source);

	(void)state;
	assert_int_equal(63, id_gateway(id));
	assert_true(id_time_ms(id) >= now && id_time_ms(id) <= clock_wall_ms());
	assert_true(id > 0 && id < INT64_C(1) << 53);
}

static void ids_rise_through_full_milliseconds(void **state)
{
	struct id_source source = leased(5, 0, clock_wall_ms() + HOUR);
	int64_t last = 0;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		int64_t id = next_of(&source);

		assert_true(id > last);
		assert_int_equal(5, id_gateway(id));
		last = id;
	}
}

static void a_new_holder_starts_after_the_old_ones_ids(void **state)
{
	int64_t from = clock_wall_ms() + 60000;
	struct id_source source = leased(1, from, from + HOUR);

	(void)state;
	assert_true(id_time_ms(next_of(&source)) == from);
	id_source_grant(&source, 1, from - 30000, from + HOUR); /* renewed: never back */
	assert_true(id_time_ms(next_of(&source)) == from);
}

static void no_id_at_or_past_the_leases_end(void **state)
{
	int64_t now = clock_wall_ms();
	struct id_source source = leased(1, now + 5000, now + 5001); /* one millisecond: 128 ids */
	int64_t last = 0;

	(void)state;
	for (int i = 0; i < 128; i++)
		last = next_of(&source);
	assert_true(id_time_ms(last) == now + 5000);
	refused(&source, "lease");
	id_source_grant(&source, 1, 0, now + HOUR);
	assert_true(next_of(&source) > last);
	source = leased(1, 0, now - 10);
	refused(&source, "lease");
}

static void a_clock_that_jumped_gives_no_ids(void **state)
{
	int64_t now = clock_wall_ms();
	struct id_source behind = leased(1, now + ID_JUMP_MS + 10000, now + 10 * HOUR); /* the clock stepped back since */
	struct id_source ahead = leased(1, 0, now - ID_JUMP_MS - 10000);

	(void)state;
	refused(&behind, "clock jumped");
	refused(&ahead, "clock jumped");
}

#define THREADS 4
#define EACH 20000

struct taker {
	pthread_t thread;
	struct id_source *source;
	int64_t *ids;
};

static void *take(void *arg)
{
	struct taker *taker = arg;
	struct err err = ERR_INIT;

	for (int i = 0; i < EACH; i++) {
		if (id_next(taker->source, &taker->ids[i], &err) < 0)
			taker->ids[i] = 0;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void threads_never_share_an_id(void **state)
{
	struct id_source source = leased(9, 0, clock_wall_ms() + HOUR);
	int64_t *ids = mem_array((size_t)THREADS * EACH, sizeof(*ids));
	struct taker takers[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		takers[i] = (struct taker){ .source = &source, .ids = ids + (ptrdiff_t)i * EACH };
		assert_int_equal(0, pthread_create(&takers[i].thread, NULL, take, &takers[i]));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(takers[i].thread, NULL);
	qsort(ids, (size_t)THREADS * EACH, sizeof(*ids), compare);
	assert_true(ids[0] > 0);
	for (int i = 1; i < THREADS * EACH; i++)
		assert_true(ids[i - 1] < ids[i]);
	free(ids);
}

static void a_closed_source_says_where_the_next_may_start(void **state)
{
	struct id_source source;
	struct err err = ERR_INIT;
	int64_t id, free_ms;

	(void)state;
	id_source_init(&source);
	id_source_grant(&source, 3, 0, clock_wall_ms() + 60000);
	assert_int_equal(0, id_next(&source, &id, &err));
	free_ms = id_source_close(&source);
	assert_int_equal(id_time_ms(id) + 1, free_ms);
	assert_int_equal(-1, id_next(&source, &id, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
}

static bool ends_in_five(int64_t id, void *asked)
{
	++*(int *)asked;
	return id % 8 == 5;
}

static bool never(int64_t id, void *asked)
{
	(void)id;
	++*(int *)asked;
	return false;
}

static int64_t next_that(struct id_source *source, id_fits_fn *fits, int *asked)
{
	struct err err = ERR_INIT;
	int64_t id = 0;

	if (id_next_that(source, fits, asked, &id, &err) < 0)
		fail_msg("%s", err.message);
	return id;
}

static void ids_that_fit_are_taken(void **state)
{
	struct id_source source = leased(5, 0, clock_wall_ms() + HOUR);
	int64_t last = 0;
	int asked = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		int64_t id = next_that(&source, ends_in_five, &asked);

		assert_true(id > last && id % 8 == 5);
		last = id;
	}
	assert_true(next_of(&source) > last);
}

/* So many are looked through, and not more; and nothing, where that would make ids run away from the clock. */
static void ids_are_given_where_none_fits(void **state)
{
	const int64_t now = clock_wall_ms();
	struct id_source source = leased(5, 0, now + HOUR);
	int asked = 0;
	int64_t first = next_that(&source, never, &asked);

	(void)state;
	assert_true(asked > 0 && asked <= 128);
	assert_true(next_that(&source, never, &asked) > first);
	source = leased(5, now + 10000, now + HOUR);
	asked = 0;
	assert_true(next_that(&source, ends_in_five, &asked) > first);
	assert_int_equal(0, asked);
}

static bool is_of_a_later_millisecond(int64_t id, void *last_ms)
{
	return id_time_ms(id) > *(int64_t *)last_ms;
}

/* What fits best may lie behind the end of the lease, where the next holder's ids begin. */
static void no_id_that_fits_is_given_past_the_lease(void **state)
{
	const int64_t until_ms = clock_wall_ms() + 10; /* if the clock is there first, no id is given either */
	struct id_source source = leased(5, until_ms - 1, until_ms);
	int64_t last_ms = until_ms - 1, id = 42;
	struct err err = ERR_INIT;

	(void)state;
	id_next(&source, &(int64_t){ 0 }, &err); /* so that the 128 that are looked through reach beyond this millisecond */
	assert_int_equal(-1, id_next_that(&source, is_of_a_later_millisecond, &last_ms, &id, &err));
	assert_int_equal(42, id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_before_a_grant),
		cmocka_unit_test(ids_carry_time_and_gateway),
		cmocka_unit_test(ids_rise_through_full_milliseconds),
		cmocka_unit_test(ids_that_fit_are_taken),
		cmocka_unit_test(ids_are_given_where_none_fits),
		cmocka_unit_test(no_id_that_fits_is_given_past_the_lease),
		cmocka_unit_test(a_new_holder_starts_after_the_old_ones_ids),
		cmocka_unit_test(no_id_at_or_past_the_leases_end),
		cmocka_unit_test(a_clock_that_jumped_gives_no_ids),
		cmocka_unit_test(threads_never_share_an_id),
		cmocka_unit_test(a_closed_source_says_where_the_next_may_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
