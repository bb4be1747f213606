/* A job goes in, its message goes to RabbitMQ. */
#include "common/queue/job_message.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/json.h"

#define SHOWN_MAX 1024 /* bytes of arguments in the headers that people see */
#define TIME_ROOM 40
#define HEADERS 20

static struct amqp_field text_or_null(const char *name, const char *text)
{
	return text != NULL && text[0] != '\0' ? amqp_text(name, slice_of(text)) : amqp_null(name);
}

/* As Python's isoformat() with an offset: "2026-01-31T12:00:00.123000+00:00"; "" for 0. */
static void write_time(int64_t wall_ms, char out[TIME_ROOM])
{
	char text[CLOCK_TEXT];

	out[0] = '\0';
	if (wall_ms == 0)
		return;
	clock_rfc3339(wall_ms, text);
	snprintf(out, TIME_ROOM, "%.23s000+00:00", text);
}

static struct slice or_else(struct slice text, const char *otherwise)
{
	return text.len > 0 ? text : slice_of(otherwise);
}

/* What is cut in the middle of a character would be no UTF-8. */
static struct slice shown(struct slice text)
{
	if (text.len <= SHOWN_MAX)
		return text;
	text.len = SHOWN_MAX;
	while (text.len > 0 && ((unsigned char)text.data[text.len] & 0xc0) == 0x80)
		text.len--;
	return text;
}

static void write_body(const struct job_message *job, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '[');
	json_put_raw(&w, NULL, or_else(job->args, "[]"));
	json_put_raw(&w, NULL, or_else(job->kwargs, "{}"));
	json_put_raw(&w, NULL, slice_of("{\"callbacks\":null,\"errbacks\":null,\"chain\":null,\"chord\":null}"));
	json_close(&w, ']');
}

static void sign(const struct signer *signer, struct buf *body)
{
	struct buf signed_text = BUF_INIT;

	if (signer == NULL)
		return;
	signer_sign(signer, buf_slice(body), &signed_text);
	buf_release(body);
	*body = signed_text;
}

static struct amqp_properties properties_of(const struct signer *signer, int delivery_mode, const struct amqp_field *headers, size_t count)
{
	return (struct amqp_properties){
		.content_type = slice_of(signer != NULL ? SIGNER_CONTENT_TYPE : "application/json"),
		.content_encoding = slice_of("utf-8"),
		.delivery_mode = delivery_mode,
		.headers = { headers, count },
		.has_headers = true,
	};
}

int job_message_send(struct amqp_publisher *publisher, const struct job_message *job, int64_t timeout_ms, amqp_sent_fn *done, void *arg,
	struct err *err)
{
	static const struct amqp_field no_limits[] = { { .value = { .type = AMQP_VALUE_NULL } }, { .value = { .type = AMQP_VALUE_NULL } } };
	char host[64] = "", origin[96], eta[TIME_ROOM], expires[TIME_ROOM];
	struct buf body = BUF_INIT;
	int rc;

