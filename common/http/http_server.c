/* A listening socket goes in; connections come out, each to the loop that has fewest, until the server is stopped. */
#include "common/http/http_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/http_exchange.h"
#include "common/http/http_listen.h"

/* Of a connection's memory in libmicrohttpd, beside the header block: 64 bytes for each header and parameter, and the
 * answer's own headers, which must still fit behind the largest request. */
#define HEADER_SLACK 8192
/* libmicrohttpd up to 1.0 takes 128 events at once, and when it gets just so many it waits for more, for ever, before it handles any. A loop
 * with nearly as many connections has a timer among its events, which ends that wait; libmicrohttpd looks at no event without a mark. */
#define CROWD 120
#define CROWD_BEAT_NS 5000000
#define BEGIN_MS 1000        /* at a stop, for connections that were just accepted */

/* From 0.9.76 on levels above 0 also refuse what 0.9.75 can't. There level 1 adds two checks that are made here, with a
 * problem document for an answer. */
#define DISCIPLINE (MHD_VERSION > 0x00097500 ? 1 : 0)

/* --- connections --- */

static void begin_connection(struct http_loop *loop, struct MHD_Connection *connection, void **context)
{
	struct http_exchange *exchange = mem_zalloc(sizeof(*exchange));
	int64_t now_ms = clock_mono_ms();

	exchange->server = loop->server;
	exchange->loop = loop;
	exchange->connection = connection;
	exchange->text = exchange->body = exchange->answer.body = exchange->answer.headers = (struct buf)BUF_INIT;
	exchange->params.text = (struct buf)BUF_INIT;
	exchange->watched.fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	atomic_init(&exchange->holders, 1);
	atomic_init(&exchange->watched.quiet_since_ms, now_ms);
	atomic_init(&exchange->watched.deadline_ms, now_ms + loop->server->options.header_timeout_ms);
	*context = exchange;
	http_watch_add(loop->server->watch, &exchange->watched);
}

static void set_timer(const struct http_loop *loop, long every_ns)
{
	const struct itimerspec times = { .it_interval.tv_nsec = every_ns, .it_value.tv_nsec = every_ns };

	timerfd_settime(loop->timer_fd, 0, &times, NULL);
}

/* Far from where the timer is set, so that the two threads that count never cross. */
static void one_less(struct http_loop *loop)
{
	if (atomic_fetch_sub(&loop->connections, 1) == CROWD / 2)
		set_timer(loop, 0);
}

static void one_more(struct http_loop *loop)
{
	if (atomic_fetch_add(&loop->connections, 1) >= CROWD)
		set_timer(loop, CROWD_BEAT_NS);
}

static void end_connection(struct http_loop *loop, struct http_exchange *exchange)
{
	one_less(loop);
	http_watch_remove(loop->server->watch, &exchange->watched, exchange->lingers);
	http_exchange_drop_holder(exchange);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode what)
{
	struct http_loop *loop = arg;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		begin_connection(loop, connection, context);
		atomic_fetch_sub(&loop->coming, 1);
	} else if (*context != NULL) {
		end_connection(loop, *context);
	}
}

/* A connection stays with its loop, so it goes to the one that has fewest. */
static void on_accepted(int fd, const struct sockaddr *address, socklen_t len, void *arg)
{
	struct http_server *server = arg;
	struct http_loop *loop = &server->loops[0];

	for (int i = 1; i < server->loop_count; i++)
		if (atomic_load(&server->loops[i].connections) < atomic_load(&loop->connections))
			loop = &server->loops[i];
	one_more(loop);
	atomic_fetch_add(&loop->coming, 1);
	if (MHD_add_connection(loop->daemon, fd, address, len) == MHD_YES)
		return;
	atomic_fetch_sub(&loop->coming, 1);
	one_less(loop); /* the descriptor is closed */
	http_watch_lost(server->watch);
}

/* --- life --- */

static int add_timer(struct http_loop *loop)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return loop->timer_fd < 0 || info == NULL ? -1 : epoll_ctl(info->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &event);
}

static void stop_loop(struct http_loop *loop)
{
	MHD_stop_daemon(loop->daemon);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
}

static int start_loop(struct http_server *server, struct http_loop *loop, struct err *err)
{
	const struct http_options *options = &server->options;
	unsigned limit = (unsigned)options->max_connections + 1; /* http_watch.c counts; this is to be out of its way */

	loop->server = server;
	loop->timer_fd = -1;
	loop->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
		http_on_request, loop, MHD_OPTION_STRICT_FOR_CLIENT, DISCIPLINE, MHD_OPTION_CONNECTION_LIMIT, limit,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)options->max_header + HEADER_SLACK, MHD_OPTION_URI_LOG_CALLBACK, http_on_uri, loop,
		MHD_OPTION_UNESCAPE_CALLBACK, http_leave_escaped, NULL, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, loop,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, loop, MHD_OPTION_END);
	if (loop->daemon == NULL)
		return err_set(err, ERR_UNAVAILABLE, "start an HTTP thread");
	if (add_timer(loop) == 0)
		return 0;
	err_set(err, ERR_UNAVAILABLE, "start an HTTP thread's timer: %s", strerror(errno));
	stop_loop(loop);
	return -1;
}

