/* The pool of child processes, without a broker: jobs, limits, deaths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "workers/celery/children.h"
#include "workers/celery/nursery.h"

#define DEADLINE_MS 30000

static struct settings settings;
static struct children *children;
static struct task *ran[16];
static size_t ran_count;

static void on_ran(void *arg, struct task *task)
{
	(void)arg;
	ran[ran_count++] = task;
}

static int open_pool(void **state)
{
	struct err err = ERR_INIT;
	int nursery;

	(void)state;
	ran_count = 0;
	if (settings_load(&settings, NULL, &err) < 0 || nursery_start(&settings, &nursery, &err) < 0)
		return -1;
	children = children_open(&settings, nursery, 2, on_ran, NULL);
	return 0;
}

/* One whose nursery has no descriptor left for a child's socket. */
static int open_poor_pool(void **state)
{
	const int one = open("/dev/null", O_RDONLY | O_CLOEXEC), two = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct rlimit before, poor;
	int rc;

	if (one < 0 || two < 0 || getrlimit(RLIMIT_NOFILE, &before) < 0)
		return -1;
	close(one);
	close(two);
	poor = before;
	poor.rlim_cur = (rlim_t)two + 1; /* our end of its socket and its own; what it closes of those is its signals' */
	if (setrlimit(RLIMIT_NOFILE, &poor) < 0)
		return -1;
	rc = open_pool(state);
	setrlimit(RLIMIT_NOFILE, &before);
	return rc;
}

static int close_pool(void **state)
{
	(void)state;
	children_close(children);
	settings_release(&settings);
	return 0;
}

static void turn(void)
{
	struct pollfd fds[CHILDREN_MAX + 1];
	const size_t count = children_polls(children, fds);

	poll(fds, (nfds_t)count, 20);
	assert_int_equal(0, children_look(children, fds, count));
	children_tick(children, clock_mono_ms());
}

static void until_ran(size_t count)
{
	const int64_t until = clock_mono_ms() + DEADLINE_MS;

	while (ran_count < count && clock_mono_ms() < until)
		turn();
	assert_int_equal(count, ran_count);
}

static void until_room(void)
{
	const int64_t until = clock_mono_ms() + DEADLINE_MS;

	while (!children_have_room(children) && clock_mono_ms() < until)
		turn();
	assert_true(children_have_room(children));
}

static struct task *start(const char *name, const char *body, int64_t soft_ms, int64_t hard_ms)
{
	struct request *request = calloc(1, sizeof(*request));
	struct task *task;

	request->texts_memory = request->stamps_memory = request->stamped_memory = request->body_memory = (struct buf)BUF_INIT;
	request->task = slice_of(name);
	request->id = slice_of("7");
	request->body = slice_of(body);
	task = task_new(request);
	until_room();
	children_start(children, task, soft_ms, hard_ms);
	return task;
}

static void a_job_has_its_result(void **state)
{
	struct task *task = start("add", "[[1,2],{},null]", 0, 0);

	(void)state;
	until_ran(1);
	assert_ptr_equal(task, ran[0]);
	assert_int_equal(JOB_DONE, task->reply.outcome);
	assert_string_equal("3", task->reply.result.data);
	assert_true(task->reply.memory_kib > 0 && task->worker_pid > 0);
	task_free(task);
}

static void failures_and_retries_come_back_whole(void **state)
{
	struct task *bad = start("fail", "[[\"boom\"],{},null]", 0, 0), *odd = start("flaky", "[[2],{},null]", 0, 0);

	(void)state;
	until_ran(2);
	assert_int_equal(JOB_FAILED, bad->reply.outcome);
	assert_string_equal("ValueError", bad->reply.type.data);
	assert_string_equal("[\"boom\"]", bad->reply.arguments.data);
	assert_int_equal(JOB_AGAIN, odd->reply.outcome);
	task_free(bad);
	task_free(odd);
}

static void a_death_is_the_jobs_alone(void **state)
{
	struct task *lost = start("crash", "[[],{},null]", 0, 0), *other = start("sleep", "[[0.2],{},null]", 0, 0);

	(void)state;
	until_ran(2);
	assert_int_equal(JOB_LOST, lost->reply.outcome);
	assert_string_equal("WorkerLostError", lost->reply.type.data);
	assert_non_null(strstr(lost->reply.trace.data, "exitcode 77"));
	assert_int_equal(JOB_DONE, other->reply.outcome);
	task_free(lost);
	task_free(other);
}

static void limits_end_a_job(void **state)
{
	struct task *soft = start("sleep", "[[60],{},null]", 100, 0), *hard = start("sleep", "[[60],{},null]", 0, 100);

	(void)state;
	until_ran(2);
	assert_string_equal("SoftTimeLimitExceeded", soft->reply.type.data);
	assert_string_equal("[0.1]", soft->reply.arguments.data);
	assert_string_equal("TimeLimitExceeded", hard->reply.type.data);
	assert_true(hard->is_overdue && !soft->is_overdue);
	task_free(soft);
	task_free(hard);
}

