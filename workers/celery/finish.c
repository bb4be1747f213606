/* A task's reply goes in; then, in this order: the messages that follow from it are confirmed, its result is stored, its delivery is
 * acknowledged, its event is sent. Whatever dies in between, the delivery comes again, unless it was acknowledged early. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "workers/celery/canvas.h"
#include "workers/celery/events.h"
#include "workers/celery/finish.h"
#include "workers/celery/node.h"
#include "workers/celery/python.h"
#include "workers/celery/result.h"

#define SOON_MS 500 /* delays below go without one: the levels are of whole seconds */

static bool is_late(const struct node *node)
{
	return strcmp(node->settings->job.acks, "late") == 0;
}

static const char *queue_of(const struct node *node, const struct task *task)
{
	return task->queue != NULL ? task->queue->name : node->outgoing.queue;
}

/* ---- the last step */

/* A copy that can't be told from its message: what goes back as it was, and what comes out of a delay and is for later once more. */
static bool is_like_its_copy(const struct task *task)
{
	return task->is_returned || (task->is_delayed && task->request->is_repeat);
}

/* If its acknowledgement is lost with the connection, it is delivered again, and must neither run nor be sent on once more. */
static void remember(struct node *node, const struct task *task)
{
	char room[TASK_KEY_MAX];

	if (is_like_its_copy(task))
		return;
	if (node->amqp != NULL && task->generation == node->acks.generation)
		settled_add(&node->settled, task_key(task, room), clock_mono_ms());
	else
		revoked_add(&node->finished, task_key(task, room), clock_wall_ms());
}

static void settle(struct node *node, struct task *task)
{
	struct err err = ERR_INIT;

	FAULT_POINT("job.stored");
	if (!task->is_acked) {
		task->is_acked = true;
		if (task->end == END_ACK) {
			remember(node, task);
			acks_done(&node->acks, task->generation, task->tag);
		} else if (node->amqp != NULL && task->generation == node->acks.generation) {
			acks_gone(&node->acks, task->generation, task->tag);
			if (amqp_nack(node->amqp, task->generation, task->tag, false, task->end == END_REQUEUE, &err) < 0)
				log_debug("a rejection was not sent", log_err(&err));
		}
	}
	task->state = TASK_SETTLED;
	event_settled(node, task);
	node_remove(node, task);
}

/* ---- results */

/* A state on the way to the result: nothing waits until it is there. */
static void tell(struct node *node, struct task *task, const char *status)
{
	struct post *post = NULL;
	struct result_row *row = NULL;

	if (task->request->ignore_result)
		return;
	task->status = status;
	result_make(node, task, &post, &row);
	task->status = NULL;
	if (post != NULL)
		publisher_send(node->publisher, post);
	if (row != NULL)
		result_table_add(node->table, row);
}

static void store(struct node *node, struct task *task)
{
	const bool is_told = task->status != NULL && strcmp(task->status, "RETRY") == 0; /* by again() */
	struct post *post = NULL;
	struct result_row *row = NULL;

	task->state = TASK_STORING;
	if (task->status != NULL && !is_told && !task->request->ignore_result)
		result_make(node, task, &post, &row);
	if (row != NULL) {
		row->task = task;
		if (post != NULL)
			publisher_send(node->publisher, post);
		result_table_add(node->table, row);
		return;
	}
	if (post == NULL) {
		settle(node, task);
	} else if (task->is_acked || task->end != END_ACK) {
		publisher_send(node->publisher, post);
		settle(node, task);
	} else {
		publisher_send_for(node->publisher, task, post);
	}
}

void finish_stored(struct node *node, struct task *task)
{
	settle(node, task);
}

/* Neither the task nor its copy can go on: it ends here. */
static void give_up(struct node *node, struct task *task)
{
	task_forget_unsent(task);
	if (task->request->id.len > 0) {
		finish_dead(node, task, "it can't be sent on: its headers do not fit, or RabbitMQ refuses it");
		return;
	}
	task->end = END_DROP;
	store(node, task);
}

/* Tasks that should follow and can't have failed; a dead letter that nobody has leaves the delivery to the queue's own. */
static void fail_unsent(struct node *node, struct task *task)
{
	for (const struct post *post = task->unsent; post != NULL; post = post->next) {
		if (post->is_next)
			result_fail_post(node, task, post);
		else if (task->end == END_ACK)
			task->end = END_DROP;
	}
	task_forget_unsent(task);
}

