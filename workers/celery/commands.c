/* Orders of `celery control` go in, this node changes, and says so. */
#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "workers/celery/control.h"
#include "workers/celery/events.h"
#include "workers/celery/result.h"

/* As Python takes it: Flower writes 1. */
static bool is_true(const struct json *node)
{
	int64_t number;

	return node != NULL && (json_type(node) == JSON_BOOL ? json_bool(node) : json_int64(node, &number) && number != 0);
}

/* ---- revoke */

/* "SIGTERM", "TERM", 15, "15"; nothing: TERM. */
static int signal_of(const struct json *arguments)
{
	const struct json *node = json_get(arguments, "signal");
	const struct slice text = node != NULL ? json_string(node) : SLICE_NONE;
	int64_t number = 0;

	if (node != NULL && (json_int64(node, &number) || str_int64(text, &number)))
		return number > 0 && number < 32 ? (int)number : 0;
	if (text.len == 0)
		return SIGTERM;
	for (int n = 1; n < 32; n++) {
		const char *name = sigabbrev_np(n);

		if (name != NULL && (slice_is_nocase(text, name) || (text.len > 3 && slice_is_nocase((struct slice){ text.data + 3, text.len - 3 }, name))))
			return n;
	}
	return 0;
}

static bool terminate_one(struct node *node, struct slice id, int number)
{
	struct task *task = node_find(node, id);

	if (task == NULL || task->state != TASK_RUNNING || task->is_in_thread)
		return false;
	task->is_terminated = true;
	task->terminated_by = number;
	return children_signal(node->children, task, number);
}

static void keep(struct node *node, struct slice id)
{
	const struct task *task = node_find(node, id);
	struct result_row *row;

	if (!revoked_add(&node->revoked, id, clock_wall_ms()))
		return;
	if (node->table != NULL && node->settings->job.durable_revokes && id.len <= REQUEST_ID_MAX) {
		row = result_row_new(id, "");
		row->is_revoke = true;
		row->done_wall_ms = clock_wall_ms();
		result_table_add(node->table, row);
	}
	if (task == NULL || (task->state == TASK_POSTING && task->status == NULL)) /* or on its way elsewhere: for later, say */
		result_revoked(node, id);
}

static void revoke_one(struct node *node, struct slice id, int number, struct buf *terminated)
{
	if (id.len == 0)
		return;
	keep(node, id);
	if (number > 0 && terminate_one(node, id, number))
		buf_addf(terminated, "%s%.*s", terminated->len > 0 ? ", " : "", (int)(id.len < 80 ? id.len : 80), id.data);
}

static void revoke_all(struct node *node, const struct json *arguments, int number, bool is_terminating, struct buf *out)
{
	const struct json *ids = json_get(arguments, "task_id");
	struct buf terminated = BUF_INIT;

	if (ids != NULL && json_type(ids) == JSON_STRING)
		revoke_one(node, json_string(ids), number, &terminated);
	for (const struct json *id = ids != NULL && json_type(ids) == JSON_ARRAY ? json_first(ids) : NULL; id != NULL; id = json_next(id))
		revoke_one(node, json_string(id), number, &terminated);
	if (!is_terminating)
		control_ok(out, "tasks %.200s flagged as revoked", ids != NULL && json_type(ids) == JSON_STRING ? json_string(ids).data : "listed");
	else if (terminated.len > 0)
		control_ok(out, "terminate: %.1800s", terminated.data);
	else
		control_ok(out, "terminate: tasks unknown");
	buf_release(&terminated);
}

void command_revoke(struct node *node, const struct json *arguments, struct buf *out)
{
	const bool is_terminating = is_true(json_get(arguments, "terminate"));
	const int number = is_terminating ? signal_of(arguments) : 0;

	if (is_terminating && number == 0)
		control_error(out, "no such signal");
	else
		revoke_all(node, arguments, number, is_terminating, out);
}

void command_terminate(struct node *node, const struct json *arguments, struct buf *out)
{
	const int number = signal_of(arguments);

	if (number == 0)
		control_error(out, "no such signal");
	else
		revoke_all(node, arguments, number, true, out);
}

/* false: there is no room. */
static bool keep_stamps(struct node *node, const struct buf *text)
{
	for (size_t i = 0; i < node->stamp_count; i++)
		if (strcmp(node->stamps[i], text->data) == 0)
			return true;
	if (node->stamp_count == NODE_STAMPS_MAX)
		return false;
	node->stamps[node->stamp_count++] = mem_dup(text->data, text->len);
	return true;
}

