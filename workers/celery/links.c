/* The settings and time go in; connections to RabbitMQ that consume come out, again and again, and what they bring. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/notify.h"
#include "workers/celery/arguments.h"
#include "workers/celery/control.h"
#include "workers/celery/events.h"
#include "workers/celery/node.h"

#define EVENTS_A_TURN 512
#define WATCH_MS 10000
#define CONSUME_MS 1000
#define INFORM_MS 10000 /* a database that is away holds the start up for so long */
#define LOOK_MS 20
#define GET_MS 200 /* between looks at queues that were empty */
#define GETS_A_TURN 100

static size_t slots(const struct node *node)
{
	return node->threads != NULL ? threads_count(node->threads) : children_count(node->children);
}

int node_prefetch(const struct node *node)
{
	const int64_t n = (int64_t)slots(node) * node->settings->job.prefetch_multiplier;

	return n > 65535 ? 65535 : (int)n;
}

/* Each time by another name: on one that was used before RabbitMQ would count acknowledgements of the earlier consumer as well. */
static int consume(struct node *node, struct queue_entry *queue, struct err *err)
{
	const int prefetch = node_prefetch(node);

	snprintf(queue->consumer, sizeof(queue->consumer), "%u %s", ++queue->consumers, queue->name); /* see node_queue_of_consumer() */
	if (amqp_consume(node->amqp, queue->name, queue->consumer, 0, prefetch, AMQP_NO_TABLE, err) < 0) {
		if (queue->is_added && err->kind == ERR_INVALID && strstr(err->message, ": 404 ") == NULL) /* that one is declared again */
			topology_give_up(queue, err);
		return -1;
	}
	queue->is_consumed = true;
	queue->prefetch = prefetch;
	return 0;
}

/* ---- losing them */

/* Another message that looks the same may wait here: it comes again too, and is to run. */
static bool waits(const struct node *node, struct slice key)
{
	struct slice rest = key;
	const struct slice id = slice_cut(&rest, '\n');
	char room[TASK_KEY_MAX];

	for (const struct task *t = node_find(node, id); t != NULL; t = t->id_next)
		if (task_is_reserved(t) && slice_equal(task_key(t, room), key))
			return true;
	return false;
}

/* The acknowledgements that were under way may be lost. */
static void remember_settled(struct node *node)
{
	const int64_t now = clock_mono_ms();
	char *key;

	while ((key = settled_take(&node->settled, now)) != NULL) {
		if (!waits(node, slice_of(key)))
			revoked_add(&node->finished, slice_of(key), clock_wall_ms());
		free(key);
	}
}

/* "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: …" */
static void explain(const struct err *why)
{
	if (strstr(why->message, "delivery acknowledgement") != NULL || strstr(why->message, "consumer_timeout") != NULL)
		log_warn("a job takes longer than RabbitMQ waits for its acknowledgement: another node may run it too",
			log_str("advice", "make consumer_timeout in rabbitmq.conf longer than the longest job"));
}

void links_lose(struct node *node, const struct err *why)
{
	log_warn("connection for deliveries lost", log_err(why));
	explain(why);
	metric_add(node->reconnects, 1);
	amqp_close(node->amqp);
	node->amqp = NULL;
	atomic_store(&node->is_consuming, false);
	acks_start(&node->acks, 0);
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next)
		q->is_consumed = false;
	remember_settled(node);
	node_return_waiting(node, true);
	node->retry_at = clock_mono_ms() + backoff_next_ms(&node->backoff);
}

static void lose_control(struct node *node, const struct err *why)
{
	log_warn("connection for remote control lost", log_err(why));
	amqp_close(node->control);
	node->control = NULL;
	node->control_retry_at = clock_mono_ms() + backoff_next_ms(&node->control_backoff);
}

void node_declare_again(struct node *node)
{
	struct err why = ERR_INIT;

	if (node->control == NULL)
		return;
	err_set(&why, ERR_UNAVAILABLE, "a queue or an exchange is not there any more: all are declared again");
	lose_control(node, &why);
}

/* ---- making them */

/* Everything is declared anew each time: a broker may come back empty. */
static void connect_control(struct node *node, int64_t now)
{
	struct err err = ERR_INIT;

	if (node->control != NULL || now < node->control_retry_at)
		return;
	if (amqp_open(node->settings, "job control", &node->control, &err) < 0 || topology_declare(node, &err) < 0 || control_open(node, &err) < 0) {
		lose_control(node, &err);
		return;
	}
	backoff_reset(&node->control_backoff);
}

/* No job is taken before it is known what was revoked meanwhile: the others were asked when remote control was opened, and the table is read. */
static bool is_informed(struct node *node, int64_t now)
{
	const bool is_read = node->table == NULL || result_table_knows_revokes(node->table);

	if (node->inform_until == 0)
		node->inform_until = now + INFORM_MS;
	if (now < node->mingle_until || (!is_read && now < node->inform_until))
		return false;
	if (!is_read)
		log_warn("jobs are taken although the table of revoked ones was not read: the database is away");
	return true;
}