void finish_posted(struct node *node, struct task *task)
{
	if (task->state == TASK_STORING) {
		settle(node, task);
		return;
	}
	FAULT_POINT("job.posted");
	if (task->post_refused && task->status == NULL && !task->is_returned) {
		give_up(node, task);
		return;
	}
	if (task->post_failed && task->status == NULL) { /* its copy went nowhere: the delivery itself must stay */
		task->end = END_REQUEUE;
		node_declare_again(node);
	} else if (task->post_failed && task->reply.outcome == JOB_AGAIN) { /* its queue is gone: as Celery does, it is not tried again */
		task->status = "FAILURE";
		task->event = "task-failed";
		task->end = END_DROP;
		if (task->request->chain != NULL)
			result_fail_chain(node, task, task->request->chain);
	} else if (task->post_failed) {
		fail_unsent(node, task);
	}
	store(node, task);
}

static void post_then_store(struct node *node, struct task *task, struct post *posts)
{
	if (posts == NULL) {
		store(node, task);
		return;
	}
	task->state = TASK_POSTING;
	publisher_send_for(node->publisher, task, posts);
}

/* ---- outcomes */

static struct post *dead_task(struct node *node, struct task *task, const char *why)
{
	struct post *post = dead_letter(node, task->request->delivery, why);

	metric_add(node->dead, 1);
	log_warn("job given up", log_slice("task", task->request->task), log_slice("id", task->request->id), log_str("why", why));
	task->end = post != NULL ? END_ACK : END_DROP;
	return post;
}

static void succeeded(struct node *node, struct task *task)
{
	const struct request *r = task->request;
	struct canvas canvas;
	struct err err = ERR_INIT;
	int rc = 0;

	task->status = "SUCCESS";
	task->event = "task-succeeded";
	if (r->callbacks == NULL && r->chain == NULL) {
		post_then_store(node, task, NULL);
		return;
	}
	canvas_init(&canvas, &node->outgoing, r, CANVAS_NEXT, &task->children);
	canvas.is_repeat = task->has_succeeded;
	canvas.inherits_priority = node->settings->job.inherit_priority;
	if (r->callbacks != NULL)
		rc = canvas_add_callbacks(&canvas, r->callbacks, buf_slice(&task->reply.result), &err);
	if (rc == 0 && r->chain != NULL)
		rc = canvas_add_chain(&canvas, r->chain, buf_slice(&task->reply.result), &err);
	if (rc < 0) {
		canvas_release(&canvas);
		buf_reset(&task->children);
		job_fail(&task->reply, "RuntimeError", "builtins", "what follows this task can't be sent: %s", err.message);
		finish_ran(node, task);
		return;
	}
	post_then_store(node, task, canvas.first);
}

static bool is_acked_as_failed(const struct node *node, const struct task *task)
{
	const struct job_settings *s = &node->settings->job;

	return !is_late(node) || s->acks_on_failure || (task->is_overdue && strcmp(s->acks_on_timeout, "true") == 0);
}

static void failed(struct node *node, struct task *task, struct post *posts)
{
	const struct request *r = task->request;
	struct buf id = BUF_INIT, ignored = BUF_INIT;
	struct json_writer w = JSON_WRITER(&id);
	struct canvas canvas;
	struct err err = ERR_INIT;

	task->status = "FAILURE";
	task->event = "task-failed";
	canvas_init(&canvas, &node->outgoing, r, CANVAS_ERROR, &ignored);
	canvas.inherits_priority = node->settings->job.inherit_priority;
	json_put_string(&w, NULL, r->id);
	if (r->errbacks != NULL && canvas_add_all(&canvas, r->errbacks, buf_slice(&id), &err) < 0)
		log_warn("an errback can't be sent", log_slice("id", r->id), log_err(&err));
	*canvas.last = posts;
	if (r->chain != NULL)
		result_fail_chain(node, task, r->chain);
	if (task->end == END_ACK && posts == NULL && !is_acked_as_failed(node, task))
		task->end = END_DROP;
	post_then_store(node, task, canvas.first);
	buf_release(&id);
	buf_release(&ignored);
}

