/* job_message: a job as a task message of Celery's protocol 2, and its revocation as remote control, for whoever sends jobs
 * and is no worker. Uses amqp_publisher, signer.
 * Format: docs.celeryq.dev, "Message Protocol", version 2, and kombu's pidbox. */
#ifndef FEEDMILL_QUEUE_JOB_MESSAGE_H
#define FEEDMILL_QUEUE_JOB_MESSAGE_H

#include "common/base/buf.h"
#include "common/queue/amqp_publisher.h"
#include "common/queue/signer.h"

#define JOB_MAILBOX "celery.pidbox" /* the exchange of remote control */
#define JOB_ANSWERS "reply.celery.pidbox" /* the exchange of its answers */

struct job_message {
	const char *name, *id;
	const char *queue;                 /* it goes straight there; AMQP_SENT_UNROUTABLE: there is none */
	struct slice args, kwargs;         /* a JSON array, a JSON object; empty: none */
	int64_t eta_ms, expires_ms;        /* wall clock: not before, not after; 0: none */
	int priority;                      /* 0 … 255; -1: none */
	const char *trace;                 /* traceparent, or NULL */
	const char *reply_to;              /* a queue for results, or NULL: where job.results has rpc, a worker sends each state there */
	const struct signer *signer;       /* NULL: it is not signed */
};

/* As amqp_publisher_send(). */
int job_message_send(struct amqp_publisher *publisher, const struct job_message *job, int64_t timeout_ms, amqp_sent_fn *done, void *arg,
	struct err *err);
/* To all workers there are: that job is not to be begun. AMQP_SENT_UNROUTABLE: nobody listens. JOB_MAILBOX must be there. */
int job_message_revoke(struct amqp_publisher *publisher, const struct signer *signer, const char *id, int64_t timeout_ms, amqp_sent_fn *done,
	void *arg, struct err *err);
int job_message_declare(struct amqp *amqp, struct err *err); /* makes JOB_MAILBOX, as Celery does */

/* A request of remote control: its body (JSON, or that signed) for a message to JOB_MAILBOX. Who is asked answers {"node": value} to JOB_ANSWERS. */
struct job_request {
	const char *method;
	struct slice arguments; /* a JSON object; empty: none */
	const char *node;       /* whom it is for; NULL: all */
	const char *answer_key; /* of JOB_ANSWERS; NULL: no answers */
	const char *ticket;     /* header of the answers; with answer_key */
	const struct signer *signer; /* NULL: it is not signed */
};
void job_request_write(const struct job_request *request, struct buf *out);
struct amqp_message job_request_message(const struct job_request *request, const struct buf *body); /* to JOB_MAILBOX, mandatory; borrows the body */

#endif
