/* waiting: tasks that are to start as soon as a slot is free, in that order: of a higher priority first, of equal ones as they came. A task that
 * has no priority has 0, as on RabbitMQ. Before all those are the aged, whatever their priority: the oldest first, so that none waits for ever. A list through task->wait_next; the tasks are not its own. All zero is an empty one. */
#ifndef FEEDMILL_WORKERS_CELERY_WAITING_H
#define FEEDMILL_WORKERS_CELERY_WAITING_H

#include <stddef.h>
#include <stdint.h>

struct task;

struct waiting {
	struct task *first, *last; /* NULL: none */
	size_t count;
};

void waiting_add(struct waiting *waiting, struct task *task);      /* behind those of its priority */
void waiting_put_back(struct waiting *waiting, struct task *list); /* by wait_next, as they came: each before those of its priority */
void waiting_age(struct waiting *waiting, int64_t since_us);       /* those that were received then, or before, are aged from now on */
struct task *waiting_next(const struct waiting *waiting, const struct task *before); /* NULL: the first; none */
struct task *waiting_take(struct waiting *waiting, struct task *before); /* that one, and it waits no more */

#endif
