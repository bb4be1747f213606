/* Requests of remote control go in by pidbox, answers go out; and at start, what other nodes know of revoked tasks comes in. */
#include "workers/celery/control.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "workers/celery/msgpack.h"
#include "workers/celery/pattern.h"
#include "workers/celery/result.h"
#include "workers/celery/wire.h"

#define MAILBOX "celery.pidbox"
#define REPLIES "reply.celery.pidbox"
#define MINGLE_MS 1000 /* within which others answer, as long as Celery waits */
#define CONSUMER "pidbox"
#define REPLY_CONSUMER "reply"

enum right { TELLS, CHANGES };

/* THE TABLE of verbs. */
static const struct verb {
	const char *name, *alias;
	enum right right;
	verb_fn *run;
} verbs[] = {
	{ "ping", NULL, TELLS, inspect_ping },
	{ "clock", NULL, TELLS, inspect_clock },
	{ "stats", NULL, TELLS, inspect_stats },
	{ "active", "dump_active", TELLS, inspect_active },
	{ "reserved", "dump_reserved", TELLS, inspect_reserved },
	{ "scheduled", "dump_schedule", TELLS, inspect_scheduled },
	{ "revoked", "dump_revoked", TELLS, inspect_revoked },
	{ "registered", "dump_tasks", TELLS, inspect_registered },
	{ "active_queues", NULL, TELLS, inspect_active_queues },
	{ "query_task", NULL, TELLS, inspect_query_task },
	{ "conf", "dump_conf", TELLS, inspect_conf },
	{ "report", NULL, TELLS, inspect_report },
	{ "hello", NULL, TELLS, inspect_hello },
	{ "memsample", NULL, TELLS, inspect_memsample },
	{ "memdump", NULL, TELLS, inspect_memdump },
	{ "enable_events", NULL, TELLS, command_enable_events },
	{ "disable_events", NULL, TELLS, command_disable_events },
	{ "heartbeat", NULL, TELLS, command_heartbeat },
	{ "election", NULL, TELLS, command_election },
	{ "revoke", NULL, CHANGES, command_revoke },
	{ "terminate", NULL, CHANGES, command_terminate },
	{ "revoke_by_stamped_headers", NULL, CHANGES, command_revoke_by_stamps },
	{ "rate_limit", NULL, CHANGES, command_rate_limit },
	{ "time_limit", NULL, CHANGES, command_time_limit },
	{ "pool_grow", NULL, CHANGES, command_pool_grow },
	{ "pool_shrink", NULL, CHANGES, command_pool_shrink },
	{ "pool_restart", NULL, CHANGES, command_pool_restart },
	{ "autoscale", NULL, CHANGES, command_autoscale },
	{ "shutdown", NULL, CHANGES, command_shutdown },
	{ "add_consumer", NULL, CHANGES, command_add_consumer },
	{ "cancel_consumer", NULL, CHANGES, command_cancel_consumer },
};

/* ---- what verbs say */

static void say(struct buf *out, const char *key, const char *format, va_list arguments)
{
	struct json_writer w = JSON_WRITER(out);
	char text[2048];

	vsnprintf(text, sizeof(text), format, arguments);
	json_open(&w, NULL, '{');
	json_put_string(&w, key, slice_of(text));
	json_close(&w, '}');
}

void control_ok(struct buf *out, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(out, "ok", format, arguments);
	va_end(arguments);
}

void control_error(struct buf *out, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(out, "error", format, arguments);
	va_end(arguments);
}

struct slice control_text(const struct json *arguments, const char *name)
{
	const struct json *node = json_get(arguments, name);

	return node != NULL ? json_string(node) : SLICE_NONE;
}

/* ---- the mailbox */

static void mailbox_of(const struct node *node, char *out, size_t size)
{
	snprintf(out, size, "%s.%s", node->name, MAILBOX);
}

int control_keep(struct node *node, struct err *err)
{
	char queue[NODE_NAME_MAX + 32];

	if (strcmp(node->settings->job.control, "none") == 0)
		return 0;
	mailbox_of(node, queue, sizeof(queue));
	if (amqp_declare_exchange(node->control, MAILBOX, "fanout", 0, AMQP_NO_TABLE, err) < 0)
		return -1;
	return amqp_bind_queue(node->control, queue, MAILBOX, "", AMQP_NO_TABLE, err);
}

