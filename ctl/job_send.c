/* A job goes in by name and JSON arguments, its id comes out, and its result when somebody waits; or an id goes in, and how it is. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/stop.h"
#include "common/queue/job_message.h"
#include "common/store/jobs.h"
#include "ctl/job.h"

#define SECOND_MS 1000
#define LOOK_MS 200 /* at the table of results */

static bool has_results(const struct settings *settings, const char *where)
{
	return strcmp(settings->job.results, where) == 0 || strcmp(settings->job.results, "both") == 0;
}

/* ---- what is typed */

/* "[…]" are arguments by position, "{…}" those by name. */
static int read_arguments(const struct job_order *order, struct job_message *job, struct err *err)
{
	for (size_t i = 1; i < JOB_WORDS_MAX && order->words[i] != NULL; i++) {
		const struct slice text = slice_of(order->words[i]);
		struct err why = ERR_INIT;
		struct json *json = json_parse(text, &why);
		const enum json_type type = json != NULL ? json_type(json) : JSON_NULL;
		struct slice *into = type == JSON_ARRAY ? &job->args : &job->kwargs;

		json_free(json);
		if (json == NULL)
			return err_set(err, ERR_INVALID, "\"%.100s\" is no JSON: %s", order->words[i], why.message);
		if (type != JSON_ARRAY && type != JSON_OBJECT)
			return err_set(err, ERR_INVALID, "arguments are a JSON array, those by name a JSON object; \"%.100s\" is of type %s", order->words[i],
				json_type_name(type));
		if (into->len > 0)
			return err_set(err, ERR_INVALID, "there are two %s", type == JSON_ARRAY ? "arrays of arguments" : "objects of arguments by name");
		*into = text;
	}
	return 0;
}

/* ---- sending */

struct sending {
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool is_done;
	enum amqp_sent sent;
	char why[256];
};

static void on_sent(void *arg, enum amqp_sent sent, const char *why)
{
	struct sending *sending = arg;

	pthread_mutex_lock(&sending->lock);
	sending->is_done = true;
	sending->sent = sent;
	snprintf(sending->why, sizeof(sending->why), "%s", why != NULL ? why : "");
	pthread_cond_signal(&sending->news);
	pthread_mutex_unlock(&sending->lock);
}

/* It is reported by the publisher in any case, at the latest by its close. */
static void wait_sent(struct sending *sending)
{
	pthread_mutex_lock(&sending->lock);
	while (!sending->is_done)
		pthread_cond_wait(&sending->news, &sending->lock);
	pthread_mutex_unlock(&sending->lock);
}

static int say_sent(const struct sending *sending, const struct job_message *job, struct err *err)
{
	switch (sending->sent) {
	case AMQP_SENT_STORED:
		return 0;
	case AMQP_SENT_UNROUTABLE:
		return err_set(err, ERR_INVALID, "there is no queue %s: no worker has made it yet; nothing was sent", job->queue);
	case AMQP_SENT_NOT:
		return err_set(err, ERR_UNAVAILABLE, "%s; nothing was sent", sending->why);
	case AMQP_SENT_UNFIT:
		return err_set(err, ERR_INVALID, "%s; nothing was sent", sending->why);
	default:
		return err_set(err, ERR_UNKNOWN, "%s; whether job %s was stored is not known", sending->why, job->id);
	}
}

static int publish(const struct settings *settings, const struct job_message *job, struct err *err)
{
	const struct amqp_publisher_options options = { .purpose = "feedctl job", .window = 1, .room = 1 };
	struct sending sending = { .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER };
	struct amqp_publisher *publisher = NULL;
	int rc;

	if (amqp_publisher_open(settings, &options, &publisher, err) < 0)
		return -1;
	rc = job_message_send(publisher, job, settings->amqp.answer_timeout_ms, on_sent, &sending, err);
	if (rc == 0)
		wait_sent(&sending);
	amqp_publisher_close(publisher, 0);
	return rc == 0 ? say_sent(&sending, job, err) : -1;
}

/* ---- its result */

/* 1: it failed, or was revoked. */
static int show(const char *id, const struct job_state *state)
{
	const char *word = job_state_word(state->status);
	struct buf text = BUF_INIT;

	job_state_write(slice_of(id), state, &text);
	puts(text.data);
	buf_release(&text);
	return word != NULL && (strcmp(word, "failed") == 0 || strcmp(word, "revoked") == 0);
}

