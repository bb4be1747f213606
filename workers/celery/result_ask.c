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
	const struct signer *signer;
	struct inbox *inbox;
	struct store *store; /* the thread's */
	struct backoff backoff;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t some;
	struct task *first, **last; /* the first stays until it has its answer */
	bool is_ending;             /* and the list is empty, for good */
};

/* Whom to ask about. false: it is time to stop. */
static bool first_id(struct result_ask *ask, struct buf *id)
{
	bool goes_on;

	buf_reset(id);
	pthread_mutex_lock(&ask->lock);
	while (ask->first == NULL && !ask->is_ending)
		pthread_cond_wait(&ask->some, &ask->lock);
	goes_on = !ask->is_ending;
	if (goes_on)
		buf_add(id, ask->first->request->id.data, ask->first->request->id.len);
	pthread_mutex_unlock(&ask->lock);
	return goes_on;
}

static void nap(struct result_ask *ask)
{
	const struct timespec until = cond_until(clock_mono_ms() + backoff_next_ms(&ask->backoff));
	int rc = 0;

	pthread_mutex_lock(&ask->lock);
	while (!ask->is_ending && rc == 0)
		rc = pthread_cond_timedwait(&ask->some, &ask->lock, &until);
	pthread_mutex_unlock(&ask->lock);
}

static int look(struct result_ask *ask, struct slice id, struct job_state *out, struct err *err)
{
	if (ask->store == NULL && store_open(ask->settings, &ask->store, err) < 0)
		return -1;
	if (job_state_read(ask->store, ask->settings->job.result_table, id, out, err) == 0)
		return 0;
	return err->kind == ERR_INVALID ? 0 : -1; /* an id that is in no table */
}

/* Meanwhile it may have been handed back, and is not touched. */
static void answer(struct result_ask *ask, const struct job_state *state)
{
	struct task *task;

	pthread_mutex_lock(&ask->lock);
	task = ask->first;
	if (task != NULL)
		ask->first = task->ask_next;
	if (ask->first == NULL)
		ask->last = &ask->first;
	pthread_mutex_unlock(&ask->lock);
	if (task == NULL)
		return;
	task->has_succeeded = state->found && strcmp(state->status, "SUCCESS") == 0;
	if (task->has_succeeded && state->is_readable)
		buf_add(&task->reply.result, state->result.data, state->result.len);
	inbox_add(ask->inbox, task, NOTICE_ASKED);
}

static void *run(void *arg)
{
	struct result_ask *ask = arg;
	struct buf id = BUF_INIT;

	while (first_id(ask, &id)) {
		struct job_state state = { .result = BUF_INIT, .signer = ask->signer };
		struct err err = ERR_INIT;

		if (look(ask, (struct slice){ id.data, id.len }, &state, &err) == 0) {
			backoff_reset(&ask->backoff);
			answer(ask, &state);
		} else {
			log_warn("results can't be looked at for now", log_err(&err));
			store_close(ask->store);
			ask->store = NULL;
			nap(ask);
		}
		err_clear(&err);
		buf_release(&state.result);
	}
	buf_release(&id);
	store_close(ask->store);
	return NULL;
}

/* ---- for others */

struct result_ask *result_ask_start(const struct settings *settings, const struct signer *signer, struct inbox *inbox)
{
	struct result_ask *ask = mem_zalloc(sizeof(*ask));

	ask->settings = settings;
	ask->signer = signer;
	ask->inbox = inbox;
	ask->last = &ask->first;
	ask->backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	pthread_mutex_init(&ask->lock, NULL);
	cond_init(&ask->some);
	if (pthread_create(&ask->thread, NULL, run, ask) != 0)
		abort();
	return ask;
}

void result_ask_return(struct result_ask *ask)
{
	struct task *task, *next;

	if (ask == NULL)
		return;
	pthread_mutex_lock(&ask->lock);
	ask->is_ending = true;
	task = ask->first;
	ask->first = NULL;
	ask->last = &ask->first;
	pthread_cond_signal(&ask->some);
	pthread_mutex_unlock(&ask->lock);
	for (; task != NULL; task = next) {
		next = task->ask_next;
		inbox_add(ask->inbox, task, NOTICE_ASKED);
	}
}

void result_ask_stop(struct result_ask *ask)
{
	if (ask == NULL)
		return;
	result_ask_return(ask);
	pthread_join(ask->thread, NULL);
	pthread_cond_destroy(&ask->some);
	pthread_mutex_destroy(&ask->lock);
	free(ask);
}

void result_ask_add(struct result_ask *ask, struct task *task)
{
	bool is_ending;

	task->ask_next = NULL;
	pthread_mutex_lock(&ask->lock);
	is_ending = ask->is_ending;
	if (!is_ending) {
		*ask->last = task;
		ask->last = &task->ask_next;
		pthread_cond_signal(&ask->some);
	}
	pthread_mutex_unlock(&ask->lock);
	if (is_ending)
		inbox_add(ask->inbox, task, NOTICE_ASKED);
}