static void connect_deliveries(struct node *node, int64_t now)
{
	struct err err = ERR_INIT;

	if (node->amqp != NULL || node->control == NULL || now < node->retry_at || node->stage != NODE_RUNNING)
		return;
	if (!node->is_informed && !is_informed(node, now)) {
		node->retry_at = now + LOOK_MS;
		return;
	}
	node->is_informed = true;
	if (amqp_open(node->settings, "job consumer", &node->amqp, &err) < 0) {
		links_lose(node, &err);
		return;
	}
	acks_start(&node->acks, amqp_generation(node->amqp));
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (q->is_wanted && consume(node, q, &err) < 0) {
			lose_control(node, &err); /* so that all is declared again */
			links_lose(node, &err);
			return;
		}
	}
	backoff_reset(&node->backoff);
	node->consuming_since = now;
	atomic_store(&node->is_consuming, true);
	log_info("consuming", log_str("queues", node->settings->job.queues), log_int("prefetch", node_prefetch(node)));
	event_worker(node, "worker-online");
	if (!node->is_ready) {
		node->is_ready = true;
		notify_ready();
		log_info("ready", log_int("admin_port", node->admin_port));
	}
}

static void on_cancelled(struct node *node, const char *consumer)
{
	struct queue_entry *queue = node_queue_of_consumer(node, slice_of(consumer));

	if (queue == NULL || !queue->is_wanted)
		return;
	log_warn("RabbitMQ ended a consumer: its queue was deleted", log_str("queue", queue->name));
	queue->is_consumed = false;
}

/* What is there otherwise than we would make it costs the connection, and the mailbox with it. */
static int declare_missing(struct node *node, struct queue_entry *q, struct err *err)
{
	const uint64_t before = amqp_generation(node->control);

	if (topology_queue(node, q, err) < 0)
		return -1;
	return amqp_generation(node->control) == before ? 0 : control_open(node, err);
}

/* Queues that were added, or deleted under us. */
static void consume_missing(struct node *node, int64_t now)
{
	struct err err = ERR_INIT;

	if (node->amqp == NULL || node->control == NULL || now < node->consume_at || node->stage != NODE_RUNNING)
		return;
	node->consume_at = now + CONSUME_MS;
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (!q->is_wanted || q->is_consumed)
			continue;
		if (declare_missing(node, q, &err) < 0) {
			lose_control(node, &err);
			return;
		}
		if (!q->is_wanted)
			continue;
		if (consume(node, q, &err) < 0) {
			links_lose(node, &err);
			return;
		}
		log_info("consuming again", log_str("queue", q->name));
	}
}

/* The pool grew or shrank. A prefetch is for new consumers alone; what the old one has taken is settled as ever. */
static void follow_pool(struct node *node)
{
	const int prefetch = node_prefetch(node);
	struct err err = ERR_INIT;

	if (node->amqp == NULL || node->stage != NODE_RUNNING)
		return;
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (!q->is_wanted || !q->is_consumed || q->prefetch == prefetch)
			continue;
		if (amqp_cancel(node->amqp, q->consumer, &err) < 0 || consume(node, q, &err) < 0) {
			links_lose(node, &err);
			return;
		}
		log_info("consuming with another prefetch", log_str("queue", q->name), log_int("prefetch", prefetch));
	}
}

/* ---- one by one */

static int cancel_all(struct node *node, struct err *err)
{
	bool was_any = false;
	int rc = 0;

	for (struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (q->is_consumed && amqp_cancel(node->amqp, q->consumer, err) < 0)
			return -1;
		was_any |= q->is_consumed;
		q->is_consumed = false;
	}
	while (was_any && (rc = links_read_deliveries(node, err)) > 0) /* the tags of what is got now are behind theirs */
		continue;
	return rc;
}

static struct queue_entry *after(const struct node *node, const struct queue_entry *queue)
{
	return queue != NULL && queue->next != NULL ? queue->next : node->queues;
}

/* From one queue after the other, until all slots have one, or no queue has. */
static int fill_slots(struct node *node, int64_t now, struct err *err)
{
	size_t queues = 0, empty = 0;

	for (const struct queue_entry *q = node->queues; q != NULL; q = q->next)
		queues++;
	for (int i = 0; i < GETS_A_TURN && empty < queues && node->task_count < slots(node); i++) {
		struct queue_entry *q = node->got = after(node, node->got);
		struct amqp_delivery *delivery = NULL;

		if (q->is_wanted && q->consumers > 0 && amqp_get(node->amqp, q->name, false, &delivery, err) < 0)
			return -1;
		empty = delivery == NULL ? empty + 1 : 0;
		if (delivery != NULL)
			intake(node, q, delivery);
	}
	if (empty == queues)
		node->get_at = now + GET_MS;
	return 0;
}

/* Beside a job that comes again and again nothing is taken ahead. (A smaller prefetch would not do: the next consumer's does not count what
 * this one was delivered.) */
