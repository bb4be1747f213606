/* Records of product_events go in, server-sent events for every client that listens come out. */
#include "api-gateway/events.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api-gateway/nap.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/queue/topics.h"

#define POLL_MS 100
#define ASK_MS 5000
#define BEAT_MS 15000      /* a comment, so that proxies keep the connection and a client that is gone is noticed */
#define RETRY_MS 2000      /* what a client is told to wait before it comes back */
#define RECENT 1024        /* events that one who catches up may still find here */
#define TURN_EVENTS 500    /* that one client is brought nearer at a time */
#define TURN_MS 1000
#define LAG_GROUP "relay.webhook" /* any: what is asked for is where partitions begin and end */

struct client {
	struct client *next;
	struct http_stream *stream;
	int64_t at[EVENTS_PARTITIONS]; /* of one that catches up */
};

struct recent {
	int32_t partition;
	int64_t offset;
	struct buf text; /* all of the message but its id, and the end of that */
};

struct events {
	struct queue *queue;
	const struct settings *settings;
	struct nap nap;
	pthread_t follower, catcher;
	bool has_follower, has_catcher;
	struct metric *sent, *dropped;
	pthread_mutex_t lock; /* of what follows */
	bool is_ready, is_stopping;
	size_t partitions;
	int64_t next[EVENTS_PARTITIONS]; /* behind what was sent to those who listen */
	int64_t base[EVENTS_PARTITIONS]; /* the same before the oldest of recent */
	struct recent recent[RECENT];
	size_t oldest, recent_count;
	struct client *live, *behind;
	size_t clients;
};

/* ---- ids */

static void write_id(struct buf *out, const int64_t *next, size_t count)
{
	buf_add_str(out, "id: 1");
	for (size_t p = 0; p < count; p++) {
		buf_add_char(out, '-');
		buf_add_int(out, next[p]);
	}
}

bool events_parse(struct slice id, struct events_place *out)
{
	struct slice place = slice_cut(&id, '/');
	int64_t version;

	*out = (struct events_place){ .count = 0 };
	if (!str_int64(slice_cut(&place, '-'), &version) || version != 1)
		return false;
	while (place.len > 0) {
		if (out->count == EVENTS_PARTITIONS || !str_int64(slice_cut(&place, '-'), &out->next[out->count]) || out->next[out->count] < 0)
			return false;
		out->count++;
	}
	return true;
}

/* ---- messages */

/* What follows the place: the event's own id, its name, and its value, a line of data for each line. */
static void write_text(struct buf *out, const struct record *record)
{
	const struct slice id = record_header_get(record, "ce_id"), type = record_header_get(record, "ce_type");
	struct slice rest = record->value;

	buf_add_char(out, '/');
	for (size_t i = 0; i < id.len; i++)
		if ((unsigned char)id.data[i] > ' ')
			buf_add_char(out, id.data[i]);
	if (slice_is(type, "product.created") || slice_is(type, "product.deleted"))
		buf_addf(out, "\nevent: %.*s", (int)type.len, type.data);
	do {
		const struct slice line = slice_cut(&rest, '\n');

		buf_add_str(out, "\ndata: ");
		for (size_t i = 0; i < line.len; i++)
			if (line.data[i] != '\r')
				buf_add_char(out, line.data[i]);
	} while (rest.len > 0);
	buf_add_str(out, "\n\n");
}

/* With the lock held: the client goes, whether it was told or not. */
static void drop(struct events *events, struct client **at)
{
	struct client *client = *at;

	*at = client->next;
	http_stream_end(client->stream);
	free(client);
	events->clients--;
}

static void send_all(struct events *events, struct client **list, const struct buf *text)
{
	while (*list != NULL) {
		if (http_stream_send((*list)->stream, text->data, text->len)) {
			list = &(*list)->next;
		} else {
			metric_add(events->dropped, 1);
			drop(events, list);
		}
	}
}

