/* http_exchange: what the files of http_server share. Private to these: http_server.c has the life, the loops and their connections,
 * http_incoming.c requests until the handler has them, http_answer.c answers from then on, http_head.c what is wrong with a header list.
 *
 * libmicrohttpd runs one event loop (a daemon) a thread; http_watch.c accepts and gives each connection to the loop that has
 * fewest. A connection has one exchange for its life, used again for each of its requests, so that a request allocates
 * nothing of ours. Callbacks of a connection come in this order, all on its loop's thread:
 *
 *   on_connection(STARTED)  on_uri → on_request: headers, body…, whole[, answered] → on_completed, …  on_connection(CLOSED)
 *
 * The exchange's state decides who acts. The handler's answer finds HANDLING (the loop will look when the handler returns)
 * or SUSPENDED (the answer resumes the connection, and the loop calls on_request once more), each change one atomic
 * exchange. An answer never touches the connection when it finds ABANDONED: http_server_stop() has given up on it. A request
 * that is LATE was answered by the watch while it was still coming. */
#ifndef FEEDMILL_HTTP_HTTP_EXCHANGE_H
#define FEEDMILL_HTTP_HTTP_EXCHANGE_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/http/http_params.h"
#include "common/http/http_server.h"
#include "common/http/http_stream.h"
#include "common/http/http_watch.h"
#include "common/http/problem.h"

#define HTTP_EXPOSED "Location, Link, Retry-After, Preference-Applied" /* to scripts of other origins */

enum http_state { HTTP_IDLE, HTTP_HANDLING, HTTP_SUSPENDED, HTTP_ANSWERED, HTTP_ABANDONED, HTTP_LATE };

struct http_loop {
	struct http_server *server;
	struct MHD_Daemon *daemon;
	atomic_int connections;
	atomic_int coming; /* of these: handed over, and not begun by its thread */
	int timer_fd; /* runs while there is a crowd */
	struct http_exchange *_Atomic answered; /* by other threads, and suspended: http_loop_resume_answered() */
};

struct http_server {
	struct http_options options;
	char *cors_origin; /* NULL: none */
	struct http_watch *watch;
	struct http_loop *loops;
	int loop_count;
	int port;
	atomic_bool draining;
	atomic_bool closing;     /* time is up: no request is begun, those under way are abandoned */
	atomic_size_t body_bytes;
	atomic_int under_way;    /* from the call of the handler to the last touch of its answer */
};

struct http_answer {
	int status;
	const char *content_type;
	struct buf body;
	struct slice constant; /* the body when it is nobody's to free */
	struct buf headers;    /* name NUL value NUL, … */
	struct http_stream *stream; /* in place of a body; NULL: none */
	bool stream_is_given;       /* to its response */
};

struct http_exchange {
	struct http_watched watched; /* first: on_connection() and the watch know it by that */
	struct http_server *server;
	struct http_loop *loop;
	struct http_exchange *earlier; /* in its loop's answered */
	struct MHD_Connection *connection;
	_Atomic enum http_state state;
	atomic_int holders; /* the connection, and the answerer of an abandoned exchange */

	struct http_request request;
	struct buf text;    /* of the request line: path NUL query NUL method NUL */
	struct buf body;
	struct http_params params;
	int64_t body_began_ms;
	size_t body_charge, answer_charge; /* what is counted of this exchange */
	bool headers_seen;
	bool uri_too_long;
	bool params_read;
	bool first_in_line; /* hand_out() */
	bool lingers; /* refused: the client may still be sending */

	void *data;
	void (*release)(void *data);
	struct http_answer answer;
};

/* ---- http_answer.c */

bool http_exchange_change(struct http_exchange *exchange, enum http_state from, enum http_state to); /* false: it was not in `from` */
enum MHD_Result http_exchange_queue_answer(struct http_exchange *exchange); /* on the loop's thread, ANSWERED */
void http_exchange_drop_charges(struct http_exchange *exchange);
void http_exchange_drop_stream(struct http_exchange *exchange);
void http_exchange_drop_holder(struct http_exchange *exchange);
void http_exchange_abandon(struct http_exchange *exchange);
void http_loop_resume_answered(struct http_loop *loop); /* on its thread, whenever it is called for a connection */

/* ---- http_incoming.c: libmicrohttpd's callbacks, and the watch's */

enum MHD_Result http_on_request(void *loop, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	const char *upload, size_t *upload_len, void **context);
void *http_on_uri(void *loop, const char *uri, struct MHD_Connection *connection);
size_t http_leave_escaped(void *loop, struct MHD_Connection *connection, char *text);
void http_on_completed(void *loop, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why);
void http_on_overdue(struct http_watched *watched);

#endif
