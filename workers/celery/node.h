/* node: this worker as the others of a Celery cluster see it: one thread that takes deliveries, hands tasks to the pools, and settles
 * them. Everything here belongs to that thread; what others do comes back through the inbox.
 *
 *   node      the turn of the loop, and shutdown; node_open: its name, and its parts; node_tasks: which tasks and queues it has
 *   intake    a delivery becomes a task, or a dead letter; revoked, expired and later ones end here
 *   dispatch  who runs next; waiting: in which order
 *   ahead     what threads are handed before one is free
 *   caution   nothing is taken ahead beside a job that comes again and again
 *   links     connections: what is consumed, and the watch over it
 *   finish    a reply becomes messages, a result, an acknowledgement and an event: in this order
 *   topology  queues and exchanges, and the levels of the delay
 *   events    celeryev
 *   control   pidbox: remote control and inspection; alone: whether there is another node
 *   certificate  the end of ours
 *   revoked, rates   what is not to run, or not yet */
#ifndef FEEDMILL_WORKERS_CELERY_NODE_H
#define FEEDMILL_WORKERS_CELERY_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/backoff.h"
#include "common/base/metrics.h"
#include "common/base/settings.h"
#include "common/queue/amqp.h"
#include "workers/celery/acks.h"
#include "workers/celery/children.h"
#include "workers/celery/inbox.h"
#include "workers/celery/outgoing.h"
#include "workers/celery/publisher.h"
#include "workers/celery/rates.h"
#include "workers/celery/result_ask.h"
#include "workers/celery/result_table.h"
#include "workers/celery/revoked.h"
#include "workers/celery/settled.h"
#include "workers/celery/task.h"
#include "workers/celery/threads.h"
#include "workers/celery/topology.h"
#include "workers/celery/waiting.h"

#define NODE_NAME_MAX 256
#define NODE_STAMPS_MAX 1000
#define NODE_REMEMBERED 16384 /* ids: more than any prefetch that makes sense */
#define NODE_FINISHED_MS 30000 /* and two heartbeats on the new connection: by then a delivery whose acknowledgement was lost has come again */
#define NODE_IDS 1024 /* buckets */
#define NODE_FAST_US 1000 /* jobs that are quicker are handed to threads ahead of time */

enum node_stage { NODE_RUNNING, NODE_DRAINING, NODE_LEAVING };

/* What is counted of each task name. */
struct task_total {
	const struct job_entry *entry;
	int64_t count;
	int64_t soft_ms, hard_ms; /* by control time_limit; -1: not said */
};

struct node {
	const struct settings *settings;
	const struct signer *signer;       /* NULL: nothing is signed */
	char name[NODE_NAME_MAX], host[128];
	struct outgoing outgoing;
	enum node_stage stage;
	bool is_cold;                      /* SIGQUIT was heard: job.soft_shutdown_ms counts from then on */
	int64_t started_mono_ms, drain_until;

	struct inbox inbox;
	struct publisher *publisher;
	struct children *children;
	struct threads *threads;           /* NULL: none */
	struct result_table *table;        /* NULL: none */
	struct result_ask *ask;            /* NULL: nothing is asked */

	struct amqp *amqp;                 /* deliveries */
	struct acks acks;
	struct backoff backoff;
	int64_t retry_at;
	struct amqp *control;              /* pidbox; and declarations that may be refused */
	int64_t control_retry_at, control_at;
	struct backoff control_backoff;
	struct queue_entry *queues;
	struct queue_entry *got;           /* that was last asked for one message */

	struct task *tasks;                /* all, newest first */
	struct task *ids[NODE_IDS];
	size_t task_count;
	struct waiting waiting;
	struct rates rates;
	struct revoked revoked;
	struct settled settled;            /* keys of messages whose acknowledgement is under way on this connection */
	struct revoked finished;           /* keys of those whose acknowledgement a lost connection may have taken along */
	char *stamps[NODE_STAMPS_MAX];     /* JSON: {"stamp": value or [value, …]} whose tasks are revoked */
	size_t stamp_count;
	struct revoked unstarted;          /* ids that a lost connection takes back to their queue: each until it comes again */
	struct task_total *totals;
	size_t total_count;
	int64_t run_ewma_us;               /* of thread jobs */
	int64_t threads_at;                /* monotonic: a thread was done with one, or the first was handed over */
	size_t suspects;                   /* tasks that were delivered again and again, and run here */
	int64_t calm_at;                   /* monotonic: a while after the last of them */
	bool was_careful, gives_back;