int control_open(struct node *node, struct err *err)
{
	const struct amqp_field arguments[] = { amqp_int("x-message-ttl", 300000), amqp_int("x-expires", 10000) };
	const struct amqp_field expires[] = { amqp_int("x-expires", 10000) };
	char queue[NODE_NAME_MAX + 32], replies[80];

	if (strcmp(node->settings->job.control, "none") == 0)
		return 0;
	mailbox_of(node, queue, sizeof(queue));
	snprintf(replies, sizeof(replies), "%s.%s", node->oid, REPLIES);
	if (amqp_declare_exchange(node->control, MAILBOX, "fanout", 0, AMQP_NO_TABLE, err) < 0 ||
		amqp_declare_exchange(node->control, REPLIES, "direct", 0, AMQP_NO_TABLE, err) < 0)
		return -1;
	if (node->settings->job.mingle && node->mingle_until == 0 && control_is_alone(node))
		node->mingle_until = clock_mono_ms();
	if (amqp_declare_queue(node->control, queue, AMQP_EXCLUSIVE | AMQP_AUTO_DELETE, AMQP_TABLE(arguments), NULL, err) < 0 ||
		amqp_bind_queue(node->control, queue, MAILBOX, "", AMQP_NO_TABLE, err) < 0 ||
		amqp_consume(node->control, queue, CONSUMER, AMQP_NO_ACK, 1, AMQP_NO_TABLE, err) < 0)
		return err_wrap(err, "remote control of %s (is another node of this name running?): ", node->name);
	if (!node->settings->job.mingle)
		return 0;
	if (amqp_declare_queue(node->control, replies, AMQP_EXCLUSIVE | AMQP_AUTO_DELETE, AMQP_TABLE(expires), NULL, err) < 0 ||
		amqp_bind_queue(node->control, replies, REPLIES, node->oid, AMQP_NO_TABLE, err) < 0 ||
		amqp_consume(node->control, replies, REPLY_CONSUMER, AMQP_NO_ACK, 1, AMQP_NO_TABLE, err) < 0)
		return -1;
	control_mingle(node);
	if (node->mingle_until == 0)
		node->mingle_until = clock_mono_ms() + MINGLE_MS;
	return 0;
}

static void put_clock(struct node *node, struct post *post, struct slice ticket)
{
	struct buf headers = BUF_INIT;
	struct json_writer w = JSON_WRITER(&headers);

	json_open(&w, NULL, '{');
	json_put_int(&w, "clock", (int64_t)node_tick(node));
	if (ticket.len > 0)
		json_put_string(&w, "ticket", ticket);
	else
		json_put_int(&w, "expires", 0);
	json_close(&w, '}');
	post_headers(post, buf_slice(&headers));
	post_json(post);
	buf_release(&headers);
}

/* What others have revoked, and how late it is on their clocks. At start their answers are waited for: see mingle_until. */
void control_mingle(struct node *node)
{
	struct post *post = post_new(slice_of(MAILBOX), slice_of(""));
	struct json_writer w = JSON_WRITER(&post->body);
	char ticket[37];

	outgoing_uuid4(ticket);
	json_open(&w, NULL, '{');
	json_put_string(&w, "method", slice_of("hello"));
	json_open(&w, "arguments", '{');
	json_put_string(&w, "from_node", slice_of(node->name));
	revoked_write(&node->revoked, &w, "revoked");
	json_close(&w, '}');
	json_put_raw(&w, "destination", slice_of("null"));
	json_put_raw(&w, "pattern", slice_of("null"));
	json_put_raw(&w, "matcher", slice_of("null"));
	json_put_string(&w, "ticket", slice_of(ticket));
	json_open(&w, "reply_to", '{');
	json_put_string(&w, "exchange", slice_of(REPLIES));
	json_put_string(&w, "routing_key", slice_of(node->oid));
	json_close(&w, '}');
	json_close(&w, '}');
	put_clock(node, post, SLICE_NONE);
	publisher_send(node->publisher, post);
}

/* ---- one request */

static bool matches_expression(const struct node *node, struct slice pattern)
{
	struct err err = ERR_INIT;
	const int rc = pattern_matches(pattern, slice_of(node->name), &err);

	if (rc < 0)
		log_warn("remote control names nodes by an expression that is not understood", log_slice("pattern", pattern), log_err(&err));
	return rc > 0;
}

static bool matches(const struct node *node, struct slice pattern, struct slice matcher)
{
	char text[256];

	if (pattern.len >= sizeof(text))
		return false;
	if (slice_is(matcher, "pcre"))
		return matches_expression(node, pattern);
	snprintf(text, sizeof(text), "%.*s", (int)pattern.len, pattern.data);
	return fnmatch(text, node->name, 0) == 0;
}

static bool is_for_us(const struct node *node, const struct json *request)
{
	const struct json *destination = json_get(request, "destination");
	const struct slice pattern = control_text(request, "pattern"), matcher = control_text(request, "matcher");

	if (destination != NULL && json_type(destination) == JSON_ARRAY && json_first(destination) != NULL) {
		for (const struct json *d = json_first(destination); d != NULL; d = json_next(d))
			if (slice_is(json_string(d), node->name))
				return true;
		return false;
	}
	return pattern.len == 0 || matcher.len == 0 || matches(node, pattern, matcher);
}

static const struct verb *find_verb(struct slice name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (slice_is(name, verbs[i].name) || (verbs[i].alias != NULL && slice_is(name, verbs[i].alias)))
			return &verbs[i];
	return NULL;
}

