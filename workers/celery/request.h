/* request: one task message of the Celery protocol, version 2 (fields in headers), 1 (all in the body) or a hybrid (headers of version 2
 * before a body of version 1: the headers win), checked and read.
 *
 * request_read() keeps the delivery: texts point into it. What it can't take (another content type, a body that is no JSON and no
 * MessagePack, no lists where lists belong, times that are none) is ERR_INVALID: such a message is for the dead letters, and never comes
 * back. JSON is strict (json.h): NaN, Infinity and "\u0000", which Python writes, are refused, in MessagePack as well, which is JSON from
 * here on. Nothing is ever evaluated: pickle and yaml are refused by their names. */
#ifndef FEEDMILL_WORKERS_CELERY_REQUEST_H
#define FEEDMILL_WORKERS_CELERY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/queue/amqp.h"
#include "common/queue/signer.h"

#define REQUEST_ID_MAX 155           /* bytes: the column task_id of the results' table */
#define REQUEST_NAME_MAX 255
#define REQUEST_BODY_MAX (16 << 20)  /* bytes, unpacked, and as JSON */
#define REQUEST_VALUES_MAX 200000     /* of JSON in a body, about: each takes some hundred bytes while the task is here */
#define REQUEST_RETRIES_MAX 1000000
#define REQUEST_NO_PRIORITY (-1)

struct request {
	struct slice task, id, root_id, parent_id, group, shadow, origin, lang; /* texts end with a NUL; missing: SLICE_NONE */
	struct slice argsrepr, kwargsrepr;
	struct slice reply_to, correlation_id, exchange, routing_key;
	struct slice eta, expires;          /* as they came */
	int64_t eta_ms, expires_ms;         /* wall clock; 0: none */
	int64_t retries;
	int64_t counted, counted_by_broker; /* deliveries before this one: of the messages that this is a copy of, and of this message */
	int64_t deliveries;                 /* both together: a copy starts the broker's count anew */
	int64_t group_index, nesting;
	int64_t hard_ms, soft_ms;           /* 0: none */
	bool has_group_index, ignore_result, redelivered;
	bool is_received;                   /* its event task-received was sent, before it was put off until its eta */
	bool is_repeat;                     /* it may be there twice: it follows a task that was not run again, or it was moved from queue to queue,
	                                     * and RabbitMQ keeps what it moves in both when it is killed */
	int priority;                       /* REQUEST_NO_PRIORITY: none */
	struct slice stamped_headers, stamps; /* JSON */
	struct amqp_table custom;           /* headers that are nobody's here, as they came, without what dead-lettering added */

	struct slice body;                  /* [args, kwargs, embed] as a text of JSON */
	bool is_msgpack;                    /* it came as MessagePack */
	struct slice packed;                /* and like this, which says what body says; SLICE_NONE: body alone does */
	struct slice sealed;                /* and signed like this; SLICE_NONE: it was not signed, or body says something else by now */
	struct json *tree;                  /* of the body */
	const struct json *args, *kwargs;
	const struct json *callbacks, *errbacks, *chain, *chord; /* NULL: none */

	struct amqp_delivery *delivery;     /* behind the texts */
	struct amqp_field *custom_fields;
	struct buf texts_memory, stamps_memory, stamped_memory, body_memory, packed_memory, sealed_memory;
};

struct request *request_read(struct amqp_delivery *delivery, struct err *err); /* takes delivery, unless NULL: err */
/* signer: may be NULL; else what is not signed is refused. */
struct request *request_read_signed(struct amqp_delivery *delivery, const struct signer *signer, struct err *err);
struct request *request_bare(struct amqp_delivery *delivery); /* of a message that can't be read: no task, no id. Takes delivery */
void request_free(struct request *request);                                   /* NULL is fine */

bool request_time(struct slice text, int64_t *out); /* as RFC 3339 has it, also without an offset: UTC then */
bool request_knows(struct slice header);            /* one that has a meaning here, or that a broker adds */

#endif
