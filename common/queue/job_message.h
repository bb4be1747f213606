/* job_message: a job as a task message of Celery's protocol 2, and its revocation as remote control, for whoever sends jobs
 * and is no worker. Uses amqp_publisher.
 * Format: docs.celeryq.dev, "Message Protocol", version 2, and kombu's pidbox. */
#ifndef FEEDMILL_QUEUE_JOB_MESSAGE_H
#define FEEDMILL_QUEUE_JOB_MESSAGE_H

#include "common/queue/amqp_publisher.h"

#define JOB_MAILBOX "celery.pidbox" /* the exchange of remote control */

struct job_message {
	const char *name, *id;
	const char *queue;                 /* it goes straight there; AMQP_SENT_UNROUTABLE: there is none */
	struct slice args, kwargs;         /* a JSON array, a JSON object; empty: none */
	int64_t eta_ms, expires_ms;        /* wall clock: not before, not after; 0: none */
	int priority;                      /* 0 … 255; -1: none */
	const char *trace;                 /* traceparent, or NULL */
};

/* As amqp_publisher_send(). */
int job_message_send(struct amqp_publisher *publisher, const struct job_message *job, int64_t timeout_ms, amqp_sent_fn *done, void *arg,
	struct err *err);
/* To all workers there are: that job is not to be begun. AMQP_SENT_UNROUTABLE: nobody listens. JOB_MAILBOX must be there. */
int job_message_revoke(struct amqp_publisher *publisher, const char *id, int64_t timeout_ms, amqp_sent_fn *done, void *arg, struct err *err);
int job_message_declare(struct amqp *amqp, struct err *err); /* makes JOB_MAILBOX, as Celery does */

#endif
