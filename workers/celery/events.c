/* What happens to tasks and to this node goes in, messages on the exchange celeryev come out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/program.h"
#include "workers/celery/events.h"
#include "workers/celery/node.h"
#include "workers/celery/python.h"

#define REPR_MAX 1024
#define HEARTBEAT_S 2.0

static void put_double(struct json_writer *w, const char *key, double value)
{
	char text[40];

	snprintf(text, sizeof(text), "%.6f", value);
	json_put_raw(w, key, slice_of(text));
}

/* Hours west of UTC, now; a zone that is half an hour off has a fraction, as Celery 5.7 writes it. */
static void put_offset(struct json_writer *w)
{
	const time_t now = (time_t)(clock_wall_ms() / 1000);
	struct tm local = { .tm_gmtoff = 0 };

	localtime_r(&now, &local);
	if (local.tm_gmtoff % 3600 == 0)
		json_put_int(w, "utcoffset", local.tm_gmtoff / -3600);
	else
		put_double(w, "utcoffset", (double)local.tm_gmtoff / -3600);
}

static void begin(struct node *node, struct event *event, const char *type)
{
	event->body = (struct buf)BUF_INIT;
	event->w = (struct json_writer)JSON_WRITER(&event->body);
	json_open(&event->w, NULL, '{');
	json_put_string(&event->w, "type", slice_of(type));
	json_put_string(&event->w, "hostname", slice_of(node->name));
	put_double(&event->w, "timestamp", (double)clock_wall_ms() / 1000);
	put_offset(&event->w);
	json_put_int(&event->w, "pid", getpid());
	json_put_int(&event->w, "clock", (int64_t)node_tick(node));
}

void event_send(struct node *node, struct event *event, const char *type)
{
	struct buf headers = BUF_INIT;
	struct json_writer w = JSON_WRITER(&headers);
	char key[64];
	struct post *post;

	snprintf(key, sizeof(key), "%s", type);
	for (char *c = key; *c != '\0'; c++)
		if (*c == '-')
			*c = '.';
	json_close(&event->w, '}');
	post = post_new(slice_of("celeryev"), slice_of(key));
	json_open(&w, NULL, '{');
	json_put_string(&w, "hostname", slice_of(node->name));
	json_close(&w, '}');
	post_headers(post, buf_slice(&headers));
	post_json(post);
	post->is_plain = !node->settings->job.security_events;
	buf_add(&post->body, event->body.data, event->body.len);
	publisher_send(node->publisher, post);
	buf_release(&headers);
	buf_release(&event->body);
}

bool event_begin(struct node *node, struct event *event, const char *type, const struct task *task)
{
	if (!node->task_events)
		return false;
	begin(node, event, type);
	json_put_string(&event->w, "uuid", task->request->id);
	return true;
}

/* ---- this node */

void event_worker(struct node *node, const char *type)
{
	struct event event;
	double load[3] = { 0, 0, 0 };
	int64_t active = 0;

	for (const struct task *t = node->tasks; t != NULL; t = t->next)
		active += t->state == TASK_RUNNING;
	getloadavg(load, 3);
	begin(node, &event, type);
	put_double(&event.w, "freq", HEARTBEAT_S);
	json_put_int(&event.w, "active", active);
	json_put_int(&event.w, "processed", node->processed);
	json_open(&event.w, "loadavg", '[');
	for (int i = 0; i < 3; i++)
		put_double(&event.w, NULL, load[i]);
	json_close(&event.w, ']');
	json_put_string(&event.w, "sw_ident", slice_of("feedmill"));
	json_put_string(&event.w, "sw_ver", slice_of(FEEDMILL_VERSION));
	json_put_string(&event.w, "sw_sys", slice_of("Linux"));
	event_send(node, &event, type);
}

/* ---- tasks */

static void put_or_null(struct json_writer *w, const char *key, struct slice text)
{
	if (text.len > 0)
		json_put_string(w, key, text);
	else
		json_put_raw(w, key, slice_of("null"));
}

static void put_repr(struct json_writer *w, const char *key, struct slice given, const struct json *node)
{
	struct buf text = BUF_INIT;

	if (given.len == 0)
		python_repr(&text, node, REPR_MAX);
	json_put_string(w, key, given.len > 0 ? given : buf_slice(&text));
	buf_release(&text);
}

void event_received(struct node *node, const struct task *task)
{
	struct request *r = task->request;
	struct event event;

	if ((r->is_received && !r->redelivered) || !event_begin(node, &event, "task-received", task))
		return;
	r->is_received = true;
	json_put_string(&event.w, "name", r->task);
	put_repr(&event.w, "args", r->argsrepr, r->args);
	put_repr(&event.w, "kwargs", r->kwargsrepr, r->kwargs);
	put_or_null(&event.w, "root_id", r->root_id);
	put_or_null(&event.w, "parent_id", r->parent_id);
	json_put_int(&event.w, "retries", r->retries);
	put_or_null(&event.w, "eta", r->eta);
	put_or_null(&event.w, "expires", r->expires);
	event_send(node, &event, "task-received");
}

void event_started(struct node *node, const struct task *task)
{
	struct event event;

	if (event_begin(node, &event, "task-started", task))
		event_send(node, &event, "task-started");
}

static void put_exception(struct json_writer *w, const struct task *task)
{
	struct buf text = BUF_INIT;

	python_exception_repr(&text, &task->reply);
	json_put_string(w, "exception", buf_slice(&text));
	json_put_string(w, "traceback", buf_slice(&task->reply.trace));
	buf_release(&text);
}

void event_settled(struct node *node, const struct task *task)
{
	struct event event;
	struct buf text = BUF_INIT;

	if (task->event == NULL || !event_begin(node, &event, task->event, task))
		return;
	if (strcmp(task->event, "task-succeeded") == 0) {
		python_repr_json(&text, buf_slice(&task->reply.result), REPR_MAX);
		json_put_string(&event.w, "result", buf_slice(&text));
		put_double(&event.w, "runtime", (double)(clock_mono_us() - task->started_us) / 1e6);
	} else if (strcmp(task->event, "task-revoked") == 0) {
		json_put_bool(&event.w, "terminated", task->is_terminated);
		if (task->is_terminated)
			json_put_int(&event.w, "signum", task->terminated_by);
		else
			json_put_raw(&event.w, "signum", slice_of("null"));
		json_put_bool(&event.w, "expired", strstr(task->reply.arguments.data, "expired") != NULL);
	} else if (strcmp(task->event, "task-rejected") == 0) {
		json_put_bool(&event.w, "requeue", task->end == END_REQUEUE || task->reply.outcome == JOB_LOST);
	} else {
		put_exception(&event.w, task);
	}
	event_send(node, &event, task->event);
	buf_release(&text);
}