static void a_signal_reaches_the_child_of_a_task(void **state)
{
	struct task *task = start("sleep", "[[60],{},null]", 0, 0);

	(void)state;
	assert_true(children_signal(children, task, SIGTERM));
	until_ran(1);
	assert_int_equal(JOB_LOST, task->reply.outcome);
	assert_false(children_signal(children, task, SIGTERM));
	task_free(task);
}

static void the_pool_grows_and_shrinks(void **state)
{
	const int64_t until = clock_mono_ms() + DEADLINE_MS;
	int pids[8];

	(void)state;
	children_resize(children, 4);
	while (children_pids(children, pids, 8) < 4 && clock_mono_ms() < until)
		turn();
	assert_int_equal(4, children_pids(children, pids, 8));
	children_resize(children, 1);
	while (children_pids(children, pids, 8) > 1 && clock_mono_ms() < until)
		turn();
	assert_int_equal(1, children_pids(children, pids, 8));
}

/* Two slots are asked for once a second, not again and again: so many letters tell of one round. */
static void assert_missing(int most_letters)
{
	const int64_t start = clock_mono_ms();
	struct pollfd fds[CHILDREN_MAX + 1];
	int letters = 0;

	while (clock_mono_ms() < start + 900) {
		const size_t count = children_polls(children, fds);

		assert_int_equal(1, count);
		poll(fds, 1, 20);
		letters += fds[0].revents != 0;
		assert_int_equal(0, children_look(children, fds, count));
		children_tick(children, clock_mono_ms());
		assert_false(children_have_room(children));
	}
	while (!children_are_missing(children) && clock_mono_ms() < start + DEADLINE_MS)
		turn();
	assert_true(children_are_missing(children));
	assert_false(children_have_room(children));
	assert_in_range(letters, 0, most_letters);
	assert_true(children_next_tick(children, INT64_MAX) < INT64_MAX);
}

/* They are made again: a job is done, and nobody says any more that they are missing, not even while all are made anew. */
static void assert_recovers(void)
{
	struct task *task = start("add", "[[1,2],{},null]", 0, 0);

	until_ran(1);
	assert_int_equal(JOB_DONE, task->reply.outcome);
	assert_string_equal("3", task->reply.result.data);
	task_free(task);
	children_restart(children);
	assert_false(children_have_room(children));
	assert_false(children_are_missing(children));
	until_room();
}

static void children_that_can_not_be_made(void **state)
{
	(void)state;
	assert_missing(4);
}

/* The process that makes children: the youngest of this one's own. 0: this system does not tell. */
static pid_t nursery_pid(void)
{
	char path[64];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	while (file != NULL && fscanf(file, "%d", &pid) == 1)
		continue;
	if (file != NULL)
		fclose(file);
	return pid;
}

static void a_nursery_that_recovers(void **state)
{
	const pid_t nursery = nursery_pid();
	struct rlimit enough;

	(void)state;
	if (nursery == 0)
		skip();
	assert_missing(4);
	assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &enough));
	assert_int_equal(0, prlimit(nursery, RLIMIT_NOFILE, &enough, NULL));
	assert_recovers();
}

/* This process has no descriptor left for the sockets of its children, which are there: none is handed a job that nobody would ever hear
 * of again. Each is born and dies: twice the letters. */
static void children_whose_sockets_can_not_be_received(void **state)
{
	const int free_one = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct rlimit before, poor;

	(void)state;
	assert_true(free_one > 0);
	close(free_one);
	assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &before));
	poor = before;
	poor.rlim_cur = (rlim_t)free_one;
	assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &poor));
	assert_missing(8);
	assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &before));
	assert_recovers();
}

static void large_arguments_and_results(void **state)
{
	struct buf body = BUF_INIT;
	struct task *task;

	(void)state;
	buf_add_str(&body, "[[\"");
	for (int i = 0; i < 3000000; i++)
		buf_add_char(&body, 'x');
	buf_add_str(&body, "\"],{},null]");
	task = start("echo", body.data, 0, 0);
	until_ran(1);
	assert_int_equal(3000002, task->reply.result.len);
	task_free(task);
	buf_release(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_job_has_its_result, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(failures_and_retries_come_back_whole, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(a_death_is_the_jobs_alone, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(limits_end_a_job, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(a_signal_reaches_the_child_of_a_task, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(the_pool_grows_and_shrinks, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(children_that_can_not_be_made, open_poor_pool, close_pool),
		cmocka_unit_test_setup_teardown(a_nursery_that_recovers, open_poor_pool, close_pool),
		cmocka_unit_test_setup_teardown(children_whose_sockets_can_not_be_received, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(large_arguments_and_results, open_pool, close_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
