/* threads: the pool for handlers that are safe in threads of this process. Nothing can be killed here: what has a hard limit runs
 * elsewhere, a soft one is seen by handlers that look. */
#ifndef FEEDMILL_WORKERS_CELERY_THREADS_H
#define FEEDMILL_WORKERS_CELERY_THREADS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/settings.h"
#include "workers/celery/inbox.h"
#include "workers/celery/task.h"

struct threads;

struct threads *threads_open(const struct settings *settings, size_t count, struct inbox *inbox);
/* Waits for what runs up to wait_ms; false: a thread does not end, and nothing was freed. NULL is fine. */
bool threads_close(struct threads *threads, int64_t wait_ms);

void threads_start(struct threads *threads, struct task *task); /* with its soft_ms; NOTICE_RAN when it has its reply */
struct task *threads_take_back(struct threads *threads);         /* those that none has begun, in their order, by wait_next */
size_t threads_in_hand(const struct threads *threads);           /* started, and neither taken by threads_taken() nor taken back */
void threads_taken(struct threads *threads, size_t count);
size_t threads_count(const struct threads *threads);

#endif