static bool is_ready(const struct job_state *state)
{
	const char *word = job_state_word(state->status);

	return word != NULL && (strcmp(word, "done") == 0 || strcmp(word, "failed") == 0 || strcmp(word, "revoked") == 0);
}

static void read_meta(const struct json *meta, struct job_state *state)
{
	const struct json *status = json_get(meta, "status"), *result = json_get(meta, "result");
	const struct slice text = status != NULL ? json_string(status) : SLICE_NONE;

	snprintf(state->status, sizeof(state->status), "%.*s", (int)text.len, text.len > 0 ? text.data : "");
	state->is_readable = result != NULL;
	buf_reset(&state->result);
	if (result != NULL)
		json_write_node(&state->result, result);
}

/* Each state comes as a message. */
static int await_message(struct job_inbox *inbox, int64_t until_ms, struct job_state *state, struct err *err)
{
	while (!is_ready(state)) {
		struct json *meta = NULL;
		const int rc = job_inbox_next(inbox, until_ms, &meta, err);

		if (rc <= 0)
			return rc;
		read_meta(meta, state);
		json_free(meta);
	}
	return 0;
}

static int await_row(const struct settings *settings, const char *id, int64_t until_ms, struct job_state *state, struct err *err)
{
	struct store *store = NULL;
	int rc = store_open(settings, &store, err);

	while (rc == 0) {
		buf_reset(&state->result);
		rc = job_state_read(store, settings->job.result_table, slice_of(id), state, err);
		if (rc < 0 || is_ready(state) || clock_mono_ms() >= until_ms || stop_wait(LOOK_MS))
			break;
	}
	store_close(store);
	return rc;
}

static int await(const struct settings *settings, const struct job_order *order, struct job_inbox *inbox, const char *id, struct err *err)
{
	const int64_t until_ms = clock_mono_ms() + order->wait_s * SECOND_MS;
	struct job_state state = { .result = BUF_INIT, .signer = order->signer };
	int rc = inbox->amqp != NULL ? await_message(inbox, until_ms, &state, err) : await_row(settings, id, until_ms, &state, err);

	if (rc == 0) {
		rc = show(id, &state);
		if (!is_ready(&state)) {
			fprintf(stderr, "feedctl job send: %s has not ended within %lld s (does `feed-worker job` run?)\n", id, (long long)order->wait_s);
			rc = 1;
		}
	}
	buf_release(&state.result);
	return rc;
}

/* ---- the words */

int job_send(const struct settings *settings, const struct job_order *order, struct err *err)
{
	struct slice queues = slice_of(settings->job.queues), first = slice_trim(slice_cut(&queues, ','));
	const bool waits = order->wait_s >= 0;
	struct job_inbox inbox = { .signer = order->signer };
	char queue[256], id[UUID_TEXT], answers[UUID_TEXT];
	struct job_message job = { .name = order->words[0], .id = id, .queue = queue, .eta_ms = order->eta_ms, .expires_ms = order->expires_ms,
		.priority = (int)order->priority, .signer = order->signer };
	int rc = -1;

	if (order->queue != NULL)
		first = slice_of(order->queue);
	snprintf(queue, sizeof(queue), "%.*s", (int)first.len, first.data);
	uuid_v7(id);
	uuid_v7(answers);
	if (read_arguments(order, &job, err) < 0)
		return -1;
	if (waits && strcmp(settings->job.results, "none") == 0)
		return err_set(err, ERR_INVALID, "--wait: job.results is none, so that no result comes");
	if (waits && has_results(settings, "rpc")) {
		if (job_inbox_open(settings, NULL, answers, &inbox, err) < 0)
			goto out;
		job.reply_to = answers;
	}
	if (publish(settings, &job, err) < 0)
		goto out;
	if (waits)
		rc = await(settings, order, &inbox, id, err);
	else
		rc = puts(id) < 0;
out:
	job_inbox_close(&inbox);
	return rc;
}

int job_status(const struct settings *settings, const struct job_order *order, struct err *err)
{
	struct job_state state = { .result = BUF_INIT, .signer = order->signer };
	struct store *store = NULL;
	int rc = -1;

	if (!has_results(settings, "database"))
		return err_set(err, ERR_INVALID, "job.results is %s: results are kept nowhere that can be looked at (database, or both)", settings->job.results);
	if (store_open(settings, &store, err) == 0 &&
		job_state_read(store, settings->job.result_table, slice_of(order->words[0]), &state, err) == 0)
		rc = show(order->words[0], &state);
	store_close(store);
	buf_release(&state.result);
	return rc;
}
