/* engine: a worker's process: opens the queue, runs `threads` loops and the admin port, drains at a stop request. Knows no
 * worker by name.
 *
 *   loop        one thread: fetch → handle → settle; loop_parts.h says what is in which file
 *   holds       partitions that stand still until a record is due
 *   attempt     what a return value of handle() means for the records of the batch
 *   batch       outcomes and the outbox: the worker's side of a batch
 *   letter      a record that can't be done, ready to be sent to <worker>.dlq or a retry topic
 *   settle      when offsets may be stored
 *   vitals      metrics and health
 *   chores      what is done now and then beside the records */
#ifndef FEEDMILL_WORKERS_ENGINE_ENGINE_H
#define FEEDMILL_WORKERS_ENGINE_ENGINE_H

#include "common/base/settings.h"
#include "workers/worker.h"

int engine_run(const struct worker_entry *entry, const struct settings *settings); /* returns the exit code */

#endif
