/* A task with its status and reply goes in, its result as Celery's back ends keep it comes out. */
#include "workers/celery/result.h"

#include <string.h>

#include "common/base/clock.h"
#include "workers/celery/msgpack.h"
#include "workers/celery/option.h"
#include "workers/celery/python.h"

static bool is_final(const char *status)
{
	return strcmp(status, "SUCCESS") == 0 || strcmp(status, "FAILURE") == 0 || strcmp(status, "REVOKED") == 0;
}

/* The value: what was returned, an exception, or who runs it. */
static void write_value(struct buf *out, const struct node *node, const struct task *task)
{
	struct json_writer w = JSON_WRITER(out);

	if (strcmp(task->status, "SUCCESS") == 0) {
		buf_add(out, task->reply.result.data, task->reply.result.len);
	} else if (strcmp(task->status, "STARTED") == 0) {
		json_open(&w, NULL, '{');
		json_put_int(&w, "pid", task->worker_pid);
		json_put_string(&w, "hostname", slice_of(node->name));
		json_close(&w, '}');
	} else {
		python_exception(out, &task->reply);
	}
}

static void put_or_null(struct json_writer *w, const char *key, struct slice text)
{
	if (text.len > 0)
		json_put_string(w, key, text);
	else
		json_put_raw(w, key, slice_of("null"));
}

/* Each stamp of the message, by its own name. One that is called as another member is would take its place. */
static void put_stamps(struct json_writer *w, const struct request *r)
{
	static const char *const taken[] = { "task_id", "status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "name", "args",
		"kwargs", "worker", "retries", "queue", "stamped_headers" };
	struct err err = ERR_INIT;
	struct json *stamps = r->stamps.len > 2 && r->stamped_headers.len > 2 ? json_parse_answer(r->stamps, &err) : NULL;

	if (stamps == NULL)
		return;
	json_put_raw(w, "stamped_headers", r->stamped_headers);
	for (const struct json *s = json_first(stamps); s != NULL; s = json_next(s)) {
		size_t i = 0;

		while (i < sizeof(taken) / sizeof(taken[0]) && strcmp(taken[i], json_key(s)) != 0)
			i++;
		if (i < sizeof(taken) / sizeof(taken[0]))
			continue;
		json_put_node(w, json_key(s), s);
	}
	json_free(stamps);
}

static void put_extended(struct json_writer *w, const struct node *node, const struct task *task)
{
	const struct request *r = task->request;

	json_put_string(w, "name", r->task);
	json_put_node(w, "args", r->args);
	json_put_node(w, "kwargs", r->kwargs);
	json_put_string(w, "worker", slice_of(node->name));
	json_put_int(w, "retries", r->retries);
	json_put_string(w, "queue", slice_of(task->queue != NULL ? task->queue->name : ""));
	put_stamps(w, r);
}

bool result_is_packed(const struct node *node, bool is_msgpack)
{
	return is_msgpack && strcmp(node->settings->job.result_serializer, "msgpack") == 0;
}

static struct post *meta_post(const struct node *node, struct slice reply_to, struct slice id, bool is_packing)
{
	struct post *post = post_new(slice_of(""), reply_to);

	post->is_packing = is_packing;
	post_json(post);
	post->message.properties.correlation_id = post_keep(post, id);
	if (node->settings->job.result_persistent)
		post->message.properties.delivery_mode = 2;
	post->is_lasting = true;
	return post;
}

static void put_done(struct json_writer *w, const char *status)
{
	char text[CLOCK_TEXT];

	if (!is_final(status))
		return;
	clock_rfc3339(clock_wall_ms(), text);
	text[23] = '\0';
	buf_addf(w->out, ",\"date_done\":\"%s+00:00\"", text);
}

static struct post *rpc_post(const struct node *node, const struct task *task)
{
	const struct request *r = task->request;
	struct post *post = meta_post(node, r->reply_to, r->id, result_is_packed(node, r->is_msgpack));
	struct json_writer w = JSON_WRITER(&post->body);

	json_open(&w, NULL, '{');
	json_put_string(&w, "task_id", r->id);
	json_put_string(&w, "status", slice_of(task->status));
	json_put_raw(&w, "result", slice_of(""));
	write_value(&post->body, node, task);
	if (task->reply.trace.len > 0 && strcmp(task->status, "SUCCESS") != 0)
		json_put_string(&w, "traceback", buf_slice(&task->reply.trace));
	else
		json_put_raw(&w, "traceback", slice_of("null"));
	json_open(&w, "children", '[');
	buf_add(&post->body, task->children.data, task->children.len);
	json_close(&w, ']');
	put_done(&w, task->status);
	if (r->group.len > 0)
		put_or_null(&w, "group_id", r->group);
	if (r->parent_id.len > 0)
		put_or_null(&w, "parent_id", r->parent_id);
	if (node->settings->job.result_extended)
		put_extended(&w, node, task);
	json_close(&w, '}');
	return post;
}

