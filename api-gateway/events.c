/* Records of product_events go in, server-sent events for every client that listens come out. */
#include "api-gateway/events.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api-gateway/events_message.h"
#include "api-gateway/events_parts.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/queue/topics.h"

#define ASK_MS 5000
#define FILL_MS 10000      /* for what was written before; then we go on without it */
#define BEAT_MS 15000      /* a comment, so that proxies keep the connection and a client that is gone is noticed */
#define RETRY_MS 2000      /* what a client is told to wait before it comes back */
#define LOOK_MS 5
#define LAG_GROUP "relay.webhook" /* any: what is asked for is where partitions begin and end */

/* ---- clients, with the lock held */

void events_drop(struct events *events, struct client **at)
{
	struct client *client = *at;

	*at = client->next;
	http_stream_end(client->stream);
	free(client);
	events->clients--;
}

void events_push(struct client **list, struct client *client)
{
	client->next = *list;
	*list = client;
}

static bool has_all(const struct events *events, const struct client *client)
{
	if (!events->is_filled)
		return false;
	for (size_t p = 0; p < events->recent.partitions; p++)
		if (client->at[p] < events->recent.next[p])
			return false;
	return true;
}

void events_settle(struct events *events, struct client *client)
{
	client->next = NULL;
	if (events->is_stopping || !events->is_ready) {
		events_drop(events, &client);
	} else if (client->is_gone || !events_recent_serve(&events->recent, client->at, client->stream)) {
		metric_add(events->dropped, 1);
		events_drop(events, &client);
	} else {
		events_push(has_all(events, client) ? &events->live : &events->behind, client);
	}
}

static void send_all(struct events *events, struct client **list, const struct buf *text)
{
	while (*list != NULL) {
		if (http_stream_send((*list)->stream, text->data, text->len)) {
			list = &(*list)->next;
		} else {
			metric_add(events->dropped, 1);
			events_drop(events, list);
		}
	}
}

/* ---- following */

/* Who has not taken half of what may wait gets the rest as one who comes back does, at its own pace. With the lock held. */
static void leave_behind(struct events *events)
{
	struct client **at = &events->live;

	while (*at != NULL) {
		struct client *client = *at;

		if (http_stream_waiting(client->stream) <= EVENTS_WAITING / 2) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		memcpy(client->at, events->recent.next, sizeof(client->at));
		events_push(&events->behind, client);
	}
}

static bool is_filled(const struct events *events)
{
	for (size_t p = 0; p < events->recent.partitions; p++)
		if (events->recent.next[p] < events->begun[p])
			return false;
	return true;
}

/* With the lock held. Those who are live have all that was before. */
static void send_live(struct events *events, const struct buf *text)
{
	struct buf message = BUF_INIT;

	events_message_place(&message, events->recent.next, events->recent.partitions);
	buf_add(&message, text->data, text->len);
	send_all(events, &events->live, &message);
	buf_release(&message);
}

static void publish(struct events *events, const struct record *record)
{
	const bool is_told = record->value.data != NULL;
	struct buf text = BUF_INIT;

	if (record->partition < 0 || (size_t)record->partition >= events->recent.partitions)
		return;
	if (is_told)
		events_message_text(&text, record);
	pthread_mutex_lock(&events->lock);
	leave_behind(events);
	events_recent_add(&events->recent, record->partition, record->offset, is_told ? (struct slice){ text.data, text.len } : SLICE_NONE);
	if (is_told)
		send_live(events, &text);
	events->is_filled = events->is_filled || is_filled(events);
	pthread_mutex_unlock(&events->lock);
	metric_add(events->sent, is_told && record->offset >= events->begun[record->partition] ? 1 : 0);
	buf_release(&text);
}

static void beat(struct events *events, int64_t *beat_ms)
{
	static const struct buf comment = { (char *)":\n\n", 3, 0 };

	if (clock_mono_ms() - *beat_ms < BEAT_MS)
		return;
	*beat_ms = clock_mono_ms();
	pthread_mutex_lock(&events->lock);
	send_all(events, &events->live, &comment);
	send_all(events, &events->behind, &comment);
	pthread_mutex_unlock(&events->lock);
}

