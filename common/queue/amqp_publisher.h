/* amqp_publisher: messages to RabbitMQ from any thread, by a thread and a connection of its own that comes back by itself.
 *
 * amqp_publisher_send() copies and never blocks; each message is reported once, from the publisher's thread or its close: stored
 * (confirmed by the server), stored nowhere because no queue wanted it, certainly not stored (now, or never as it is), or nobody knows. What was under
 * way when a connection was lost is published again by the next, in the same order, with all its properties (so a message may be
 * there twice, with the same message_id). Order is kept but around a report that is neither of the first two: what was sent behind
 * such a message may be there without it. */
#ifndef FEEDMILL_QUEUE_AMQP_PUBLISHER_H
#define FEEDMILL_QUEUE_AMQP_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/queue/amqp.h"

struct amqp_publisher;

enum amqp_sent {
	AMQP_SENT_STORED,
	AMQP_SENT_UNROUTABLE, /* mandatory, and no queue is bound for it */
	AMQP_SENT_NOT,
	AMQP_SENT_UNKNOWN,
	AMQP_SENT_UNFIT, /* not stored, and it never will be: its headers or a name are too long */
};
/* why: NULL when stored; borrowed. Must not block, and must not call the publisher. */
typedef void amqp_sent_fn(void *arg, enum amqp_sent sent, const char *why);

struct amqp_publisher_options {
	const char *purpose; /* see amqp_open(); kept */
	/* Makes what is published to, on each new connection; NULL: nothing to make. Its failure is tried again later. */
	int (*declare)(struct amqp *amqp, void *arg, struct err *err);
	void *arg;
	size_t window; /* messages without a confirm at once, 1 … */
	size_t room;   /* messages in here at once; more: ERR_FULL */
};

/* settings and options->arg must live as long as it does. Connects in the background: -1 for settings that can't work, or want of a thread. */
int amqp_publisher_open(const struct settings *settings, const struct amqp_publisher_options *options, struct amqp_publisher **out,
	struct err *err);

/* timeout_ms: after which the message is given up (and reported within connect_timeout_ms more, while a connection is being made).
 * done may be NULL. -1, and nothing is reported: ERR_FULL. */
int amqp_publisher_send(struct amqp_publisher *publisher, const struct amqp_message *message, int64_t timeout_ms, amqp_sent_fn *done, void *arg,
	struct err *err);

/* Connected, declared, and not stopped by an alarm; else -1 and why. */
int amqp_publisher_ready(struct amqp_publisher *publisher, struct err *err);
void amqp_publisher_close(struct amqp_publisher *publisher, int64_t timeout_ms); /* gives what is under way that long; NULL is fine */

#endif