	uint64_t clock;
	bool task_events;
	int64_t processed;
	int64_t heartbeat_at, cleanup_at, state_at, watch_at, consume_at, get_at, consuming_since;
	int64_t certificate_at, certificate_warned_at;
	bool is_expiring;                  /* that certificate: it ends for want of it */
	int admin_port;                    /* for the log */
	bool is_ready;
	bool is_informed;                  /* of what was revoked while it was away */
	int64_t mingle_until, inform_until; /* monotonic; 0: not begun */
	char oid[37];                      /* of replies to us: mingle */

	_Atomic bool is_consuming, is_stalled, is_childless;
	_Atomic int64_t beat_ms;           /* monotonic: the loop turned */
	struct metric *received, *outcomes[JOB_LOST + 1], *run_seconds, *wait_seconds, *reconnects, *dead, *retries, *deduplicated;
};

int node_open(struct node *node, const struct settings *settings, const struct signer *signer, int nursery, struct err *err);
void node_quit(void);            /* SIGQUIT: cold, after job.soft_shutdown_ms; a second one at once. Async-signal-safe */
int node_run(struct node *node); /* until stop_requested() and all is settled; the exit code, 2 where its certificate has no time left */
void node_close(struct node *node);

/* ---- between its files */

/* node: the loop */
uint64_t node_tick(struct node *node); /* Lamport's clock, one on */
void node_heard(struct node *node, int64_t clock);
void node_leave(struct node *node, bool at_once); /* warm shutdown, or cold */

/* node_tasks: what it knows */
void node_add(struct node *node, struct task *task);
void node_remove(struct node *node, struct task *task); /* and frees it */
struct task *node_find(const struct node *node, struct slice id);
struct task_total *node_total(struct node *node, const struct job_entry *entry);
struct queue_entry *node_queue(struct node *node, struct slice name);
struct queue_entry *node_queue_of_consumer(struct node *node, struct slice consumer);

void intake(struct node *node, struct queue_entry *queue, struct amqp_delivery *delivery); /* takes it; queue: that it came from, or NULL */
void intake_answered(struct node *node, struct task *task);     /* by result_ask */

/* dispatch: what waits, by priority, and then in order of arrival */
void node_wait(struct node *node, struct task *task); /* until a slot is free */
/* What has not been started goes back, or is forgotten where the broker takes it back by itself. */
void node_return_waiting(struct node *node, bool is_lost);
bool node_stamp_matches(const struct json *wanted, const struct request *request);
bool node_is_revoked(const struct node *node, const struct request *request);
void dispatch_turn(struct node *node, int64_t *wake_us); /* starts what may start; when the next rate limit lets one go, in *wake_us */
bool dispatch_is_choked(const struct node *node);        /* too much waits to be sent or stored */

void certificate_turn(struct node *node, int64_t now_mono_ms); /* may begin the end */

bool caution_holds(const struct node *node);
void caution_starts(struct node *node, struct task *task);
void caution_waits(struct node *node, const struct task *task);
void caution_ends(struct node *node, const struct task *task); /* it is about to be removed */
void caution_turn(struct node *node);                          /* after all has started that can */

size_t ahead_room(const struct node *node, const struct task *task); /* beyond the threads that there are */
void ahead_heard(struct node *node);     /* a thread is done with one; or the first one is handed over */
void ahead_take_back(struct node *node); /* what no thread has begun waits again, before the others of its priority */
void ahead_turn(struct node *node, int64_t now_mono_ms);
int64_t ahead_next_turn(const struct node *node, int64_t latest_mono_ms);

/* links: connections come and go; what is not acknowledged on a lost one comes again. */
void links_turn(struct node *node, int64_t now_mono_ms);
int links_read_deliveries(struct node *node, struct err *err); /* 1: there may be more; -1: lost */
void links_read_control(struct node *node);
void links_lose(struct node *node, const struct err *why);
int node_prefetch(const struct node *node);
void node_declare_again(struct node *node); /* topology, soon */

#endif
