/* A delivery goes in; a task that waits for a slot comes out, or the message ends here: unreadable, unknown, revoked, expired, too
 * often delivered, or for later. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "workers/celery/events.h"
#include "workers/celery/finish.h"
#include "workers/celery/node.h"

/* The broker says that it was delivered before, and not how often on a classic queue: our own count goes with the message. */
static bool is_delivered_too_often(const struct node *node, const struct task *task)
{
	const struct request *r = task->request;

	return strcmp(node->settings->job.acks, "late") == 0 && r->deliveries >= node->settings->job.delivery_limit;
}

/* It was delivered before and nobody counted: it goes round once more with the count in a header. A quorum queue counts by itself. */
static bool must_be_counted(const struct node *node, const struct task *task)
{
	const struct request *r = task->request;

	return r->redelivered && strcmp(node->settings->job.acks, "late") == 0 && !task->is_forgiven &&
		amqp_table_value(&r->delivery->properties.headers, "x-delivery-count") == NULL;
}

/* The other way round: RabbitMQ has counted a delivery of which this node knows that it began nothing. Only a copy has a lower count. */
static bool is_counted_too_high(const struct node *node, const struct task *task)
{
	return task->is_forgiven && task->request->counted_by_broker > 0 && strcmp(node->settings->job.acks, "late") == 0;
}

static void forgive(struct node *node, struct task *task)
{
	struct request *r = task->request;

	task->is_forgiven = r->redelivered && revoked_take(&node->unstarted, r->id);
	if (is_counted_too_high(node, task))
		r->deliveries--;
}

/* Else it is a retry of the other, or a copy of it: a message of its own, although of the same id. */
static bool is_same_message(const struct task *one, const struct task *other)
{
	char room[2][TASK_KEY_MAX];

	return slice_equal(task_key(one, room[0]), task_key(other, room[1]));
}

/* It ended here, or was sent on, and its acknowledgement was lost. Known once: the next one like it is another message, of an id that is used
 * again and again, say; and so is one that was not delivered before. */
static bool was_finished(struct node *node, const struct task *task)
{
	char room[TASK_KEY_MAX];

	return node->finished.count > 0 && revoked_take(&node->finished, task_key(task, room)) && task->request->redelivered;
}

/* The connection was lost while it ran here, and the broker delivers it again: it is still running, and this is its tag now. */
static bool adopted(struct node *node, struct task *new)
{
	struct task *old = node_find(node, new->request->id);

	while (old != NULL && (old == new || old->generation == new->generation || old->is_acked || !is_same_message(old, new)))
		old = old->id_next;
	if (old == NULL || !new->request->redelivered || old->state == TASK_WAITING)
		return false;
	old->tag = new->tag;
	old->generation = new->generation;
	new->is_acked = true; /* not by this one */
	node_remove(node, new);
	return true;
}

static int64_t seconds_until(int64_t wall_ms)
{
	const int64_t left = wall_ms - clock_wall_ms();

	return left > 0 ? (left + 999) / 1000 : 0;
}

/* A copy of ours counts as well: it was made of a message that was delivered before, or follows a task that was. */
static bool may_have_succeeded(const struct node *node, const struct task *task)
{
	const struct request *r = task->request;

	return node->ask != NULL && task->entry != NULL && (r->redelivered || r->is_repeat || r->deliveries > 0);
}

/* The connection that it came by is lost: it comes again, and is asked about again. What is yet to be counted is counted then. */
static void forget(struct node *node, struct task *task)
{
	if (!must_be_counted(node, task))
		revoked_add(&node->unstarted, task->request->id, clock_wall_ms());
	task->is_acked = true;
	node_remove(node, task);
}

/* Back to its queue, with the earlier delivery on its count, if nobody counted that. */
static void give_back(struct node *node, struct task *task)
{
	if (must_be_counted(node, task))
		task->request->deliveries++;
	finish_unstarted(node, task);
}

/* As Celery says it: what is revoked or expired was never received, what is for later was, once. */
static void put_off(struct node *node, struct task *task, int64_t delay_s)
{
	event_received(node, task);
	finish_later(node, task, delay_s);
}

static void reserve(struct node *node, struct task *task)
{
	event_received(node, task);
	node_wait(node, task);
}

static bool is_cleanup(const struct request *request)
{
	return slice_is(request->task, "celery.backend_cleanup");
}

static void clean(struct node *node, struct task *task)
{
	event_received(node, task);
	finish_cleaned(node, task);
}

static void route(struct node *node, struct task *task)
{
	const struct request *r = task->request;
	const int64_t later = r->eta_ms > 0 ? seconds_until(r->eta_ms) : 0;

	if (r->expires_ms > 0 && r->expires_ms <= clock_wall_ms())
		finish_revoked(node, task, "expired", false, 0);
	else if (node_is_revoked(node, r))
		finish_revoked(node, task, "revoked", false, 0);
	else if (task->entry == NULL && !is_cleanup(r))
		finish_unknown(node, task);
	else if (is_delivered_too_often(node, task))
		finish_dead(node, task, "delivered too often");
	else if (later > 0)
		put_off(node, task, later);
	else if (must_be_counted(node, task))
		finish_counted(node, task);
	else if (is_counted_too_high(node, task))
		finish_uncounted(node, task);
	else if (task->entry == NULL)
		clean(node, task);
	else
		reserve(node, task);
}

void intake(struct node *node, struct queue_entry *queue, struct amqp_delivery *delivery)
{
	struct err why = ERR_INIT;
	struct request *request = request_read_signed(delivery, node->signer, &why);
	struct task *task = task_new(request != NULL ? request : request_bare(delivery));

	acks_seen(&node->acks, delivery->tag);
	metric_add(node->received, 1);
	task->queue = queue;
	if (queue != NULL)
		queue->deliveries++;
	task->tag = delivery->tag;
	task->generation = delivery->generation;
	node_add(node, task);
	FAULT_POINT("job.delivered");
	if (request == NULL) {
		log_warn("message refused", log_slice("queue", delivery->routing_key), log_err(&why));
		finish_unreadable(node, task, why.message);
		return;
	}
	task->entry = job_find(request->task);
	if (adopted(node, task))
		return;
	if (was_finished(node, task)) {
		log_info("a delivery that came again: it was done here", log_slice("task", request->task), log_slice("id", request->id));
		finish_again(node, task);
		return;
	}
	forgive(node, task);
	if (!may_have_succeeded(node, task)) {
		route(node, task);
		return;
	}
	task->state = TASK_ASKING;
	result_ask_add(node->ask, task);
}

void intake_answered(struct node *node, struct task *task)
{
	const struct request *r = task->request;
	const bool is_readable = task->reply.result.len > 0, is_followed = r->callbacks != NULL || r->chain != NULL;

	FAULT_POINT("job.answered");
	if (task->generation != node->acks.generation) {
		forget(node, task);
		return;
	}
	if (node->stage != NODE_RUNNING) {
		give_back(node, task);
		return;
	}
	task->state = TASK_WAITING;
	if (!task->has_succeeded || (is_followed && !is_readable)) { /* without its result what follows can't be made: it has to run */
		buf_reset(&task->reply.result);
		route(node, task);
		return;
	}
	metric_add(node->deduplicated, 1);
	event_received(node, task);
	log_info("job not run again: it had succeeded", log_slice("task", r->task), log_slice("id", r->id));
	if (is_readable) {
		finish_succeeded(node, task);
		return;
	}
	task->event = "task-succeeded"; /* of what it can't say the result */
	task->started_us = clock_mono_us();
	finish_again(node, task);
}
