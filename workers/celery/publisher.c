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
#include "workers/celery/outgoing.h"
#include "workers/celery/task.h"

#define WINDOW 1000         /* messages that may wait for their confirm */
#define WAITING_MAX 20000   /* more than so many that are not lasting are dropped */
#define PAUSE_MS 2000       /* heartbeats run inside the library's calls alone */
#define NACK_MS 100         /* a message that RabbitMQ could not keep waits at least so long */
#define MISSING 8
#define MISSING_MS 5000     /* so long what is for an exchange that was not there fails at once */
#define DELAY_GONE_MS 30000 /* so long a message waits for the exchange of the delay to be made again */

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
	struct list nacked;         /* that RabbitMQ could not keep: sent again at nacked_at, monotonic */
	struct backoff nack_backoff;
	int64_t nacked_at;
	size_t suspects;            /* the first of waiting: one of them may have been refused, they go one by one */
	struct { char exchange[256]; int64_t until; } missing[MISSING];
	size_t next_missing;
	struct amqp *amqp;
	uint64_t sent;              /* the last number on this connection */
	struct backoff backoff;
	int64_t retry_at;           /* monotonic; when to connect again */
	_Atomic size_t depth;
	_Atomic bool is_connected, is_blocked, is_stopping, misses_exchange;
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
	if (is_sent || task == NULL) {
		post_free(post);
	} else {
		task->post_failed = true;
		task->post_refused |= post->is_refused;
		post->next = task->unsent;
		task->unsent = post;
	}
	if (task == NULL)
		return;
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

/* ---- posts that RabbitMQ refuses */

static bool is_for_delay(const struct post *post)
{
	return strcmp(post->message.exchange, OUTGOING_DELAY_EXCHANGE) == 0;
}

static bool is_missing(const struct publisher *p, const char *exchange)
{
	for (size_t i = 0; i < MISSING; i++)
		if (exchange[0] != '\0' && strcmp(p->missing[i].exchange, exchange) == 0)
			return clock_mono_ms() < p->missing[i].until;
	return false;
}

static void remember_missing(struct publisher *p, const char *exchange)
{
	if (is_missing(p, exchange))
		return;
	snprintf(p->missing[p->next_missing].exchange, sizeof(p->missing[0].exchange), "%s", exchange);
	p->missing[p->next_missing].until = clock_mono_ms() + MISSING_MS;
	p->next_missing = (p->next_missing + 1) % MISSING;
}

static void refuse(struct publisher *p, struct post *post, const char *why)
{
	if (post->is_lasting)
		log_warn("a message that can't be sent", log_str("exchange", post->message.exchange),
			log_str("routing_key", post->message.routing_key), log_str("why", why));
	post->is_refused = true;
	done(p, post, false);
}

/* The exchange of the delay is ours to make again: what is for it waits for that, behind the others. */
static void refused(struct publisher *p, struct post *post, const char *why, bool is_named)
{
	const int64_t now = clock_mono_ms();

	if (is_named && (is_for_delay(post) || !post->is_lasting))
		atomic_store(&p->misses_exchange, true);
	if (is_named && is_for_delay(post)) {
		if (post->refused_at == 0)
			post->refused_at = now;
		if (now - post->refused_at < DELAY_GONE_MS)
			list_add(&p->waiting, post);
		else
			done(p, post, false);
		return;
	}
	if (is_named)
		remember_missing(p, post->message.exchange);
	refuse(p, post, why);
}

/* "404 NOT_FOUND - no exchange 'x' in vhost '/'" */
static bool names_exchange(const char *why, const struct post *post)
{
	char words[300];

	if (post->message.exchange[0] == '\0')
		return false;
	snprintf(words, sizeof(words), "no exchange '%s' in vhost", post->message.exchange);
	return strstr(why, words) != NULL;
}