static int64_t retry_delay_ms(const struct node *node, const struct task *task)
{
	const struct job_settings *s = &node->settings->job;
	int64_t most = s->retry_first_ms;

	if (task->reply.delay_ms > 0)
		return task->reply.delay_ms;
	for (int64_t i = 0; i < task->request->retries && most < s->retry_limit_ms; i++)
		most *= 2;
	if (most > s->retry_limit_ms)
		most = s->retry_limit_ms;
	return (int64_t)rand_below((uint64_t)most + 1);
}

static void again(struct node *node, struct task *task)
{
	const struct request *r = task->request;
	const int64_t max = task->reply.max_retries >= 0 ? task->reply.max_retries : (int64_t)task->entry->max_retries;
	const int64_t delay_ms = retry_delay_ms(node, task);
	const int64_t delay_s = delay_ms < SOON_MS ? 0 : (delay_ms + 999) / 1000;

	if (r->retries >= max) {
		job_fail(&task->reply, "MaxRetriesExceededError", "celery.exceptions", "Can't retry %.*s[%.*s] args:%.*s kwargs:%.*s", (int)r->task.len,
			r->task.data, (int)r->id.len, r->id.data, (int)(r->argsrepr.len < 300 ? r->argsrepr.len : 300), r->argsrepr.len > 0 ? r->argsrepr.data : "",
			(int)(r->kwargsrepr.len < 300 ? r->kwargsrepr.len : 300), r->kwargsrepr.len > 0 ? r->kwargsrepr.data : "");
		failed(node, task, NULL);
		return;
	}
	metric_add(node->retries, 1);
	tell(node, task, "RETRY"); /* this and the event before the next try can be heard of */
	task->status = "RETRY";
	task->event = "task-retried";
	event_settled(node, task);
	task->event = NULL;
	post_then_store(node, task,
		outgoing_again(r, queue_of(node, task), r->retries + 1, 0, clock_wall_ms() + delay_s * 1000, delay_s));
}

/* Its run had no end of its own: back to its queue, one more on its count, until that is full. */
static void run_once_more(struct node *node, struct task *task, const char *why_not)
{
	const struct request *r = task->request;
	const int64_t deliveries = r->deliveries + 1;

	if (deliveries >= node->settings->job.delivery_limit) {
		failed(node, task, dead_task(node, task, why_not));
		return;
	}
	task->status = NULL;
	task->event = "task-rejected";
	event_settled(node, task); /* before the next run can be heard of */
	task->event = NULL;
	post_then_store(node, task, outgoing_again(r, queue_of(node, task), r->retries, deliveries, 0, 0));
}

static void lost(struct node *node, struct task *task)
{
	if (task->is_terminated)
		finish_revoked(node, task, "terminated", true, task->terminated_by);
	else if (node->stage == NODE_LEAVING && is_late(node))
		finish_return(node, task);
	else if (!is_late(node) || !node->settings->job.reject_on_worker_lost)
		failed(node, task, NULL);
	else
		run_once_more(node, task, "its child process was lost too often");
}

/* Nobody is told of a failure before the last try: who waits, and what is linked to it, would take it for the end. */
static void overdue(struct node *node, struct task *task)
{
	if (is_late(node) && strcmp(node->settings->job.acks_on_timeout, "false") == 0)
		run_once_more(node, task, "its hard time limit passed too often");
	else
		failed(node, task, NULL);
}

static void measure(struct node *node, struct task *task)
{
	const int64_t ran_us = clock_mono_us() - task->started_us;

	metric_observe_us(node->run_seconds, ran_us);
	if (task->is_in_thread)
		node->run_ewma_us += (task->handler_us - node->run_ewma_us) / 16; /* not what it waited for a thread */
	node->processed++;
	metric_add(node->outcomes[task->reply.outcome], 1);
}

void finish_ran(struct node *node, struct task *task)
{
	FAULT_POINT("job.ran");
	if (task->state == TASK_RUNNING)
		measure(node, task);
	switch (task->reply.outcome) {
	case JOB_DONE:
		succeeded(node, task);
		return;
	case JOB_FAILED:
		if (task->is_overdue)
			overdue(node, task);
		else
			failed(node, task, NULL);
		return;
	case JOB_AGAIN:
		again(node, task);
		return;
	case JOB_IGNORED:
		settle(node, task);
		return;
	case JOB_REJECTED:
		task->status = "FAILURE";
		task->event = "task-rejected";
		post_then_store(node, task, task->is_acked ? NULL : dead_task(node, task, "rejected by its handler"));
		return;
	case JOB_LOST:
		lost(node, task);
		return;
	}
}