int events_ask_ends(struct events *events, struct partition_lag *out, size_t *count, struct err *err)
{
	if (queue_lag(events->queue, LAG_GROUP, TOPIC_PRODUCT_EVENTS, out, EVENTS_PARTITIONS, count, ASK_MS, err) < 0)
		return -1;
	return *count > 0 && *count <= EVENTS_PARTITIONS ? 0 : err_set(err, ERR_UNAVAILABLE, "%s has %zu partitions", TOPIC_PRODUCT_EVENTS, *count);
}

/* Follows each partition from where it ends now; `is_to_fill`: from a little before that, so that those who were connected
 * until we began find here what they missed. Ids that are given out until then name the end: no event is missed by who comes back with one. */
static int begin(struct events *events, struct consumer *consumer, bool is_to_fill, struct err *err)
{
	struct partition_lag ends[EVENTS_PARTITIONS];
	struct queue_place places[EVENTS_PARTITIONS];
	int64_t next[EVENTS_PARTITIONS] = { 0 }, begun[EVENTS_PARTITIONS] = { 0 };
	size_t count = 0;

	if (events_ask_ends(events, ends, &count, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		const int64_t share = is_to_fill ? EVENTS_RECENT / (int64_t)count : 0, from = ends[i].high - share;

		places[i] = (struct queue_place){ ends[i].partition, from > ends[i].low ? from : ends[i].low };
		next[ends[i].partition] = places[i].offset;
		begun[ends[i].partition] = ends[i].high;
	}
	if (consumer_assign_places(consumer, TOPIC_PRODUCT_EVENTS, places, count, err) < 0)
		return -1;
	pthread_mutex_lock(&events->lock);
	events_recent_begin(&events->recent, next, count);
	memcpy(events->begun, begun, sizeof(begun));
	events->is_filled = is_filled(events);
	events->is_ready = true;
	pthread_mutex_unlock(&events->lock);
	return 0;
}

/* They come back with their ids. With the lock held. */
static void drop_all(struct events *events)
{
	while (events->live != NULL)
		events_drop(events, &events->live);
	while (events->behind != NULL)
		events_drop(events, &events->behind);
}

static void lose_place(struct events *events)
{
	pthread_mutex_lock(&events->lock);
	events->is_ready = false;
	drop_all(events);
	pthread_mutex_unlock(&events->lock);
}

/* 1: a record was passed on, 0: none came, -1: the place is lost. */
static int follow_one(struct events *events, struct consumer *consumer, struct err *err)
{
	struct record record = { 0 };
	const int got = consumer_poll(consumer, EVENTS_POLL_MS, &record, err);

	if (got > 0) {
		publish(events, &record);
		record_release(&record);
	}
	return got;
}

static void follow(struct events *events, struct consumer *consumer)
{
	struct backoff retry = { 100, 5000, 0 };
	int64_t beat_ms = clock_mono_ms(), began_ms = 0;
	bool is_begun = false, is_to_fill = true;

	while (!nap_is_over(&events->nap)) {
		struct err err = ERR_INIT;

		beat(events, &beat_ms); /* also when it can't be begun without the fill: nobody was dropped then */
		if (!is_begun && begin(events, consumer, is_to_fill, &err) < 0) {
			log_debug("product events can't be followed yet", log_err(&err));
			nap_for(&events->nap, backoff_next_ms(&retry));
			continue;
		}
		began_ms = is_begun ? began_ms : clock_mono_ms();
		is_begun = true;
		backoff_reset(&retry);
		if (follow_one(events, consumer, &err) < 0) {
			log_warn("product events are followed anew", log_err(&err));
			lose_place(events);
			is_begun = false;
			is_to_fill = true;
			nap_for(&events->nap, backoff_next_ms(&retry));
		} else if (!events->is_filled && clock_mono_ms() - began_ms > FILL_MS) {
			is_begun = is_to_fill = false; /* who lacks some of it is read for */
		}
	}
}

static void *follower_main(void *arg)
{
	struct events *events = arg;
	const struct consumer_options options = { .topic = TOPIC_PRODUCT_EVENTS };
	struct consumer *consumer = NULL;
	struct err err = ERR_INIT;

	if (consumer_open(events->queue, &options, &consumer, &err) < 0)
		log_error("product events can't be followed", log_err(&err));
	else
		follow(events, consumer);
	if (consumer != NULL)
		consumer_close(consumer);
	return NULL;
}

/* ---- clients */

int events_room(struct events *events, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&events->lock);
	if (!events->is_ready || events->is_stopping)
		rc = err_set(err, ERR_UNAVAILABLE, "product events can't be followed now");
	else if (events->clients >= (size_t)events->settings->gateway.max_listeners)
		rc = err_set(err, ERR_FULL, "%zu clients listen already", events->clients);
	pthread_mutex_unlock(&events->lock);
	return rc;
}