/* A client's serializer reads what is beside the result, too. */
static void pack_row(struct result_row *row)
{
	struct buf *const texts[] = { &row->children, &row->args, &row->kwargs, &row->stamps };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct buf packed = BUF_INIT;

		if (texts[i]->len == 0 || !msgpack_from_json(buf_slice(texts[i]), &packed))
			continue;
		buf_release(texts[i]);
		*texts[i] = packed;
	}
}

static struct result_row *new_row(const struct node *node, struct slice id, const char *status)
{
	struct result_row *row = result_row_new(id, status);

	if (strcmp(node->settings->job.database_format, "auth") == 0)
		row->signer = node->signer;
	return row;
}

static struct result_row *table_row(const struct node *node, const struct task *task)
{
	const struct request *r = task->request;
	struct result_row *row = new_row(node, r->id, task->status);

	write_value(&row->result, node, task);
	if (task->reply.trace.len > 0 && strcmp(task->status, "SUCCESS") != 0)
		buf_add(&row->trace, task->reply.trace.data, task->reply.trace.len);
	row->done_wall_ms = is_final(task->status) ? clock_wall_ms() : 0;
	if (task->children.len > 0)
		buf_addf(&row->children, "[%s]", task->children.data);
	if (node->settings->job.result_extended) {
		buf_add(&row->name, r->task.data, r->task.len);
		json_write_node(&row->args, r->args);
		json_write_node(&row->kwargs, r->kwargs);
		buf_add_str(&row->worker, node->name);
		buf_add_str(&row->queue, task->queue != NULL ? task->queue->name : "");
		row->retries = r->retries;
		if (r->stamps.len > 2 && r->stamped_headers.len > 2)
			buf_addf(&row->stamps, "{\"stamped_headers\":%.*s,\"stamps\":%.*s}", (int)r->stamped_headers.len, r->stamped_headers.data,
				(int)r->stamps.len, r->stamps.data);
	}
	if (row->signer == NULL && result_is_packed(node, r->is_msgpack))
		pack_row(row);
	return row;
}

static bool wants(const struct settings *settings, const char *what)
{
	return strcmp(settings->job.results, what) == 0 || strcmp(settings->job.results, "both") == 0;
}

bool result_has_table(const struct settings *settings)
{
	return wants(settings, "database");
}

void result_make(const struct node *node, const struct task *task, struct post **post, struct result_row **row)
{
	if (wants(node->settings, "rpc") && task->request->reply_to.len > 0)
		*post = rpc_post(node, task);
	if (wants(node->settings, "database") && node->table != NULL)
		*row = table_row(node, task);
}

/* ---- for other ids */

/* Whoever waits for it. */
struct waiter {
	struct slice reply_to;
	bool is_msgpack; /* as the job came, or the one before it */
};

static void tell(struct node *node, struct slice id, struct waiter who, const char *status, const struct job_reply *reply)
{
	struct buf value = BUF_INIT;

	python_exception(&value, reply);
	if (wants(node->settings, "rpc") && who.reply_to.len > 0 && who.reply_to.len <= 255) {
		struct post *post = meta_post(node, who.reply_to, id, result_is_packed(node, who.is_msgpack));
		struct json_writer w = JSON_WRITER(&post->body);

		json_open(&w, NULL, '{');
		json_put_string(&w, "task_id", id);
		json_put_string(&w, "status", slice_of(status));
		json_put_raw(&w, "result", buf_slice(&value));
		json_put_raw(&w, "traceback", slice_of("null"));
		json_put_raw(&w, "children", slice_of("[]"));
		put_done(&w, status);
		json_close(&w, '}');
		publisher_send(node->publisher, post);
	}
	if (wants(node->settings, "database") && node->table != NULL) {
		struct result_row *row = new_row(node, id, status);

		buf_add(&row->result, value.data, value.len);
		row->done_wall_ms = clock_wall_ms();
		result_table_add(node->table, row);
	}
	buf_release(&value);
}

static void fail_chain(struct node *node, const struct task *task, const struct json *chain, const struct job_reply *reply);

