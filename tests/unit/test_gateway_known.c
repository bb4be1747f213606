/* known: it remembers what was added, never what was not, and stays as small as it was made, from many threads too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>

#include "api-gateway/known.h"

static void knows_what_was_added(void **state)
{
	struct known *known = known_new(1024);

	(void)state;
	assert_false(known_has(known, 7));
	known_add(known, 7);
	known_add(known, 7);
	assert_true(known_has(known, 7));
	assert_false(known_has(known, 8));
	assert_int_equal(1, known_count(known));
	known_free(known);
}

static void keeps_nearly_all_that_it_has_room_for(void **state)
{
	struct known *known = known_new(4096);
	int kept = 0;

	(void)state;
	for (int64_t id = 1; id <= 2048; id++)
		known_add(known, id << 13);
	for (int64_t id = 1; id <= 2048; id++)
		kept += known_has(known, id << 13);
	assert_true(kept > 2000);
	known_free(known);
}

static void forgets_when_it_is_full(void **state)
{
	struct known *known = known_new(64);
	int kept = 0;

	(void)state;
	for (int64_t id = 1; id <= 10000; id++) {
		known_add(known, id);
		assert_true(known_has(known, id)); /* the newest is always there */
	}
	for (int64_t id = 1; id <= 10000; id++)
		kept += known_has(known, id);
	assert_int_equal(64, kept);
	assert_int_equal(64, known_count(known));
	for (int64_t id = 10001; id <= 20000; id++)
		assert_false(known_has(known, id));
	known_free(known);
}

struct part {
	struct known *known;
	int64_t first;
};

#define PART 500

static void *add_part(void *arg)
{
	const struct part *part = arg;

	for (int round = 0; round < 20; round++)
		for (int64_t id = part->first; id < part->first + PART; id++)
			known_add(part->known, id);
	return NULL;
}

static void many_threads_add_at_once(void **state)
{
	struct known *known = known_new(1 << 16);
	struct part parts[4];
	pthread_t threads[4];
	int kept = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		parts[i] = (struct part){ known, 1 + i * PART / 2 }; /* halves overlap */
		assert_int_equal(0, pthread_create(&threads[i], NULL, add_part, &parts[i]));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int64_t id = 1; id <= PART * 5 / 2; id++)
		kept += known_has(known, id);
	assert_int_equal(PART * 5 / 2, kept);
	assert_false(known_has(known, PART * 5 / 2 + 1));
	known_free(known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_what_was_added),
		cmocka_unit_test(keeps_nearly_all_that_it_has_room_for),
		cmocka_unit_test(forgets_when_it_is_full),
		cmocka_unit_test(many_threads_add_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
