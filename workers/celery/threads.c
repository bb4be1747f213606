/* Tasks go into threads, and with their replies into the inbox. */
#include "workers/celery/threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/mem.h"
#include "workers/celery/child.h"

struct threads {
	const struct settings *settings;
	struct inbox *inbox;
	pthread_mutex_t lock;
	pthread_cond_t some, ended;
	struct task *first, **last;
	size_t count, running, idle;
	size_t in_hand; /* the node's thread's */
	bool is_stopping;
	pthread_t threads[];
};

static struct task *take(struct threads *t)
{
	struct task *task;

	pthread_mutex_lock(&t->lock);
	t->idle++;
	while (t->first == NULL && !t->is_stopping)
		pthread_cond_wait(&t->some, &t->lock);
	t->idle--;
	task = t->first;
	if (task != NULL) {
		t->first = task->wait_next;
		if (t->first == NULL)
			t->last = &t->first;
	}
	pthread_mutex_unlock(&t->lock);
	return task;
}

static void handle(const struct threads *t, struct task *task)
{
	const struct request *request = task->request;
	const struct job_call call = {
		.task = request->task,
		.id = request->id,
		.retries = request->retries,
		.args = request->args,
		.kwargs = request->kwargs,
		.settings = t->settings,
		.entry = task->entry,
		.soft_limit_ms = task->soft_ms,
		.deadline_mono_ms = task->soft_ms > 0 ? clock_mono_ms() + task->soft_ms : 0,
	};

	child_handle(&call, &task->reply);
}

static void *run(void *arg)
{
	struct threads *t = arg;
	struct task *task;

	while ((task = take(t)) != NULL) {
		const int64_t began_us = clock_mono_us();

		handle(t, task);
		task->handler_us = clock_mono_us() - began_us;
		inbox_add(t->inbox, task, NOTICE_RAN);
	}
	pthread_mutex_lock(&t->lock);
	t->running--;
	pthread_cond_signal(&t->ended);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

struct threads *threads_open(const struct settings *settings, size_t count, struct inbox *inbox)
{
	struct threads *t = mem_zalloc(sizeof(*t) + count * sizeof(t->threads[0]));

	t->settings = settings;
	t->inbox = inbox;
	t->count = t->running = count;
	t->last = &t->first;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->some, NULL);
	cond_init(&t->ended);
	for (size_t i = 0; i < count; i++)
		if (pthread_create(&t->threads[i], NULL, run, t) != 0)
			abort();
	return t;
}

void threads_start(struct threads *t, struct task *task)
{
	bool is_wanted;

	task->wait_next = NULL;
	t->in_hand++;
	pthread_mutex_lock(&t->lock);
	*t->last = task;
	t->last = &task->wait_next;
	is_wanted = t->idle > 0;
	pthread_mutex_unlock(&t->lock);
	if (is_wanted)
		pthread_cond_signal(&t->some);
}

struct task *threads_take_back(struct threads *t)
{
	struct task *first;

	pthread_mutex_lock(&t->lock);
	first = t->first;
	t->first = NULL;
	t->last = &t->first;
	pthread_mutex_unlock(&t->lock);
	for (struct task *task = first; task != NULL; task = task->wait_next)
		t->in_hand--;
	return first;
}

size_t threads_in_hand(const struct threads *t)
{
	return t->in_hand;
}

void threads_taken(struct threads *t, size_t count)
{
	t->in_hand -= count;
}

size_t threads_count(const struct threads *t)
{
	return t->count;
}

bool threads_close(struct threads *t, int64_t wait_ms)
{
	const int64_t until = clock_mono_ms() + wait_ms;
	const struct timespec at = cond_until(until);
	bool is_over;

	if (t == NULL)
		return true;
	pthread_mutex_lock(&t->lock);
	t->is_stopping = true;
	pthread_cond_broadcast(&t->some);
	while (t->running > 0 && pthread_cond_timedwait(&t->ended, &t->lock, &at) != ETIMEDOUT)
		continue;
	is_over = t->running == 0;
	pthread_mutex_unlock(&t->lock);
	if (!is_over)
		return false;
	for (size_t i = 0; i < t->count; i++)
		pthread_join(t->threads[i], NULL);
	pthread_cond_destroy(&t->some);
	pthread_cond_destroy(&t->ended);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return true;
}
