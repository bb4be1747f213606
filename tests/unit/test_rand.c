/* rand: no bytes come twice, in a thread, in another, or in a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/rand.h"

enum { DRAWS = 1000, SIZE = 16 };

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, SIZE);
}

static void nothing_comes_twice(void **state)
{
	static unsigned char draws[DRAWS][SIZE];

	(void)state;
	for (size_t i = 0; i < DRAWS; i++)
		rand_bytes(draws[i], SIZE);
	qsort(draws, DRAWS, SIZE, compare);
	for (size_t i = 1; i < DRAWS; i++)
		assert_memory_not_equal(draws[i - 1], draws[i], SIZE);
}

static void a_child_draws_its_own(void **state)
{
	unsigned char here[SIZE], there[SIZE];
	int ends[2], status;
	pid_t child;

	(void)state;
	rand_bytes(here, sizeof(here)); /* the pool is full */
	assert_int_equal(0, pipe(ends));
	child = fork();
	if (child == 0) {
		rand_bytes(there, sizeof(there));
		_exit(write(ends[1], there, sizeof(there)) != sizeof(there));
	}
	assert_int_equal(child, waitpid(child, &status, 0));
	assert_int_equal(0, status);
	assert_int_equal(sizeof(there), read(ends[0], there, sizeof(there)));
	rand_bytes(here, sizeof(here));
	assert_memory_not_equal(here, there, SIZE);
	close(ends[0]);
	close(ends[1]);
}

static void *draw(void *out)
{
	rand_bytes(out, SIZE);
	return NULL;
}

static void a_thread_draws_its_own(void **state)
{
	unsigned char here[SIZE], there[SIZE];
	pthread_t thread;

	(void)state;
	assert_int_equal(0, pthread_create(&thread, NULL, draw, there));
	assert_int_equal(0, pthread_join(thread, NULL));
	rand_bytes(here, sizeof(here));
	assert_memory_not_equal(here, there, SIZE);
}

/* More than the pool holds, and every byte of it drawn. */
static void large_amounts(void **state)
{
	unsigned char bytes[4096] = { 0 };
	size_t zeros = 0;

	(void)state;
	rand_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		zeros += bytes[i] == 0;
	assert_in_range(zeros, 0, 80); /* 16 on average */
}

static void below_is_below(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_in_range(rand_below(3), 0, 2);
	assert_int_equal(0, rand_below(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_comes_twice),
		cmocka_unit_test(a_child_draws_its_own),
		cmocka_unit_test(a_thread_draws_its_own),
		cmocka_unit_test(large_amounts),
		cmocka_unit_test(below_is_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
