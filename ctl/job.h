/* job: what the words of feedctl job share: their options, and answers that come back by RabbitMQ. Uses amqp, json.
 *
 * A word returns the exit code, or -1 and says in err what went wrong. */
#ifndef FEEDMILL_CTL_JOB_H
#define FEEDMILL_CTL_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "common/base/settings.h"
#include "common/base/uuid.h"
#include "common/queue/amqp.h"
#include "common/queue/signer.h"

#define JOB_WORDS_MAX 3

struct job_order { /* what was typed */
	const char *words[JOB_WORDS_MAX]; /* behind the verb's word; NULL: not there */
	const char *queue, *node;         /* NULL: not said */
	int64_t eta_ms, expires_ms;       /* wall clock; 0: not said */
	int64_t priority;                 /* -1: not said */
	int64_t wait_s;                   /* -1: do not wait */
	int64_t timeout_ms;               /* of answers */
	bool terminate, is_sure;
	const struct signer *signer;      /* not typed, but by the settings; NULL: nothing is signed */
};

int job_send(const struct settings *settings, const struct job_order *order, struct err *err);
int job_status(const struct settings *settings, const struct job_order *order, struct err *err);
int job_revoke(const struct settings *settings, const struct job_order *order, struct err *err);
int job_inspect(const struct settings *settings, const struct job_order *order, struct err *err);
int job_purge(const struct settings *settings, const struct job_order *order, struct err *err);

extern const char job_inspect_words[]; /* "ping, active, …" */

/* ---- answers: a queue of this process's own, on a connection of its own */

struct job_inbox {
	struct amqp *amqp;
	const struct signer *signer; /* set by the caller: answers must be signed; NULL: they are not */
	char queue[UUID_TEXT + sizeof(".reply.celery.pidbox")];
};

/* exchange NULL: whoever names the queue reaches it; else it is bound to that exchange (direct, as Celery makes it) by key. */
int job_inbox_open(const struct settings *settings, const char *exchange, const char *key, struct job_inbox *out, struct err *err);
void job_inbox_close(struct job_inbox *inbox); /* safe on one that did not open */
/* 1 and the next JSON message, the caller's to free; 0: none until then (monotonic clock), or a signal; -1: also ERR_CONFLICT, when a
 * request that was published by this connection came back because nobody listens. */
int job_inbox_next(struct job_inbox *inbox, int64_t until_ms, struct json **out, struct err *err);

#endif
