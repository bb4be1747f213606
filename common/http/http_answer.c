/* What a handler answers goes in, from any thread; responses on their way out, on the connection's own, come out. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/http/http_exchange.h"

#define STREAM_BLOCK 8192 /* of an answer that goes on, asked for at once */

static void charge_answer(struct http_exchange *exchange)
{
	const struct http_options *options = &exchange->server->options;

	exchange->answer_charge = exchange->answer.body.len;
	if (options->answer_bytes != NULL)
		atomic_fetch_add_explicit(options->answer_bytes, exchange->answer_charge, memory_order_relaxed);
}

void http_exchange_drop_charges(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	atomic_fetch_sub_explicit(&server->body_bytes, exchange->body_charge, memory_order_relaxed);
	if (server->options.answer_bytes != NULL)
		atomic_fetch_sub_explicit(server->options.answer_bytes, exchange->answer_charge, memory_order_relaxed);
	exchange->body_charge = exchange->answer_charge = 0;
}

/* --- the answer's way out --- */

static enum MHD_Result add_header(struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value);
}

static void add_common_headers(struct http_exchange *exchange, struct MHD_Response *response)
{
	const struct http_server *server = exchange->server;

	if (exchange->answer.content_type != NULL)
		add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, exchange->answer.content_type);
	if (server->cors_origin != NULL) {
		add_header(response, "Access-Control-Allow-Origin", server->cors_origin);
		add_header(response, "Access-Control-Expose-Headers", HTTP_EXPOSED);
		if (strcmp(server->cors_origin, "*") != 0)
			add_header(response, "Vary", "Origin");
	}
	if (exchange->lingers || atomic_load_explicit(&server->draining, memory_order_relaxed))
		add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

static void add_own_headers(struct http_exchange *exchange, struct MHD_Response *response)
{
	const char *at = exchange->answer.headers.data;
	const char *end = at + exchange->answer.headers.len;

	while (at < end) {
		const char *value = at + strlen(at) + 1;

		add_header(response, at, value);
		at = value + strlen(value) + 1;
	}
}

/* --- an answer that goes on --- */

static void suspend_connection(void *connection)
{
	MHD_suspend_connection(connection);
}

static void resume_connection(void *connection)
{
	MHD_resume_connection(connection);
}

static ssize_t read_stream(void *arg, uint64_t at, char *out, size_t room)
{
	const ssize_t len = http_stream_take(arg, out, room, suspend_connection);

	(void)at;
	return len < 0 ? MHD_CONTENT_READER_END_OF_STREAM : len;
}

static void free_stream(void *arg)
{
	http_stream_release(arg);
}

static struct MHD_Response *make_stream_response(struct http_exchange *exchange)
{
	const struct http_stream_hooks hooks = { resume_connection, exchange->connection, &exchange->watched.deadline_ms,
		exchange->server->options.idle_timeout_ms };

	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, exchange->answer.stream, free_stream);

	exchange->answer.stream_is_given = response != NULL;
	http_stream_attach(exchange->answer.stream, &hooks);
	return response;
}

/* Takes the body out of the exchange. */
static struct MHD_Response *make_response(struct http_exchange *exchange)
{
	struct http_answer *answer = &exchange->answer;
	size_t len = answer->body.len;
	void *constant;

	if (answer->stream != NULL)
		return make_stream_response(exchange);
	if (len > 0)
		return MHD_create_response_from_buffer(len, buf_detach(&answer->body), MHD_RESPMEM_MUST_FREE);
	constant = (void *)(uintptr_t)(answer->constant.len > 0 ? answer->constant.data : "");
	return MHD_create_response_from_buffer(answer->constant.len, constant, MHD_RESPMEM_PERSISTENT);
}

/* The client must take the answer in this time, and begin its next request. */
static void set_answer_deadline(struct http_exchange *exchange)
{
	const struct http_options *options = &exchange->server->options;
	size_t len = exchange->answer.body.len + exchange->answer.constant.len;
	int64_t now_ms = clock_mono_ms();
	int64_t for_bytes_ms = options->body_min_rate > 0 ? (int64_t)len * 1000 / options->body_min_rate : 0;

	atomic_store_explicit(&exchange->watched.quiet_since_ms, now_ms, memory_order_relaxed);
	atomic_store_explicit(&exchange->watched.deadline_ms, now_ms + options->idle_timeout_ms + for_bytes_ms, memory_order_relaxed);
}

enum MHD_Result http_exchange_queue_answer(struct http_exchange *exchange)
{
	struct MHD_Response *response;
	enum MHD_Result queued;

	if (exchange->first_in_line)
		MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0);
	exchange->first_in_line = false;
	set_answer_deadline(exchange);
	charge_answer(exchange);
	response = make_response(exchange);
	if (response == NULL)
		return MHD_NO;
	add_common_headers(exchange, response);
	add_own_headers(exchange, response);
	queued = MHD_queue_response(exchange->connection, (unsigned)exchange->answer.status, response);
	MHD_destroy_response(response);
	FAULT_POINT("http.answering");
	return queued;
}

