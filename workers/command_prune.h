/* command_prune: what the command worker does now and then beside its commands: see struct worker_ops, tend. */
#ifndef FEEDMILL_WORKERS_COMMAND_PRUNE_H
#define FEEDMILL_WORKERS_COMMAND_PRUNE_H

#include <stdint.h>

#include "common/base/settings.h"
#include "common/queue/queue.h"

int64_t command_prune_s(const struct settings *settings);
int command_prune(const struct settings *settings, struct queue *queue, struct err *err);

#endif
