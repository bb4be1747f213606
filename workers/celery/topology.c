/* The settings go in; queues, exchanges and the levels of the delay are there on RabbitMQ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "workers/celery/arguments.h"
#include "workers/celery/node.h"

#define AMQP_KEY_MAX 255 /* bytes of a routing key */
#define DELAYED_KEY 320  /* room for any that is tried */

/* The broker refuses what is there otherwise, and closes the channel. What is there is taken then, as long as it is there. */
static int reopen(struct node *node, struct err *err)
{
	amqp_close(node->control);
	node->control = NULL;
	return amqp_open(node->settings, "job control", &node->control, err);
}

/* "406 PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue …": what it is called. Not there: nothing is there, or RabbitMQ
 * refuses it whatever is there. */
static struct slice different(const struct err *err)
{
	static const char words[] = "inequivalent arg '";
	const char *at = err->kind == ERR_INVALID ? strstr(err->message, words) : NULL;
	struct slice rest = slice_of(at != NULL ? at + strlen(words) : NULL);

	return slice_cut(&rest, '\'');
}

static int declare_exchange(struct node *node, const char *name, const char *type, int flags, struct err *err)
{
	struct err why = ERR_INIT;

	if (amqp_declare_exchange(node->control, name, type, flags, AMQP_NO_TABLE, &why) == 0)
		return 0;
	if (different(&why).len > 0) {
		log_warn("an exchange is there otherwise than this node would make it", log_str("exchange", name), log_slice("argument", different(&why)),
			log_err(&why));
		return reopen(node, err);
	}
	*err = why;
	return -1;
}

static int declare_queue(struct node *node, const char *name, struct amqp_table arguments, struct err *err)
{
	struct err why = ERR_INIT;

	if (amqp_declare_queue(node->control, name, AMQP_DURABLE, arguments, NULL, &why) == 0)
		return 0;
	if (different(&why).len > 0) {
		log_warn("a queue is there otherwise than this node would make it", log_str("queue", name), log_slice("argument", different(&why)),
			log_err(&why));
		return reopen(node, err);
	}
	*err = why;
	return -1;
}

/* ---- the delay: message bits lead it through queues of 2^n seconds; see celery's native delayed delivery */

static int declare_level(struct node *node, int level, struct err *err)
{
	const char *type = node->settings->job.delay_queue_type;
	const bool is_quorum = strcmp(type, "quorum") == 0;
	char name[40], next[40], one[80], zero[96];
	struct amqp_field arguments[5];
	struct amqp_table table = { arguments, is_quorum ? 5 : 4 };
	size_t len = 0;

	snprintf(name, sizeof(name), "celery_delayed_%d", level);
	snprintf(next, sizeof(next), level > 0 ? "celery_delayed_%d" : "celery_delayed_delivery", level - 1);
	for (int i = level; i < OUTGOING_DELAY_LEVELS - 1; i++)
		len += (size_t)snprintf(one + len, sizeof(one) - len, "*.");
	snprintf(zero, sizeof(zero), "%s0.#", len > 0 ? one : "");
	snprintf(one + len, sizeof(one) - len, "1.#");
	arguments[0] = amqp_text("x-queue-type", slice_of(type));
	arguments[1] = amqp_text("x-overflow", slice_of("reject-publish"));
	arguments[2] = amqp_int("x-message-ttl", (INT64_C(1) << level) * 1000);
	arguments[3] = amqp_text("x-dead-letter-exchange", slice_of(next));
	arguments[4] = amqp_text("x-dead-letter-strategy", slice_of("at-least-once"));
	if (declare_exchange(node, name, "topic", AMQP_DURABLE, err) < 0 || declare_queue(node, name, table, err) < 0)
		return -1;
	if (amqp_bind_queue(node->control, name, name, one, AMQP_NO_TABLE, err) < 0)
		return -1;
	return amqp_bind_exchange(node->control, next, name, zero, AMQP_NO_TABLE, err);
}

static int declare_delay(struct node *node, struct err *err)
{
	if (declare_exchange(node, "celery_delayed_delivery", "topic", AMQP_DURABLE, err) < 0)
		return -1;
	for (int level = 0; level < OUTGOING_DELAY_LEVELS; level++)
		if (declare_level(node, level, err) < 0)
			return err_wrap(err, "delay level %d: ", level);
	return 0;
}

/* ---- queues of tasks */

/* One word for each level's bit, then the key itself: with "#." a queue whose name ends alike would get a copy of each. */
static void delayed_key(const char *key, char *out, size_t size)
{
	const size_t bits = (size_t)OUTGOING_DELAY_LEVELS * 2;

	if (bits + strlen(key) > AMQP_KEY_MAX) { /* nothing can be delayed to it: see outgoing_delay_key() */
		snprintf(out, size, "#.%s", key);
		return;
	}
	for (size_t i = 0; i < bits; i++)
		out[i] = i % 2 == 0 ? '*' : '.';
	snprintf(out + bits, size - bits, "%s", key);
}

