/* Posts go in from any thread, messages go out to RabbitMQ, and tasks whose messages are confirmed go to the inbox. */
#include "workers/celery/publisher.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "workers/celery/task.h"

#define WINDOW 1000         /* messages that may wait for their confirm */
#define WAITING_MAX 20000   /* more than so many that are not lasting are dropped */
#define PAUSE_MS 2000       /* heartbeats run inside the library's calls alone */

struct list {
	struct post *first, **last;
	size_t count;
};

struct publisher {
	const struct settings *settings;
	struct inbox *inbox;
	pthread_t thread;
	pthread_mutex_t lock;       /* of incoming */
	struct list incoming;
	int fd;                     /* readable: incoming, or stopping */
	struct list waiting, open;  /* the thread's: to be sent; sent, in order of their numbers */
	struct amqp *amqp;
	uint64_t sent;              /* the last number on this connection */
	struct backoff backoff;
	int64_t retry_at;           /* monotonic; when to connect again */
	_Atomic size_t depth;
	_Atomic bool is_connected, is_blocked, is_stopping;
	_Atomic int64_t stop_at;    /* monotonic */
	bool was_told;
};

/* ---- lists */

static void list_init(struct list *list)
{
	*list = (struct list){ NULL, NULL, 0 };
	list->last = &list->first;
}

static void list_add(struct list *list, struct post *post)
{
	post->next = NULL;
	*list->last = post;
	list->last = &post->next;
	list->count++;
}

static struct post *list_take(struct list *list)
{
	struct post *post = list->first;

	if (post == NULL)
		return NULL;
	list->first = post->next;
	if (list->first == NULL)
		list->last = &list->first;
	list->count--;
	post->next = NULL;
	return post;
}

static void list_push(struct list *list, struct post *post)
{
	post->next = list->first;
	if (list->first == NULL)
		list->last = &post->next;
	list->first = post;
	list->count++;
}

/* from's posts, in front of to's. */
static void list_prepend(struct list *to, struct list *from)
{
	if (from->first == NULL)
		return;
	*from->last = to->first;
	if (to->first == NULL)
		to->last = from->last;
	to->first = from->first;
	to->count += from->count;
	list_init(from);
}

static void list_append(struct list *to, struct list *from)
{
	if (from->first == NULL)
		return;
	*to->last = from->first;
	to->last = from->last;
	to->count += from->count;
	list_init(from);
}

/* ---- posts end */

static void done(struct publisher *p, struct post *post, bool is_sent)
{
	struct task *task = post->task;

	atomic_fetch_sub(&p->depth, 1);
	post_free(post);
	if (task == NULL)
		return;
	if (!is_sent)
		task->post_failed = true;
	if (--task->posts_left == 0)
		inbox_add(p->inbox, task, NOTICE_POSTED);
}

static void forget_fleeting(struct publisher *p, struct list *list)
{
	struct list kept;
	struct post *post;

	list_init(&kept);
	while ((post = list_take(list)) != NULL) {
		if (post->is_lasting || post->task != NULL)
			list_add(&kept, post);
		else
			done(p, post, false);
	}
	list_init(list);
	list_append(list, &kept);
}

/* ---- the connection */

static void disconnect(struct publisher *p, const struct err *why)
{
	if (why != NULL && !p->was_told)
		log_warn("publishing connection lost", log_err(why));
	p->was_told = why != NULL;
	amqp_close(p->amqp);
	p->amqp = NULL;
	atomic_store(&p->is_connected, false);
	atomic_store(&p->is_blocked, false);
	forget_fleeting(p, &p->open);
	forget_fleeting(p, &p->waiting);
	list_prepend(&p->waiting, &p->open);
	p->retry_at = clock_mono_ms() + backoff_next_ms(&p->backoff);
}

static void connect_again(struct publisher *p)
{
	struct err err = ERR_INIT;

	if (clock_mono_ms() < p->retry_at)
		return;
	if (amqp_open(p->settings, "job publisher", &p->amqp, &err) < 0 || amqp_confirm_publishes(p->amqp, &err) < 0) {
		disconnect(p, &err);
		return;
	}
	backoff_reset(&p->backoff);
	p->was_told = false;
	p->sent = 0;
	atomic_store(&p->is_connected, true);
}