/* --- from the handler, on any thread --- */

/* The response, once it is made, holds the stream itself, and goes later. */
void http_exchange_drop_stream(struct http_exchange *exchange)
{
	struct http_stream *stream = exchange->answer.stream;

	exchange->answer.stream = NULL;
	if (stream == NULL)
		return;
	http_stream_detach(stream);
	if (!exchange->answer.stream_is_given)
		http_stream_release(stream);
}

void http_exchange_drop_holder(struct http_exchange *exchange)
{
	if (atomic_fetch_sub(&exchange->holders, 1) > 1)
		return;
	http_exchange_drop_stream(exchange);
	buf_release(&exchange->text);
	buf_release(&exchange->body);
	buf_release(&exchange->answer.body);
	buf_release(&exchange->answer.headers);
	http_params_release(&exchange->params);
	free(exchange);
}

bool http_exchange_change(struct http_exchange *exchange, enum http_state from, enum http_state to)
{
	return atomic_compare_exchange_strong(&exchange->state, &from, to);
}

/* The connection goes on without the answerer, which finds that when it comes. */
void http_exchange_abandon(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	atomic_fetch_add(&exchange->holders, 1);
	if (!http_exchange_change(exchange, HTTP_SUSPENDED, HTTP_ABANDONED)) {
		atomic_fetch_sub(&exchange->holders, 1); /* not the last: the connection holds it */
		return;
	}
	MHD_resume_connection(exchange->connection);
	atomic_fetch_sub(&server->under_way, 1);
}

/* Answers come in bursts, a batch's reports say, and waking a loop for each of them means changing threads for each. So the first
 * of a burst wakes the loop, and the loop's thread resumes the others. The connection may be at its next request when this returns. */
static void resume(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;
	struct http_loop *loop = exchange->loop;
	struct MHD_Connection *connection = exchange->connection;
	struct http_exchange *earlier = atomic_load(&loop->answered);

	do
		exchange->earlier = earlier;
	while (!atomic_compare_exchange_weak(&loop->answered, &earlier, exchange));
	if (earlier != NULL)
		return;
	MHD_resume_connection(connection);
	atomic_fetch_sub(&server->under_way, 1);
}

/* On the loop's thread, whenever it is called for a connection: so also for each that was woken. The first of a burst, which has
 * none earlier, is resumed by who answered it. */
void http_loop_resume_answered(struct http_loop *loop)
{
	struct http_exchange *exchange = atomic_load(&loop->answered) != NULL ? atomic_exchange(&loop->answered, NULL) : NULL;

	while (exchange != NULL && exchange->earlier != NULL) {
		struct http_exchange *earlier = exchange->earlier;

		MHD_resume_connection(exchange->connection);
		atomic_fetch_sub(&loop->server->under_way, 1);
		exchange = earlier;
	}
}

static void end_exchange(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server; /* gone when it is abandoned: not looked at then */

	if (exchange->release != NULL)
		exchange->release(exchange->data);
	exchange->release = NULL;
	exchange->data = NULL;
	if (http_exchange_change(exchange, HTTP_HANDLING, HTTP_ANSWERED)) {
		atomic_fetch_sub(&server->under_way, 1);
	} else if (http_exchange_change(exchange, HTTP_SUSPENDED, HTTP_ANSWERED)) {
		resume(exchange);
	} else {
		assert(atomic_load(&exchange->state) == HTTP_ABANDONED); /* else: answered twice */
		http_exchange_drop_holder(exchange);
	}
}

void http_answer(struct http_exchange *exchange, int status, const char *content_type, struct buf *body)
{
	exchange->answer.status = status;
	exchange->answer.content_type = content_type;
	exchange->answer.body = *body;
	*body = (struct buf)BUF_INIT;
	end_exchange(exchange);
}

void http_answer_static(struct http_exchange *exchange, int status, const char *content_type, struct slice body)
{
	exchange->answer.status = status;
	exchange->answer.content_type = content_type;
	exchange->answer.constant = body;
	end_exchange(exchange);
}

struct http_stream *http_answer_stream(struct http_exchange *exchange, const char *content_type, size_t limit)
{
	struct http_stream *stream = http_stream_new(limit);

	exchange->answer.status = MHD_HTTP_OK;
	exchange->answer.content_type = content_type;
	exchange->answer.stream = stream;
	exchange->answer.stream_is_given = false;
	end_exchange(exchange);
	return stream;
}

void http_answer_header(struct http_exchange *exchange, const char *name, const char *value)
{
	buf_add(&exchange->answer.headers, name, strlen(name) + 1);
	buf_add(&exchange->answer.headers, value, strlen(value) + 1);
}
