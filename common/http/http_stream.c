/* Bytes go in from any thread, and come out for the one that writes them to the client. */
#include "common/http/http_stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/http_server.h"
#include "common/http/http_watch.h"

struct http_stream {
	pthread_mutex_t lock; /* of all that follows, and held while the hooks are called */
	struct http_stream_hooks hooks;
	bool is_attached, is_suspended;
	bool is_ended;    /* by who sends */
	bool is_over;     /* by the client, or for being too slow */
	struct buf bytes; /* taken up to `taken` */
	size_t taken, limit;
	atomic_int holders;
};

struct http_stream *http_stream_new(size_t limit)
{
	struct http_stream *stream = mem_zalloc(sizeof(*stream));

	pthread_mutex_init(&stream->lock, NULL);
	stream->limit = limit;
	stream->bytes = (struct buf)BUF_INIT;
	atomic_init(&stream->holders, 2);
	return stream;
}

void http_stream_release(struct http_stream *stream)
{
	if (atomic_fetch_sub(&stream->holders, 1) > 1)
		return;
	pthread_mutex_destroy(&stream->lock);
	buf_release(&stream->bytes);
	free(stream);
}

static size_t waiting(const struct http_stream *stream)
{
	return stream->bytes.len - stream->taken;
}

static void set_deadline(struct http_stream *stream, int64_t deadline_ms)
{
	if (stream->is_attached)
		atomic_store_explicit(stream->hooks.deadline_ms, deadline_ms, memory_order_relaxed);
}

void http_stream_attach(struct http_stream *stream, const struct http_stream_hooks *hooks)
{
	pthread_mutex_lock(&stream->lock);
	stream->hooks = *hooks;
	stream->is_attached = true;
	set_deadline(stream, waiting(stream) > 0 ? clock_mono_ms() + hooks->patience_ms : HTTP_NO_DEADLINE);
	pthread_mutex_unlock(&stream->lock);
}

void http_stream_detach(struct http_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	stream->is_attached = stream->is_suspended = false;
	stream->is_over = true;
	pthread_mutex_unlock(&stream->lock);
}

/* With the lock held. */
static void wake_writer(struct http_stream *stream)
{
	if (!stream->is_suspended)
		return;
	stream->is_suspended = false;
	stream->hooks.resume(stream->hooks.connection);
}

ssize_t http_stream_take(struct http_stream *stream, char *out, size_t room, void (*suspend)(void *connection))
{
	size_t len;
	bool is_end;

	pthread_mutex_lock(&stream->lock);
	len = waiting(stream) < room ? waiting(stream) : room;
	memcpy(out, stream->bytes.data + stream->taken, len);
	stream->taken += len;
	if (waiting(stream) == 0) {
		buf_reset(&stream->bytes);
		stream->taken = 0;
		set_deadline(stream, HTTP_NO_DEADLINE);
	}
	is_end = len == 0 && (stream->is_ended || stream->is_over);
	if (len == 0 && !is_end) {
		stream->is_suspended = true;
		suspend(stream->hooks.connection);
	}
	pthread_mutex_unlock(&stream->lock);
	return is_end ? -1 : (ssize_t)len; /* decided before the lock was let go: one that was suspended goes on by resume() alone */
}

/* Moves what waits to the front before it adds: a client that is always a little behind does not make it grow for ever. */
static void add(struct http_stream *stream, const void *bytes, size_t len)
{
	if (stream->taken > 0) {
		memmove(stream->bytes.data, stream->bytes.data + stream->taken, waiting(stream));
		stream->bytes.len -= stream->taken;
		stream->taken = 0;
	}
	if (stream->bytes.len == 0)
		set_deadline(stream, clock_mono_ms() + stream->hooks.patience_ms);
	buf_add(&stream->bytes, bytes, len);
}

bool http_stream_send(struct http_stream *stream, const void *bytes, size_t len)
{
	bool is_over;

	pthread_mutex_lock(&stream->lock);
	if (!stream->is_over && waiting(stream) + len > stream->limit) {
		stream->is_over = true;
		set_deadline(stream, 0); /* shut by the watch: the writer may be stuck */
	}
	is_over = stream->is_over;
	if (!is_over)
		add(stream, bytes, len);
	wake_writer(stream);
	pthread_mutex_unlock(&stream->lock);
	return !is_over;
}

size_t http_stream_waiting(struct http_stream *stream)
{
	size_t len;

	pthread_mutex_lock(&stream->lock);
	len = stream->is_over ? 0 : waiting(stream);
	pthread_mutex_unlock(&stream->lock);
	return len;
}

void http_stream_end(struct http_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	stream->is_ended = true;
	wake_writer(stream);
	pthread_mutex_unlock(&stream->lock);
	http_stream_release(stream);
}
