/* Jobs that HTTP endpoints do: the arguments are posted as JSON, the answer is the result.
 *
 * The body is what exec.c writes; `Idempotency-Key` is the task's id, so that an endpoint can tell a repeat. 2xx: done, the body
 * is the result (none: null); 408, 425, 429 and 5xx: again later; all else: failed. */
#include <stdlib.h>

#include "common/http/http_client.h"
#include "workers/jobs/handlers.h"

#define TIMEOUT_MS 60000
#define ANSWER_MAX (16u << 20)

static bool is_for_later(int status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

static int finish(struct slice answer, int status, struct job_reply *reply)
{
	struct err why = ERR_INIT;
	struct json *result;

	if (is_for_later(status)) {
		char text[64];

		snprintf(text, sizeof(text), "the endpoint answered %d", status);
		return job_again(reply, 0, -1, text);
	}
	if (status < 200 || status > 299)
		return job_fail(reply, "RuntimeError", "builtins", "the endpoint answered %d: %.*s", status,
			(int)(answer.len < 500 ? answer.len : 500), answer.data);
	if (answer.len == 0)
		return job_return_null(reply);
	result = json_parse_answer(answer, &why);
	if (result == NULL)
		return job_fail(reply, "ValueError", "builtins", "the answer is not JSON: %s", why.message);
	json_free(result);
	return job_return(reply, answer);
}


int job_http(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct http_client *client;
	struct buf body = BUF_INIT, answer = BUF_INIT;
	char id[300];
	int status, rc;

	client = http_client_new(job_left_ms(call, TIMEOUT_MS), ANSWER_MAX);
	snprintf(id, sizeof(id), "%.*s", (int)call->id.len, call->id.data);
	job_write_call(call, &body);
	rc = http_client_header(client, "Idempotency-Key", id, err);
	if (rc < 0)
		goto out;
	rc = http_client_send(client, "POST", call->entry->target, "application/json", (struct slice){ body.data, body.len }, &status, &answer, err);
	if (rc == 0)
		rc = finish((struct slice){ answer.data, answer.len }, status, reply);
out:
	http_client_free(client);
	buf_release(&body);
	buf_release(&answer);
	return rc;
}