static struct post *find_open(struct publisher *p, uint64_t number)
{
	for (struct post *post = p->open.first; post != NULL; post = post->next)
		if (post->number == number)
			return post;
	return NULL;
}

/* A mandatory message is known by its message id, which is its number. */
static void on_returned(struct publisher *p, const struct amqp_delivery *delivery)
{
	int64_t number;
	struct post *post = str_int64(delivery->properties.message_id, &number) ? find_open(p, (uint64_t)number) : NULL;

	if (post != NULL)
		post->was_returned = true;
}

/* The queue that a message named was not there: as Celery does, it is made, and the message goes again, once. */
static int declare_for(struct publisher *p, struct post *post, struct err *err)
{
	const bool is_quorum = strcmp(p->settings->job.queue_type, "quorum") == 0;
	const struct amqp_field quorum[] = { amqp_text("x-queue-type", slice_of("quorum")) };

	post->was_declared = true;
	post->was_returned = false;
	return amqp_declare_queue(p->amqp, post->message.routing_key, AMQP_DURABLE, is_quorum ? AMQP_TABLE(quorum) : AMQP_NO_TABLE, NULL, err);
}

static int confirm_one(struct publisher *p, struct post *post, bool is_ack, struct err *err)
{
	if (!is_ack) { /* the broker could not keep it: again */
		list_add(&p->waiting, post);
		return 0;
	}
	if (!post->was_returned) {
		done(p, post, true);
		return 0;
	}
	if (post->was_declared || post->message.exchange[0] != '\0') {
		log_warn("a message that no queue takes", log_str("exchange", post->message.exchange), log_str("routing_key", post->message.routing_key));
		done(p, post, false);
		return 0;
	}
	list_add(&p->waiting, post);
	return declare_for(p, post, err);
}

static int on_confirmed(struct publisher *p, const struct amqp_event *event, struct err *err)
{
	struct list left;
	struct post *post;
	int rc = 0;

	list_init(&left);
	while (rc == 0 && (post = p->open.first) != NULL && post->number <= event->sequence) {
		post = list_take(&p->open);
		if (event->multiple || post->number == event->sequence)
			rc = confirm_one(p, post, event->is_ack, err);
		else
			list_add(&left, post);
	}
	list_prepend(&p->open, &left);
	return rc;
}

static int read_news(struct publisher *p, struct err *err)
{
	struct amqp_event event;

	do {
		int rc = 0;

		if (amqp_next(p->amqp, 0, &event, err) < 0)
			return -1;
		if (event.type == AMQP_EVENT_CONFIRMED)
			rc = on_confirmed(p, &event, err);
		else if (event.type == AMQP_EVENT_RETURNED)
			on_returned(p, event.delivery);
		else if (event.type == AMQP_EVENT_BLOCKED)
			log_warn("RabbitMQ takes no messages for now", log_str("why", event.text));
		if (event.type == AMQP_EVENT_RETURNED || event.type == AMQP_EVENT_DELIVERY)
			amqp_delivery_free(event.delivery);
		if (rc < 0)
			return -1;
	} while (event.type != AMQP_EVENT_NONE);
	atomic_store(&p->is_blocked, amqp_is_blocked(p->amqp));
	return 0;
}

static int send_one(struct publisher *p, struct post *post, uint64_t number, struct err *err)
{
	char id[24];

	if (post->message.mandatory) {
		snprintf(id, sizeof(id), "%llu", (unsigned long long)number);
		post->message.properties.message_id = slice_of(id);
	}
	post->message.body = (struct slice){ post->body.data, post->body.len };
	return amqp_publish(p->amqp, &post->message, &post->number, err);
}

static int send_waiting(struct publisher *p, struct err *err)
{
	struct post *post;

	while (p->open.count < WINDOW && p->waiting.first != NULL && !amqp_is_blocked(p->amqp)) {
		struct err why = ERR_INIT;

		post = list_take(&p->waiting);
		if (send_one(p, post, p->sent + 1, &why) == 0) {
			p->sent = post->number;
			list_add(&p->open, post);
			continue;
		}
		if (why.kind == ERR_INVALID && amqp_is_open(p->amqp)) {
			log_warn("a message that can't be sent", log_err(&why));
			done(p, post, false);
			continue;
		}
		list_push(&p->waiting, post);
		*err = why;
		return why.kind == ERR_FULL ? 0 : -1;
	}
	return 0;
}

