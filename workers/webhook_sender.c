/* Deliveries that wait go in, signed requests come out, and what became of each is written down. */
#include "workers/webhook_sender.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/http/http_client.h"
#include "common/store/webhooks.h"
#include "workers/webhook_sign.h"

#define LOOK_MS 1000         /* for what another process wrote, or what is due again */
#define TRIES_MIN 5          /* before a webhook is given up: the time since its first failure alone may be time that nobody tried */
#define TURN 100             /* deliveries to one webhook before others have their turn, */
#define TURN_MS 1000         /* of which the last begins within this time: a slow one has short turns */
/* On top of a call's time limit: to write down what became of it. The lease is renewed for each delivery, so this is not about how long a
 * sender works; and it can't break an order: who has lost the lease finds that out before its next delivery, and repeats at most this one. */
#define LEASE_SPARE_MS 5000
#define ANSWER_MAX 65536
#define PRUNE_MS 60000       /* between two looks for old deliveries, */
#define PRUNE_NEXT_MS 1000   /* or this where the last had to stop before it was done, */
#define PRUNE_TURN_MS 500    /* because it took so long */
#define EVENT_SOURCE "/feedmill/products"
#define GONE 410
#define TOO_MANY_REQUESTS 429
#define AWAY 503

struct webhook_senders {
	const struct settings *settings;
	pthread_t *threads;
	size_t count;
	struct metric *delivered, *failed, *disabled;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t news;
	uint64_t wakes;
	int64_t prune_at_ms; /* monotonic */
	bool is_stopping;
};

struct sender { /* one thread's */
	struct webhook_senders *all;
	const struct settings *settings;
	struct store *store;
	struct http_client *client;
	char holder[UUID_TEXT];
	struct webhook_delivery delivery;
	struct buf answer;
	struct backoff trouble; /* with the store */
};

static struct slice slice(const struct buf *buf)
{
	return (struct slice){ buf->data, buf->len };
}

static bool is_stopping(struct webhook_senders *all)
{
	bool stopping;

	pthread_mutex_lock(&all->lock);
	stopping = all->is_stopping;
	pthread_mutex_unlock(&all->lock);
	return stopping;
}

/* ---- one call */

static int add_headers(struct sender *s, int64_t now_s, const char *signature, struct err *err)
{
	const struct webhook_delivery *d = &s->delivery;
	char timestamp[24];
	const char *const headers[][2] = { { "webhook-id", d->event.data }, { "webhook-timestamp", timestamp }, { "webhook-signature", signature },
		{ "ce-specversion", "1.0" }, { "ce-id", d->event.data }, { "ce-type", d->type.data }, { "ce-source", EVENT_SOURCE } };

	snprintf(timestamp, sizeof(timestamp), "%lld", (long long)now_s);
	http_client_forget_headers(s->client);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		if (http_client_header(s->client, headers[i][0], headers[i][1], err) < 0)
			return -1;
	return 0;
}

static int call(struct sender *s, int *status, struct err *err)
{
	const struct webhook_delivery *d = &s->delivery;
	const int64_t now_s = clock_wall_ms() / 1000;
	struct buf signature = BUF_INIT;
	int rc = -1;

	if (webhook_sign(&signature, slice(&d->secret), slice(&d->event), now_s, slice(&d->body), err) < 0 ||
		add_headers(s, now_s, signature.data, err) < 0)
		goto out;
	rc = http_client_send(s->client, "POST", d->url.data, "application/json", slice(&d->body), status, &s->answer, err);
	FAULT_POINT("webhook.called");
out:
	buf_release(&signature);
	return rc;
}

/* ---- what becomes of it */

/* What a server asks for that is busy, up to what we would wait at most anyway: it can put itself off, not for ever. */
static int64_t asked_wait_ms(const struct sender *s, int status)
{
	const int64_t max_ms = s->settings->sink.webhook_retry_max_ms, asked_s = http_client_retry_after_s(s->client);

	if (asked_s == 0 || (status != TOO_MANY_REQUESTS && status != AWAY))
		return 0;
	return asked_s < max_ms / 1000 ? asked_s * 1000 : max_ms;
}

static int64_t wait_after(const struct sender *s, int status)
{
	struct backoff backoff = { s->settings->sink.webhook_retry_ms, s->settings->sink.webhook_retry_max_ms, (unsigned)s->delivery.tries };
	const int64_t own_ms = backoff_next_ms(&backoff), asked_ms = asked_wait_ms(s, status);

	return asked_ms > own_ms ? asked_ms : own_ms;
}

