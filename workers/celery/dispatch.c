/* Tasks that wait go in; by priority, and then in order of arrival, or the oldest first where they have waited long, each starts when its pool has room and its rate limit lets it, unless it is
 * revoked by then. */
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "workers/celery/finish.h"
#include "workers/celery/node.h"

#define BACKPRESSURE 5000 /* messages that wait to be sent: no new jobs until they are fewer */
#define PATIENCE_US (60 * INT64_C(1000000)) /* so long priorities decide; RabbitMQ waits 30 minutes for an acknowledgement */

void node_wait(struct node *node, struct task *task)
{
	task->state = TASK_WAITING;
	waiting_add(&node->waiting, task);
	caution_waits(node, task);
}

static int64_t limit(int64_t own_ms, int64_t by_control_ms, int64_t setting_ms)
{
	if (own_ms > 0)
		return own_ms;
	return by_control_ms >= 0 ? by_control_ms : setting_ms;
}

static int64_t hard_limit(struct node *node, const struct task *task)
{
	return limit(task->request->hard_ms, node_total(node, task->entry)->hard_ms, node->settings->job.hard_time_limit_ms);
}

/* A thread can't be ended: what has a hard limit runs in a child. */
static bool goes_to_thread(struct node *node, const struct task *task)
{
	return node->threads != NULL && task->entry->is_thread_safe && hard_limit(node, task) == 0;
}

static bool has_room(struct node *node, const struct task *task)
{
	if (!goes_to_thread(node, task))
		return children_have_room(node->children);
	return threads_in_hand(node->threads) < threads_count(node->threads) + ahead_room(node, task);
}

static void start(struct node *node, struct task *task)
{
	struct task_total *total = node_total(node, task->entry);
	const struct job_settings *s = &node->settings->job;

	total->count++;
	task->soft_ms = limit(task->request->soft_ms, total->soft_ms, s->soft_time_limit_ms);
	caution_starts(node, task);
	if (goes_to_thread(node, task)) {
		task->is_in_thread = true;
		task->worker_pid = getpid();
		if (threads_in_hand(node->threads) == 0)
			ahead_heard(node);
		finish_started(node, task);
		threads_start(node->threads, task);
		return;
	}
	children_start(node->children, task, task->soft_ms, hard_limit(node, task));
	FAULT_POINT("job.started");
	finish_started(node, task);
}

bool dispatch_is_choked(const struct node *node)
{
	return publisher_depth(node->publisher) > BACKPRESSURE || (node->table != NULL && result_table_depth(node->table) > BACKPRESSURE);
}

/* One of the stamps has one of the values. */
static bool has_stamp(const struct json *stamps, const struct json *wanted)
{
	const struct json *has = json_get(stamps, json_key(wanted));
	const struct json *value = json_type(wanted) == JSON_ARRAY ? json_first(wanted) : wanted;

	for (; has != NULL && value != NULL; value = json_type(wanted) == JSON_ARRAY ? json_next(value) : NULL) {
		const struct json *own = json_type(has) == JSON_ARRAY ? json_first(has) : has;

		for (; own != NULL; own = json_type(has) == JSON_ARRAY ? json_next(own) : NULL)
			if (json_type(own) == json_type(value) && slice_equal(json_string(own), json_string(value)) &&
				slice_equal(json_number(own), json_number(value)))
				return true;
	}
	return false;
}

bool node_stamp_matches(const struct json *wanted, const struct request *request)
{
	struct err err = ERR_INIT;
	struct json *stamps = request->stamps.len > 2 ? json_parse_answer(request->stamps, &err) : NULL;
	bool is_match = false;

	for (const struct json *w = stamps != NULL ? json_first(wanted) : NULL; w != NULL && !is_match; w = json_next(w))
		is_match = has_stamp(stamps, w);
	json_free(stamps);
	return is_match;
}

bool node_is_revoked(const struct node *node, const struct request *request)
{
	bool is = revoked_has(&node->revoked, request->id);

	for (size_t i = 0; i < node->stamp_count && !is; i++) {
		struct err err = ERR_INIT;
		struct json *wanted = json_parse_answer(slice_of(node->stamps[i]), &err);

		is = wanted != NULL && node_stamp_matches(wanted, request);
		json_free(wanted);
	}
	return is;
}

void dispatch_turn(struct node *node, int64_t *wake_us)
{
	struct task *before = NULL, *task; /* before: the last of those that stay */
	const int64_t now_us = clock_mono_us(), now_ms = clock_wall_ms();

	*wake_us = INT64_MAX;
	waiting_age(&node->waiting, now_us - PATIENCE_US);
	while ((task = waiting_next(&node->waiting, before)) != NULL && !dispatch_is_choked(node)) {
		const bool is_expired = task->request->expires_ms > 0 && task->request->expires_ms <= now_ms; /* since it came, both */
		const bool is_revoked = is_expired || node_is_revoked(node, task->request);
		int64_t wait_us = 0;

		if (!is_revoked && (!has_room(node, task) || (wait_us = rates_take(&node->rates, task->request->task, now_us)) > 0)) {
			if (wait_us > 0 && now_us + wait_us < *wake_us)
				*wake_us = now_us + wait_us;
			before = task;
			continue;
		}
		waiting_take(&node->waiting, before);
		if (is_revoked)
			finish_revoked(node, task, is_expired ? "expired" : "revoked", false, 0);
		else
			start(node, task);
	}
}

void node_return_waiting(struct node *node, bool is_lost)
{
	struct task *task;

	while ((task = waiting_take(&node->waiting, NULL)) != NULL) {
		if (is_lost && !task->is_acked) {
			revoked_add(&node->unstarted, task->request->id, clock_wall_ms());
			task->is_acked = true;
			node_remove(node, task);
		} else {
			finish_unstarted(node, task);
		}
	}
}
