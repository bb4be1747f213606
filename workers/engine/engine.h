/* engine: a worker's process: opens the queue, runs `threads` loops and the admin port, drains at a stop request. Knows no
 * worker by name.
 *
 *   loop        one thread: fetch → handle → settle
 *   attempt     what a return value of handle() means for the records of the batch
 *   batch       outcomes and the outbox: the worker's side of a batch
 *   deadletter  a rejected record, ready to be sent to <worker>.dlq
 *   settle      when offsets may be stored
 *   vitals      metrics and health
 *   chores      what is done now and then beside the records */
#ifndef FEEDMILL_WORKERS_ENGINE_ENGINE_H
#define FEEDMILL_WORKERS_ENGINE_ENGINE_H

#include "common/base/settings.h"
#include "workers/worker.h"

int engine_run(const struct worker_entry *entry, const struct settings *settings); /* returns the exit code */

#endif
