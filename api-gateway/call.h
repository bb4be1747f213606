/* call: one request on its way from the HTTP server to its answer, and all that is remembered for it, in one allocation.
 *
 * It is held by its exchange until the answer is given, and by the producer until its record is reported, which may be later
 * (after a 504). A handler answers by reply.h, at once or from another thread, exactly once; afterwards it touches the
 * call no more. */
#ifndef FEEDMILL_API_GATEWAY_CALL_H
#define FEEDMILL_API_GATEWAY_CALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api-gateway/contract.h"
#include "api-gateway/gateway.h"
#include "api-gateway/page.h"
#include "api-gateway/pending.h"
#include "api-gateway/prefer.h"
#include "api-gateway/readers.h"
#include "api-gateway/router.h"
#include "common/base/id.h"
#include "common/base/trace.h"
#include "common/http/http_server.h"
#include "common/model/friendship.h"

struct call;
struct once;
typedef void call_fn(struct call *call, const struct reader *reader);

struct call {
	struct waiter waiter;          /* first: what the pending table gives back is the call */
	struct gateway *gateway;
	struct http_exchange *exchange;
	const struct route *route;     /* NULL: none was found */
	struct contract_call contract; /* parameters and body */
	int64_t started_us;            /* monotonic clock */
	int64_t id;                    /* that stands in the path; 0: none */
	struct trace trace;            /* our span; see call_trace() */
	bool has_trace;
	bool is_post;                  /* what is published is a post: durable is good enough to be answered */
	bool is_job;                   /* it goes to RabbitMQ, and is asked for at /jobs */
	struct slice about;            /* the job that is revoked; borrowed from the request */
	bool is_sent;                  /* its record was given to the producer, or may be yet */
	int64_t entity;                /* the id of what is made or changed, and when that was asked for; see once.h */
	int64_t made_at_ms;            /* wall clock */
	id_fits_fn *id_fits;           /* which ids are best for what is made, asked with the gateway; NULL: any */
	struct once *once;             /* of its Idempotency-Key; NULL: it has none */
	struct prefer prefer;
	int64_t newcomer;              /* the participant that the command creates; 0: none */
	struct buf answer;             /* a post's, ready before it is sent */
	union {                        /* what a handler keeps from the HTTP thread for a reader's */
		struct page page;
		struct friendship friendship;
		struct slice keywords;
		int64_t post;
	} want;
	call_fn *read;                 /* what the reader is to do */
	atomic_int holders;
};

struct call *call_new(struct gateway *gateway, struct http_exchange *exchange); /* held by the exchange */
void call_hold(struct call *call);
void call_release(void *call); /* one holder less; the last one frees it */
void call_drop_body(struct call *call); /* the parsed body is needed no more */

/* The request's trace, continued from its `traceparent` or new; asked for first on the thread that has the call. */
const struct trace *call_trace(struct call *call);

const struct json *call_field(const struct call *call, const char *name); /* of the body, or NULL */
/* A body's `from` may be left out, or is the participant of the path. false: answered 400. */
bool call_from_is_path(struct call *call);

/* Goes on with `read`, a function of the call, on a reader's thread; 503 when too many wait already, or when it had to wait
 * longer than a client does (gateway.wait_ms). */
void call_read(struct call *call, enum read_from from, call_fn *read);

#endif