/* From now on is from the end, also while what was before is still being read. */
static void place_at_end(const struct events *events, int64_t *at)
{
	for (size_t p = 0; p < events->recent.partitions; p++)
		at[p] = events->recent.next[p] > events->begun[p] ? events->recent.next[p] : events->begun[p];
}

void events_add(struct events *events, struct http_stream *stream, const struct events_place *place)
{
	struct client *client = mem_zalloc(sizeof(*client));
	struct buf hello = BUF_INIT;

	client->stream = stream;
	buf_addf(&hello, "retry: %d\n", RETRY_MS);
	pthread_mutex_lock(&events->lock);
	events->clients++;
	if (place == NULL) {
		place_at_end(events, client->at);
		events_message_place(&hello, client->at, events->recent.partitions); /* for one who sees no event before the connection breaks */
		buf_add_char(&hello, '\n');
	} else {
		memcpy(client->at, place->next, sizeof(client->at));
	}
	buf_add_char(&hello, '\n');
	http_stream_send(stream, hello.data, hello.len);
	events_settle(events, client);
	pthread_mutex_unlock(&events->lock);
	buf_release(&hello);
}

size_t events_clients(struct events *events)
{
	size_t count;

	pthread_mutex_lock(&events->lock);
	count = events->clients;
	pthread_mutex_unlock(&events->lock);
	return count;
}

/* ---- life */

static double count_clients(void *arg)
{
	return (double)events_clients(arg);
}

int events_open(const struct settings *settings, struct queue *queue, struct events **out, struct err *err)
{
	struct events *events = mem_zalloc(sizeof(*events));

	events->queue = queue;
	events->settings = settings;
	events->sent = metric_counter("feedmill_gateway_events_total", NULL, "Product events that were sent to those who listened.");
	events->dropped = metric_counter("feedmill_gateway_listeners_dropped_total", NULL, "Clients that listened, and went or were too slow.");
	events->reads = metric_counter("feedmill_gateway_catch_up_reads_total", NULL, "Reads of product events for those who were behind.");
	events->records = metric_counter("feedmill_gateway_catch_up_records_total", NULL, "Records that came by these reads.");
	metric_gauge_read("feedmill_gateway_listeners", NULL, "Clients that listen for product events.", count_clients, events);
	pthread_mutex_init(&events->lock, NULL);
	nap_init(&events->nap);
	events->has_follower = pthread_create(&events->follower, NULL, follower_main, events) == 0;
	events->has_catcher = pthread_create(&events->catcher, NULL, events_catch_up, events) == 0;
	*out = events;
	if (events->has_follower && events->has_catcher)
		return 0;
	return err_set(err, ERR_FATAL, "no thread for product events"); /* closed with the rest */
}

void events_stop(struct events *events)
{
	if (events == NULL)
		return;
	pthread_mutex_lock(&events->lock);
	events->is_stopping = true;
	drop_all(events);
	pthread_mutex_unlock(&events->lock);
	nap_end(&events->nap);
	while (events_clients(events) > 0) /* in the hands of the thread that reads again, until its poll ends */
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
}

void events_close(struct events *events)
{
	if (events == NULL)
		return;
	events_stop(events);
	if (events->has_follower)
		pthread_join(events->follower, NULL);
	if (events->has_catcher)
		pthread_join(events->catcher, NULL);
	events_recent_release(&events->recent);
	nap_release(&events->nap);
	pthread_mutex_destroy(&events->lock);
	free(events);
}