/* As `celery control` sends them: ["name=value", …]; of two with a name the later one holds. false: one is none. */
static bool read_stamps(const struct json *list, struct buf *object)
{
	struct json_writer w = JSON_WRITER(object);
	size_t count = 0;

	json_open(&w, NULL, '{');
	for (const struct json *item = json_first(list); item != NULL; item = json_next(item)) {
		struct slice value = json_string(item);
		const struct slice name = slice_cut(&value, '=');
		bool is_last = true;
		char key[256];

		if (value.data == NULL || name.len == 0 || name.len >= sizeof(key) || ++count > NODE_STAMPS_MAX)
			return false;
		for (const struct json *later = json_next(item); later != NULL; later = json_next(later)) {
			struct slice rest = json_string(later);

			is_last = is_last && !slice_equal(slice_cut(&rest, '='), name);
		}
		snprintf(key, sizeof(key), "%.*s", (int)name.len, name.data);
		if (is_last)
			json_put_string(&w, key, value);
	}
	json_close(&w, '}');
	return true;
}

static void revoke_stamps(struct node *node, const struct json *arguments, const struct json *headers, struct buf *out)
{
	const bool is_terminating = is_true(json_get(arguments, "terminate"));
	const int number = is_terminating ? signal_of(arguments) : 0;
	struct buf text = BUF_INIT;

	json_write_node(&text, headers);
	if (!keep_stamps(node, &text)) {
		control_error(out, "%d sets of headers are revoked already: this one is not", NODE_STAMPS_MAX);
		buf_release(&text);
		return;
	}
	for (struct task *t = node->tasks; t != NULL; t = t->next)
		if (number > 0 && t->state == TASK_RUNNING && node_stamp_matches(headers, t->request))
			terminate_one(node, t->request->id, number);
	control_ok(out, "headers %.1500s flagged as revoked", text.data);
	buf_release(&text);
}

void command_revoke_by_stamps(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct json *headers = json_get(arguments, "headers");
	struct buf object = BUF_INIT;
	struct err err = ERR_INIT;
	struct json *read = NULL;

	if (headers != NULL && json_type(headers) == JSON_ARRAY) {
		if (read_stamps(headers, &object))
			read = json_parse_answer((struct slice){ object.data, object.len }, &err);
		headers = read;
	}
	if (headers != NULL && json_type(headers) == JSON_OBJECT)
		revoke_stamps(node, arguments, headers, out);
	else
		control_error(out, "headers is no object, or one of its list is no name=value");
	json_free(read);
	buf_release(&object);
}

/* ---- limits */

void command_rate_limit(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct json *limit = json_get(arguments, "rate_limit");
	const struct slice name = control_text(arguments, "task_name");
	struct slice text = limit != NULL ? json_string(limit) : SLICE_NONE;
	struct err err = ERR_INIT;

	if (limit != NULL && json_type(limit) == JSON_NUMBER)
		text = json_number(limit);
	if (job_find(name) == NULL)
		control_error(out, "unknown task");
	else if (rates_set(&node->rates, name, text, clock_mono_us(), &err) < 0)
		control_error(out, "%s", err.message);
	else if (rates_text(&node->rates, name) == NULL)
		control_ok(out, "rate limit disabled successfully");
	else
		control_ok(out, "new rate limit set successfully");
}

static int64_t seconds_ms(const struct json *arguments, const char *name)
{
	const struct json *node = json_get(arguments, name);
	const double seconds = node != NULL && json_type(node) == JSON_NUMBER ? strtod(json_number(node).data, NULL) : -1;

	return seconds >= 0 && seconds < 1e8 ? (int64_t)(seconds * 1000) : -1;
}

void command_time_limit(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct job_entry *entry = job_find(control_text(arguments, "task_name"));
	struct task_total *total = entry != NULL ? node_total(node, entry) : NULL;

	if (total == NULL) {
		control_error(out, "unknown task");
		return;
	}
	total->soft_ms = seconds_ms(arguments, "soft");
	total->hard_ms = seconds_ms(arguments, "hard");
	control_ok(out, "time limits set successfully");
}

/* ---- events */

void command_enable_events(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	control_ok(out, node->task_events ? "task events already enabled" : "task events enabled");
	node->task_events = true;
}

/* A worker that was started with events keeps them, as Celery's -E does. */
void command_disable_events(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	control_ok(out, node->task_events && !node->settings->job.events ? "task events disabled" : "task events already disabled");
	node->task_events = node->settings->job.events;
}