static int disable(struct sender *s, const char *id, const char *reason, struct err *err)
{
	bool found = false;

	if (webhooks_disable(s->store, s->holder, id, reason, &found, err) < 0)
		return -1;
	if (!found)
		return 0; /* another has it by now, and will see for itself */
	metric_add(s->all->disabled, 1);
	log_warn("webhook disabled", log_str("webhook", id), log_str("reason", reason), log_int("tries", s->delivery.tries + 1));
	return 0;
}

static int note_failure(struct sender *s, const char *id, int status, const char *why, struct err *err)
{
	char reason[400];

	metric_add(s->all->failed, 1);
	log_info("webhook not delivered", log_str("webhook", id), log_str("event_id", s->delivery.event.data), log_int("tries", s->delivery.tries + 1),
		log_str("reason", why));
	if (status == GONE)
		return disable(s, id, "it answered 410 Gone", err);
	if (s->delivery.failing_ms < s->settings->sink.webhook_give_up_s * 1000 || s->delivery.tries + 1 < TRIES_MIN)
		return webhooks_failed(s->store, s->holder, id, why, wait_after(s, status), err);
	snprintf(reason, sizeof(reason), "no success for %lld s; at last: %.300s", (long long)(s->delivery.failing_ms / 1000), why);
	return disable(s, id, reason, err);
}

/* 1: delivered, 0: not, and put off; -1: the store is away. */
static int deliver(struct sender *s, const char *id, struct err *err)
{
	struct err why = ERR_INIT;
	int status = 0;

	if (call(s, &status, &why) == 0 && (status < 200 || status > 299))
		err_set(&why, ERR_UNAVAILABLE, "it answered %d", status);
	if (why.kind != ERR_NONE)
		return note_failure(s, id, status, why.message, err);
	if (webhooks_delivered(s->store, s->holder, id, &s->delivery, err) < 0)
		return -1;
	metric_add(s->all->delivered, 1);
	return 1;
}

static int serve(struct sender *s, const char *id, struct err *err)
{
	const int64_t lease_ms = s->settings->sink.webhook_timeout_ms + LEASE_SPARE_MS;
	const int64_t until_ms = clock_mono_ms() + TURN_MS;
	bool found = true;

	for (int n = 0; n < TURN && (n == 0 || clock_mono_ms() < until_ms) && !is_stopping(s->all); n++) {
		int rc;

		if (webhooks_next(s->store, s->holder, lease_ms, id, &s->delivery, &found, err) < 0)
			return -1;
		if (!found)
			break;
		rc = deliver(s, id, err);
		if (rc <= 0)
			return rc; /* a failure ended the lease */
	}
	return webhooks_let_go(s->store, s->holder, id, err);
}

/* ---- the thread */

static bool is_to_prune(struct webhook_senders *all)
{
	const int64_t now_ms = clock_mono_ms();
	bool is;

	pthread_mutex_lock(&all->lock);
	is = now_ms >= all->prune_at_ms;
	if (is)
		all->prune_at_ms = now_ms + PRUNE_MS; /* one of the threads is enough */
	pthread_mutex_unlock(&all->lock);
	return is;
}

/* In small steps, each a transaction, for a while. */
static int prune(struct sender *s, struct err *err)
{
	const int64_t until_ms = clock_mono_ms() + PRUNE_TURN_MS;
	int64_t deleted = 1;

	while (deleted > 0 && clock_mono_ms() < until_ms && !is_stopping(s->all))
		if (webhooks_prune(s->store, &deleted, err) < 0)
			return -1;
	if (deleted > 0) {
		pthread_mutex_lock(&s->all->lock);
		s->all->prune_at_ms = clock_mono_ms() + PRUNE_NEXT_MS;
		pthread_mutex_unlock(&s->all->lock);
	}
	return 0;
}

static int turn(struct sender *s, bool *worked, struct err *err)
{
	const int64_t lease_ms = s->settings->sink.webhook_timeout_ms + LEASE_SPARE_MS;
	char id[UUID_TEXT];

	if (is_to_prune(s->all) && prune(s, err) < 0)
		return -1;
	if (webhooks_claim(s->store, s->holder, lease_ms, id, worked, err) < 0)
		return -1;
	return *worked ? serve(s, id, err) : 0;
}