/* What a client waits for may be inside of it: the last step of a chain, the body of a chord, each member of a group. */
static void fail_signature(struct node *node, const struct task *task, const struct json *signature, const struct job_reply *reply)
{
	const struct json *options = json_get(signature, "options"), *kwargs = json_get(signature, "kwargs"), *header = json_get(kwargs, "header");
	const struct slice id = option_text(options, "task_id"), to = option_text(options, "reply_to"), kind = option_text(signature, "subtask_type");

	if (id.len > 0 && id.len <= REQUEST_ID_MAX && !slice_is(kind, "group"))
		tell(node, id, (struct waiter){ to.len > 0 ? to : task->request->reply_to, task->request->is_msgpack }, "FAILURE", reply);
	fail_chain(node, task, json_get(options, "chain"), reply);
	if (kind.len == 0)
		return; /* its arguments are nobody's here */
	fail_chain(node, task, json_get(kwargs, "tasks"), reply);
	if (header != NULL && json_type(header) == JSON_ARRAY)
		fail_chain(node, task, header, reply);
	else
		fail_signature(node, task, header, reply);
	fail_signature(node, task, json_get(kwargs, "body"), reply);
}

static void fail_chain(struct node *node, const struct task *task, const struct json *chain, const struct job_reply *reply)
{
	for (const struct json *s = chain != NULL ? json_first(chain) : NULL; s != NULL; s = json_next(s))
		fail_signature(node, task, s, reply);
}

void result_fail_chain(struct node *node, const struct task *task, const struct json *chain)
{
	fail_chain(node, task, chain, &task->reply);
}

/* [args, kwargs, {"chain": …}] */
static const struct json *chain_of(const struct json *body)
{
	const struct json *args = body != NULL ? json_first(body) : NULL, *kwargs = args != NULL ? json_next(args) : NULL;
	const struct json *chain = kwargs != NULL && json_next(kwargs) != NULL ? json_get(json_next(kwargs), "chain") : NULL;

	return chain != NULL && json_type(chain) == JSON_ARRAY ? chain : NULL;
}

void result_fail_post(struct node *node, const struct task *task, const struct post *post)
{
	const struct amqp_properties *p = &post->message.properties;
	struct job_reply reply = JOB_REPLY_INIT;
	struct err err = ERR_INIT;
	struct json *body = json_parse_answer(buf_slice(&post->body), &err);
	const struct json *chain = chain_of(body);

	job_fail(&reply, "OperationalError", "kombu.exceptions", "%.*s[%.*s] could not be sent to exchange '%s' with key '%s'", 155,
		json_get(post->headers, "task") != NULL ? json_string(json_get(post->headers, "task")).data : "", (int)p->correlation_id.len,
		p->correlation_id.len > 0 ? p->correlation_id.data : "", post->message.exchange, post->message.routing_key);
	if (p->correlation_id.len > 0 && p->correlation_id.len <= REQUEST_ID_MAX)
		tell(node, p->correlation_id, (struct waiter){ p->reply_to, post->is_packing }, "FAILURE", &reply);
	if (chain != NULL)
		fail_chain(node, task, chain, &reply);
	job_reply_release(&reply);
	json_free(body);
}

void result_fail_delivery(struct node *node, const struct amqp_delivery *delivery, const char *why)
{
	const struct amqp_table *headers = &delivery->properties.headers;
	const struct amqp_value *id = amqp_table_value(headers, "id"), *ignore = amqp_table_value(headers, "ignore_result");
	const struct waiter who = { delivery->properties.reply_to, msgpack_is(delivery->properties.content_type) };
	struct job_reply reply = JOB_REPLY_INIT;

	if (node->signer != NULL)
		return; /* anybody could name any job: Celery answers nobody either */
	if (id == NULL || id->type != AMQP_VALUE_TEXT || id->text.len == 0 || id->text.len > REQUEST_ID_MAX || !str_utf8_valid(id->text) || str_has_control(id->text))
		return;
	if (ignore != NULL && ignore->type == AMQP_VALUE_BOOL && ignore->truth)
		return;
	job_fail(&reply, "ValueError", "builtins", "%s", why);
	tell(node, id->text, who, "FAILURE", &reply);
	job_reply_release(&reply);
}

void result_fail_chord(struct node *node, const struct task *task)
{
	const struct json *group = json_first(task->request->args), *body = group != NULL ? json_next(group) : NULL;
	struct job_reply reply = JOB_REPLY_INIT;

	if (body == NULL)
		return;
	job_fail(&reply, "ChordError", "celery.exceptions", "chords are not served by this worker");
	fail_signature(node, task, body, &reply);
	job_reply_release(&reply);
}

void result_revoked(struct node *node, struct slice id)
{
	struct job_reply reply = JOB_REPLY_INIT;

	job_fail(&reply, "TaskRevokedError", "celery.exceptions", "revoked");
	tell(node, id, (struct waiter){ SLICE_NONE, false }, "REVOKED", &reply);
	job_reply_release(&reply);
}
