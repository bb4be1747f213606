/* Deliveries, replies and time go in; the loop turns, until the process is asked to stop and all is settled. */
#include "workers/celery/node.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/notify.h"
#include "common/base/stop.h"
#include "workers/celery/events.h"
#include "workers/celery/finish.h"

#define TURN_MS 1000          /* longest sleep of the loop: heartbeats of RabbitMQ run inside of amqp_next() */
#define HEARTBEAT_MS 2000
#define STATE_MS 5000
#define CLEANUP_MS (3600 * 1000)
#define POLLS (CHILDREN_MAX + 8)
#define EXIT_EXPIRED 2         /* as at a start with such a certificate: nobody is to start it again */
#define CLOCK_MAX ((int64_t)1 << 62) /* what is told beyond is no clock, and would soon be negative */

static volatile sig_atomic_t quits;

void node_quit(void)
{
	quits++;
	stop_request();
}

/* ---- replies */

static void empty_inbox(struct node *node)
{
	struct task *task = inbox_take(&node->inbox), *next;

	for (; task != NULL; task = next) {
		next = task->inbox_next;
		if (task->notice == NOTICE_RAN) {
			threads_taken(node->threads, 1);
			ahead_heard(node);
			finish_ran(node, task);
		} else if (task->notice == NOTICE_POSTED) {
			finish_posted(node, task);
		} else if (task->notice == NOTICE_ASKED) {
			intake_answered(node, task);
		} else {
			finish_stored(node, task);
		}
	}
}

/* ---- time */

static void keep_state(struct node *node, int64_t now, bool is_last)
{
	const char *path = node->settings->job.state_file;
	struct err err = ERR_INIT;

	if (now < node->state_at && !is_last)
		return;
	node->state_at = now + STATE_MS;
	revoked_forget(&node->revoked, clock_wall_ms());
	if (node->amqp != NULL && now - node->consuming_since > node->finished.keep_ms)
		revoked_forget(&node->finished, clock_wall_ms());
	if (path[0] != '\0' && node->revoked.is_changed && revoked_save(&node->revoked, path, &err) < 0)
		log_warn("the state file is not written", log_err(&err));
}

static void on_time(struct node *node)
{
	const int64_t now = clock_mono_ms();
	struct buf news = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t since_ms;

	atomic_store(&node->beat_ms, now);
	if (node->is_ready && notify_is_due(&since_ms))
		notify_alive();
	certificate_turn(node, now);
	links_turn(node, now);
	children_tick(node->children, now);
	atomic_store(&node->is_childless, children_are_missing(node->children));
	ahead_turn(node, now);
	keep_state(node, now, false);
	if (now >= node->heartbeat_at) {
		node->heartbeat_at = now + HEARTBEAT_MS;
		if (node->amqp != NULL)
			event_worker(node, "worker-heartbeat");
	}
	if (node->table != NULL && now >= node->cleanup_at) {
		node->cleanup_at = now + CLEANUP_MS;
		result_table_clean(node->table);
	}
	if (node->table != NULL && result_table_news(node->table, &news)) {
		struct json *list = json_parse_answer((struct slice){ news.data, news.len }, &err);

		revoked_merge(&node->revoked, list);
		json_free(list);
	}
	buf_release(&news);
}

uint64_t node_tick(struct node *node)
{
	return ++node->clock;
}

void node_heard(struct node *node, int64_t clock)
{
	if (clock > 0 && clock < CLOCK_MAX && (uint64_t)clock > node->clock)
		node->clock = (uint64_t)clock;
	node->clock++;
}

/* ---- the end */

void node_leave(struct node *node, bool at_once)
{
	if (node->stage == NODE_RUNNING) {
		node->stage = NODE_DRAINING;
		node->drain_until = clock_mono_ms() + node->settings->drain_timeout_ms;
		log_info("draining", log_int("tasks", (int64_t)node->task_count));
		if (node->amqp != NULL) {
			struct err err = ERR_INIT;

			for (struct queue_entry *q = node->queues; q != NULL; q = q->next)
				if (q->is_consumed)
					amqp_cancel(node->amqp, q->consumer, &err);
		}
		ahead_take_back(node);
		node_return_waiting(node, false);
		result_ask_return(node->ask);
	}
	if (at_once && node->stage == NODE_DRAINING) {
		node->stage = NODE_LEAVING;
		log_warn("leaving without waiting for jobs", log_int("tasks", (int64_t)node->task_count));
		for (struct task *t = node->tasks, *next; t != NULL; t = next) {
			next = t->next;
			if (t->state == TASK_RUNNING && !t->is_in_thread)
				children_signal(node->children, t, SIGKILL);
		}
		node->drain_until = clock_mono_ms() + 3000;
	}
}

