/* A listening socket and connections with deadlines go in; accepted connections and shut sockets come out. */
#include "common/http/http_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/mem.h"

#define ACCEPTS_AT_ONCE 64       /* then deadlines get their turn */
#define DRAIN_QUIET_MS 1000      /* a busy client sends its next request sooner, and gets an answer */
#define DRAIN_TICK_MS 50
#define LINGERING 64             /* more at once are closed at once */
#define LINGER_MS 2000
#define LINGER_BYTES (16 << 20)

struct lingering {
	int fd;
	int64_t until_ms;
	int64_t bytes; /* that may still come */
};

struct http_watch {
	struct http_watch_options options;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows up to lingering_count */
	pthread_cond_t gone;
	struct http_watched *first;
	size_t count;
	struct lingering lingering[LINGERING]; /* taken out by the thread alone */
	size_t lingering_count;
	int wake_fd;
	int listen_fd;               /* the thread's; -1: closed */
	int64_t accept_again_ms;     /* the thread's: descriptors were out */
	atomic_bool draining, stopping;
};

enum { POLL_WAKE, POLL_LISTEN, POLL_LINGERING };

static void wake(struct http_watch *watch)
{
	uint64_t one = 1;
	ssize_t written = write(watch->wake_fd, &one, sizeof(one));

	(void)written; /* fails only when it is awake already */
}

static void hush(struct http_watch *watch)
{
	uint64_t times;
	ssize_t got = read(watch->wake_fd, &times, sizeof(times));

	(void)got;
}

/* --- accepting --- */

static void hand_over(struct http_watch *watch, int fd, const struct sockaddr_storage *address, socklen_t len)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	pthread_mutex_lock(&watch->lock);
	watch->count++;
	pthread_mutex_unlock(&watch->lock);
	watch->options.accepted(fd, (const struct sockaddr *)address, len, watch->options.arg);
}

/* False when no more is to be had now. */
static bool accept_one(struct http_watch *watch)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	int fd = accept4(watch->listen_fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		hand_over(watch, fd, &address, len);
		return true;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		watch->accept_again_ms = clock_mono_ms() + watch->options.tick_ms;
	return errno == EINTR || errno == ECONNABORTED;
}

static bool has_room(struct http_watch *watch)
{
	return http_watch_count(watch) < (size_t)watch->options.max_connections;
}

static void accept_some(struct http_watch *watch)
{
	for (int i = 0; i < ACCEPTS_AT_ONCE && has_room(watch) && accept_one(watch); i++)
		;
}

/* Clients in the queue of a socket that is ours alone have nobody else to serve them. */
static void stop_listening(struct http_watch *watch)
{
	while (!watch->options.shared && has_room(watch) && accept_one(watch))
		;
	close(watch->listen_fd);
	watch->listen_fd = -1;
}

/* --- deadlines --- */

