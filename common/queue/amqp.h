/* amqp: one connection to RabbitMQ (AMQP 0-9-1) for one thread. The only user of rabbitmq-c; its types stay in amqp*.c.
 *
 * A `struct amqp` is one connection with one channel, from amqp_open() until it is lost or closed; it never reconnects. When
 * a function says ERR_UNAVAILABLE the connection is lost (amqp_is_open() is false): close it, open another, declare and
 * consume again. The same holds after ERR_INVALID from the server (a wrong declaration, no such queue), because that closes
 * the channel. Any call on a lost connection is ERR_UNAVAILABLE again, never more.
 *
 * Heartbeats go only while amqp_next() runs: call it at least every 5 s, work that lasts longer belongs elsewhere. Nothing here
 * blocks without a deadline: connecting and answers have theirs (settings), a server that does not read is given up
 * after 10 s. Publisher and consumer want a connection each: one that publishes is stopped by an alarm of the server's.
 * Names are NUL-terminated, at most 255 bytes. */
#ifndef FEEDMILL_QUEUE_AMQP_H
#define FEEDMILL_QUEUE_AMQP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/base/str.h"

struct amqp;

/* ---- values of headers and arguments */

enum amqp_value_type {
	AMQP_VALUE_NULL,
	AMQP_VALUE_BOOL,
	AMQP_VALUE_INT,   /* sent as a 64-bit number; any width is read */
	AMQP_VALUE_FLOAT,
	AMQP_VALUE_TEXT,  /* UTF-8 by agreement, not checked; read also from byte arrays */
	AMQP_VALUE_TIME,  /* number: seconds since 1970 */
	AMQP_VALUE_TABLE, /* fields with names */
	AMQP_VALUE_ARRAY, /* fields whose names are NULL */
};

struct amqp_table {
	const struct amqp_field *fields;
	size_t count;
};

struct amqp_value {
	enum amqp_value_type type;
	bool truth;
	int64_t number;
	double real;
	struct slice text;
	struct amqp_table items; /* of AMQP_VALUE_TABLE and _ARRAY */
};

struct amqp_field {
	const char *name;
	struct amqp_value value;
};

#define AMQP_NO_TABLE ((struct amqp_table){ NULL, 0 })
#define AMQP_TABLE(array) ((struct amqp_table){ array, sizeof(array) / sizeof((array)[0]) })
struct amqp_field amqp_text(const char *name, struct slice text);
struct amqp_field amqp_int(const char *name, int64_t number);
struct amqp_field amqp_bool(const char *name, bool truth);
struct amqp_field amqp_null(const char *name);
const struct amqp_value *amqp_table_value(const struct amqp_table *table, const char *name); /* NULL: not there */

/* ---- messages */

struct amqp_properties { /* text with data NULL: not set */
	struct slice content_type, content_encoding, correlation_id, reply_to, expiration, message_id, type, user_id, app_id;
	struct amqp_table headers;
	bool has_headers;
	int delivery_mode;    /* 0: not set, 1 transient, 2 persistent */
	bool has_priority;
	uint8_t priority;
	int64_t timestamp_s;  /* 0: not set */
};

struct amqp_message { /* to send; borrowed for the call */
	const char *exchange; /* "": the default one, straight to the queue named by routing_key */
	const char *routing_key;
	struct amqp_properties properties;
	struct slice body;
	bool mandatory; /* comes back (AMQP_EVENT_RETURNED) when no queue takes it; without it, it is dropped and confirmed */
};

/* What came in; owned by who got the event. All it points at lives as long as it does; texts are NUL-terminated too. */
struct amqp_delivery {
	struct slice exchange, routing_key, consumer;
	uint64_t tag;
	uint64_t generation; /* of the connection that it came by */
	bool redelivered;
	bool is_cut;         /* headers were nested deeper than AMQP_DEPTH: what lay deeper reads as null */
	struct amqp_properties properties;
	struct slice body;
	uint64_t body_size;  /* as it was sent; above AMQP_BODY_MAX the body was thrown away, and is empty */
	uint32_t left;       /* amqp_get(): messages still in the queue */
};
#define AMQP_DEPTH 16
#define AMQP_BODY_MAX (16u << 20) /* of a delivery; a larger one comes without its body */
size_t amqp_properties_size(const struct amqp_properties *properties); /* bytes they take in a frame */
#define AMQP_PROPERTIES_MAX (131072 - 20) /* of those bytes, where the server does not want less */
void amqp_delivery_free(struct amqp_delivery *delivery); /* NULL is fine */

/* ---- life */

/* Setting amqp.url says where, and must not be empty. purpose: shown in the server's list of connections. ERR_UNAVAILABLE: not in reach, or
 * it refused the account or the virtual host (the words say so); ERR_FATAL: the setting is no URL. */
