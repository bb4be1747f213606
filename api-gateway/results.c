/* The gateway's number goes in, outcomes that were sent to it come out. */
#include "api-gateway/results.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "api-gateway/nap.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/model/command.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"

#define POLL_MS 100
#define ASSIGN_MS 5000

struct results {
	outcome_fn *outcome;
	void (*failed)(void *arg);
	void *arg;
	struct consumer *consumer; /* the thread's */
	struct backoff retry;
	struct nap nap;
	pthread_t thread;
	bool is_running;
	atomic_int wanted, partition;
	atomic_bool is_connected;
	_Atomic int64_t beat_ms;
	struct metric *heard;
};

static void deliver(struct results *results, const struct record *record)
{
	struct err err = ERR_INIT;
	struct result result;

	if (result_decode(&result, record->value, &err) < 0) {
		log_warn("result not understood", log_int("partition", record->partition), log_int("offset", record->offset), log_err(&err));
		return;
	}
	metric_add(results->heard, 1);
	results->outcome(results->arg, slice_of(result.command), result.is_done, result.body);
	result_release(&result);
}

/* Where it ends now is fixed before this returns, so nothing that is sent to us from then on is missed. */
static void follow(struct results *results, int number)
{
	struct err err = ERR_INIT;

	if (consumer_assign(results->consumer, TOPIC_RESULTS, number, QUEUE_END, ASSIGN_MS, &err) == 0) {
		atomic_store(&results->partition, number);
		return;
	}
	if (results->retry.tries == 0)
		log_warn("results can't be read yet", log_int("partition", number), log_err(&err));
	nap_for(&results->nap, backoff_next_ms(&results->retry));
}

/* What came between is missed; those who wait for it look into the ledger. */
static void lose_place(struct results *results, const struct err *err)
{
	if (results->retry.tries == 0)
		log_warn("results missed, reading on at their end", log_err(err));
	atomic_store(&results->partition, -1);
	nap_for(&results->nap, backoff_next_ms(&results->retry));
}

/* 0, or -1 when the consumer is beyond help. */
static int poll_one(struct results *results)
{
	struct record record = { 0 };
	struct err err = ERR_INIT;
	int got = consumer_poll(results->consumer, POLL_MS, &record, &err);

	if (got < 0 && err.kind == ERR_CONFLICT) {
		lose_place(results, &err);
		return 0;
	}
	if (got < 0) {
		log_error("results can't be read", log_err(&err));
		return -1;
	}
	backoff_reset(&results->retry);
	if (got > 0) {
		deliver(results, &record);
		record_release(&record);
	}
	atomic_store(&results->is_connected, consumer_connected(results->consumer));
	return 0;
}

static void *run(void *arg)
{
	struct results *results = arg;
	bool is_well = true;

	while (is_well && !nap_is_over(&results->nap)) {
		int wanted = atomic_load(&results->wanted);

		atomic_store(&results->beat_ms, clock_mono_ms());
		if (wanted < 0)
			nap_for(&results->nap, POLL_MS);
		else if (wanted != atomic_load(&results->partition))
			follow(results, wanted);
		else
			is_well = poll_one(results) == 0;
	}
	atomic_store(&results->is_connected, false);
	if (!is_well)
		results->failed(results->arg);
	return NULL;
}

int results_open(struct queue *queue, outcome_fn *outcome, void (*failed)(void *arg), void *arg, struct results **out, struct err *err)
{
	const struct consumer_options options = { .topic = TOPIC_RESULTS };
	struct results *results = mem_zalloc(sizeof(*results));

	results->outcome = outcome;
	results->failed = failed;
	results->arg = arg;
	results->heard = metric_counter("feedmill_gateway_results_total", NULL, "results of commands and posts that came by record");
	results->retry = (struct backoff){ .first_ms = 100, .limit_ms = 3000 };
	atomic_store(&results->wanted, -1);
	atomic_store(&results->partition, -1);
	nap_init(&results->nap);
	if (consumer_open(queue, &options, &results->consumer, err) < 0)
		goto failed;
	if (pthread_create(&results->thread, NULL, run, results) != 0) {
		err_set(err, ERR_FATAL, "no thread for results");
		goto failed;
	}
	results->is_running = true;
	*out = results;
	return 0;
failed:
	results_close(results);
	return -1;
}

void results_follow(struct results *results, int number)
{
	atomic_store(&results->wanted, number);
}

int results_partition(const struct results *results)
{
	return atomic_load(&results->partition);
}

bool results_ready(const struct results *results, struct err *why)
{
	int partition = atomic_load(&results->partition);

	if (partition < 0 || partition != atomic_load(&results->wanted)) {
		err_set(why, ERR_UNAVAILABLE, "no partition of %s is assigned yet", TOPIC_RESULTS);
		return false;
	}
	if (!atomic_load(&results->is_connected)) {
		err_set(why, ERR_UNAVAILABLE, "no broker is in reach to read %s", TOPIC_RESULTS);
		return false;
	}
	return true;
}

int64_t results_beat_ms(const struct results *results)
{
	return atomic_load(&results->beat_ms);
}

void results_close(struct results *results)
{
	if (results == NULL)
		return;
	nap_end(&results->nap);
	if (results->is_running)
		pthread_join(results->thread, NULL);
	if (results->consumer != NULL)
		consumer_close(results->consumer);
	nap_release(&results->nap);
	free(results);
}
