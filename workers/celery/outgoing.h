/* outgoing: task messages that this worker sends: a signature (of a chain, a link, an errback), or a request once more. */
#ifndef FEEDMILL_WORKERS_CELERY_OUTGOING_H
#define FEEDMILL_WORKERS_CELERY_OUTGOING_H

#include "workers/celery/post.h"
#include "workers/celery/request.h"

/* Where a message without a queue of its own goes, who sends it, and which queues the levels of the delay lead back to. */
struct outgoing {
	const char *queue;    /* the first of job.queues */
	const char *node;
	bool (*is_behind_delay)(void *arg, const char *queue);
	void *arg;
};

/* What a task message is made of; empty: null. Everything JSON is a text. */
struct outgoing_task {
	struct slice task, id, root_id, parent_id, group, shadow, origin, reply_to, eta, expires, argsrepr, kwargsrepr;
	struct slice args, kwargs;                        /* JSON */
	struct slice callbacks, errbacks, chain, chord;   /* JSON */
	struct slice stamped_headers, stamps, custom;     /* JSON */
	int64_t retries, deliveries, group_index, nesting;
	bool has_group_index, ignore_result;
	bool is_repeat;                                   /* it may have been sent before */
	bool is_received;                                 /* its event task-received was sent */
	bool is_msgpack;                                  /* its body goes as MessagePack */
	double hard_s, soft_s;                            /* 0: none */
	int priority;
	const char *queue;                                /* or exchange and routing_key */
	const char *exchange, *routing_key;
	int64_t delay_s;                                  /* 0: at once; else by the delay topology, to `queue` */
};

struct post *outgoing_post(const struct outgoing_task *task);

/* The same request again: after a retry, a countdown, a lost child. body, its content type and custom headers as they came. */
struct post *outgoing_again(const struct request *request, const char *queue, int64_t retries, int64_t deliveries, int64_t eta_ms, int64_t delay_s);

void outgoing_uuid4(char out[37]);
void outgoing_time(int64_t wall_ms, char out[40]); /* as Python's isoformat() with an offset */

#define OUTGOING_DELAY_MAX_S ((INT64_C(1) << 28) - 1)
#define OUTGOING_DELAY_EXCHANGE "celery_delayed_27"
#define OUTGOING_DELAY_LEVELS 28
void outgoing_delay_key(int64_t delay_s, const char *queue, struct buf *out); /* 28 bits, joined by dots, and the queue */

#endif
