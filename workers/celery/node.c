/* Deliveries, replies and time go in; tasks run, one after another, until the process is asked to stop. */
#include "workers/celery/node.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/base/stop.h"
#include "workers/celery/result.h"

#define TURN_MS 1000          /* longest sleep of the loop: heartbeats of RabbitMQ run inside of amqp_next() */
#define HEARTBEAT_MS 2000
#define STATE_MS 5000
#define CLEANUP_MS (3600 * 1000)
#define BACKPRESSURE 5000     /* messages that wait to be sent: no new jobs until they are fewer */
#define POLLS (CHILDREN_MAX + 8)

static volatile sig_atomic_t quits;

void node_quit(void)
{
	quits++;
	stop_request();
}

/* ---- tasks */

static size_t bucket(struct slice id)
{
	size_t hash = 5381;

	for (size_t i = 0; i < id.len; i++)
		hash = hash * 33 + (unsigned char)id.data[i];
	return hash % NODE_IDS;
}

void node_add(struct node *node, struct task *task)
{
	struct task **head = &node->ids[bucket(task->request->id)];

	task->id_next = *head;
	*head = task;
	task->next = node->tasks;
	if (node->tasks != NULL)
		node->tasks->prev = task;
	node->tasks = task;
	node->task_count++;
}

void node_remove(struct node *node, struct task *task)
{
	struct task **at = &node->ids[bucket(task->request->id)];

	caution_ends(node, task);
	while (*at != task)
		at = &(*at)->id_next;
	*at = task->id_next;
	if (task->next != NULL)
		task->next->prev = task->prev;
	if (task->prev != NULL)
		task->prev->next = task->next;
	else
		node->tasks = task->next;
	node->task_count--;
	task_free(task);
}

struct task *node_find(const struct node *node, struct slice id)
{
	for (struct task *t = node->ids[bucket(id)]; t != NULL; t = t->id_next)
		if (slice_equal(t->request->id, id))
			return t;
	return NULL;
}

uint64_t node_tick(struct node *node)
{
	return ++node->clock;
}

void node_heard(struct node *node, int64_t clock)
{
	if (clock > 0 && (uint64_t)clock > node->clock)
		node->clock = (uint64_t)clock;
	node->clock++;
}

struct task_total *node_total(struct node *node, const struct job_entry *entry)
{
	for (size_t i = 0; i < node->total_count; i++)
		if (node->totals[i].entry == entry)
			return &node->totals[i];
	return NULL;
}

/* ---- queues */

struct queue_entry *node_queue(struct node *node, struct slice name)
{
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next)
		if (slice_is(name, q->name))
			return q;
	return NULL;
}

struct queue_entry *node_queue_of_consumer(struct node *node, struct slice consumer)
{
	slice_cut(&consumer, ' '); /* its number: deliveries of an earlier consumer of that queue may still be on their way */
	return node_queue(node, consumer);
}

/* ---- who runs next */

void node_wait(struct node *node, struct task *task)
{
	task->state = TASK_WAITING;
	task->wait_next = NULL;
	*node->waiting_last = task;
	node->waiting_last = &task->wait_next;
	node->waiting_count++;
	caution_waits(node, task);
}

static int64_t limit(const struct node *node, int64_t own_ms, int64_t by_control_ms, int64_t setting_ms)
{
	(void)node;
	if (own_ms > 0)
		return own_ms;
	return by_control_ms >= 0 ? by_control_ms : setting_ms;
}