static void reply(struct node *node, const struct json *request, bool is_msgpack, const struct buf *value)
{
	const struct json *to = json_get(request, "reply_to");
	const struct slice exchange = control_text(to, "exchange"), key = control_text(to, "routing_key");
	struct json_writer w;
	struct post *post;

	if (to == NULL || key.len > 255 || key.len == 0)
		return;
	if (exchange.len > 0 && !slice_is(exchange, REPLIES)) { /* one that is not there would cost the connection; nobody is answered by another */
		log_warn("remote control wants its answer by an exchange that is not for answers", log_slice("exchange", exchange));
		return;
	}
	post = post_new(exchange, key);
	post->is_packing = result_is_packed(node, is_msgpack);
	w = (struct json_writer)JSON_WRITER(&post->body);
	json_open(&w, NULL, '{');
	json_put_raw(&w, node->name, value->len > 0 ? buf_slice(value) : slice_of("null"));
	json_close(&w, '}');
	put_clock(node, post, control_text(request, "ticket").len > 0 ? control_text(request, "ticket") : slice_of("none"));
	publisher_send(node->publisher, post);
}

static void obey(struct node *node, const struct json *request, bool is_msgpack)
{
	static const char nothing[] = "{}";
	const struct verb *verb = find_verb(control_text(request, "method"));
	const struct json *arguments = json_get(request, "arguments");
	struct json *none = NULL;
	struct buf value = BUF_INIT;
	struct err err = ERR_INIT;

	if (arguments == NULL || json_type(arguments) != JSON_OBJECT)
		arguments = none = json_parse(slice_of(nothing), &err);
	if (verb == NULL) {
		control_error(&value, "KeyError('%.*s')", (int)(control_text(request, "method").len < 60 ? control_text(request, "method").len : 60),
			control_text(request, "method").len > 0 ? control_text(request, "method").data : "");
	} else if (verb->right == CHANGES && strcmp(node->settings->job.control, "all") != 0) {
		control_error(&value, "this node lets itself be looked at, not changed (job.control)");
	} else {
		if (verb->right == CHANGES)
			log_info("remote control", log_str("verb", verb->name));
		verb->run(node, arguments, &value);
	}
	if (!is_msgpack || result_is_packed(node, is_msgpack) || verb == NULL || verb->run != inspect_hello) /* a Python worker that reads no JSON would end at its start */
		reply(node, request, is_msgpack, &value);
	buf_release(&value);
	json_free(none);
}

static void take_hello(struct node *node, const struct json *answers)
{
	int64_t clock;

	for (const struct json *answer = json_first(answers); answer != NULL; answer = json_next(answer)) {
		if (json_type(answer) != JSON_OBJECT || slice_is(slice_of(json_key(answer)), node->name))
			continue;
		if (json_get(answer, "revoked") != NULL)
			revoked_merge(&node->revoked, json_get(answer, "revoked"));
		if (json_get(answer, "clock") != NULL && json_int64(json_get(answer, "clock"), &clock))
			node_heard(node, clock);
	}
}

static int64_t number_header(const struct amqp_delivery *delivery, const char *name)
{
	const struct amqp_value *value = amqp_table_value(&delivery->properties.headers, name);

	if (value != NULL && value->type == AMQP_VALUE_FLOAT)
		return value->real > 0 && value->real < 1e15 ? (int64_t)value->real : 0;
	return value != NULL && value->type == AMQP_VALUE_INT ? value->number : 0;
}

/* As the sender's task_serializer has written it, which may have signed it; NULL: err. */
static struct json *read_request(const struct signer *signer, const struct amqp_delivery *delivery, bool *is_msgpack, struct err *err)
{
	struct slice type = delivery->properties.content_type, text = delivery->body;
	struct buf room = BUF_INIT, json = BUF_INIT;
	struct json *request = NULL;

	if (signer_read(signer, &type, &text, &room, err) < 0)
		goto out;
	*is_msgpack = msgpack_is(type);
	if (*is_msgpack) {
		if (msgpack_to_json(text, REQUEST_VALUES_MAX, REQUEST_BODY_MAX, &json, err) < 0)
			goto out;
		text = buf_slice(&json);
	}
	request = json_parse_answer(text, err);
out:
	buf_release(&room);
	buf_release(&json);
	return request;
}

void control_message(struct node *node, const struct amqp_delivery *delivery)
{
	const int64_t expires = number_header(delivery, "expires");
	bool is_msgpack = false;
	struct err err = ERR_INIT;
	struct json *request;

	if (expires > 0 && expires < clock_wall_ms() / 1000)
		return;
	request = read_request(node->signer, delivery, &is_msgpack, &err);
	if (request != NULL)
		node_heard(node, number_header(delivery, "clock"));
	if (request == NULL || json_type(request) != JSON_OBJECT)
		log_warn("remote control that can't be read", log_err(&err));
	else if (slice_is(delivery->consumer, REPLY_CONSUMER))
		take_hello(node, request);
	else if (is_for_us(node, request))
		obey(node, request, is_msgpack && node->signer == NULL); /* who verifies reads JSON too */
	json_free(request);
}