	gethostname(host, sizeof(host) - 1);
	snprintf(origin, sizeof(origin), "feed%ld@%s", (long)getpid(), host);
	write_time(job->eta_ms, eta);
	write_time(job->expires_ms, expires);
	write_body(job, &body);
	sign(job->signer, &body);
	{
		const struct amqp_field headers[HEADERS] = {
			amqp_text("lang", slice_of("c")),
			amqp_text("task", slice_of(job->name)),
			amqp_text("id", slice_of(job->id)),
			amqp_null("shadow"),
			text_or_null("eta", eta),
			text_or_null("expires", expires),
			amqp_null("group"),
			amqp_null("group_index"),
			amqp_int("retries", 0),
			{ "timelimit", { .type = AMQP_VALUE_ARRAY, .items = AMQP_TABLE(no_limits) } },
			amqp_text("root_id", slice_of(job->id)),
			amqp_null("parent_id"),
			amqp_text("argsrepr", shown(or_else(job->args, "[]"))),
			amqp_text("kwargsrepr", shown(or_else(job->kwargs, "{}"))),
			amqp_text("origin", slice_of(origin)),
			amqp_bool("ignore_result", false),
			amqp_int("replaced_task_nesting", 0),
			amqp_null("stamped_headers"),
			{ "stamps", { .type = AMQP_VALUE_TABLE } },
			text_or_null("traceparent", job->trace),
		};
		struct amqp_message message = {
			.exchange = "",
			.routing_key = job->queue,
			.properties = properties_of(job->signer, 2, headers, job->trace != NULL ? HEADERS : HEADERS - 1),
			.body = buf_slice(&body),
			.mandatory = true,
		};

		message.properties.correlation_id = slice_of(job->id);
		message.properties.reply_to = slice_of(job->reply_to);
		message.properties.has_priority = job->priority >= 0;
		message.properties.priority = (uint8_t)(job->priority >= 0 ? job->priority : 0);
		rc = amqp_publisher_send(publisher, &message, timeout_ms, done, arg, err);
	}
	buf_release(&body);
	return rc;
}

/* ---- remote control */

int job_message_declare(struct amqp *amqp, struct err *err)
{
	return amqp_declare_exchange(amqp, JOB_MAILBOX, "fanout", 0, AMQP_NO_TABLE, err);
}

static void put_text_or_null(struct json_writer *w, const char *key, const char *text)
{
	if (text != NULL)
		json_put_string(w, key, slice_of(text));
	else
		json_put_raw(w, key, slice_of("null"));
}

void job_request_write(const struct job_request *request, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "method", slice_of(request->method));
	json_put_raw(&w, "arguments", or_else(request->arguments, "{}"));
	if (request->node != NULL) {
		json_open(&w, "destination", '[');
		json_put_string(&w, NULL, slice_of(request->node));
		json_close(&w, ']');
	} else {
		put_text_or_null(&w, "destination", NULL);
	}
	put_text_or_null(&w, "pattern", NULL);
	put_text_or_null(&w, "matcher", NULL);
	if (request->answer_key != NULL) {
		json_put_string(&w, "ticket", slice_of(request->ticket));
		json_open(&w, "reply_to", '{');
		json_put_string(&w, "exchange", slice_of(JOB_ANSWERS));
		json_put_string(&w, "routing_key", slice_of(request->answer_key));
		json_close(&w, '}');
	}
	json_close(&w, '}');
	sign(request->signer, out);
}

struct amqp_message job_request_message(const struct job_request *request, const struct buf *body)
{
	static const struct amqp_field headers[] = {
		{ "clock", { .type = AMQP_VALUE_INT, .number = 1 } },
		{ "expires", { .type = AMQP_VALUE_INT, .number = 0 } },
	};

	return (struct amqp_message){
		.exchange = JOB_MAILBOX, .routing_key = "", .properties = properties_of(request->signer, 1, headers, 2), .body = buf_slice(body),
		.mandatory = true,
	};
}

static void write_revoke(const char *id, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "task_id", slice_of(id));
	json_put_bool(&w, "terminate", false);
	json_put_string(&w, "signal", slice_of("SIGTERM"));
	json_close(&w, '}');
}

int job_message_revoke(struct amqp_publisher *publisher, const struct signer *signer, const char *id, int64_t timeout_ms, amqp_sent_fn *done,
	void *arg, struct err *err)
{
	struct job_request request = { .method = "revoke", .signer = signer };
	struct buf arguments = BUF_INIT, body = BUF_INIT;
	struct amqp_message message;
	int rc;

	write_revoke(id, &arguments);
	request.arguments = buf_slice(&arguments);
	job_request_write(&request, &body);
	message = job_request_message(&request, &body);
	rc = amqp_publisher_send(publisher, &message, timeout_ms, done, arg, err);
	buf_release(&arguments);
	buf_release(&body);
	return rc;
}