static bool has_input(const struct http_watched *watched)
{
	int waiting = 0;

	return ioctl(watched->fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

static bool is_overdue(const struct http_watched *watched, int64_t now_ms)
{
	return atomic_load_explicit(&watched->deadline_ms, memory_order_relaxed) < now_ms;
}

static bool is_quiet(const struct http_watched *watched, int64_t now_ms)
{
	return !atomic_load(&watched->busy) &&
		atomic_load_explicit(&watched->quiet_since_ms, memory_order_relaxed) + DRAIN_QUIET_MS < now_ms && !has_input(watched);
}

/* The client has sent its last byte, and libmicrohttpd may not know: its epoll is edge-triggered, and after a read that took all
 * there was it asks no more, even if the end had come with those bytes. One look for each wait; connections that wait for us have
 * no deadline. */
static bool has_ended(struct http_watched *watched)
{
	const int64_t deadline_ms = atomic_load_explicit(&watched->deadline_ms, memory_order_relaxed);
	char byte;

	if (deadline_ms == HTTP_NO_DEADLINE || deadline_ms == watched->looked_ms)
		return false;
	watched->looked_ms = deadline_ms;
	return recv(watched->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void sweep(struct http_watch *watch, int64_t now_ms)
{
	bool draining = atomic_load(&watch->draining);

	pthread_mutex_lock(&watch->lock);
	for (struct http_watched *w = watch->first; w != NULL; w = w->next) {
		bool overdue = is_overdue(w, now_ms);

		if (overdue)
			watch->options.overdue(w);
		if (overdue || (draining && is_quiet(w, now_ms)))
			shutdown(w->fd, SHUT_RDWR); /* its own thread sees the end and closes it */
		else if (has_ended(w))
			shutdown(w->fd, SHUT_RD); /* a new edge: it answers what it has, then sees the end */
	}
	pthread_mutex_unlock(&watch->lock);
}

/* --- lingering --- */

static void linger(struct http_watch *watch, int fd)
{
	int own;

	if (watch->lingering_count == LINGERING)
		return;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return;
	shutdown(own, SHUT_WR); /* the client sees the end of the answer now */
	watch->lingering[watch->lingering_count++] = (struct lingering){ own, clock_mono_ms() + LINGER_MS, LINGER_BYTES };
	wake(watch);
}

/* False when the client has ended too, or has had its time. */
static bool swallow(struct lingering *l, int64_t now_ms)
{
	char waste[16384];
	ssize_t got;

	do {
		got = recv(l->fd, waste, sizeof(waste), MSG_DONTWAIT);
		l->bytes -= got;
	} while (got > 0 && l->bytes > 0);
	return got < 0 && errno == EAGAIN && now_ms < l->until_ms;
}

static void swallow_all(struct http_watch *watch, int64_t now_ms)
{
	size_t kept = 0;

	pthread_mutex_lock(&watch->lock);
	for (size_t i = 0; i < watch->lingering_count; i++) {
		if (swallow(&watch->lingering[i], now_ms))
			watch->lingering[kept++] = watch->lingering[i];
		else
			close(watch->lingering[i].fd);
	}
	watch->lingering_count = kept;
	pthread_mutex_unlock(&watch->lock);
}

/* --- the thread --- */

static nfds_t gather(struct http_watch *watch, struct pollfd polls[POLL_LINGERING + LINGERING], int64_t now_ms)
{
	nfds_t count = POLL_LINGERING;
	bool accepting = watch->listen_fd >= 0 && now_ms >= watch->accept_again_ms && has_room(watch);

	polls[POLL_WAKE] = (struct pollfd){ .fd = watch->wake_fd, .events = POLLIN };
	polls[POLL_LISTEN] = (struct pollfd){ .fd = accepting ? watch->listen_fd : -1, .events = POLLIN };
	pthread_mutex_lock(&watch->lock);
	for (size_t i = 0; i < watch->lingering_count; i++)
		polls[count++] = (struct pollfd){ .fd = watch->lingering[i].fd, .events = POLLIN };
	pthread_mutex_unlock(&watch->lock);
	return count;
}

static void look_round(struct http_watch *watch, int64_t *swept_ms)
{
	struct pollfd polls[POLL_LINGERING + LINGERING];
	int64_t now_ms = clock_mono_ms();
	int64_t tick_ms = atomic_load(&watch->draining) && watch->options.tick_ms > DRAIN_TICK_MS ? DRAIN_TICK_MS : watch->options.tick_ms;

	poll(polls, gather(watch, polls, now_ms), (int)tick_ms);
	if (polls[POLL_WAKE].revents != 0)
		hush(watch);
	if (atomic_load(&watch->draining) && watch->listen_fd >= 0)
		stop_listening(watch);
	if (watch->listen_fd >= 0 && polls[POLL_LISTEN].revents != 0)
		accept_some(watch);
	now_ms = clock_mono_ms();
	swallow_all(watch, now_ms);
	if (now_ms - *swept_ms >= tick_ms) {
		sweep(watch, now_ms);
		*swept_ms = now_ms;
	}
}

static void *watch_run(void *arg)
{
	struct http_watch *watch = arg;
	int64_t swept_ms = clock_mono_ms();

	while (!atomic_load(&watch->stopping))
		look_round(watch, &swept_ms);
	return NULL;
}

/* --- life --- */

int http_watch_start(const struct http_watch_options *options, struct http_watch **out, struct err *err)
{
	struct http_watch *watch = mem_zalloc(sizeof(*watch));
	int rc;

	watch->options = *options;
	watch->listen_fd = options->listen_fd;
	watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&watch->lock, NULL);
	cond_init(&watch->gone);
	*out = watch; /* the thread's first connection may look for it there */
	rc = watch->wake_fd < 0 ? errno : pthread_create(&watch->thread, NULL, watch_run, watch);
	if (rc != 0) {
		err_set(err, ERR_UNAVAILABLE, "start the HTTP server's accepting thread: %s", strerror(rc));
		http_watch_free(watch);
		*out = NULL;
		return -1;
	}
	return 0;
}

void http_watch_stop(struct http_watch *watch)
{
	atomic_store(&watch->stopping, true);
	wake(watch);
	pthread_join(watch->thread, NULL);
}

void http_watch_free(struct http_watch *watch)
{
	for (size_t i = 0; i < watch->lingering_count; i++)
		close(watch->lingering[i].fd);
	if (watch->listen_fd >= 0)
		close(watch->listen_fd);
	if (watch->wake_fd >= 0)
		close(watch->wake_fd);
	pthread_cond_destroy(&watch->gone);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

void http_watch_add(struct http_watch *watch, struct http_watched *watched)
{
	pthread_mutex_lock(&watch->lock);
	watched->prev = NULL;
	watched->next = watch->first;
	if (watch->first != NULL)
		watch->first->prev = watched;
	watch->first = watched;
	pthread_mutex_unlock(&watch->lock);
}

/* Under the lock. */
static void one_less(struct http_watch *watch)
{
	if (watch->count-- >= (size_t)watch->options.max_connections)
		wake(watch); /* it was not accepting */
	if (watch->count == 0)
		pthread_cond_broadcast(&watch->gone);
}

void http_watch_remove(struct http_watch *watch, struct http_watched *watched, bool lingers)
{
	pthread_mutex_lock(&watch->lock);
	if (watched->prev != NULL)
		watched->prev->next = watched->next;
	else
		watch->first = watched->next;
	if (watched->next != NULL)
		watched->next->prev = watched->prev;
	if (lingers)
		linger(watch, watched->fd);
	one_less(watch);
	pthread_mutex_unlock(&watch->lock);
}

void http_watch_lost(struct http_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	one_less(watch);
	pthread_mutex_unlock(&watch->lock);
}

void http_watch_each(struct http_watch *watch, void (*visit)(struct http_watched *watched))
{
	pthread_mutex_lock(&watch->lock);
	for (struct http_watched *w = watch->first; w != NULL; w = w->next)
		visit(w);
	pthread_mutex_unlock(&watch->lock);
}

size_t http_watch_count(struct http_watch *watch)
{
	size_t count;

	pthread_mutex_lock(&watch->lock);
	count = watch->count;
	pthread_mutex_unlock(&watch->lock);
	return count;
}

void http_watch_drain(struct http_watch *watch)
{
	atomic_store(&watch->draining, true);
	wake(watch);
}

bool http_watch_wait_empty(struct http_watch *watch, int64_t until_ms)
{
	struct timespec until = cond_until(until_ms);
	bool empty;
	int rc = 0;

	pthread_mutex_lock(&watch->lock);
	while (watch->count > 0 && rc == 0)
		rc = pthread_cond_timedwait(&watch->gone, &watch->lock, &until);
	empty = watch->count == 0;
	pthread_mutex_unlock(&watch->lock);
	return empty;
}
