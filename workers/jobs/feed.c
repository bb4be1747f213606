/* feed.post and feed.befriend: a post or a friendship goes in, and to the gateway over HTTP, with the task's id as Idempotency-Key:
 * a job that runs twice posts once. The entity, as the gateway answers it, comes out. */
#include <stdlib.h>
#include <string.h>

#include "common/http/http_client.h"
#include "common/model/participant.h"
#include "workers/jobs/handlers.h"

#define TIMEOUT_MS 30000
#define ANSWER_MAX (2 << 20)

/* By the gateway's status: 2xx is the result, what may pass is tried again, all else is the client's fault. */
static int judge(int status, const struct buf *answer, struct job_reply *reply, struct err *err)
{
	if (status >= 200 && status < 300)
		return job_return(reply, (struct slice){ answer->data, answer->len });
	if (status == 408 || status == 409 || status == 429 || status >= 500)
		return err_set(err, ERR_UNAVAILABLE, "the gateway answers %d: %.300s", status, answer->data);
	return job_fail(reply, "ValueError", "builtins", "the gateway answers %d: %.300s", status, answer->data);
}

static int post_to(const struct job_call *call, const char *path, const struct buf *body, struct job_reply *reply, struct err *err)
{
	struct http_client *client = http_client_new(job_left_ms(call, TIMEOUT_MS), ANSWER_MAX);
	struct buf url = BUF_INIT, key = BUF_INIT, answer = BUF_INIT;
	int status = 0, rc;

	buf_addf(&url, "%s%s", call->settings->job.gateway_url, path);
	buf_addf(&key, "\"%.*s\"", (int)(call->id.len < 200 ? call->id.len : 200), call->id.data);
	rc = http_client_header(client, "Idempotency-Key", key.data, err);
	if (rc == 0)
		rc = http_client_send(client, "POST", url.data, "application/json", (struct slice){ body->data, body->len }, &status, &answer, err);
	if (rc == 0)
		rc = judge(status, &answer, reply, err);
	http_client_free(client);
	buf_release(&url);
	buf_release(&key);
	buf_release(&answer);
	return rc;
}

static bool has_gateway(const struct job_call *call, struct job_reply *reply)
{
	if (call->settings->job.gateway_url[0] != '\0')
		return true;
	job_fail(reply, "RuntimeError", "builtins", "the setting job.gateway_url names no gateway");
	return false;
}

static bool read_participant(const struct job_call *call, const char *name, int64_t *id, struct job_reply *reply)
{
	if (!job_number(call, name, 0, 1, ID_MAX, id, reply))
		return false;
	if (*id != 0)
		return true;
	job_fail(reply, "TypeError", "builtins", "%.*s() missing required argument: '%s'", (int)call->task.len, call->task.data, name);
	return false;
}

int job_feed_post(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	struct slice subject, story;
	char path[64];
	int64_t author;
	int rc;

	if (!has_gateway(call, reply) || !read_participant(call, "author", &author, reply) || !job_text(call, "subject", false, &subject, reply) ||
		!job_text(call, "story", false, &story, reply))
		return 0;
	json_open(&w, NULL, '{');
	json_put_string(&w, "subject", subject);
	json_put_string(&w, "story", story);
	json_close(&w, '}');
	snprintf(path, sizeof(path), "/participant/%lld/outbound", (long long)author);
	rc = post_to(call, path, &body, reply, err);
	buf_release(&body);
	return rc;
}

int job_feed_befriend(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	int64_t one, other;
	char path[64];
	int rc;

	if (!has_gateway(call, reply) || !read_participant(call, "one", &one, reply) || !read_participant(call, "other", &other, reply))
		return 0;
	json_open(&w, NULL, '{');
	json_put_link(&w, "from", one);
	json_put_link(&w, "to", other);
	json_close(&w, '}');
	snprintf(path, sizeof(path), "/participant/%lld/friends", (long long)one);
	rc = post_to(call, path, &body, reply, err);
	buf_release(&body);
	return rc;
}
