/* http_server: HTTP/1.1 in, whole requests out; answers in, bytes out. The only user of libmicrohttpd.
 *
 * A request reaches the handler when it is whole and well framed: what the header list shows to be wrong (a name that is no
 * token, a control character in a value, length and transfer-encoding together, two lengths or hosts, no host: 400; unknown
 * transfer-encoding: 501; unknown expectation: 417; body too large: 413; too many bodies at once: 503; header block too
 * large: 431; a path with a broken escape: 400) is answered here, as a problem document, and the connection closes. Known limits of libmicrohttpd 0.9.75: it
 * takes folded header lines and bare LF, and cuts a target or value at a NUL (put a strict proxy in front where that matters), and
 * what it refuses by itself, such as a Content-Length that is no number, it answers with the right status and closes, but
 * with a page of its own that may be garbled.
 * Headers must be whole header_timeout_ms after the connection was made (idle_timeout_ms after the answer before), a body
 * must come at body_min_rate, and an answer must be taken at it; connections that miss their deadline are shut, those
 * in the middle of a request with a 408.
 *
 * A handler answers now or later, from any thread, exactly once: http_answer(). Until then the connection is suspended and
 * holds no thread. It must not block. The exchange and all that it points to lives until the answer is given; the next request
 * of the connection uses it again, so it is not to be touched after that. What http_server_stop() gave up on keeps its
 * request and data until it is answered, but not its headers: who needs one later takes a copy in the handler. */
#ifndef FEEDMILL_HTTP_HTTP_SERVER_H
#define FEEDMILL_HTTP_HTTP_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

struct http_server;
struct http_exchange;

struct http_request {
	struct slice method; /* as it came; methods are case-sensitive */
	struct slice path;   /* percent-encoded as it came, without query; NUL-terminated */
	struct slice query;  /* what follows '?', as it came; empty: none. NUL-terminated */
	struct slice body;   /* whole, unchunked; NUL-terminated */
	bool has_body;       /* a length above 0 or chunks were announced */
};

struct http_options {
	const char *listen; /* "address:port", "[v6]:port"; port 0: any */
	int inherited_fd;   /* a listening socket (LISTEN_FDS), or -1; not taken: the caller may go on using it */
	int64_t threads;
	int64_t max_connections;
	int64_t max_body;
	int64_t max_bodies; /* bytes of the bodies of all requests that are not answered; more: 503, before it is read. 0: any */
	_Atomic size_t *answer_bytes; /* counts bytes of answers that are not taken yet; NULL: nobody asks. Outlives the server */
	int64_t max_header;
	int64_t header_timeout_ms;
	int64_t idle_timeout_ms;
	int64_t body_min_rate; /* bytes a second, over the time the body has taken after its first 5 s (or header_timeout_ms, when
	                        * that is less). 0: any, as long as something comes every idle_timeout_ms */
	const char *cors_origin; /* Access-Control-Allow-Origin on every answer; NULL or "": none */
	void (*handle)(struct http_exchange *exchange, void *arg);
	void *arg;
};

int http_server_start(const struct http_options *options, struct http_server **out, struct err *err);
int http_server_port(const struct http_server *server);
size_t http_server_connections(const struct http_server *server);
size_t http_server_body_bytes(const struct http_server *server); /* what max_bodies counts */
size_t http_server_under_way(const struct http_server *server); /* requests with the handler, or waiting for its answer */
/* Stops accepting; connections get `Connection: close` with their next answer, and those that are quiet for a second are shut. */
void http_server_drain(struct http_server *server);
/* Waits for exchanges under way until the time is up, then closes and frees everything; answers that come later go nowhere. */
void http_server_stop(struct http_server *server, int64_t timeout_ms);

const struct http_request *http_request_of(const struct http_exchange *exchange);
struct slice http_header(const struct http_exchange *exchange, const char *name); /* first; SLICE_NONE */
size_t http_header_count(const struct http_exchange *exchange, const char *name); /* how many lines of that name */
/* The value of a query parameter, decoded ('+' is a space), or SLICE_NONE; lives as long as the exchange.
 * `broken` (may be NULL) becomes true when it has a bad escape or is not UTF-8. */
struct slice http_query(struct http_exchange *exchange, const char *name, bool *broken);

/* Something of the handler's own that goes with the exchange; freed by `release` (may be NULL) after the answer. */
void http_exchange_attach(struct http_exchange *exchange, void *data, void (*release)(void *data));
void *http_exchange_data(const struct http_exchange *exchange);

/* A header of the answer; copies. Before http_answer(). */
void http_answer_header(struct http_exchange *exchange, const char *name, const char *value);
/* Gives the answer and ends the exchange: takes body's bytes (body is empty afterwards). content_type is a constant, NULL when
 * there is no body. HEAD gets the headers alone. */
void http_answer(struct http_exchange *exchange, int status, const char *content_type, struct buf *body);
/* The same with bytes that live as long as the server. */
void http_answer_static(struct http_exchange *exchange, int status, const char *content_type, struct slice body);

/* An answer that goes on: 200 now, and bytes as they come, from any thread. The exchange ends with the call, which holds no thread; what
 * is sent waits in memory, `limit` bytes at most. Who made the stream ends it, before http_server_stop(). */
struct http_stream;
struct http_stream *http_answer_stream(struct http_exchange *exchange, const char *content_type, size_t limit);
/* false: the client is gone, or has not taken what was sent before (limit, or idle_timeout_ms) and is shut; nothing is sent any more. */
bool http_stream_send(struct http_stream *stream, const void *bytes, size_t len);
size_t http_stream_waiting(struct http_stream *stream); /* bytes that the client has not taken; 0 when it is gone */
void http_stream_end(struct http_stream *stream);       /* what was sent still goes out */

const char *http_server_library(void); /* "libmicrohttpd 0.9.75" */

#endif
