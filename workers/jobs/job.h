/* job: what a handler of background jobs is: a function from the arguments that a client sent to a result, and its row in the
 * table (job_list.c). Handlers know nothing of RabbitMQ, acknowledgements or results' back ends: workers/celery does.
 *
 * A handler runs in a child process, or in a thread where its row says that it may. It may run twice for the same id, after any
 * failure, and should then do no harm. It returns 0 and has called one of
 *   job_return()   SUCCESS: a JSON text
 *   job_fail()     FAILURE: an exception as Python names it
 *   job_again()    the same job again after a while, as long as its row (or the reply) allows
 *   job_ignore()   done, and no result is kept
 *   job_reject()   not done, and never again: the message goes to the dead letters
 * or -1 with err: ERR_UNAVAILABLE, ERR_FULL, ERR_CONFLICT and ERR_UNKNOWN are tried again by the row's retries, with backoff and
 * jitter, all else is a FAILURE of type RuntimeError. */
#ifndef FEEDMILL_WORKERS_JOBS_JOB_H
#define FEEDMILL_WORKERS_JOBS_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/settings.h"
#include "common/base/str.h"

struct job_call {
	struct slice task, id;
	int64_t retries;             /* how often it was tried before */
	const struct json *args;     /* an array */
	const struct json *kwargs;   /* an object */
	const struct settings *settings;
	const struct job_entry *entry;
	int64_t soft_limit_ms;       /* 0: none */
	int64_t deadline_mono_ms;    /* the soft limit on the monotonic clock; 0: none */
};

enum job_outcome { JOB_DONE, JOB_FAILED, JOB_AGAIN, JOB_IGNORED, JOB_REJECTED, JOB_LOST };

struct job_reply {
	enum job_outcome outcome;
	struct buf result;    /* JOB_DONE: JSON */
	struct buf type;      /* exception: class name, module, arguments as a JSON array, text for people */
	struct buf module;
	struct buf arguments;
	struct buf trace;
	int64_t delay_ms;     /* JOB_AGAIN */
	int64_t max_retries;  /* JOB_AGAIN; negative: the row's */
	int64_t memory_kib;   /* of the child that ran it; 0: it was a thread */
};

#define JOB_REPLY_INIT { JOB_DONE, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, 0, -1, 0 }
void job_reply_release(struct job_reply *reply);

int job_return(struct job_reply *reply, struct slice json); /* these return 0, so that a handler ends with them */
int job_return_null(struct job_reply *reply);
int job_fail(struct job_reply *reply, const char *type, const char *module, const char *format, ...) __attribute__((format(printf, 4, 5)));
int job_again(struct job_reply *reply, int64_t delay_ms, int64_t max_retries, const char *why);
int job_ignore(struct job_reply *reply);
int job_reject(struct job_reply *reply, const char *why);

typedef int job_fn(const struct job_call *call, struct job_reply *reply, struct err *err);

struct job_entry {
	const char *name;
	job_fn *run;
	bool is_thread_safe;
	unsigned max_retries;
	const char *parameters; /* names of positional arguments, "x y"; for job_argument() and people */
	const char *target;     /* of handlers that settings name: program, URL; else NULL */
};

/* The argument of that name, given by position or by keyword, as it was sent; NULL: missing. */
const struct json *job_argument(const struct job_call *call, const char *name);
/* What Python's clients send of types that JSON lacks is {"__type__": T, "__value__": V}. Of bytes that are UTF-8, datetime, date, time and
 * decimal this is their text, of uuid its 32 digits; all else is as given. NULL is NULL. */
const struct json *job_plain(const struct json *given);
const struct json *job_typed(const struct json *given, const char *type); /* V, of that T; else NULL */
bool job_real(const struct json *given, double *out); /* a number or a decimal; false: neither */
/* A plain one as a text, or a TypeError in reply and false. A missing optional one is SLICE_NONE and true. */
bool job_text(const struct job_call *call, const char *name, bool is_optional, struct slice *out, struct job_reply *reply);
bool job_number(const struct job_call *call, const char *name, int64_t initial, int64_t min, int64_t max, int64_t *out, struct job_reply *reply);

/* The soft time limit has passed, or the worker wants this job to end: a handler that waits asks now and then. */
bool job_is_over(const struct job_call *call);
int64_t job_left_ms(const struct job_call *call, int64_t most_ms); /* until the soft limit, at most so long */
int job_over(const struct job_call *call, struct job_reply *reply); /* SoftTimeLimitExceeded */

/* In a child: the signal of the soft limit. Installed by workers/celery. */
void job_interrupt(int signal_number);
void job_interrupt_reset(void);

/* ---- THE TABLE: built in, then those that settings name */
int jobs_open(const struct settings *settings, struct err *err); /* reads job.exec and job.http */
void jobs_close(void);
const struct job_entry *job_find(struct slice name);
const struct job_entry *job_at(size_t i); /* NULL: no more */

#endif
