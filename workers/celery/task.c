/* A request goes in, a task comes out. */
#include "workers/celery/task.h"

#include <stdlib.h>

#include "common/base/mem.h"

struct task *task_new(struct request *request)
{
	struct task *task = mem_zalloc(sizeof(*task));

	task->request = request;
	task->reply = (struct job_reply)JOB_REPLY_INIT;
	task->children = (struct buf)BUF_INIT;
	task->received_us = clock_mono_us();
	return task;
}

void task_free(struct task *task)
{
	if (task == NULL)
		return;
	request_free(task->request);
	job_reply_release(&task->reply);
	buf_release(&task->children);
	free(task);
}
