/* The order in which jobs that were taken ahead start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "workers/celery/task.h"
#include "workers/celery/waiting.h"

#define TASKS 8

static struct request requests[TASKS];
static struct task tasks[TASKS];

/* The tasks 'a', 'b', … of these priorities. */
static void make(const int *priorities, size_t count)
{
	memset(tasks, 0, sizeof(tasks));
	for (size_t i = 0; i < count; i++) {
		requests[i].priority = priorities[i];
		tasks[i].request = &requests[i];
	}
}

static void assert_order(const char *expected, const struct waiting *w)
{
	char order[TASKS + 1] = "";
	size_t count = 0;

	for (const struct task *t = waiting_next(w, NULL); t != NULL; t = waiting_next(w, t))
		order[count++] = (char)('a' + (t - tasks));
	assert_string_equal(expected, order);
	assert_int_equal(strlen(expected), w->count);
	assert_true(count == 0 ? w->last == NULL : w->last == &tasks[order[count - 1] - 'a']);
}

static void the_highest_priority_is_first_and_equals_stay_as_they_came(void **state)
{
	static const int priorities[TASKS] = { 0, 5, REQUEST_NO_PRIORITY, 9, 5, 0, 255, 9 };
	struct waiting w = { 0 };

	(void)state;
	make(priorities, TASKS);
	for (size_t i = 0; i < TASKS; i++)
		waiting_add(&w, &tasks[i]);
	assert_order("gdhbeacf", &w);
}

static void what_is_put_back_is_before_its_equals(void **state)
{
	static const int priorities[TASKS] = { 0, 9, 0, 5, 0, 9, 0, 5 };
	struct waiting w = { 0 };

	(void)state;
	make(priorities, TASKS);
	for (size_t i = 0; i < 4; i++)
		waiting_add(&w, &tasks[i]);
	assert_order("bdac", &w);
	for (size_t i = 4; i < TASKS - 1; i++)
		tasks[i].wait_next = &tasks[i + 1];
	waiting_put_back(&w, &tasks[4]);
	assert_order("fbhdegac", &w);
	waiting_put_back(&w, NULL);
	assert_order("fbhdegac", &w);
}

static void what_has_waited_long_goes_by_age(void **state)
{
	static const int priorities[TASKS] = { 5, 0, 9, 0, REQUEST_NO_PRIORITY, 9, 255, 0 };
	static const int64_t received_us[TASKS] = { 40, 10, 50, 20, 30, 60, 70, 80 };
	struct waiting w = { 0 };

	(void)state;
	make(priorities, TASKS);
	waiting_age(&w, 100);
	for (size_t i = 0; i < TASKS; i++) {
		tasks[i].received_us = received_us[i];
		if (i < 6)
			waiting_add(&w, &tasks[i]);
	}
	waiting_age(&w, 9);
	assert_order("cfabde", &w);
	waiting_age(&w, 10);
	assert_order("bcfade", &w);
	waiting_age(&w, 40);
	assert_order("bdeacf", &w);
	waiting_add(&w, &tasks[6]); /* behind them, whatever its priority */
	waiting_add(&w, &tasks[7]);
	assert_order("bdeagcfh", &w);
	assert_ptr_equal(&tasks[1], waiting_take(&w, NULL));
	assert_ptr_equal(&tasks[3], waiting_take(&w, NULL));
	assert_order("eagcfh", &w);
	tasks[1].wait_next = &tasks[3];
	waiting_put_back(&w, &tasks[1]); /* aged once is aged for ever */
	assert_order("bdeagcfh", &w);
	waiting_age(&w, 100);
	assert_order("bdeacfgh", &w);
}

static void any_can_be_taken(void **state)
{
	static const int priorities[TASKS] = { 0, 0, 0, 0, 1 };
	struct waiting w = { 0 };

	(void)state;
	make(priorities, 5);
	for (size_t i = 0; i < 4; i++)
		waiting_add(&w, &tasks[i]);
	assert_ptr_equal(&tasks[3], waiting_take(&w, &tasks[2]));
	assert_order("abc", &w);
	assert_ptr_equal(&tasks[1], waiting_take(&w, &tasks[0]));
	assert_null(waiting_take(&w, &tasks[2]));
	waiting_add(&w, &tasks[1]);
	assert_order("acb", &w);
	assert_ptr_equal(&tasks[0], waiting_take(&w, NULL));
	assert_ptr_equal(&tasks[2], waiting_take(&w, NULL));
	assert_order("b", &w);
	assert_ptr_equal(&tasks[1], waiting_take(&w, NULL));
	assert_order("", &w);
	assert_null(waiting_take(&w, NULL));
	waiting_put_back(&w, &tasks[3]);
	waiting_add(&w, &tasks[4]);
	assert_order("ed", &w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_highest_priority_is_first_and_equals_stay_as_they_came),
		cmocka_unit_test(what_is_put_back_is_before_its_equals),
		cmocka_unit_test(what_has_waited_long_goes_by_age),
		cmocka_unit_test(any_can_be_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