/* The channel was ended for one of those that are open. */
static void blame(struct publisher *p, const char *why)
{
	const bool is_alone = p->open.count == 1;
	struct list kept;
	struct post *post;
	bool is_found = false;

	list_init(&kept);
	while ((post = list_take(&p->open)) != NULL) {
		const bool is_named = names_exchange(why, post);

		if (!is_named && !is_alone) {
			list_add(&kept, post);
			continue;
		}
		is_found = true;
		refused(p, post, why, is_named);
	}
	list_append(&p->open, &kept);
	forget_fleeting(p, &p->open);
	if (!is_found)
		p->suspects += p->open.count;
}

/* ---- the connection */

static void disconnect(struct publisher *p, const struct err *why)
{
	const bool was_refused = p->amqp != NULL && why != NULL && amqp_was_refused(p->amqp);

	if (why != NULL && !p->was_told)
		log_warn("publishing connection lost", log_err(why));
	p->was_told = why != NULL;
	amqp_close(p->amqp);
	p->amqp = NULL;
	atomic_store(&p->is_connected, false);
	atomic_store(&p->is_blocked, false);
	if (was_refused)
		blame(p, why->message);
	forget_fleeting(p, &p->open);
	forget_fleeting(p, &p->waiting);
	if (!was_refused && p->suspects > 0)
		p->suspects += p->open.count;
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
	if (!is_ack) { /* the broker could not keep it: again, later */
		if (p->nacked.first == NULL) {
			p->nacked_at = clock_mono_ms() + backoff_next_ms(&p->nack_backoff) / 2 + NACK_MS;
			log_debug("RabbitMQ can't keep a message now", log_str("routing_key", post->message.routing_key));
		}
		post->was_nacked = true;
		list_add(&p->nacked, post);
		return 0;
	}
	if (post->was_nacked)
		backoff_reset(&p->nack_backoff);
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
	if (post->is_next && post->body.len > AMQP_BODY_MAX)
		return err_set(err, ERR_INVALID, "the body has %zu bytes; %u are read", post->body.len, AMQP_BODY_MAX);
	if (is_missing(p, post->message.exchange))
		return err_set(err, ERR_INVALID, "there is no exchange of that name");
	return amqp_publish(p->amqp, &post->message, &post->number, err);
}

static int send_waiting(struct publisher *p, struct err *err)
{
	struct post *post;

	while (p->open.count < (p->suspects > 0 ? 1 : WINDOW) && p->waiting.first != NULL && !amqp_is_blocked(p->amqp)) {
		struct err why = ERR_INIT;

		post = list_take(&p->waiting);
		if (send_one(p, post, p->sent + 1, &why) == 0) {
			p->sent = post->number;
			list_add(&p->open, post);
			p->suspects -= p->suspects > 0;
			continue;
		}
		if (why.kind == ERR_INVALID && amqp_is_open(p->amqp)) {
			p->suspects -= p->suspects > 0;
			refuse(p, post, why.message);
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
	if (p->nacked.first != NULL && p->nacked_at - clock_mono_ms() < wait)
		wait = p->nacked_at - clock_mono_ms();
	if (atomic_load(&p->is_stopping) && wait > 50)
		wait = 50;
	poll(fds, 2, wait > 0 ? (int)wait : 0);
}

static bool is_over(struct publisher *p)
{
	return atomic_load(&p->is_stopping) && ((p->waiting.first == NULL && p->open.first == NULL && p->nacked.first == NULL) || clock_mono_ms() >= atomic_load(&p->stop_at));
}

static void turn(struct publisher *p)
{
	struct err err = ERR_INIT;

	if (p->nacked.first != NULL && clock_mono_ms() >= p->nacked_at)
		list_append(&p->waiting, &p->nacked);
	if (p->waiting.first == NULL)
		p->suspects = 0;
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
	p->backoff = p->nack_backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->incoming);
	list_init(&p->waiting);
	list_init(&p->open);
	list_init(&p->nacked);
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
	task_forget_unsent(task);
	for (struct post *post = posts; post != NULL; post = post->next) {
		post->task = task;
		task->posts_left++;
	}
	add(p, posts);
}

bool publisher_misses_exchange(struct publisher *p)
{
	return atomic_exchange(&p->misses_exchange, false);
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
	free_list(&p->nacked);
	close(p->fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