int amqp_open(const struct settings *settings, const char *purpose, struct amqp **out, struct err *err);
int amqp_check_settings(const struct settings *settings, struct err *err); /* ERR_FATAL: amqp_open() could never work with these */
bool amqp_is_open(const struct amqp *amqp);
/* Lost because the server refused what was sent to it (no such exchange, no right, too large), not because it or the net went away. */
bool amqp_was_refused(const struct amqp *amqp);
bool amqp_is_blocked(const struct amqp *amqp); /* by an alarm of the server's: do not publish; amqp_next() says when it is over */
void amqp_close(struct amqp *amqp); /* says good-bye where that works; NULL is fine */
int amqp_fd(const struct amqp *amqp); /* for poll(2): readable: call amqp_next(amqp, 0, …) until it says none */
uint64_t amqp_generation(const struct amqp *amqp); /* no other connection of this process has the same */

/* ---- topology: each is an error when it is there otherwise */

enum {
	AMQP_DURABLE = 1,
	AMQP_AUTO_DELETE = 2,
	AMQP_EXCLUSIVE = 4,
	AMQP_INTERNAL = 8,
	AMQP_PASSIVE = 16, /* ask only: ERR_INVALID where it is not there */
};
struct amqp_queue_state {
	char name[256]; /* as the server gave it, where the name asked for was empty */
	uint32_t messages, consumers;
};
int amqp_declare_exchange(struct amqp *amqp, const char *name, const char *type, int flags, struct amqp_table arguments, struct err *err);
int amqp_declare_queue(struct amqp *amqp, const char *name, int flags, struct amqp_table arguments, struct amqp_queue_state *out,
	struct err *err); /* out may be NULL */
int amqp_bind_queue(struct amqp *amqp, const char *queue, const char *exchange, const char *routing_key, struct amqp_table arguments, struct err *err);
int amqp_unbind_queue(struct amqp *amqp, const char *queue, const char *exchange, const char *routing_key, struct err *err); /* not bound: fine */
int amqp_bind_exchange(struct amqp *amqp, const char *destination, const char *source, const char *routing_key, struct amqp_table arguments,
	struct err *err);
int amqp_delete_queue(struct amqp *amqp, const char *name, struct err *err); /* not there: fine */
int amqp_purge_queue(struct amqp *amqp, const char *name, uint32_t *count, struct err *err);

/* ---- consuming */

enum { AMQP_NO_ACK = 1, AMQP_ONLY_ME = 2 /* the queue's one consumer */ };
/* tag: the consumer's name on this channel, chosen by the caller. prefetch: deliveries that may be un-acked, 1 … 65535, of this
 * consumer alone. Deliveries may come before this returns: amqp_next() has them. */
int amqp_consume(struct amqp *amqp, const char *queue, const char *tag, int flags, int prefetch, struct amqp_table arguments, struct err *err);
int amqp_cancel(struct amqp *amqp, const char *tag, struct err *err); /* what is under way still comes */
/* One message without consuming: *out NULL when the queue is empty. */
int amqp_get(struct amqp *amqp, const char *queue, bool no_ack, struct amqp_delivery **out, struct err *err);

/* Of a delivery of this connection, once each (a second one would close the channel, and is the caller's to avoid). One of an earlier
 * generation is ERR_CONFLICT and nothing is sent: the server has it queued again. */
int amqp_ack(struct amqp *amqp, uint64_t generation, uint64_t tag, bool multiple, struct err *err);
int amqp_nack(struct amqp *amqp, uint64_t generation, uint64_t tag, bool multiple, bool requeue, struct err *err);

/* ---- publishing */

int amqp_confirm_publishes(struct amqp *amqp, struct err *err); /* from now on every publish is confirmed */
/* Handed to the system, no more: what counts is the confirm. sequence (NULL is fine): its number, from 1, that AMQP_EVENT_CONFIRMED
 * names; 0 without confirms. ERR_FULL while blocked, nothing sent. ERR_INVALID: a name too long, or properties that do not fit in a frame
 * (128 KiB, or less where the server wants that): nothing sent, connection fine. */
int amqp_publish(struct amqp *amqp, const struct amqp_message *message, uint64_t *sequence, struct err *err);

/* ---- what comes in */

enum amqp_event_type {
	AMQP_EVENT_NONE,      /* nothing within the time */
	AMQP_EVENT_DELIVERY,  /* delivery */
	AMQP_EVENT_CONFIRMED, /* sequence (multiple: and all below it that were open), is_ack */
	AMQP_EVENT_RETURNED,  /* delivery: the message as it was sent; code, text. Comes before its confirm, which is an ack */
	AMQP_EVENT_CANCELLED, /* consumer: the server stopped it, its queue is gone */
	AMQP_EVENT_BLOCKED,   /* text: why */
	AMQP_EVENT_UNBLOCKED,
};

struct amqp_event {
	enum amqp_event_type type;
	struct amqp_delivery *delivery; /* the caller's now */
	uint64_t sequence;
	bool multiple;
	bool is_ack;
	int code;
	char consumer[256];
	char text[256];
};

/* 0 and the next event (or none), or -1: ERR_UNAVAILABLE, the connection is lost, and why. timeout_ms 0: what is here already. */
int amqp_next(struct amqp *amqp, int64_t timeout_ms, struct amqp_event *out, struct err *err);

const char *amqp_library(void); /* "rabbitmq-c 0.11.0" */

#endif