void command_heartbeat(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	(void)out;
	event_worker(node, "worker-heartbeat");
}

/* Nothing here is elected. */
void command_election(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	(void)out;
}

/* ---- the pool */

static int64_t number_of(const struct json *arguments)
{
	const struct json *n = json_get(arguments, "n");
	int64_t number = 1;

	if (n != NULL && (!json_int64(n, &number) || number < 0 || number > CHILDREN_MAX))
		return 0;
	return number;
}

/* What is taken ahead goes by the threads, whose number is fixed. */
static bool is_fixed(const struct node *node, struct buf *out)
{
	if (node->threads != NULL)
		control_error(out, "a pool of threads (job.pool) neither grows nor shrinks: job.concurrency says how many there are");
	return node->threads != NULL;
}

void command_pool_grow(struct node *node, const struct json *arguments, struct buf *out)
{
	if (is_fixed(node, out))
		return;
	children_resize(node->children, children_count(node->children) + (size_t)number_of(arguments));
	control_ok(out, "pool will grow");
}

void command_pool_shrink(struct node *node, const struct json *arguments, struct buf *out)
{
	const size_t by = (size_t)number_of(arguments), now = children_count(node->children);

	if (is_fixed(node, out))
		return;
	children_resize(node->children, now > by ? now - by : 1);
	control_ok(out, "pool will shrink");
}

void command_pool_restart(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	children_restart(node->children);
	control_ok(out, "reload started");
}

void command_autoscale(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	control_error(out, "ValueError('Autoscale not enabled')");
}

void command_shutdown(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	(void)out;
	stop_request();
}

/* ---- queues */

static void copy(char *out, size_t size, struct slice text, const char *otherwise)
{
	if (text.len > 0)
		snprintf(out, size, "%.*s", (int)text.len, text.data);
	else
		snprintf(out, size, "%s", otherwise);
}

static bool is_exchange_type(struct slice type)
{
	static const char *const types[] = { "", "direct", "topic", "fanout", "headers" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (slice_is(type, types[i]))
			return true;
	return false;
}

/* RabbitMQ would end the connection for it, or nothing of that name can be sent. */
static bool is_refused(const struct json *arguments, struct buf *out)
{
	const struct slice name = control_text(arguments, "queue");

	if (name.len == 0 || name.len > NODE_QUEUE_NAME_MAX)
		control_error(out, "no queue of that name can be");
	else if (!is_exchange_type(control_text(arguments, "exchange_type")))
		control_error(out, "exchange_type is not direct, topic, fanout or headers");
	else if (control_text(arguments, "exchange").len > 255 || control_text(arguments, "routing_key").len > 253)
		control_error(out, "exchange or routing_key is too long");
	else
		return false;
	return true;
}

void command_add_consumer(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct slice name = control_text(arguments, "queue");
	struct queue_entry *queue = node_queue(node, name), **last = &node->queues;

	if (is_refused(arguments, out))
		return;
	if (queue == NULL) {
		queue = mem_zalloc(sizeof(*queue));
		copy(queue->name, sizeof(queue->name), name, "");
		while (*last != NULL)
			last = &(*last)->next;
		*last = queue;
	}
	if (!queue->is_wanted) {
		copy(queue->exchange, sizeof(queue->exchange), control_text(arguments, "exchange"), queue->name);
		copy(queue->type, sizeof(queue->type), control_text(arguments, "exchange_type"), node->settings->job.exchange_type);
		copy(queue->key, sizeof(queue->key), control_text(arguments, "routing_key"), queue->name);
		queue->is_wanted = queue->is_added = true;
		node->consume_at = 0;
	}
	control_ok(out, "add consumer %s", queue->name);
}

void command_cancel_consumer(struct node *node, const struct json *arguments, struct buf *out)
{
	struct queue_entry *queue = node_queue(node, control_text(arguments, "queue"));
	struct err err = ERR_INIT;

	if (queue != NULL && queue->is_wanted) {
		queue->is_wanted = false;
		if (queue->is_consumed && node->amqp != NULL)
			amqp_cancel(node->amqp, queue->consumer, &err); /* lost: the loop will see */
		queue->is_consumed = false;
	}
	control_ok(out, "no longer consuming from %.*s", (int)(control_text(arguments, "queue").len < 200 ? control_text(arguments, "queue").len : 200),
		control_text(arguments, "queue").len > 0 ? control_text(arguments, "queue").data : "");
}
