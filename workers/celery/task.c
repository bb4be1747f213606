/* A request goes in, a task comes out. */
#include "workers/celery/task.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "workers/celery/post.h"

struct task *task_new(struct request *request)
{
	struct task *task = mem_zalloc(sizeof(*task));

	task->request = request;
	task->reply = (struct job_reply)JOB_REPLY_INIT;
	task->children = (struct buf)BUF_INIT;
	task->received_us = clock_mono_us();
	return task;
}

void task_forget_unsent(struct task *task)
{
	while (task->unsent != NULL) {
		struct post *post = task->unsent;

		task->unsent = post->next;
		post_free(post);
	}
	task->post_failed = task->post_refused = false;
}

void task_free(struct task *task)
{
	if (task == NULL)
		return;
	task_forget_unsent(task);
	request_free(task->request);
	job_reply_release(&task->reply);
	buf_release(&task->children);
	free(task);
}

bool task_is_reserved(const struct task *task)
{
	return task->state == TASK_WAITING || task->state == TASK_ASKING;
}

struct slice task_key(const struct task *task, char out[TASK_KEY_MAX])
{
	const struct request *r = task->request;

	if (r->retries == 0 && r->counted == 0 && !r->is_repeat)
		return r->id;
	snprintf(out, TASK_KEY_MAX, "%.*s\n%lld %lld %d", (int)r->id.len, r->id.data, (long long)r->retries, (long long)r->counted, r->is_repeat);
	return slice_of(out);
}
