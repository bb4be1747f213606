/* chores: what a worker's process does beside its records, on a thread of its own: every worker.backlog_ms it asks how old the oldest
 * record is that its group has not done, and every tend_s() seconds it does what the worker's tend() is for. */
#ifndef FEEDMILL_WORKERS_ENGINE_CHORES_H
#define FEEDMILL_WORKERS_ENGINE_CHORES_H

#include <stdbool.h>

#include "common/base/settings.h"
#include "common/queue/queue.h"
#include "workers/engine/vitals.h"
#include "workers/worker.h"

struct chores;

/* Keeps all that it is given. */
int chores_start(const struct worker_entry *entry, const struct settings *settings, struct queue *queue, struct vitals *vitals,
	struct chores **out, struct err *err);
/* After stop_request(). false: the thread is in a call that does not come back in time; what it was given must stay. */
bool chores_stop(struct chores *chores, int64_t deadline_mono_ms); /* NULL is fine */

#endif
