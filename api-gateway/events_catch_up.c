/* Clients that lack events which are not among the recent ones go in; they come out nearer, in rounds: one read of all partitions
 * serves all whom it passes. */
#include <pthread.h>
#include <string.h>

#include "api-gateway/events_message.h"
#include "api-gateway/events_parts.h"
#include "api-gateway/events_round.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/topics.h"

#define TURN_MS 1000    /* of a round */
#define PATIENCE_MS 200 /* of that: for those who have not taken what they got, so that they need not be read for again */
#define LOOK_MS 5

static struct client *pop(struct client **list)
{
	struct client *client = *list;

	if (client != NULL)
		*list = client->next;
	return client;
}

/* ---- who takes part */

static bool is_full(const struct client *client)
{
	return http_stream_waiting(client->stream) > EVENTS_WAITING / 2;
}

/* A list of our own. One after the other, so that nobody waits for the lock until all are done. */
static void settle_each(struct events *events, struct client **list)
{
	struct client *client;

	while ((client = pop(list)) != NULL) {
		pthread_mutex_lock(&events->lock);
		events_settle(events, client);
		pthread_mutex_unlock(&events->lock);
	}
}

static void settle_all(struct events *events)
{
	struct client *all;

	pthread_mutex_lock(&events->lock);
	all = events->behind;
	events->behind = NULL;
	pthread_mutex_unlock(&events->lock);
	settle_each(events, &all);
}

/* Those who need a read, and take what they get. */
static void gather(struct events *events, struct events_round *round)
{
	struct client **at = &events->behind;

	pthread_mutex_lock(&events->lock);
	round->partitions = events->recent.partitions;
	memcpy(round->until, events->recent.next, sizeof(round->until));
	while (*at != NULL) {
		struct client *client = *at;

		if (events_recent_covers(&events->recent, client->at) || is_full(client)) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		client->has_left = false;
		events_push(&round->clients, client);
	}
	pthread_mutex_unlock(&events->lock);
}

/* ---- reading */

static int assign(struct events *events, struct consumer *consumer, const struct events_round *round, struct err *err)
{
	struct queue_place places[EVENTS_PARTITIONS];
	size_t count = 0;

	for (size_t p = 0; p < round->partitions; p++)
		if (round->from[p] < round->until[p])
			places[count++] = (struct queue_place){ (int32_t)p, round->from[p] };
	metric_add(events->reads, 1);
	return consumer_assign_places(consumer, TOPIC_PRODUCT_EVENTS, places, count, err);
}

static void send_to(struct events_round *round, struct client *client, const struct record *record, const struct buf *text)
{
	struct buf message = BUF_INIT;

	client->at[record->partition] = record->offset + 1;
	if (text->len > 0) {
		events_message_place(&message, client->at, round->partitions);
		buf_add(&message, text->data, text->len);
		client->is_gone = client->has_left = !http_stream_send(client->stream, message.data, message.len);
		round->is_full = round->is_full || is_full(client);
	}
	buf_release(&message);
}

static void send_all(struct events *events, struct events_round *round, const struct record *record)
{
	struct buf text = BUF_INIT;

	if (record->partition < 0 || (size_t)record->partition >= round->partitions)
		return;
	if (record->value.data != NULL)
		events_message_text(&text, record);
	for (struct client *c = round->clients; c != NULL; c = c->next)
		if (events_round_wants(round, c, record->partition, record->offset))
			send_to(round, c, record, &text);
	if (record->offset < round->until[record->partition] && record->offset + 1 >= round->until[record->partition])
		round->unread--;
	metric_add(events->records, 1);
	buf_release(&text);
}

/* Those who are full get a moment, and then leave: what they lack they get by a later round. */
static void let_them_take(struct events *events, struct events_round *round)
{
	round->is_full = false;
	for (struct client *c = round->clients; c != NULL; c = c->next) {
		if (c->has_left || !is_full(c))
			continue;
		if (round->patience_ms > 0)
			round->is_full = true;
		else
			c->has_left = true;
	}
	if (!round->is_full)
		return;
	nap_for(&events->nap, LOOK_MS);
	round->patience_ms -= LOOK_MS;
}

