/* Questions and orders for job workers go out by Celery's remote control, their answers come out; queues of jobs are emptied. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/stop.h"
#include "common/queue/job_message.h"
#include "ctl/ask.h"
#include "ctl/job.h"

const char job_inspect_words[] = "ping, active, reserved, scheduled, registered, stats, active_queues, revoked, conf, report, clock";

/* ---- asking */

/* {"node": value, …}; how many nodes they were. */
static int print_answers(const struct json *answers)
{
	int count = 0;

	for (const struct json *answer = json_first(answers); answer != NULL; answer = json_next(answer)) {
		struct buf value = BUF_INIT;

		if (json_key(answer) == NULL)
			continue;
		json_write_node(&value, answer);
		printf("%s  %s\n", json_key(answer), value.data);
		buf_release(&value);
		count++;
	}
	return count;
}

static int publish_request(struct amqp *amqp, const struct job_request *request, struct err *err)
{
	struct buf body = BUF_INIT;
	struct amqp_message message;
	int rc;

	job_request_write(request, &body);
	message = job_request_message(request, &body);
	rc = amqp_publish(amqp, &message, NULL, err);
	buf_release(&body);
	return rc;
}

/* Nobody knows how many nodes there are: they have the whole time, unless one was named. */
static int take_answers(struct job_inbox *inbox, const struct job_order *order, struct err *err)
{
	const int64_t until_ms = clock_mono_ms() + order->timeout_ms;
	struct json *answers = NULL;
	int count = 0, rc;

	while ((rc = job_inbox_next(inbox, until_ms, &answers, err)) == 1) {
		count += print_answers(answers);
		json_free(answers);
		if (order->node != NULL && count > 0)
			return 0;
	}
	if (rc < 0 || count > 0)
		return rc;
	if (order->node != NULL)
		return err_set(err, ERR_UNAVAILABLE, "no node %s has answered within %lld ms", order->node, (long long)order->timeout_ms);
	return err_set(err, ERR_UNAVAILABLE, "no node has answered within %lld ms", (long long)order->timeout_ms);
}

static int ask(const struct settings *settings, const struct job_order *order, const char *method, struct slice arguments, struct err *err)
{
	char key[UUID_TEXT], ticket[UUID_TEXT];
	struct job_inbox inbox = { .signer = order->signer };
	int rc = -1;

	uuid_v7(key);
	uuid_v7(ticket);
	if (job_inbox_open(settings, JOB_ANSWERS, key, &inbox, err) == 0 && job_message_declare(inbox.amqp, err) == 0 &&
		publish_request(inbox.amqp, &(struct job_request){ method, arguments, order->node, key, ticket, order->signer }, err) == 0)
		rc = take_answers(&inbox, order, err);
	job_inbox_close(&inbox);
	return rc;
}

/* ---- the words */

static bool is_inspect_word(const char *name)
{
	struct slice rest = slice_of(job_inspect_words);

	while (rest.len > 0)
		if (slice_is(slice_trim(slice_cut(&rest, ',')), name))
			return true;
	return false;
}

int job_inspect(const struct settings *settings, const struct job_order *order, struct err *err)
{
	const char *what = order->words[0] != NULL ? order->words[0] : "ping";

	if (!is_inspect_word(what))
		return err_set(err, ERR_INVALID, "nodes are not asked for %s; there are %s", what, job_inspect_words);
	return ask(settings, order, what, SLICE_NONE, err);
}

int job_revoke(const struct settings *settings, const struct job_order *order, struct err *err)
{
	struct buf arguments = BUF_INIT;
	struct json_writer w = JSON_WRITER(&arguments);
	int rc;

	json_open(&w, NULL, '{');
	json_put_string(&w, "task_id", slice_of(order->words[0]));
	json_put_bool(&w, "terminate", order->terminate);
	json_put_string(&w, "signal", slice_of("SIGTERM"));
	json_close(&w, '}');
	rc = ask(settings, order, "revoke", (struct slice){ arguments.data, arguments.len }, err);
	buf_release(&arguments);
	return rc;
}

static int purge(struct amqp *amqp, const struct job_order *order, struct err *err)
{
	const char *queue = order->words[0];
	struct amqp_queue_state state;
	uint32_t count = 0;

	if (amqp_declare_queue(amqp, queue, AMQP_PASSIVE, AMQP_NO_TABLE, &state, err) < 0)
		return -1;
	if (state.messages == 0) {
		printf("%s: nothing to delete\n", queue);
		return 0;
	}
	if (!order->is_sure && !ask_yes("%s: delete %u jobs for good?", queue, state.messages))
		return err_set(err, ERR_INVALID, "nothing was deleted from %s (--yes does not ask)", queue);
	if (amqp_purge_queue(amqp, queue, &count, err) < 0)
		return -1;
	printf("%s: %u deleted\n", queue, count);
	return 0;
}

int job_purge(const struct settings *settings, const struct job_order *order, struct err *err)
{
	struct amqp *amqp = NULL;
	int rc = -1;

	if (amqp_open(settings, "feedctl job", &amqp, err) == 0)
		rc = purge(amqp, order, err);
	amqp_close(amqp);
	return rc;
}