static void nap(struct sender *s, uint64_t seen, int64_t wait_ms)
{
	const int64_t until_ms = clock_mono_ms() + wait_ms;
	const struct timespec until = cond_until(until_ms);
	int rc = 0;

	pthread_mutex_lock(&s->all->lock);
	while (!s->all->is_stopping && s->all->wakes == seen && rc == 0)
		rc = pthread_cond_timedwait(&s->all->news, &s->all->lock, &until);
	pthread_mutex_unlock(&s->all->lock);
}

static uint64_t wakes_of(struct webhook_senders *all)
{
	uint64_t wakes;

	pthread_mutex_lock(&all->lock);
	wakes = all->wakes;
	pthread_mutex_unlock(&all->lock);
	return wakes;
}

static void run(struct sender *s)
{
	while (!is_stopping(s->all)) {
		const uint64_t seen = wakes_of(s->all);
		struct err err = ERR_INIT;
		bool worked = false;

		if (turn(s, &worked, &err) < 0) {
			const int64_t wait_ms = err.kind == ERR_CONFLICT ? 1 : LOOK_MS + backoff_next_ms(&s->trouble);

			log_debug("webhooks wait for the store", log_err(&err));
			nap(s, seen, wait_ms);
		} else {
			backoff_reset(&s->trouble);
			if (!worked)
				nap(s, seen, LOOK_MS);
		}
	}
}

static void *sender_main(void *arg)
{
	struct webhook_senders *all = arg;
	struct sender s = { .all = all, .settings = all->settings, .trouble = { 100, 5000, 0 }, .answer = BUF_INIT,
		.delivery = { .url = BUF_INIT, .secret = BUF_INIT, .event = BUF_INIT, .type = BUF_INIT, .body = BUF_INIT } };
	struct err err = ERR_INIT;

	uuid_v7(s.holder);
	s.client = http_client_new(all->settings->sink.webhook_timeout_ms, ANSWER_MAX);
	if (strcmp(all->settings->sink.webhook_addresses, "any") != 0)
		http_client_guard(s.client);
	if (store_open(all->settings, &s.store, &err) < 0) {
		log_error("webhooks can't be delivered", log_err(&err)); /* the sink's own connection failed the same way */
	} else {
		run(&s);
		store_close(s.store);
	}
	http_client_free(s.client);
	webhook_delivery_release(&s.delivery);
	buf_release(&s.answer);
	return NULL;
}

int webhook_senders_open(const struct settings *settings, struct webhook_senders **out, struct err *err)
{
	struct webhook_senders *all = mem_zalloc(sizeof(*all));
	const size_t wanted = (size_t)settings->sink.webhook_senders;

	all->settings = settings;
	all->threads = mem_array(wanted, sizeof(*all->threads));
	all->delivered = metric_counter("feedmill_webhook_calls_total", "outcome=\"delivered\"", "Calls of webhooks, by outcome.");
	all->failed = metric_counter("feedmill_webhook_calls_total", "outcome=\"failed\"", "Calls of webhooks, by outcome.");
	all->disabled = metric_counter("feedmill_webhook_disabled_total", NULL, "Webhooks that were disabled, because they failed for too long or said so.");
	pthread_mutex_init(&all->lock, NULL);
	cond_init(&all->news);
	for (all->count = 0; all->count < wanted; all->count++)
		if (pthread_create(&all->threads[all->count], NULL, sender_main, all) != 0) {
			webhook_senders_close(all);
			return err_set(err, ERR_UNAVAILABLE, "can't start a thread that calls webhooks");
		}
	*out = all;
	return 0;
}

void webhook_senders_wake(struct webhook_senders *all)
{
	pthread_mutex_lock(&all->lock);
	all->wakes++;
	pthread_cond_broadcast(&all->news);
	pthread_mutex_unlock(&all->lock);
}

void webhook_senders_close(struct webhook_senders *all)
{
	if (all == NULL)
		return;
	pthread_mutex_lock(&all->lock);
	all->is_stopping = true;
	pthread_cond_broadcast(&all->news);
	pthread_mutex_unlock(&all->lock);
	for (size_t i = 0; i < all->count; i++)
		pthread_join(all->threads[i], NULL);
	pthread_cond_destroy(&all->news);
	pthread_mutex_destroy(&all->lock);
	free(all->threads);
	free(all);
}
