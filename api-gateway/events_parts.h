/* events_parts: what the two threads of events share: events.c follows the topic, events_catch_up.c reads again, in rounds
 * (events_round.h). Private to these.
 *
 * A client is on one list, `live` or `behind`, or in the hands of the thread that reads again; it goes from there to `live` when it has all
 * that was followed so far, with the lock held, so that the next event is the first that it lacks. */
#ifndef FEEDMILL_API_GATEWAY_EVENTS_PARTS_H
#define FEEDMILL_API_GATEWAY_EVENTS_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api-gateway/events.h"
#include "api-gateway/events_recent.h"
#include "api-gateway/nap.h"
#include "common/base/err.h"
#include "common/base/metrics.h"
#include "common/queue/queue.h"

#define EVENTS_POLL_MS 100

struct client {
	struct client *next;
	struct http_stream *stream;
	int64_t at[EVENTS_PARTITIONS]; /* next offset that it lacks, of one that is not live */
	bool has_left;                 /* the read that is under way: it gets no more of it */
	bool is_gone;
};

struct events {
	struct queue *queue;
	const struct settings *settings;
	struct nap nap;
	pthread_t follower, catcher;
	bool has_follower, has_catcher;
	struct metric *sent, *dropped, *reads, *records;
	pthread_mutex_t lock; /* of what follows; never held while the queue is asked or read */
	bool is_ready, is_stopping;
	bool is_filled; /* what was written before we began to follow has been read: nobody is live before */
	struct events_recent recent;
	int64_t begun[EVENTS_PARTITIONS]; /* where partitions ended then: from here on events are new */
	struct client *live, *behind;
	size_t clients;
};

int events_ask_ends(struct events *events, struct partition_lag *out, size_t *count, struct err *err);

void events_push(struct client **list, struct client *client); /* with its lock, if it has one */

/* With the lock held. */
void events_drop(struct events *events, struct client **at); /* off its list; the client goes, whether it was told or not */
/* One that is on no list gets what it lacks from the recent ones, and then is on one, or was dropped. */
void events_settle(struct events *events, struct client *client);

void *events_catch_up(void *arg); /* the thread that reads again; arg: struct events */

#endif
