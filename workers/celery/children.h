/* children: the pool of child processes. One job at a time each; a slot whose child has ended gets a new one. Used by the node's
 * thread alone. Limits are kept here: the soft one by SIGUSR1, the hard one by SIGKILL to the child's process group. */
#ifndef FEEDMILL_WORKERS_CELERY_CHILDREN_H
#define FEEDMILL_WORKERS_CELERY_CHILDREN_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/settings.h"
#include "workers/celery/task.h"

#define CHILDREN_MAX 512

struct children;

/* ran: a task has its reply (JOB_LOST when its child died with it); called from children_look() and children_tick(). */
struct children *children_open(const struct settings *settings, int nursery, size_t count, void (*ran)(void *arg, struct task *task), void *arg);
void children_close(struct children *children); /* kills them; NULL is fine */

bool children_have_room(const struct children *children);
void children_start(struct children *children, struct task *task, int64_t soft_ms, int64_t hard_ms); /* there is room; 0: no limit */
bool children_signal(struct children *children, const struct task *task, int signal_number);         /* to the child that runs it */

size_t children_polls(const struct children *children, struct pollfd *fds); /* fills CHILDREN_MAX + 1 at most */
int children_look(struct children *children, const struct pollfd *fds, size_t count); /* -1: the nursery is gone */
void children_tick(struct children *children, int64_t now_mono_ms);
int64_t children_next_tick(const struct children *children, int64_t latest_mono_ms);

size_t children_count(const struct children *children);
size_t children_busy(const struct children *children);
bool children_are_missing(const struct children *children); /* there is none, and the last one could not be made */
void children_resize(struct children *children, size_t count); /* what runs in a slot too many ends first */
void children_restart(struct children *children);              /* each anew, once it is idle */
size_t children_pids(const struct children *children, int *pids, size_t max);

#endif
