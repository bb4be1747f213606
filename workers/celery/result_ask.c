/* Tasks go in that were delivered before; they go to the inbox with what the results' table knows of them. */
#include "workers/celery/result_ask.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/jobs.h"
#include "workers/celery/task.h"

struct result_ask {
	const struct settings *settings;
	struct inbox *inbox;
	struct store *store; /* the thread's */
	struct backoff backoff;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t some;
	struct task *first, **last;
	bool is_stopping;
};

/* NULL: it is time to stop. */
static struct task *take(struct result_ask *ask)
{
	struct task *task;

	pthread_mutex_lock(&ask->lock);
	while (ask->first == NULL && !ask->is_stopping)
		pthread_cond_wait(&ask->some, &ask->lock);
	task = ask->is_stopping ? NULL : ask->first;
	if (task != NULL)
		ask->first = task->ask_next;
	if (ask->first == NULL)
		ask->last = &ask->first;
	pthread_mutex_unlock(&ask->lock);
	return task;
}

/* false: it is time to stop. */
static bool nap(struct result_ask *ask)
{
	const struct timespec until = cond_until(clock_mono_ms() + backoff_next_ms(&ask->backoff));
	bool goes_on;
	int rc = 0;

	pthread_mutex_lock(&ask->lock);
	while (!ask->is_stopping && rc == 0)
		rc = pthread_cond_timedwait(&ask->some, &ask->lock, &until);
	goes_on = !ask->is_stopping;
	pthread_mutex_unlock(&ask->lock);
	return goes_on;
}

static int look(struct result_ask *ask, struct task *task, struct err *err)
{
	struct job_state state = { .result = BUF_INIT };
	int rc = 0;

	if (ask->store == NULL && store_open(ask->settings, &ask->store, err) < 0)
		return -1;
	rc = job_state_read(ask->store, task->request->id, &state, err);
	if (rc < 0 && err->kind == ERR_INVALID)
		rc = 0; /* an id that is in no table */
	task->has_succeeded = rc == 0 && state.found && strcmp(state.status, "SUCCESS") == 0;
	if (task->has_succeeded && state.is_readable)
		buf_add(&task->reply.result, state.result.data, state.result.len);
	buf_release(&state.result);
	return rc;
}

static void *run(void *arg)
{
	struct result_ask *ask = arg;
	struct task *task;
	bool goes_on = true;

	while (goes_on && (task = take(ask)) != NULL) {
		struct err err = ERR_INIT;

		while (goes_on && look(ask, task, &err) < 0) {
			log_warn("results can't be looked at for now", log_err(&err));
			err_clear(&err);
			store_close(ask->store);
			ask->store = NULL;
			goes_on = nap(ask);
		}
		if (goes_on) {
			backoff_reset(&ask->backoff);
			inbox_add(ask->inbox, task, NOTICE_ASKED);
		}
	}
	store_close(ask->store);
	return NULL;
}

/* ---- for others */

struct result_ask *result_ask_start(const struct settings *settings, struct inbox *inbox)
{
	struct result_ask *ask = mem_zalloc(sizeof(*ask));

	ask->settings = settings;
	ask->inbox = inbox;
	ask->last = &ask->first;
	ask->backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	pthread_mutex_init(&ask->lock, NULL);
	cond_init(&ask->some);
	if (pthread_create(&ask->thread, NULL, run, ask) != 0)
		abort();
	return ask;
}

void result_ask_stop(struct result_ask *ask)
{
	if (ask == NULL)
		return;
	pthread_mutex_lock(&ask->lock);
	ask->is_stopping = true;
	pthread_cond_signal(&ask->some);
	pthread_mutex_unlock(&ask->lock);
	pthread_join(ask->thread, NULL);
	pthread_cond_destroy(&ask->some);
	pthread_mutex_destroy(&ask->lock);
	free(ask);
}

void result_ask_add(struct result_ask *ask, struct task *task)
{
	task->ask_next = NULL;
	pthread_mutex_lock(&ask->lock);
	*ask->last = task;
	ask->last = &task->ask_next;
	pthread_cond_signal(&ask->some);
	pthread_mutex_unlock(&ask->lock);
}