static int64_t hard_limit(struct node *node, const struct task *task)
{
	return limit(node, task->request->hard_ms, node_total(node, task->entry)->hard_ms, node->settings->job.hard_time_limit_ms);
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
	task->soft_ms = limit(node, task->request->soft_ms, total->soft_ms, s->soft_time_limit_ms);
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

static bool is_choked(const struct node *node)
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

/* Starts what may start, in order of arrival; when the next rate limit lets one go, in *wake_us. */
static void dispatch(struct node *node, int64_t *wake_us)
{
	struct task **at = &node->waiting;
	const int64_t now_us = clock_mono_us(), now_ms = clock_wall_ms();

	*wake_us = INT64_MAX;
	while (*at != NULL && !is_choked(node)) {
		struct task *task = *at;
		const bool is_expired = task->request->expires_ms > 0 && task->request->expires_ms <= now_ms; /* since it came, both */
		const bool is_revoked = is_expired || node_is_revoked(node, task->request);
		int64_t wait_us = 0;

		if (!is_revoked && (!has_room(node, task) || (wait_us = rates_take(&node->rates, task->request->task, now_us)) > 0)) {
			if (wait_us > 0 && now_us + wait_us < *wake_us)
				*wake_us = now_us + wait_us;
			at = &task->wait_next;
			continue;
		}
		*at = task->wait_next;
		if (*at == NULL)
			node->waiting_last = at;
		node->waiting_count--;
		if (is_revoked)
			finish_revoked(node, task, is_expired ? "expired" : "revoked", false, 0);
		else
			start(node, task);
	}
}

/* What has not been started goes back, or is forgotten where the broker takes it back by itself. */
void node_return_waiting(struct node *node, bool is_lost)
{
	struct task *task;

	while ((task = node->waiting) != NULL) {
		node->waiting = task->wait_next;
		if (is_lost && !task->is_acked) {
			revoked_add(&node->unstarted, task->request->id, clock_wall_ms());
			task->is_acked = true;
			node_remove(node, task);
		} else {
			finish_unstarted(node, task);
		}
	}
	node->waiting_last = &node->waiting;
	node->waiting_count = 0;
}

/* ---- replies */

static void on_ran(void *arg, struct task *task)
{
	finish_ran(arg, task);
}

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

	first = polls(node, fds, is_choked(node));
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
		dispatch(node, wake_us);
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
	return code;
}

/* ---- opening and closing */

/* What a sign of job.node means here: as Celery has them, and the process id. false: nothing. */
static bool add_sign(struct buf *out, char sign, const struct node *node)
{
	const size_t name_len = strcspn(node->host, ".");

	switch (sign) {
	case 'h': buf_add_str(out, node->host); return true;
	case 'n': buf_add(out, node->host, name_len); return true;
	case 'd': buf_add_str(out, node->host + name_len + (node->host[name_len] == '.')); return true;
	case 'p': buf_addf(out, "%d", (int)getpid()); return true;
	case 'i': buf_add_str(out, node->settings->instance); return true;
	case '%': buf_add_char(out, '%'); return true;
	default: return false;
	}
}

/* One that is consumed was bound to the delay before. What goes to others straight, with its eta, may come back here: then it is. */
static bool is_behind_delay(void *arg, const char *queue)
{
	const struct queue_entry *entry = node_queue(arg, slice_of(queue));

	return entry != NULL && entry->is_consumed;
}

static int set_name(struct node *node, struct err *err)
{
	struct buf text = BUF_INIT;
	int rc = -1;

	gethostname(node->host, sizeof(node->host) - 1);
	for (const char *c = node->settings->job.node; *c != '\0'; c++) {
		if (*c != '%') {
			buf_add_char(&text, *c);
		} else if (!add_sign(&text, *++c, node)) {
			err_set(err, ERR_FATAL, "setting job.node: %%%.1s means nothing: %%h, %%n, %%d, %%p, %%i and %%%% do", c);
			goto out;
		}
	}
	if (strchr(text.data, '@') == NULL)
		buf_addf(&text, "@%s", node->host);
	snprintf(node->name, sizeof(node->name), "%s", text.data);
	node->outgoing.node = node->name;
	node->outgoing.is_behind_delay = is_behind_delay;
	node->outgoing.arg = node;
	rc = 0;
out:
	buf_release(&text);
	return rc;
}