static bool has_riders(const struct events_round *round)
{
	for (const struct client *c = round->clients; c != NULL; c = c->next)
		if (!c->has_left)
			return true;
	return false;
}

/* false: what somebody lacks is not there any more. */
static bool read_round(struct events *events, struct consumer *consumer, struct events_round *round)
{
	const int64_t deadline_ms = clock_mono_ms() + TURN_MS;
	struct err err = ERR_INIT;

	if (assign(events, consumer, round, &err) < 0) {
		nap_for(&events->nap, EVENTS_POLL_MS);
		return true;
	}
	while (round->unread > 0 && has_riders(round) && clock_mono_ms() < deadline_ms && !nap_is_over(&events->nap)) {
		struct record record = { 0 };
		int got = 0;

		if (round->is_full)
			let_them_take(events, round);
		else
			got = consumer_poll(consumer, EVENTS_POLL_MS, &record, &err);
		if (got > 0) {
			send_all(events, round, &record);
			record_release(&record);
		} else if (got < 0) {
			return false;
		}
	}
	return true;
}

/* ---- the thread */

/* The first offset that is still there, in place of one that is not. All are on a list again, so that a stop ends their streams while the
 * queue is asked. Who is beyond an end stays there: after a change of leader a partition may for a moment seem shorter than it is, and
 * when it is, the follower has lost its place as well, and all come back to where it begins anew. */
static void skip_gone(struct events *events)
{
	struct partition_lag ends[EVENTS_PARTITIONS];
	struct err err = ERR_INIT;
	size_t count = 0;

	if (!nap_for(&events->nap, EVENTS_POLL_MS) || events_ask_ends(events, ends, &count, &err) < 0)
		return;
	pthread_mutex_lock(&events->lock);
	for (struct client *c = events->behind; c != NULL; c = c->next)
		for (size_t i = 0; i < count; i++)
			if (c->at[ends[i].partition] < ends[i].low)
				c->at[ends[i].partition] = ends[i].low;
	pthread_mutex_unlock(&events->lock);
}

/* Nobody needs a read: nothing is fetched ahead for nobody. */
static void rest(struct events *events, struct consumer *consumer, bool *is_reading)
{
	struct err err = ERR_INIT;

	if (*is_reading && consumer_assign_places(consumer, TOPIC_PRODUCT_EVENTS, NULL, 0, &err) == 0)
		*is_reading = false;
	nap_for(&events->nap, EVENTS_POLL_MS);
}

static void catch_up(struct events *events, struct consumer *consumer)
{
	bool is_for_nearest = false, is_reading = false, is_there;

	while (!nap_is_over(&events->nap)) {
		struct events_round round = { .is_for_nearest = is_for_nearest, .patience_ms = PATIENCE_MS };

		settle_all(events);
		gather(events, &round);
		if (round.clients == NULL) {
			rest(events, consumer, &is_reading);
			continue;
		}
		is_for_nearest = !is_for_nearest;
		is_reading = true;
		events_round_plan(&round);
		is_there = read_round(events, consumer, &round);
		settle_each(events, &round.clients);
		if (!is_there)
			skip_gone(events);
	}
}

void *events_catch_up(void *arg)
{
	struct events *events = arg;
	const struct consumer_options options = { .topic = TOPIC_PRODUCT_EVENTS };
	struct consumer *consumer = NULL;
	struct err err = ERR_INIT;

	if (consumer_open(events->queue, &options, &consumer, &err) < 0) {
		log_error("product events can't be read again", log_err(&err));
		return NULL;
	}
	catch_up(events, consumer);
	consumer_close(consumer);
	return NULL;
}
