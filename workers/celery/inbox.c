/* Tasks go in from any thread, the node's thread takes them all at once. */
#include "workers/celery/inbox.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "workers/celery/task.h"

void inbox_open(struct inbox *inbox)
{
	pthread_mutex_init(&inbox->lock, NULL);
	inbox->first = NULL;
	inbox->last = &inbox->first;
	inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (inbox->fd < 0)
		abort();
}

void inbox_close(struct inbox *inbox)
{
	close(inbox->fd);
	pthread_mutex_destroy(&inbox->lock);
}

void inbox_add(struct inbox *inbox, struct task *task, enum notice notice)
{
	static const uint64_t one = 1;
	bool was_empty;

	task->notice = notice;
	task->inbox_next = NULL;
	pthread_mutex_lock(&inbox->lock);
	was_empty = inbox->first == NULL;
	*inbox->last = task;
	inbox->last = &task->inbox_next;
	pthread_mutex_unlock(&inbox->lock);
	if (was_empty && write(inbox->fd, &one, sizeof(one)) < 0)
		abort(); /* its counter can't be full */
}

struct task *inbox_take(struct inbox *inbox)
{
	uint64_t count;
	struct task *all;

	if (read(inbox->fd, &count, sizeof(count)) < 0)
		return NULL;
	pthread_mutex_lock(&inbox->lock);
	all = inbox->first;
	inbox->first = NULL;
	inbox->last = &inbox->first;
	pthread_mutex_unlock(&inbox->lock);
	return all;
}