static void make_metrics(struct node *node)
{
	static const char *const names[] = { "done", "failed", "again", "ignored", "rejected", "lost" };
	char label[32];

	node->received = metric_counter("feedmill_job_deliveries_total", NULL, "Messages taken from RabbitMQ");
	for (size_t i = 0; i <= JOB_LOST; i++) {
		snprintf(label, sizeof(label), "outcome=\"%s\"", names[i]);
		node->outcomes[i] = metric_counter("feedmill_job_runs_total", label, "Runs of handlers by outcome");
	}
	node->run_seconds = metric_histogram("feedmill_job_run_seconds", NULL, "How long handlers ran");
	node->wait_seconds = metric_histogram("feedmill_job_wait_seconds", NULL, "From the delivery to the start of its handler");
	node->reconnects = metric_counter("feedmill_job_reconnects_total", NULL, "Connections for deliveries that were lost");
	node->dead = metric_counter("feedmill_job_dead_letters_total", NULL, "Messages given up");
	node->retries = metric_counter("feedmill_job_retries_total", NULL, "Jobs sent again by a retry");
	node->deduplicated = metric_counter("feedmill_job_deduplicated_total", NULL, "Deliveries of jobs that had succeeded before, and did not run again");
}

int node_open(struct node *node, const struct settings *settings, int nursery, struct err *err)
{
	const bool has_threads = strcmp(settings->job.pool, "threads") == 0;
	const bool has_table = result_has_table(settings) || settings->job.durable_revokes;

	*node = (struct node){ .settings = settings, .started_mono_ms = clock_mono_ms(), .task_events = settings->job.events,
		.run_ewma_us = NODE_FAST_US };
	node->waiting_last = &node->waiting;
	node->backoff = node->control_backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	if (set_name(node, err) < 0)
		return -1;
	outgoing_uuid4(node->oid);
	revoked_init(&node->revoked, REVOKED_MAX);
	node->revoked.keep_ms = settings->job.revokes_kept_s * 1000;
	revoked_init(&node->unstarted, NODE_REMEMBERED);
	revoked_init(&node->finished, NODE_REMEMBERED);
	node->finished.keep_ms = NODE_FINISHED_MS + settings->amqp.heartbeat_s * 2000;
	settled_init(&node->settled);
	make_metrics(node);
	if (topology_read(node, err) < 0)
		return -1;
	while (job_at(node->total_count) != NULL)
		node->total_count++;
	node->totals = mem_array(node->total_count, sizeof(*node->totals));
	for (size_t i = 0; i < node->total_count; i++)
		node->totals[i] = (struct task_total){ job_at(i), 0, -1, -1 };
	if (rates_read(&node->rates, slice_of(settings->job.rate_limits), err) < 0)
		return -1;
	if (settings->job.state_file[0] != '\0' && revoked_load(&node->revoked, settings->job.state_file, err) < 0)
		return -1;
	inbox_open(&node->inbox);
	node->publisher = publisher_start(settings, &node->inbox);
	if (has_table)
		node->table = result_table_start(settings, &node->inbox);
	if (settings->job.deduplicate_successful && result_has_table(settings) && strcmp(settings->job.acks, "late") == 0)
		node->ask = result_ask_start(settings, &node->inbox);
	if (has_threads)
		node->threads = threads_open(settings, (size_t)settings->job.concurrency, &node->inbox);
	node->children = children_open(settings, nursery, (size_t)settings->job.concurrency, on_ran, node);
	return 0;
}

static void free_queues(struct node *node)
{
	while (node->queues != NULL) {
		struct queue_entry *queue = node->queues;

		node->queues = queue->next;
		free(queue);
	}
}

/* The connections end first: what is not acknowledged goes back to its queue. */
void node_close(struct node *node)
{
	amqp_close(node->amqp);
	amqp_close(node->control);
	children_close(node->children);
	publisher_stop(node->publisher, 2000);
	result_ask_stop(node->ask);
	result_table_stop(node->table, 2000);
	if (!threads_close(node->threads, 1000))
		_exit(EXIT_FAILURE); /* a handler that does not end: its job comes again */
	while (node->tasks != NULL)
		node_remove(node, node->tasks);
	inbox_close(&node->inbox);
	acks_release(&node->acks);
	rates_release(&node->rates);
	revoked_release(&node->revoked);
	revoked_release(&node->unstarted);
	revoked_release(&node->finished);
	settled_release(&node->settled);
	while (node->stamp_count > 0)
		free(node->stamps[--node->stamp_count]);
	free(node->totals);
	free_queues(node);
}
