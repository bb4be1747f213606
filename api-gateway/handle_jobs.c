/* Requests for background jobs go in; messages to RabbitMQ, and what workers have written of their results, come out. */
#include "api-gateway/handlers.h"

#include <string.h>

#include "api-gateway/call.h"
#include "api-gateway/once.h"
#include "api-gateway/reply.h"
#include "common/queue/job_message.h"
#include "common/store/jobs.h"

#define SECOND_MS 1000

/* ---- sending */

/* Setting gateway.jobs: "name,name", "*". */
static bool is_taken(const struct gateway *gateway, struct slice name)
{
	struct slice rest = slice_of(gateway->settings->gateway.jobs);

	if (gateway->jobs == NULL)
		return false;
	while (rest.len > 0) {
		struct slice one = slice_trim(slice_cut(&rest, ','));

		if (slice_is(one, "*") || slice_equal(one, name))
			return true;
	}
	return false;
}

/* On the publisher's thread. */
static void on_sent(void *arg, enum amqp_sent sent, const char *why)
{
	struct call *call = arg;
	struct err err = ERR_INIT;

	if (sent == AMQP_SENT_STORED) {
		reply_accepted(call);
		return;
	}
	if (sent == AMQP_SENT_UNKNOWN) {
		reply_unknown(call, why);
		return;
	}
	err_set(&err, ERR_UNAVAILABLE, "RabbitMQ: %s", sent == AMQP_SENT_UNROUTABLE ? "no worker has made its queue yet" : why);
	reply_away(call, &err);
}

static bool may_send(struct call *call)
{
	const struct signer *signer = call->gateway->signer;
	struct err err = ERR_INIT;

	if (signer != NULL && signer_seconds_left(signer) <= 0) /* who gets it would refuse it */
		err_set(&err, ERR_UNAVAILABLE, "the certificate of job.security_certificate has expired");
	else if (amqp_publisher_ready(call->gateway->jobs, &err) == 0)
		return true;
	reply_away(call, &err);
	return false;
}

/* Whoever sent has it reported, perhaps before this is called; what was not taken is answered here. */
static void end_sending(struct call *call, int rc, const struct err *err)
{
	if (rc == 0)
		return;
	call->is_sent = false;
	reply_away(call, err);
}

/* A JSON text of a member; empty when it is missing. */
static struct slice member_text(const struct call *call, const char *name, struct buf *text)
{
	const struct json *member = call_field(call, name);

	if (member == NULL)
		return SLICE_NONE;
	json_write_node(text, member);
	return (struct slice){ text->data, text->len };
}

/* Seconds from when it was first asked for. */
static int64_t moment(const struct call *call, const char *name)
{
	int64_t seconds;

	return json_int64(call_field(call, name), &seconds) ? call->made_at_ms + seconds * SECOND_MS : 0;
}

static void send_job(struct call *call)
{
	const struct settings *settings = call->gateway->settings;
	struct slice queues = slice_of(settings->job.queues), queue = slice_trim(slice_cut(&queues, ','));
	struct slice name = call->contract.params[0];
	char queue_text[256], name_text[256], trace[TRACE_TEXT];
	struct buf args = BUF_INIT, kwargs = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t priority = -1;

	if (!may_send(call))
		return;
	snprintf(queue_text, sizeof(queue_text), "%.*s", (int)queue.len, queue.data);
	snprintf(name_text, sizeof(name_text), "%.*s", (int)name.len, name.data);
	trace_format(call_trace(call), trace);
	json_int64(call_field(call, "priority"), &priority);
	{
		const struct job_message job = {
			.name = name_text,
			.id = call->waiter.command,
			.queue = queue_text,
			.args = member_text(call, "args", &args),
			.kwargs = member_text(call, "kwargs", &kwargs),
			.eta_ms = moment(call, "countdown"),
			.expires_ms = moment(call, "expires"),
			.priority = (int)priority,
			.trace = trace,
			.signer = call->gateway->signer,
		};

		call_drop_body(call);
		call->is_sent = true;
		end_sending(call, job_message_send(call->gateway->jobs, &job, settings->gateway.wait_ms, on_sent, call, &err), &err);
	}
	buf_release(&args);
	buf_release(&kwargs);
}

void add_job(struct call *call)
{
	call->is_job = true;
	if (is_taken(call->gateway, call->contract.params[0]))
		once_begin(call, send_job);
	else
		reply_problem(call, 404, "", "this service takes no such job");
}

/* ---- revoking */

static void send_revoke(struct call *call)
{
	char id[UUID_TEXT];
	struct err err = ERR_INIT;

	if (!may_send(call))
		return;
	snprintf(id, sizeof(id), "%.*s", (int)call->about.len, call->about.data);
	call->is_sent = true;
	end_sending(call, job_message_revoke(call->gateway->jobs, call->gateway->signer, id, call->gateway->settings->gateway.wait_ms, on_sent, call, &err),
		&err);
}

void delete_job(struct call *call)
{
	call->is_job = true;
	call->about = call->contract.params[0];
	if (call->gateway->jobs != NULL)
		once_begin(call, send_revoke);
	else
		reply_problem(call, 404, "", "this service takes no jobs");
}

/* ---- asking */

static void answer_state(struct call *call, const struct job_state *state)
{
	struct buf body = BUF_INIT;

	job_state_write(call->contract.params[0], state, &body);
	reply_json(call, &body);
	buf_release(&body);
}

static void read_job(struct call *call, const struct reader *reader)
{
	struct job_state state = { .result = BUF_INIT, .signer = call->gateway->signer };
	struct err err = ERR_INIT;

	if (job_state_read(reader->store, call->gateway->settings->job.result_table, call->contract.params[0], &state, &err) < 0)
		reply_away(call, &err);
	else
		answer_state(call, &state);
	buf_release(&state.result);
}

void get_job(struct call *call)
{
	const char *results = call->gateway->settings->job.results;

	if (call->gateway->jobs != NULL && (strcmp(results, "database") == 0 || strcmp(results, "both") == 0))
		call_read(call, READ_STORE, read_job);
	else
		reply_problem(call, 404, "", "this service keeps no results of jobs");
}
