/* task: one delivery on its way through this worker, from the message to its acknowledgement. Owned by the node's thread; while it
 * runs in a thread, or its messages or its result are under way, those parts belong to whoever has it.
 *
 *   TASK_ASKING    it was delivered before: the results' table is asked whether it has succeeded then
 *   TASK_WAITING   reserved: no slot is free yet, or its rate limit says later
 *   TASK_RUNNING   in a child or a thread
 *   TASK_POSTING   what comes after it (chain, link, retry, delay) is being published
 *   TASK_STORING   its result is being written
 *   TASK_SETTLED   acknowledged or rejected: freed next */
#ifndef FEEDMILL_WORKERS_CELERY_TASK_H
#define FEEDMILL_WORKERS_CELERY_TASK_H

#include <stdatomic.h>

#include "common/base/clock.h"
#include "workers/celery/inbox.h"
#include "workers/celery/request.h"
#include "workers/jobs/job.h"

enum task_state { TASK_WAITING, TASK_RUNNING, TASK_POSTING, TASK_STORING, TASK_SETTLED, TASK_ASKING };

/* What the last step of a task is. */
enum task_end { END_ACK, END_REQUEUE, END_DROP /* reject: the queue's own dead letters */ };

struct queue_entry;
struct post;

struct task {
	struct request *request;
	const struct job_entry *entry;
	struct queue_entry *queue;     /* that it came from */
	uint64_t tag;
	uint64_t generation;           /* of the connection that the tag belongs to */
	enum task_state state;
	enum task_end end;
	bool is_acked, is_counted, is_in_thread, is_terminated;
	bool is_returned;              /* it did not start: a copy of it goes back to its queue */
	bool is_delayed;               /* a copy of it goes to the delay */
	bool has_succeeded;            /* before this delivery */
	bool is_forgiven;              /* it was here when the connection was lost, and had not begun: that delivery does not count */
	bool is_overdue;               /* its child was killed at its hard limit */
	bool is_aged;                  /* it has waited long: its priority no longer counts */
	bool is_suspect;               /* it runs, and was delivered again and again: see caution.c */
	int terminated_by;             /* signal */
	int64_t received_us, started_us; /* monotonic */
	int64_t handler_us;            /* that its handler took, in a thread */
	int64_t started_wall_ms;
	int worker_pid;
	int64_t soft_ms;               /* limit that it runs with; 0: none */
	struct job_reply reply;
	const char *status;            /* SUCCESS, FAILURE, …: what is stored; NULL: nothing */
	struct buf children;           /* JSON list of result tuples */
	const char *event;             /* that is sent once it is settled; NULL: none */

	unsigned posts_left;           /* the publisher's */
	bool post_failed, store_failed;
	bool post_refused;             /* and would fail for ever */
	struct post *unsent;           /* those that failed, a list */

	struct task *prev, *next;      /* in its node's list */
	struct task *wait_next;        /* in a queue of those that wait */
	struct task *id_next;          /* same hash of the id */
	enum notice notice;
	struct task *inbox_next;
	struct task *ask_next;
};

struct task *task_new(struct request *request); /* takes request */
void task_free(struct task *task);
void task_forget_unsent(struct task *task); /* frees them */
bool task_is_reserved(const struct task *task); /* here, and not begun */

/* What tells its message from others: the id, and behind a '\n' the rest where that is not as usual. A copy has another one, unless it says that
 * this message did not start, or comes out of a delay once more. In out, or the id itself. */
#define TASK_KEY_MAX (REQUEST_ID_MAX + 64)
struct slice task_key(const struct task *task, char out[TASK_KEY_MAX]);

#endif