/* ---- ends without a run */

void finish_revoked(struct node *node, struct task *task, const char *why, bool is_terminated, int signal_number)
{
	job_fail(&task->reply, "TaskRevokedError", "celery.exceptions", "%s", why);
	buf_reset(&task->reply.trace);
	task->is_terminated = is_terminated;
	task->terminated_by = signal_number;
	task->status = "REVOKED";
	task->event = "task-revoked";
	store(node, task);
}

void finish_unknown(struct node *node, struct task *task)
{
	const struct request *r = task->request;

	job_fail(&task->reply, "NotRegistered", "celery.exceptions", "%.*s", (int)r->task.len, r->task.data);
	if (slice_is(r->task, "celery.chord_unlock"))
		result_fail_chord(node, task);
	failed(node, task, dead_task(node, task, "no such task here"));
}

/* A Python beat sends it each night. Nothing of it runs in a child: whoever writes results deletes those that have expired. */
void finish_cleaned(struct node *node, struct task *task)
{
	if (node->table != NULL)
		result_table_clean(node->table);
	job_return_null(&task->reply);
	finish_started(node, task);
	finish_ran(node, task);
}

void finish_dead(struct node *node, struct task *task, const char *why)
{
	job_fail(&task->reply, "WorkerLostError", "billiard.exceptions", "%s", why);
	failed(node, task, dead_task(node, task, why));
}

void finish_later(struct node *node, struct task *task, int64_t delay_s)
{
	const struct request *r = task->request;

	task->is_delayed = true;
	post_then_store(node, task, outgoing_again(r, queue_of(node, task), r->retries, r->deliveries, 0, delay_s));
}

void finish_unreadable(struct node *node, struct task *task, const char *why)
{
	const struct amqp_delivery *delivery = task->request->delivery;
	const bool is_whole = delivery->body_size <= AMQP_BODY_MAX; /* else its body is not here: the queue's own dead letters may keep it */
	struct post *post = is_whole ? dead_letter(node, delivery, why) : NULL;

	metric_add(node->dead, 1);
	result_fail_delivery(node, delivery, why);
	task->end = post != NULL ? END_ACK : END_DROP;
	post_then_store(node, task, post);
}

void finish_counted(struct node *node, struct task *task)
{
	const struct request *r = task->request;

	post_then_store(node, task, outgoing_again(r, queue_of(node, task), r->retries, r->deliveries + 1, 0, 0));
}

void finish_again(struct node *node, struct task *task)
{
	task->status = NULL;
	settle(node, task);
}

/* Not every table has its children, so nobody knows whether they were sent: now they are, by the same ids where those are ours. */
void finish_succeeded(struct node *node, struct task *task)
{
	task->started_us = clock_mono_us();
	succeeded(node, task);
}

void finish_return(struct node *node, struct task *task)
{
	task->status = NULL;
	task->event = NULL;
	task->end = END_REQUEUE;
	settle(node, task);
}

/* RabbitMQ would count what is given back as delivered once more. A copy with the count as it was says that it never ran; where none
 * can be sent now, it is given back all the same. */
void finish_unstarted(struct node *node, struct task *task)
{
	if (!is_late(node) || task->is_acked || !publisher_is_connected(node->publisher) || publisher_is_blocked(node->publisher))
		finish_return(node, task);
	else
		finish_uncounted(node, task);
}

void finish_uncounted(struct node *node, struct task *task)
{
	const struct request *r = task->request;

	task->status = NULL;
	task->event = NULL;
	task->is_returned = true;
	post_then_store(node, task, outgoing_again(r, queue_of(node, task), r->retries, r->deliveries, 0, 0));
}

void finish_started(struct node *node, struct task *task)
{
	task->state = TASK_RUNNING;
	task->started_us = clock_mono_us();
	task->started_wall_ms = clock_wall_ms();
	metric_observe_us(node->wait_seconds, task->started_us - task->received_us);
	if (!is_late(node)) {
		acks_done(&node->acks, task->generation, task->tag);
		task->is_acked = true;
	}
	if (node->settings->job.track_started)
		tell(node, task, "STARTED");
	event_started(node, task);
}