static int start_loops(struct http_server *server, struct err *err)
{
	server->loops = mem_array((size_t)server->options.threads, sizeof(*server->loops));
	for (; server->loop_count < server->options.threads; server->loop_count++)
		if (start_loop(server, &server->loops[server->loop_count], err) < 0)
			return -1;
	return 0;
}

static int start_watch(struct http_server *server, int listen_fd, struct err *err)
{
	const struct http_options *options = &server->options;
	struct http_watch_options watch = { .listen_fd = listen_fd, .shared = options->inherited_fd >= 0, .accepted = on_accepted, .overdue = http_on_overdue, .arg = server };
	int64_t shortest_ms = options->header_timeout_ms < options->idle_timeout_ms ? options->header_timeout_ms : options->idle_timeout_ms;

	watch.max_connections = options->max_connections;
	watch.tick_ms = shortest_ms / 10 < 10 ? 10 : shortest_ms / 10 > 500 ? 500 : shortest_ms / 10;
	return http_watch_start(&watch, &server->watch, err);
}

/* What has been made, in reverse; no connection is open. */
static void release(struct http_server *server)
{
	for (int i = 0; i < server->loop_count; i++)
		stop_loop(&server->loops[i]);
	if (server->watch != NULL)
		http_watch_free(server->watch);
	free(server->loops);
	free(server->cors_origin);
	free(server);
}

int http_server_start(const struct http_options *options, struct http_server **out, struct err *err)
{
	struct http_server *server;
	int fd = options->inherited_fd >= 0 ? http_listen_inherited(options->inherited_fd, err) : http_listen(options->listen, err);

	if (fd < 0)
		return -1;
	server = mem_zalloc(sizeof(*server));
	server->options = *options;
	server->port = http_listen_port(fd);
	if (options->cors_origin != NULL && options->cors_origin[0] != '\0')
		server->cors_origin = mem_strdup(options->cors_origin);
	if (start_loops(server, err) < 0)
		goto fail;
	if (start_watch(server, fd, err) < 0)
		goto fail_watch;
	*out = server;
	return 0;
fail:
	close(fd);
fail_watch:
	release(server);
	return -1;
}

int http_server_port(const struct http_server *server)
{
	return server->port;
}

size_t http_server_connections(const struct http_server *server)
{
	return http_watch_count(server->watch);
}

size_t http_server_body_bytes(const struct http_server *server)
{
	return atomic_load_explicit(&server->body_bytes, memory_order_relaxed);
}

void http_server_drain(struct http_server *server)
{
	atomic_store(&server->draining, true);
	http_watch_drain(server->watch);
}

static void abandon_watched(struct http_watched *watched)
{
	http_exchange_abandon((struct http_exchange *)watched);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* Nobody accepts any more. A connection that libmicrohttpd has not begun when it is stopped is closed from a list that it then
 * reads without the list's lock. One that it could not begin (no memory) never comes, so this has an end. */
static void wait_begun(struct http_server *server)
{
	const int64_t until_ms = clock_mono_ms() + BEGIN_MS;

	for (int i = 0; i < server->loop_count; i++)
		while (atomic_load(&server->loops[i].coming) > 0 && clock_mono_ms() < until_ms)
			nap();
}

/* libmicrohttpd can't be stopped while a connection is suspended, nor while an answer is waking it. A handler does not block
 * and an answer is quick, so this ends soon; nobody on the hot path pays for telling when. */
static void give_up(struct http_server *server)
{
	atomic_store(&server->closing, true);
	http_watch_each(server->watch, abandon_watched);
	while (atomic_load(&server->under_way) > 0)
		nap();
}

size_t http_server_under_way(const struct http_server *server)
{
	const int count = atomic_load(&server->under_way);

	return count > 0 ? (size_t)count : 0;
}

void http_server_stop(struct http_server *server, int64_t timeout_ms)
{
	http_server_drain(server);
	http_watch_wait_empty(server->watch, clock_mono_ms() + timeout_ms);
	http_watch_stop(server->watch);
	wait_begun(server);
	give_up(server);
	release(server);
}

static char library[64];

static void name_library(void)
{
	snprintf(library, sizeof(library), "libmicrohttpd %s", MHD_get_version());
}

const char *http_server_library(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, name_library);
	return library;
}
