/* loop: one thread of a worker: its consumer, its worker state, and the turn fetch → handle → settle. */
#ifndef FEEDMILL_WORKERS_ENGINE_LOOP_H
#define FEEDMILL_WORKERS_ENGINE_LOOP_H

#include <stdbool.h>

#include "common/base/settings.h"
#include "common/queue/queue.h"
#include "workers/engine/vitals.h"
#include "workers/worker.h"

struct loop;

/* What all threads of the process share; borrowed. */
struct loop_shared {
	const struct worker_entry *entry;
	const struct settings *settings;
	struct queue *queue;
	struct producer *producer;
	struct vitals *vitals;
};

int loop_start(const struct loop_shared *shared, size_t number, struct loop **out, struct err *err);
/* After stop_request(). Waits for the thread; -1: it has not ended in time and must not be freed. */
int loop_join(struct loop *loop, int64_t deadline_mono_ms);
bool loop_failed(const struct loop *loop); /* it ended for a reason that is an exit code of 1 */
void loop_free(struct loop *loop); /* joined, and the producer closed: acknowledgements come until then. NULL is fine */

#endif
