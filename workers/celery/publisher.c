/* Posts go in from any thread, messages go out to RabbitMQ, and tasks whose messages are confirmed go to the inbox. */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "workers/celery/outgoing.h"
#include "workers/celery/publisher_parts.h"
#include "workers/celery/task.h"

#define WAITING_MAX 20000   /* more than so many that are not lasting are dropped */
#define PAUSE_MS 2000       /* heartbeats run inside the library's calls alone */

/* ---- posts end */

void publisher_done(struct publisher *p, struct post *post, bool is_sent)
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

void publisher_forget_fleeting(struct publisher *p, struct post_list *list)
{
	struct post_list kept;
	struct post *post;

	post_list_init(&kept);
	while ((post = post_list_take(list)) != NULL) {
		if (post->is_lasting || post->task != NULL)
			post_list_add(&kept, post);
		else
			publisher_done(p, post, false);
	}
	post_list_init(list);
	post_list_append(list, &kept);
}

/* ---- the thread */

static void take_incoming(struct publisher *p)
{
	uint64_t count;

	if (read(p->fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&p->lock);
	post_list_append(&p->waiting, &p->incoming);
	pthread_mutex_unlock(&p->lock);
	if (p->waiting.count > WAITING_MAX)
		publisher_forget_fleeting(p, &p->waiting);
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
		post_list_append(&p->waiting, &p->nacked);
	if (p->waiting.first == NULL)
		p->suspects = 0;
	if (p->amqp == NULL)
		publisher_connect(p);
	if (p->amqp != NULL && (publisher_read(p, &err) < 0 || publisher_send_waiting(p, &err) < 0))
		publisher_disconnect(p, &err);
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

struct publisher *publisher_start(const struct settings *settings, const struct signer *signer, struct inbox *inbox)
{
	struct publisher *p = mem_zalloc(sizeof(*p));

	p->settings = settings;
	p->signer = signer;
	p->inbox = inbox;
	outgoing_uuid4(p->name);
	p->backoff = p->nack_backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	pthread_mutex_init(&p->lock, NULL);
	post_list_init(&p->incoming);
	post_list_init(&p->waiting);
	post_list_init(&p->open);
	post_list_init(&p->nacked);
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

		post_list_add(&p->incoming, posts);
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

void publisher_stop(struct publisher *p, int64_t wait_ms)
{
	if (p == NULL)
		return;
	atomic_store(&p->stop_at, clock_mono_ms() + wait_ms);
	atomic_store(&p->is_stopping, true);
	knock(p);
	pthread_join(p->thread, NULL);
	amqp_close(p->amqp);
	post_list_free(&p->incoming);
	post_list_free(&p->waiting);
	post_list_free(&p->open);
	post_list_free(&p->nacked);
	close(p->fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