/* ---- following */

static void remember(struct events *events, const struct record *record, const struct buf *text)
{
	struct recent *recent = &events->recent[(events->oldest + events->recent_count) % RECENT];

	if (events->recent_count == RECENT) {
		events->base[recent->partition] = recent->offset + 1;
		events->oldest = (events->oldest + 1) % RECENT;
	} else {
		events->recent_count++;
	}
	recent->partition = record->partition;
	recent->offset = record->offset;
	buf_reset(&recent->text);
	buf_add(&recent->text, text->data, text->len);
}

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
		memcpy(client->at, events->next, sizeof(client->at));
		client->next = events->behind;
		events->behind = client;
	}
}

static void publish(struct events *events, const struct record *record)
{
	struct buf text = BUF_INIT, message = BUF_INIT;

	if (record->value.data == NULL || record->partition < 0 || (size_t)record->partition >= events->partitions)
		return;
	write_text(&text, record);
	pthread_mutex_lock(&events->lock);
	leave_behind(events);
	events->next[record->partition] = record->offset + 1;
	remember(events, record, &text);
	write_id(&message, events->next, events->partitions);
	buf_add(&message, text.data, text.len);
	send_all(events, &events->live, &message);
	pthread_mutex_unlock(&events->lock);
	metric_add(events->sent, 1);
	buf_release(&text);
	buf_release(&message);
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

static int ask_ends(struct events *events, struct partition_lag *out, size_t *count, struct err *err)
{
	if (queue_lag(events->queue, LAG_GROUP, TOPIC_PRODUCT_EVENTS, out, EVENTS_PARTITIONS, count, ASK_MS, err) < 0)
		return -1;
	return *count > 0 && *count <= EVENTS_PARTITIONS ? 0 : err_set(err, ERR_UNAVAILABLE, "%s has %zu partitions", TOPIC_PRODUCT_EVENTS, *count);
}

/* Where each partition ends is asked before its end is fixed as the beginning of what is followed: what comes between is behind the
 * ids that are given out until then, so that no event is missed by who comes back with one of them. */
static int begin(struct events *events, struct consumer *consumer, struct err *err)
{
	struct partition_lag ends[EVENTS_PARTITIONS];
	size_t count = 0;

	if (ask_ends(events, ends, &count, err) < 0 ||
		consumer_assign(consumer, TOPIC_PRODUCT_EVENTS, QUEUE_EVERY, QUEUE_END, ASK_MS, err) < 0)
		return -1;
	pthread_mutex_lock(&events->lock);
	events->partitions = count;
	events->oldest = events->recent_count = 0;
	for (size_t p = 0; p < count; p++)
		events->next[ends[p].partition] = events->base[ends[p].partition] = ends[p].high;
	events->is_ready = true;
	pthread_mutex_unlock(&events->lock);
	return 0;
}

/* They come back with their ids. With the lock held. */
static void drop_all(struct events *events)
{
	while (events->live != NULL)
		drop(events, &events->live);
	while (events->behind != NULL)
		drop(events, &events->behind);
}

static void lose_place(struct events *events)
{
	pthread_mutex_lock(&events->lock);
	events->is_ready = false;
	drop_all(events);
	pthread_mutex_unlock(&events->lock);
}

static void follow(struct events *events, struct consumer *consumer)
{
	struct backoff retry = { 100, 5000, 0 };
	int64_t beat_ms = clock_mono_ms();
	bool is_begun = false;

	while (!nap_is_over(&events->nap)) {
		struct record record = { 0 };
		struct err err = ERR_INIT;
		int got;

		if (!is_begun && begin(events, consumer, &err) < 0) {
			log_debug("product events can't be followed yet", log_err(&err));
			nap_for(&events->nap, backoff_next_ms(&retry));
			continue;
		}
		is_begun = true;
		backoff_reset(&retry);
		got = consumer_poll(consumer, POLL_MS, &record, &err);
		if (got > 0) {
			publish(events, &record);
			record_release(&record);
		} else if (got < 0) {
			log_warn("product events are followed anew", log_err(&err));
			lose_place(events);
			is_begun = false;
			nap_for(&events->nap, backoff_next_ms(&retry));
		}
		beat(events, &beat_ms);
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

/* ---- catching up */

static size_t missing_bytes(const struct events *events, const struct client *client)
{
	const size_t id_bytes = 16 + 20 * events->partitions;
	size_t bytes = 0;

	for (size_t i = 0; i < events->recent_count; i++) {
		const struct recent *recent = &events->recent[(events->oldest + i) % RECENT];

		if (recent->offset >= client->at[recent->partition])
			bytes += recent->text.len + id_bytes;
	}
	return bytes;
}

/* With the lock held. All that the client lacks is among the recent ones: it gets them, and listens from now on. */
static bool join(struct events *events, struct client *client)
{
	struct buf message = BUF_INIT;

	for (size_t p = 0; p < events->partitions; p++)
		if (client->at[p] < events->base[p])
			return false;
	if (http_stream_waiting(client->stream) + missing_bytes(events, client) > EVENTS_WAITING / 2)
		return false; /* it gets them more slowly */
	for (size_t i = 0; i < events->recent_count; i++) {
		const struct recent *recent = &events->recent[(events->oldest + i) % RECENT];

		if (recent->offset < client->at[recent->partition])
			continue;
		client->at[recent->partition] = recent->offset + 1;
		buf_reset(&message);
		write_id(&message, client->at, events->partitions);
		buf_add(&message, recent->text.data, recent->text.len);
		http_stream_send(client->stream, message.data, message.len); /* one that is gone is found out by the next */
	}
	buf_release(&message);
	return true;
}

/* The first offset that is still there, in place of one that is not. */
static void skip_gone(struct events *events, struct client *client, size_t p)
{
	struct partition_lag ends[EVENTS_PARTITIONS];
	struct err err = ERR_INIT;
	size_t count = 0;

	if (ask_ends(events, ends, &count, &err) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if ((size_t)ends[i].partition == p && (client->at[p] < ends[i].low || client->at[p] > ends[i].high))
			client->at[p] = ends[i].low;
}

static bool send_record(struct events *events, struct client *client, const struct record *record)
{
	struct buf message = BUF_INIT;
	bool is_there = true;

	client->at[record->partition] = record->offset + 1;
	if (record->value.data != NULL) {
		write_id(&message, client->at, events->partitions);
		write_text(&message, record);
		is_there = http_stream_send(client->stream, message.data, message.len);
	}
	buf_release(&message);
	return is_there;
}

/* false: the client is gone. Ends early where it does not take what it has got. */
static bool read_partition(struct events *events, struct consumer *consumer, struct client *client, size_t p, int64_t until)
{
	const int64_t deadline_ms = clock_mono_ms() + TURN_MS;
	struct err err = ERR_INIT;

	if (consumer_assign(consumer, TOPIC_PRODUCT_EVENTS, (int32_t)p, client->at[p], ASK_MS, &err) < 0)
		return true;
	for (int n = 0; n < TURN_EVENTS && client->at[p] < until && clock_mono_ms() < deadline_ms && !nap_is_over(&events->nap);) {
		struct record record = { 0 };
		const int got = consumer_poll(consumer, POLL_MS, &record, &err);
		bool is_there = true;

		if (got < 0) {
			skip_gone(events, client, p);
			return true;
		}
		if (got > 0) {
			is_there = send_record(events, client, &record);
			record_release(&record);
			n++;
		}
		if (!is_there)
			return false;
		if (http_stream_waiting(client->stream) > EVENTS_WAITING / 2)
			return true;
	}
	return true;
}

/* One that is behind, off its list: it comes back to it, or joins the others, or is gone. */
static void bring_nearer(struct events *events, struct consumer *consumer, struct client *client)
{
	int64_t until[EVENTS_PARTITIONS];
	size_t partitions;
	bool is_there = true;

	pthread_mutex_lock(&events->lock);
	partitions = events->partitions;
	memcpy(until, events->next, sizeof(until));
	pthread_mutex_unlock(&events->lock);
	if (http_stream_waiting(client->stream) > EVENTS_WAITING / 2)
		nap_for(&events->nap, POLL_MS);
	for (size_t p = 0; p < partitions && is_there && http_stream_waiting(client->stream) <= EVENTS_WAITING / 2; p++)
		if (client->at[p] < until[p])
			is_there = read_partition(events, consumer, client, p, until[p]);
	pthread_mutex_lock(&events->lock);
	if (!is_there || events->is_stopping || !events->is_ready) {
		struct client *gone = client;

		gone->next = NULL;
		metric_add(events->dropped, is_there ? 0 : 1);
		drop(events, &gone);
	} else if (join(events, client)) {
		client->next = events->live;
		events->live = client;
	} else {
		struct client **last = &events->behind;

		while (*last != NULL)
			last = &(*last)->next;
		client->next = NULL;
		*last = client;
	}
	pthread_mutex_unlock(&events->lock);
}

static void *catcher_main(void *arg)
{
	struct events *events = arg;
	const struct consumer_options options = { .topic = TOPIC_PRODUCT_EVENTS };
	struct consumer *consumer = NULL;
	struct err err = ERR_INIT;

	if (consumer_open(events->queue, &options, &consumer, &err) < 0)
		log_error("product events can't be read again", log_err(&err));
	while (consumer != NULL && !nap_is_over(&events->nap)) {
		struct client *client;

		pthread_mutex_lock(&events->lock);
		client = events->behind;
		if (client != NULL)
			events->behind = client->next;
		pthread_mutex_unlock(&events->lock);
		if (client != NULL)
			bring_nearer(events, consumer, client);
		else
			nap_for(&events->nap, POLL_MS);
	}
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

static void add_behind(struct events *events, struct client *client, const struct events_place *place)
{
	memcpy(client->at, place->next, sizeof(client->at));
	if (join(events, client)) {
		client->next = events->live;
		events->live = client;
	} else {
		client->next = events->behind;
		events->behind = client;
	}
}

void events_add(struct events *events, struct http_stream *stream, const struct events_place *place)
{
	struct client *client = mem_zalloc(sizeof(*client));
	struct buf hello = BUF_INIT;

	client->stream = stream;
	buf_addf(&hello, "retry: %d\n", RETRY_MS);
	pthread_mutex_lock(&events->lock);
	events->clients++;
	if (place == NULL)
		write_id(&hello, events->next, events->partitions); /* for one who sees no event before the connection breaks */
	buf_add_str(&hello, place == NULL ? "\n\n" : "\n");
	http_stream_send(stream, hello.data, hello.len);
	if (events->is_stopping || !events->is_ready) {
		drop(events, &client);
	} else if (place != NULL) {
		add_behind(events, client, place);
	} else {
		client->next = events->live;
		events->live = client;
	}
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
	metric_gauge_read("feedmill_gateway_listeners", NULL, "Clients that listen for product events.", count_clients, events);
	pthread_mutex_init(&events->lock, NULL);
	nap_init(&events->nap);
	for (size_t i = 0; i < RECENT; i++)
		events->recent[i].text = (struct buf)BUF_INIT;
	events->has_follower = pthread_create(&events->follower, NULL, follower_main, events) == 0;
	events->has_catcher = pthread_create(&events->catcher, NULL, catcher_main, events) == 0;
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
	for (size_t i = 0; i < RECENT; i++)
		buf_release(&events->recent[i].text);
	nap_release(&events->nap);
	pthread_mutex_destroy(&events->lock);
	free(events);
}