static void take_one_by_one(struct node *node, int64_t now)
{
	struct err err = ERR_INIT;

	if (node->amqp == NULL || node->stage != NODE_RUNNING)
		return;
	if (cancel_all(node, &err) < 0 || (now >= node->get_at && fill_slots(node, now, &err) < 0))
		links_lose(node, &err);
}

/* ---- what they bring */

int links_read_deliveries(struct node *node, struct err *err)
{
	struct amqp_event event;

	for (int i = 0; i < EVENTS_A_TURN; i++) {
		if (amqp_next(node->amqp, 0, &event, err) < 0)
			return -1;
		if (event.type == AMQP_EVENT_NONE)
			return 0;
		if (event.type == AMQP_EVENT_DELIVERY) {
			intake(node, node_queue_of_consumer(node, event.delivery->consumer), event.delivery);
		} else if (event.type == AMQP_EVENT_CANCELLED) {
			on_cancelled(node, event.consumer);
		} else {
			amqp_delivery_free(event.delivery);
		}
	}
	return 1; /* there may be more */
}

void links_read_control(struct node *node)
{
	struct err err = ERR_INIT;
	struct amqp_event event;

	while (node->control != NULL) {
		if (amqp_next(node->control, 0, &event, &err) < 0) {
			lose_control(node, &err);
			return;
		}
		if (event.type == AMQP_EVENT_NONE)
			return;
		if (event.type == AMQP_EVENT_CANCELLED) {
			err_set(&err, ERR_UNAVAILABLE, "RabbitMQ ended the consumer %s: its queue was deleted", event.consumer);
			lose_control(node, &err);
			return;
		}
		if (event.type == AMQP_EVENT_DELIVERY)
			control_message(node, event.delivery);
		amqp_delivery_free(event.delivery);
	}
}

/* ---- watching them */

static bool has_room(const struct node *node, const struct queue_entry *q)
{
	int taken = 0;

	for (const struct task *t = node->tasks; t != NULL; t = t->next)
		taken += t->queue == q && !t->is_acked && t->generation == node->acks.generation;
	return taken < q->prefetch;
}

/* Of those that consume it one gets all; the others, which may be on other hosts, get nothing as long as that one lives. */
static bool may_stand_by(const struct node *node, const struct queue_entry *q)
{
	struct arguments arguments;
	const struct amqp_value *single;

	arguments_of(node->settings, q->name, &arguments);
	single = amqp_table_value(&arguments.table, "x-single-active-consumer");
	return single != NULL && single->truth;
}

/* Messages are ready, there is room for them, and none comes: the consumer is dead, whatever its connection says. Each queue by itself:
 * another's deliveries say nothing of this one. */
static int watch_queue(struct node *node, struct queue_entry *q, struct err *err)
{
	struct amqp_queue_state state = { .messages = 0 };
	const bool is_silent = q->deliveries == q->watched_deliveries;
	const bool is_asked = q->is_consumed || (q->is_wanted && q->consumers > 0 && caution_holds(node)); /* else it may not be there */

	q->watched_deliveries = q->deliveries;
	if (is_asked && amqp_declare_queue(node->control, q->name, AMQP_PASSIVE, AMQP_NO_TABLE, &state, err) < 0)
		return -1;
	if (q->ready != NULL && is_asked)
		metric_set(q->ready, state.messages);
	else if (q->ready != NULL)
		metric_unset(q->ready);
	q->stalls = q->is_consumed && is_silent && state.messages > 0 && has_room(node, q) && !may_stand_by(node, q) ? q->stalls + 1 : 0;
	return 0;
}

/* Nobody asks: what is known of them is of a time gone by. */
static void forget_ready(struct node *node)
{
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next)
		if (q->ready != NULL)
			metric_unset(q->ready);
}

static void watch(struct node *node, int64_t now)
{
	struct err err = ERR_INIT;
	const struct queue_entry *stalled = NULL;

	if (node->amqp == NULL || node->control == NULL || node->stage != NODE_RUNNING) {
		forget_ready(node);
		return;
	}
	if (now < node->watch_at)
		return;
	node->watch_at = now + WATCH_MS;
	if (control_keep(node, &err) < 0) {
		lose_control(node, &err);
		return;
	}
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (watch_queue(node, q, &err) < 0) {
			lose_control(node, &err);
			return;
		}
		if (q->stalls > 1)
			stalled = q;
	}
	atomic_store(&node->is_stalled, stalled != NULL);
	if (stalled != NULL) {
		err_set(&err, ERR_UNAVAILABLE, "messages are ready in %s and none is delivered", stalled->name);
		links_lose(node, &err);
	}
}

/* ---- a turn */

void links_turn(struct node *node, int64_t now)
{
	if (publisher_misses_exchange(node->publisher))
		node_declare_again(node);
	connect_control(node, now);
	connect_deliveries(node, now);
	if (caution_holds(node)) {
		take_one_by_one(node, now);
	} else {
		consume_missing(node, now);
		follow_pool(node);
	}
	watch(node, now);
}