/* What this node delays comes straight back to the queue. Earlier versions bound it with "#.", which takes too much. */
static int bind_to_delay(struct node *node, const struct queue_entry *queue, struct err *err)
{
	char key[DELAYED_KEY], old[DELAYED_KEY];

	delayed_key(queue->name, key, sizeof(key));
	snprintf(old, sizeof(old), "#.%s", queue->name);
	if (amqp_bind_queue(node->control, queue->name, "celery_delayed_delivery", key, AMQP_NO_TABLE, err) < 0)
		return -1;
	return strcmp(key, old) == 0 ? 0 : amqp_unbind_queue(node->control, queue->name, "celery_delayed_delivery", old, err);
}

static int declare_own_queue(struct node *node, const char *name, struct err *err)
{
	struct arguments arguments;

	arguments_of(node->settings, name, &arguments);
	return declare_queue(node, name, arguments.table, err);
}

static int declare_task_queue(struct node *node, const struct queue_entry *queue, struct err *err)
{
	char key[DELAYED_KEY];

	if (declare_own_queue(node, queue->name, err) < 0)
		return -1;
	if (queue->exchange[0] != '\0') {
		if (declare_exchange(node, queue->exchange, queue->type, AMQP_DURABLE, err) < 0 ||
			amqp_bind_queue(node->control, queue->name, queue->exchange, queue->key, AMQP_NO_TABLE, err) < 0)
			return -1;
		delayed_key(queue->key, key, sizeof(key));
		if (strcmp(queue->type, "topic") == 0 && (amqp_bind_queue(node->control, queue->name, queue->exchange, key, AMQP_NO_TABLE, err) < 0 ||
			amqp_bind_exchange(node->control, queue->exchange, "celery_delayed_delivery", key, AMQP_NO_TABLE, err) < 0))
			return -1;
	}
	return bind_to_delay(node, queue, err);
}

void topology_give_up(struct queue_entry *queue, const struct err *why)
{
	queue->is_wanted = false;
	log_warn("a queue that was added by remote control is given up: RabbitMQ refuses it", log_str("queue", queue->name), log_err(why));
}

/* What one request of remote control named must not keep all else from being declared. */
int topology_queue(struct node *node, struct queue_entry *queue, struct err *err)
{
	struct err why = ERR_INIT;

	if (declare_task_queue(node, queue, &why) == 0)
		return 0;
	if (queue->is_added && why.kind == ERR_INVALID) {
		topology_give_up(queue, &why);
		return reopen(node, err);
	}
	*err = why;
	return -1;
}

int topology_declare(struct node *node, struct err *err)
{
	const char *dead = node->settings->job.dead_letter_queue;

	if (declare_delay(node, err) < 0)
		return -1;
	for (struct queue_entry *queue = node->queues; queue != NULL; queue = queue->next)
		if (queue->is_wanted && topology_queue(node, queue, err) < 0)
			return err_wrap(err, "queue %s: ", queue->name);
	if (dead[0] != '\0' && declare_own_queue(node, dead, err) < 0)
		return err_wrap(err, "queue %s: ", dead);
	return declare_exchange(node, "celeryev", "topic", AMQP_DURABLE, err);
}

/* Without a value until the queue is looked at. */
static struct metric *ready_gauge(const char *queue)
{
	struct metric *gauge;
	char label[2 * (NODE_QUEUE_NAME_MAX + 1) + 16] = "queue=\"";
	size_t len = strlen(label);

	for (const char *c = queue; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			label[len++] = '\\';
		label[len++] = *c;
	}
	label[len] = '"';
	gauge = metric_gauge("feedmill_job_queue_ready", label, "Messages that wait in the queue, and no worker has");
	metric_unset(gauge);
	return gauge;
}

int topology_read(struct node *node, struct err *err)
{
	struct slice rest = slice_of(node->settings->job.queues);
	struct queue_entry **last = &node->queues;

	if (arguments_check(node->settings, err) < 0)
		return -1;
	while (rest.len > 0) {
		const struct slice name = slice_trim(slice_cut(&rest, ','));
		struct queue_entry *queue;

		if (name.len == 0)
			continue;
		if (name.len > NODE_QUEUE_NAME_MAX)
			return err_set(err, ERR_FATAL, "setting job.queues: the name %.*s… has %zu bytes; %d fit, because delays put 56 before it", 40, name.data,
				name.len, NODE_QUEUE_NAME_MAX);
		queue = mem_zalloc(sizeof(*queue));
		snprintf(queue->name, sizeof(queue->name), "%.*s", (int)name.len, name.data);
		snprintf(queue->exchange, sizeof(queue->exchange), "%s", queue->name);
		snprintf(queue->key, sizeof(queue->key), "%s", queue->name);
		snprintf(queue->type, sizeof(queue->type), "%s", node->settings->job.exchange_type);
		queue->is_wanted = true;
		queue->ready = ready_gauge(queue->name);
		*last = queue;
		last = &queue->next;
	}
	node->outgoing.queue = node->queues != NULL ? node->queues->name : "celery";
	return 0;
}
