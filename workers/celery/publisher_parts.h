/* publisher_parts: what the files of the publisher have in common; nobody else includes it. All of it belongs to the publisher's thread,
 * except for what says otherwise.
 *
 *   publisher          the thread, and what others may ask it
 *   publisher_wire     its connection: messages are sent, confirmed, returned
 *   publisher_refused  what RabbitMQ refuses fails alone */
#ifndef FEEDMILL_WORKERS_CELERY_PUBLISHER_PARTS_H
#define FEEDMILL_WORKERS_CELERY_PUBLISHER_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/backoff.h"
#include "common/base/err.h"
#include "workers/celery/post_list.h"
#include "workers/celery/publisher.h"

#define PUBLISHER_MISSING 8 /* exchanges that were not there a moment ago */

struct publisher {
	const struct settings *settings;
	const struct signer *signer; /* NULL: nothing is signed */
	struct inbox *inbox;
	pthread_t thread;
	pthread_mutex_t lock;       /* of incoming */
	struct post_list incoming;
	int fd;                     /* readable: incoming, or stopping */
	struct post_list waiting, open;  /* the thread's: to be sent; sent, in order of their numbers */
	struct post_list nacked;         /* that RabbitMQ could not keep: sent again at nacked_at, monotonic */
	struct backoff nack_backoff;
	int64_t nacked_at;
	size_t suspects;            /* the first of waiting: one of them may have been refused, they go one by one */
	struct { char exchange[256]; int64_t until; } missing[PUBLISHER_MISSING];
	size_t next_missing;
	struct amqp *amqp;
	uint64_t sent;              /* the last number on this connection */
	char name[37];              /* of this publisher, and no other: message ids begin with it */
	uint64_t named;             /* messages with an id so far */
	struct backoff backoff;
	int64_t retry_at;           /* monotonic; when to connect again */
	_Atomic size_t depth;
	_Atomic bool is_connected, is_blocked, is_stopping, misses_exchange;
	_Atomic int64_t stop_at;    /* monotonic */
	bool was_told;
};

void publisher_done(struct publisher *publisher, struct post *post, bool is_sent);                /* takes post */
void publisher_forget_fleeting(struct publisher *publisher, struct post_list *list);              /* those that are not sent again */

void publisher_connect(struct publisher *publisher);
void publisher_disconnect(struct publisher *publisher, const struct err *why);
int publisher_read(struct publisher *publisher, struct err *err);         /* confirms, returns; -1: the connection is lost */
int publisher_send_waiting(struct publisher *publisher, struct err *err); /* as many as may be under way; likewise */

bool publisher_is_missing(const struct publisher *publisher, const char *exchange);
void publisher_refuse(struct publisher *publisher, struct post *post, const char *why); /* takes post */
void publisher_blame(struct publisher *publisher, const char *why); /* the channel was ended for one of those that are open */

#endif
