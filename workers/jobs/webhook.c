/* webhook.deliver: a URL and a payload go in, a signed POST (Standard Webhooks) goes out; the id of every try is the task's, by which
 * the receiver knows a repeat. Addresses that are not public are refused, unless job.local_urls lets them. */
#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/http_client.h"
#include "workers/jobs/handlers.h"
#include "workers/webhook_sign.h"

#define TIMEOUT_MS 20000
#define ANSWER_MAX 65536

struct call_out {
	struct slice url, secret;
	struct buf body, id, signature;
	char timestamp[24];
};

static bool read_arguments(const struct job_call *call, struct call_out *out, struct job_reply *reply)
{
	const struct json *payload = job_argument(call, "payload");

	if (!job_text(call, "url", false, &out->url, reply) || !job_text(call, "secret", true, &out->secret, reply))
		return false;
	if (payload == NULL) {
		job_fail(reply, "TypeError", "builtins", "webhook.deliver() missing required argument: 'payload'");
		return false;
	}
	json_write_node(&out->body, payload);
	buf_add(&out->id, call->id.data, call->id.len < 200 ? call->id.len : 200);
	return true;
}

/* Ready to be sent: the time is part of what is signed, so it is that of this try. */
static bool sign(struct call_out *out, struct job_reply *reply)
{
	const int64_t now_s = clock_wall_ms() / 1000;
	struct err why = ERR_INIT;

	snprintf(out->timestamp, sizeof(out->timestamp), "%lld", (long long)now_s);
	if (out->secret.data == NULL || webhook_sign(&out->signature, out->secret, (struct slice){ out->id.data, out->id.len }, now_s,
						(struct slice){ out->body.data, out->body.len }, &why) == 0)
		return true;
	job_fail(reply, "ValueError", "builtins", "secret is \"whsec_\" and base64 behind it");
	return false;
}

static int judge(int status, struct job_reply *reply, struct err *err)
{
	char text[32];

	snprintf(text, sizeof(text), "{\"status\":%d}", status);
	if (status >= 200 && status < 300)
		return job_return(reply, slice_of(text));
	if (status == 408 || status == 429 || status >= 500)
		return err_set(err, ERR_UNAVAILABLE, "the webhook answers %d", status);
	return job_fail(reply, "RuntimeError", "builtins", "the webhook answers %d", status);
}

static int add_headers(struct http_client *client, const struct call_out *out, struct err *err)
{
	if (http_client_header(client, "webhook-id", out->id.data, err) < 0 || http_client_header(client, "webhook-timestamp", out->timestamp, err) < 0)
		return -1;
	return out->signature.len > 0 ? http_client_header(client, "webhook-signature", out->signature.data, err) : 0;
}

static int post(const struct job_call *call, const struct call_out *out, struct job_reply *reply, struct err *err)
{
	struct http_client *client = http_client_new(job_left_ms(call, TIMEOUT_MS), ANSWER_MAX);
	struct buf answer = BUF_INIT;
	int status = 0, rc;

	if (!call->settings->job.local_urls)
		http_client_guard(client);
	rc = add_headers(client, out, err);
	if (rc == 0)
		rc = http_client_send(client, "POST", out->url.data, "application/json", (struct slice){ out->body.data, out->body.len }, &status, &answer, err);
	if (rc == 0)
		rc = judge(status, reply, err);
	http_client_free(client);
	buf_release(&answer);
	return rc;
}

int job_webhook_deliver(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct call_out out = { .body = BUF_INIT, .id = BUF_INIT, .signature = BUF_INIT };
	int rc = 0;

	if (read_arguments(call, &out, reply) && sign(&out, reply))
		rc = post(call, &out, reply, err);
	buf_release(&out.body);
	buf_release(&out.id);
	buf_release(&out.signature);
	return rc;
}
