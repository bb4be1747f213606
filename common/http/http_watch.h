/* http_watch: one thread that accepts an http_server's connections, shuts those that miss their deadline, notices clients
 * that have sent their last byte, and lets refused clients finish talking. Knows sockets, not HTTP.
 *
 * Its lock is taken when a connection comes, goes, or all are looked at; a request takes none: it stores its deadline. */
#ifndef FEEDMILL_HTTP_HTTP_WATCH_H
#define FEEDMILL_HTTP_HTTP_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/err.h"

#define HTTP_NO_DEADLINE INT64_MAX

struct http_watched {
	struct http_watched *prev, *next; /* under the watch's lock */
	int fd;
	int64_t looked_ms;              /* the watch's own: the deadline for which it has looked for the client's end */
	_Atomic int64_t deadline_ms;    /* monotonic clock; the socket is shut when it has passed */
	_Atomic int64_t quiet_since_ms; /* when it was made, or its last answer given */
	atomic_bool busy;               /* a request has begun */
};

struct http_watch_options {
	int listen_fd; /* taken */
	bool shared;   /* others hold the listening socket too: what waits in its queue is theirs when we drain */
	int64_t max_connections;
	int64_t tick_ms; /* how late a deadline may be kept */
	/* A new connection: takes fd. The same thread every time. */
	void (*accepted)(int fd, const struct sockaddr *address, socklen_t len, void *arg);
	/* Has missed its deadline and is shut next. Under the lock; may come more than once. */
	void (*overdue)(struct http_watched *watched);
	void *arg;
};

struct http_watch;

int http_watch_start(const struct http_watch_options *options, struct http_watch **out, struct err *err);
void http_watch_stop(struct http_watch *watch); /* joins the thread; before http_watch_free() */
void http_watch_free(struct http_watch *watch); /* after the last connection has gone */

void http_watch_add(struct http_watch *watch, struct http_watched *watched);
/* Before the descriptor is closed, so that no other connection is shut in its place. `linger`: the client may still be
 * sending; what it sends is read and thrown away for a while, else the reset would take the answer from it. */
void http_watch_remove(struct http_watch *watch, struct http_watched *watched, bool linger);
void http_watch_lost(struct http_watch *watch); /* accepted, but never added */

void http_watch_each(struct http_watch *watch, void (*visit)(struct http_watched *watched)); /* under the lock */
size_t http_watch_count(struct http_watch *watch); /* accepted and not gone */

/* Accepts no more; connections without a request are shut once they have been quiet for a second. */
void http_watch_drain(struct http_watch *watch);
bool http_watch_wait_empty(struct http_watch *watch, int64_t until_ms); /* false when the time was up */

#endif
