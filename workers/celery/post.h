/* post: a message on its way out, with everything that it points to. */
#ifndef FEEDMILL_WORKERS_CELERY_POST_H
#define FEEDMILL_WORKERS_CELERY_POST_H

#include <stdbool.h>

#include "common/queue/amqp.h"
#include "common/queue/signer.h"
#include "workers/celery/wire.h"

struct task;

struct post {
	struct amqp_message message;
	struct buf body;
	struct buf packed;       /* with is_packing: the same as MessagePack, once it is there; body may be empty then */
	struct buf sealed;       /* the same signed, once it is; else empty */
	struct json *headers;    /* an object behind message.properties.headers, or NULL */
	struct wire wire;
	struct post_text *texts;
	struct task *task;       /* waits for the confirm; NULL: nobody does */
	bool is_lasting;         /* sent again after the connection was lost; else forgotten then */
	bool is_next;            /* a task that follows another: when it can't be sent, it has failed */
	bool was_returned, was_declared, was_nacked;
	bool is_broken;          /* its headers are no JSON: without them it would be nobody's, so that it is not sent */
	bool is_json;            /* its body is JSON of ours, by post_json() */
	bool is_plain;           /* and never signed */
	bool is_packing;         /* its body is JSON here, and MessagePack on its way */
	bool is_refused;         /* it can never be sent: it does not fit, or the broker refuses it */
	int64_t refused_at;      /* monotonic ms, the first time; 0: never */
	uint64_t number;         /* its confirm; the publisher's */
	struct post *next;
};

/* To the default exchange, straight to a queue. */
struct post *post_new(struct slice exchange, struct slice routing_key); /* copies */
void post_free(struct post *post); /* NULL is fine */

struct slice post_keep(struct post *post, struct slice text); /* a copy that lives as long as the post, with a NUL behind it */
void post_headers(struct post *post, struct slice json);      /* an object, in the place of all others */
void post_add_headers(struct post *post, struct amqp_table more); /* behind them; copies */
void post_json(struct post *post);                            /* content type and encoding of what kombu writes */

/* As it is sent: with is_packing as MessagePack, and that is its content type then; as JSON where that has what MessagePack has not (2**64).
 * Where signer is not NULL, JSON of ours is signed instead, unless is_plain. */
struct slice post_body(struct post *post, const struct signer *signer);

#endif
