/* http_stream: the bytes of an answer that goes on, between who sends them and the thread that writes them out. Private to http_server. */
#ifndef FEEDMILL_HTTP_HTTP_STREAM_H
#define FEEDMILL_HTTP_HTTP_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http_stream;

struct http_stream_hooks {
	void (*resume)(void *connection); /* the writer was told to wait, and is to ask again */
	void *connection;
	_Atomic int64_t *deadline_ms;     /* of the connection: see http_watched */
	int64_t patience_ms;              /* for a client that takes nothing */
};

struct http_stream *http_stream_new(size_t limit);
/* The connection is there: before its first http_stream_take(). */
void http_stream_attach(struct http_stream *stream, const struct http_stream_hooks *hooks);

/* For the thread that writes: how many bytes were put into out; 0: none, `suspend` was called and resume() will be; -1: over. */
ssize_t http_stream_take(struct http_stream *stream, char *out, size_t room, void (*suspend)(void *connection));
void http_stream_detach(struct http_stream *stream);  /* the connection is over: hooks are not called from now on */
void http_stream_release(struct http_stream *stream); /* one holder less: the writer's side; http_stream_end() is the other's */

#endif