/* ---- the thread */

static void take_incoming(struct publisher *p)
{
	uint64_t count;

	if (read(p->fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&p->lock);
	list_append(&p->waiting, &p->incoming);
	pthread_mutex_unlock(&p->lock);
	if (p->waiting.count > WAITING_MAX)
		forget_fleeting(p, &p->waiting);
}

static void wait_for_news(struct publisher *p)
{
	struct pollfd fds[] = { { .fd = p->fd, .events = POLLIN }, { .fd = p->amqp != NULL ? amqp_fd(p->amqp) : -1, .events = POLLIN } };
	int64_t wait = PAUSE_MS;

	if (p->amqp == NULL && p->retry_at - clock_mono_ms() < wait)
		wait = p->retry_at - clock_mono_ms();
	if (atomic_load(&p->is_stopping) && wait > 50)
		wait = 50;
	poll(fds, 2, wait > 0 ? (int)wait : 0);
}

static bool is_over(struct publisher *p)
{
	return atomic_load(&p->is_stopping) && ((p->waiting.first == NULL && p->open.first == NULL) || clock_mono_ms() >= atomic_load(&p->stop_at));
}

static void turn(struct publisher *p)
{
	struct err err = ERR_INIT;

	if (p->amqp == NULL)
		connect_again(p);
	if (p->amqp != NULL && (read_news(p, &err) < 0 || send_waiting(p, &err) < 0))
		disconnect(p, &err);
}

static void *run(void *arg)
{
	struct publisher *p = arg;

	while (!is_over(p)) {
		turn(p);
		wait_for_news(p);
		take_incoming(p);
	}
	return NULL;
}

/* ---- for others */

struct publisher *publisher_start(const struct settings *settings, struct inbox *inbox)
{
	struct publisher *p = mem_zalloc(sizeof(*p));

	p->settings = settings;
	p->inbox = inbox;
	p->backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->incoming);
	list_init(&p->waiting);
	list_init(&p->open);
	p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->fd < 0 || pthread_create(&p->thread, NULL, run, p) != 0)
		abort();
	return p;
}

static void knock(struct publisher *p)
{
	static const uint64_t one = 1;

	if (write(p->fd, &one, sizeof(one)) < 0)
		abort(); /* its counter can't be full */
}

static void add(struct publisher *p, struct post *posts)
{
	bool was_empty;

	pthread_mutex_lock(&p->lock);
	was_empty = p->incoming.first == NULL;
	while (posts != NULL) {
		struct post *next = posts->next;

		list_add(&p->incoming, posts);
		atomic_fetch_add(&p->depth, 1);
		posts = next;
	}
	pthread_mutex_unlock(&p->lock);
	if (was_empty)
		knock(p);
}

void publisher_send(struct publisher *p, struct post *post)
{
	post->next = NULL;
	add(p, post);
}

void publisher_send_for(struct publisher *p, struct task *task, struct post *posts)
{
	task->posts_left = 0;
	task->post_failed = false;
	for (struct post *post = posts; post != NULL; post = post->next) {
		post->task = task;
		task->posts_left++;
	}
	add(p, posts);
}

size_t publisher_depth(struct publisher *p)
{
	return atomic_load(&p->depth);
}

bool publisher_is_connected(const struct publisher *p)
{
	return atomic_load(&p->is_connected);
}

bool publisher_is_blocked(const struct publisher *p)
{
	return atomic_load(&p->is_blocked);
}

static void free_list(struct list *list)
{
	struct post *post;

	while ((post = list_take(list)) != NULL)
		post_free(post);
}

void publisher_stop(struct publisher *p, int64_t wait_ms)
{
	if (p == NULL)
		return;
	atomic_store(&p->stop_at, clock_mono_ms() + wait_ms);
	atomic_store(&p->is_stopping, true);
	knock(p);
	pthread_join(p->thread, NULL);
	amqp_close(p->amqp);
	free_list(&p->incoming);
	free_list(&p->waiting);
	free_list(&p->open);
	close(p->fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