/* The first SIGQUIT, also one that comes while a warm shutdown waits for jobs. */
static void turn_cold(struct node *node, int64_t now)
{
	if (quits == 0 || node->is_cold || node->stage != NODE_DRAINING)
		return;
	node->is_cold = true;
	node->drain_until = now + node->settings->job.soft_shutdown_ms;
}

static bool is_over(struct node *node)
{
	const int64_t now = clock_mono_ms();

	if (stop_requested() && node->stage == NODE_RUNNING)
		node_leave(node, false);
	if (node->stage == NODE_RUNNING)
		return false;
	if (node->task_count == 0)
		return true;
	node_return_waiting(node, false); /* what came meanwhile */
	turn_cold(node, now);
	if (node->stage == NODE_DRAINING && (now >= node->drain_until || quits > 1))
		node_leave(node, true);
	return node->stage == NODE_LEAVING && now >= node->drain_until;
}

/* ---- the loop */

static size_t polls(const struct node *node, struct pollfd *fds, bool is_choked_now)
{
	size_t count = 0;

	fds[count++] = (struct pollfd){ .fd = node->inbox.fd, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = node->stage == NODE_RUNNING ? stop_fd() : -1, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = node->amqp != NULL && !is_choked_now ? amqp_fd(node->amqp) : -1, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = node->control != NULL ? amqp_fd(node->control) : -1, .events = POLLIN };
	return count;
}

static int sleep_ms(const struct node *node, int64_t wake_us)
{
	const int64_t now = clock_mono_ms();
	int64_t until = now + TURN_MS;

	if (node->amqp == NULL && node->control != NULL && node->stage == NODE_RUNNING && node->retry_at < until)
		until = node->retry_at;
	if (node->control == NULL && node->control_retry_at < until)
		until = node->control_retry_at;
	until = ahead_next_turn(node, children_next_tick(node->children, until));
	if (wake_us != INT64_MAX && (wake_us + 999) / 1000 < until)
		until = (wake_us + 999) / 1000;
	if (node->stage != NODE_RUNNING && until > now + 50)
		until = now + 50;
	return until > now ? (int)(until - now) : 0;
}

static int turn(struct node *node, int64_t *wake_us, bool *is_busy)
{
	struct pollfd fds[POLLS];
	struct err err = ERR_INIT;
	size_t first, count;
	int more = 0;

	first = polls(node, fds, dispatch_is_choked(node));
	count = first + children_polls(node->children, fds + first);
	poll(fds, (nfds_t)count, *is_busy ? 0 : sleep_ms(node, *wake_us));
	if (node->amqp != NULL && (more = links_read_deliveries(node, &err)) < 0)
		links_lose(node, &err);
	*is_busy = more > 0;
	if (children_look(node->children, fds + first, count - first) < 0)
		return -1;
	empty_inbox(node);
	if (fds[3].revents != 0 || clock_mono_ms() >= node->control_at) { /* now and then unasked: an answer may have brought more with it */
		node->control_at = clock_mono_ms() + TURN_MS / 2;
		links_read_control(node);
	}
	on_time(node);
	if (node->stage == NODE_RUNNING) {
		dispatch_turn(node, wake_us);
		caution_turn(node);
	}
	err_clear(&err);
	if (node->amqp != NULL && acks_flush(&node->acks, node->amqp, &err) < 0)
		links_lose(node, &err);
	return 0;
}

int node_run(struct node *node)
{
	int64_t wake_us = INT64_MAX;
	bool is_busy = false;
	int code = EXIT_SUCCESS;

	while (!is_over(node)) {
		if (turn(node, &wake_us, &is_busy) < 0) {
			log_error("the process that makes child processes is gone");
			code = EXIT_FAILURE;
			break;
		}
	}
	event_worker(node, "worker-offline");
	keep_state(node, 0, true);
	return node->is_expiring && code == EXIT_SUCCESS ? EXIT_EXPIRED : code;
}
