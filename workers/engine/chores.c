/* A worker goes in; how far behind its group is, and what the worker does now and then, come out. What a backlog or an outage has taken of
 * memory is given back. */
#include "workers/engine/chores.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/stop.h"
#include "common/queue/backlog.h"

#define ASK_MS 8000
#define PARTITIONS_MAX 4096
#define GIVE_BACK_MS 30000 /* between two returns of freed memory to the system */

struct chores {
	const struct worker_entry *entry;
	const struct settings *settings;
	struct queue *queue;
	struct vitals *vitals;
	pthread_t thread;
	int64_t backlog_ms, tend_ms; /* between two; 0: never */
	int64_t backlog_at, tend_at, give_back_at; /* monotonic */
	bool is_complaining;         /* the same trouble is told once */
};

static void complain(struct chores *chores, const char *what, const struct err *err)
{
	if (!chores->is_complaining)
		log_warn(what, log_err(err));
	chores->is_complaining = true;
}

/* What can't be asked now stays as it was. */
static void look_at_backlog(struct chores *chores)
{
	struct partition_backlog *partitions = mem_array(PARTITIONS_MAX, sizeof(*partitions));
	struct err err = ERR_INIT;
	size_t count = 0;

	if (backlog_ask(chores->queue, chores->entry->name, chores->entry->topic, partitions, PARTITIONS_MAX, &count, ASK_MS, &err) == 0)
		atomic_store(&chores->vitals->backlog_oldest_ms, backlog_sum(partitions, count).oldest_ms);
	else
		log_debug("backlog not learned", log_err(&err));
	free(partitions);
}

static void tend(struct chores *chores)
{
	struct err err = ERR_INIT;

	if (chores->entry->ops->tend(chores->settings, chores->queue, &err) < 0)
		complain(chores, "housekeeping failed, later again", &err);
	else
		chores->is_complaining = false;
}

static int64_t until(int64_t at, int64_t period_ms, int64_t left_ms)
{
	const int64_t wait_ms = at - clock_mono_ms();

	return period_ms == 0 || wait_ms > left_ms ? left_ms : wait_ms > 0 ? wait_ms : 0;
}

static void *run(void *arg)
{
	struct chores *chores = arg;

	while (!stop_wait(until(chores->backlog_at, chores->backlog_ms, until(chores->tend_at, chores->tend_ms,
			until(chores->give_back_at, GIVE_BACK_MS, GIVE_BACK_MS))))) {
		if (chores->backlog_ms > 0 && clock_mono_ms() >= chores->backlog_at) {
			look_at_backlog(chores);
			chores->backlog_at = clock_mono_ms() + chores->backlog_ms;
		}
		if (chores->tend_ms > 0 && clock_mono_ms() >= chores->tend_at) {
			tend(chores);
			chores->tend_at = clock_mono_ms() + chores->tend_ms;
		}
		if (clock_mono_ms() >= chores->give_back_at) {
			mem_give_back();
			chores->give_back_at = clock_mono_ms() + GIVE_BACK_MS;
		}
	}
	return NULL;
}

int chores_start(const struct worker_entry *entry, const struct settings *settings, struct queue *queue, struct vitals *vitals,
	struct chores **out, struct err *err)
{
	struct chores *chores = mem_zalloc(sizeof(*chores));

	*chores = (struct chores){ .entry = entry, .settings = settings, .queue = queue, .vitals = vitals };
	chores->backlog_ms = settings->worker_backlog_ms;
	chores->tend_ms = entry->ops->tend != NULL ? entry->ops->tend_s(settings) * 1000 : 0;
	chores->backlog_at = clock_mono_ms() + chores->backlog_ms;
	chores->give_back_at = clock_mono_ms() + GIVE_BACK_MS;
	/* Replicas that were started together do not all come at once. */
	chores->tend_at = clock_mono_ms() + (chores->tend_ms > 0 ? (int64_t)rand_below((uint64_t)chores->tend_ms) : 0);
	if (pthread_create(&chores->thread, NULL, run, chores) != 0) {
		free(chores);
		return err_set(err, ERR_UNAVAILABLE, "no thread for the chores");
	}
	*out = chores;
	return 0;
}

bool chores_stop(struct chores *chores, int64_t deadline_mono_ms)
{
	const int64_t left_ms = deadline_mono_ms - clock_mono_ms();
	struct timespec deadline;

	if (chores == NULL)
		return true;
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += left_ms > 0 ? left_ms / 1000 + 1 : 1;
	if (pthread_timedjoin_np(chores->thread, NULL, &deadline) != 0)
		return false;
	free(chores);
	return true;
}
