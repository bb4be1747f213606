/* Connections go in, whole requests come out to the handler; its answers go in, bytes come out.
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
#include "common/http/http_server.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/http/http_listen.h"
#include "common/http/http_params.h"
#include "common/http/http_stream.h"
#include "common/http/http_watch.h"
#include "common/http/problem.h"

#define URI_MAX 8192
#define HEADERS_MAX 100
/* Of a connection's memory in libmicrohttpd, beside the header block: 64 bytes for each header and parameter, and the
 * answer's own headers, which must still fit behind the largest request. */
#define HEADER_SLACK 8192
#define BODY_GRACE_MS 5000   /* then the rate counts */
#define BODY_AT_ONCE 65536   /* a longer body gets its room as it comes, not as it is announced */
#define STREAM_BLOCK 8192 /* of an answer that goes on, asked for at once */
#define KEPT_BYTES 16384     /* a larger buffer is not kept for the connection's next request */
#define RETRY_AFTER_S "1"    /* when too many bodies come at once */
#define FIRST_IN_LINE_S 86400 /* any time-out, never reached: see hand_out() */
/* libmicrohttpd up to 1.0 takes 128 events at once, and when it gets just so many it waits for more, for ever, before it handles any. A loop
 * with nearly as many connections has a timer among its events, which ends that wait; libmicrohttpd looks at no event without a mark. */
#define CROWD 120
#define CROWD_BEAT_NS 5000000
#define BEGIN_MS 1000        /* at a stop, for connections that were just accepted */
#define EXPOSED "Location, Link, Retry-After, Preference-Applied"

/* From 0.9.76 on levels above 0 also refuse what 0.9.75 can't. There level 1 adds two checks that are made here, with a
 * problem document for an answer. */
#define DISCIPLINE (MHD_VERSION > 0x00097500 ? 1 : 0)

enum state { IDLE, HANDLING, SUSPENDED, ANSWERED, ABANDONED, LATE };

struct loop {
	struct http_server *server;
	struct MHD_Daemon *daemon;
	atomic_int connections;
	atomic_int coming; /* of these: handed over, and not begun by its thread */
	int timer_fd; /* runs while there is a crowd */
	struct http_exchange *_Atomic answered; /* by other threads, and suspended: see resume() */
};

struct http_server {
	struct http_options options;
	char *cors_origin; /* NULL: none */
	struct http_watch *watch;
	struct loop *loops;
	int loop_count;
	int port;
	atomic_bool draining;
	atomic_bool closing;     /* time is up: no request is begun, those under way are abandoned */
	atomic_size_t body_bytes;
	atomic_int under_way;    /* from the call of the handler to the last touch of its answer */
};

struct answer {
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
	struct loop *loop;
	struct http_exchange *earlier; /* in its loop's answered */
	struct MHD_Connection *connection;
	_Atomic enum state state;
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
	struct answer answer;
};

/* --- what is wrong with a request, by its header list --- */

struct header_facts {
	size_t count, hosts, lengths, encodings, expectations;
	bool has_other_encoding, has_other_expectation;
	bool bad_line, bad_length, bad_host;
	struct slice length;
};

static bool is_letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A token, RFC 9110 5.6.2: with a space behind it, "Content-Length " would be the length to one reader and nothing to the next. */
static bool is_header_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!is_letter_or_digit(name.data[i]) && (name.data[i] == '\0' || strchr("!#$%&'*+-.^_`|~", name.data[i]) == NULL))
			return false;
	return name.len > 0;
}

static bool is_header_value(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (((unsigned char)value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
			return false;
	return true;
}

static void note_host(struct header_facts *facts, struct slice value)
{
	facts->hosts++;
	for (size_t i = 0; i < value.len; i++)
		facts->bad_host |= (unsigned char)value.data[i] <= ' ' || value.data[i] == 0x7f || strchr("@/?#,\\\"<>", value.data[i]) != NULL;
}

static void note_length(struct header_facts *facts, struct slice value)
{
	int64_t length;

	facts->lengths++;
	facts->length = value;
	/* Leading zeros are fine by RFC 9110; a list, a sign or 2^63 are not. */
	while (value.len > 1 && value.data[0] == '0') {
		value.data++;
		value.len--;
	}
	if (!str_int64(value, &length) || length < 0)
		facts->bad_length = true;
}

static void note_encoding(struct header_facts *facts, struct slice value)
{
	facts->encodings++;
	facts->has_other_encoding |= !slice_is_nocase(value, "chunked");
}

static void note_expectation(struct header_facts *facts, struct slice value)
{
	facts->expectations++;
	facts->has_other_expectation |= !slice_is_nocase(value, "100-continue");
}

static const struct {
	const char *name;
	size_t len;
	void (*note)(struct header_facts *facts, struct slice value);
} framing_headers[] = {
	{ "Host", 4, note_host },
	{ "Content-Length", 14, note_length },
	{ "Transfer-Encoding", 17, note_encoding },
	{ "Expect", 6, note_expectation },
};

static enum MHD_Result note_header(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value, size_t value_len)
{
	struct header_facts *facts = arg;

	(void)kind;
	facts->count++;
	facts->bad_line |= !is_header_name((struct slice){ name, name_len }) || !is_header_value((struct slice){ value, value_len });
	for (size_t i = 0; i < sizeof(framing_headers) / sizeof(framing_headers[0]); i++)
		if (framing_headers[i].len == name_len && strncasecmp(framing_headers[i].name, name, name_len) == 0)
			framing_headers[i].note(facts, (struct slice){ value, value_len });
	return MHD_YES;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* No spaces and controls, and every '%' begins an escape of something other than NUL. */
static bool path_is_clean(struct slice path)
{
	for (size_t i = 0; i < path.len; i++) {
		unsigned char c = (unsigned char)path.data[i];

		if (c <= ' ' || c == 0x7f)
			return false;
		if (c != '%')
			continue;
		if (path.len - i < 3 || !is_hex(path.data[i + 1]) || !is_hex(path.data[i + 2]))
			return false;
		if (path.data[i + 1] == '0' && path.data[i + 2] == '0')
			return false;
	}
	return path.len > 0;
}

static size_t header_size(const struct http_exchange *exchange)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	return info != NULL ? info->header_size : 0;
}

/* The framing of a body that can't be trusted, RFC 9112 6.3. */
static bool framing_is_wrong(const struct header_facts *facts, bool is_http_10, struct problem *problem)
{
	if (facts->bad_line)
		problem_set(problem, 400, "", "a header has a name that is no token, or a control character");
	else if (facts->encodings > 0 && facts->lengths > 0)
		problem_set(problem, 400, "", "Content-Length and Transfer-Encoding exclude each other");
	else if (facts->lengths > 1)
		problem_set(problem, 400, "", "more than one Content-Length");
	else if (facts->bad_length)
		problem_set(problem, 400, "", "Content-Length is not a number of bytes");
	else if (facts->encodings > 0 && is_http_10)
		problem_set(problem, 400, "", "HTTP/1.0 has no Transfer-Encoding");
	else if (facts->encodings > 1 || facts->has_other_encoding)
		problem_set(problem, 501, "", "Transfer-Encoding: only \"chunked\" is understood");
	else
		return false;
	return true;
}

static bool head_is_wrong(const struct http_exchange *exchange, const struct header_facts *facts, bool is_http_10, struct problem *problem)
{
	if (exchange->uri_too_long)
		problem_set(problem, 414, "", "the request target is longer than %d bytes", URI_MAX);
	else if (header_size(exchange) > (size_t)exchange->server->options.max_header)
		problem_set(problem, 431, "", "the header block is longer than %lld bytes", (long long)exchange->server->options.max_header);
	else if (facts->count > HEADERS_MAX)
		problem_set(problem, 431, "", "more than %d headers", HEADERS_MAX);
	else if (facts->hosts > 1)
		problem_set(problem, 400, "", "more than one Host");
	else if (facts->hosts == 0 && !is_http_10)
		problem_set(problem, 400, "", "no Host");
	else if (facts->bad_host)
		problem_set(problem, 400, "", "Host is not a host name");
	else if (!path_is_clean(exchange->request.path))
		problem_set(problem, 400, "", "the path has a space, a control character or a broken %% escape");
	else if (facts->has_other_expectation)
		problem_set(problem, 417, "", "Expect: only \"100-continue\" is understood");
	else
		return false;
	return true;
}

static int64_t announced_length(const struct header_facts *facts)
{
	struct slice digits = facts->length;
	int64_t length = 0;

	for (size_t i = 0; i < digits.len; i++) /* checked by note_length(): it does not overflow */
		length = length * 10 + (digits.data[i] - '0');
	return length;
}

static void set_too_large(const struct http_server *server, struct problem *problem)
{
	problem_set(problem, 413, "", "the body is longer than %lld bytes", (long long)server->options.max_body);
}

static void set_too_busy(struct problem *problem)
{
	problem_set(problem, 503, "", "too much is being received at once; nothing was stored, try again later");
}

/* --- memory that clients can make us hold --- */

/* The body takes that many bytes by now; false when all bodies together take too many. */
static bool charge_body(struct http_exchange *exchange, size_t bytes)
{
	struct http_server *server = exchange->server;
	size_t more = bytes > exchange->body_charge ? bytes - exchange->body_charge : 0;
	size_t all = atomic_fetch_add_explicit(&server->body_bytes, more, memory_order_relaxed) + more;

	exchange->body_charge += more;
	return more == 0 || server->options.max_bodies == 0 || all <= (size_t)server->options.max_bodies;
}

static void charge_answer(struct http_exchange *exchange)
{
	const struct http_options *options = &exchange->server->options;

	exchange->answer_charge = exchange->answer.body.len;
	if (options->answer_bytes != NULL)
		atomic_fetch_add_explicit(options->answer_bytes, exchange->answer_charge, memory_order_relaxed);
}

static void drop_charges(struct http_exchange *exchange)
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
		add_header(response, "Access-Control-Expose-Headers", EXPOSED);
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
	struct answer *answer = &exchange->answer;
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

static enum MHD_Result queue_answer(struct http_exchange *exchange)
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

/* --- handler and answer --- */

/* The response, once it is made, holds the stream itself, and goes later. */
static void drop_stream(struct http_exchange *exchange)
{
	struct http_stream *stream = exchange->answer.stream;

	exchange->answer.stream = NULL;
	if (stream == NULL)
		return;
	http_stream_detach(stream);
	if (!exchange->answer.stream_is_given)
		http_stream_release(stream);
}

static void drop_holder(struct http_exchange *exchange)
{
	if (atomic_fetch_sub(&exchange->holders, 1) > 1)
		return;
	drop_stream(exchange);
	buf_release(&exchange->text);
	buf_release(&exchange->body);
	buf_release(&exchange->answer.body);
	buf_release(&exchange->answer.headers);
	http_params_release(&exchange->params);
	free(exchange);
}

static bool change_state(struct http_exchange *exchange, enum state from, enum state to)
{
	return atomic_compare_exchange_strong(&exchange->state, &from, to);
}

/* The connection goes on without the answerer, which finds that when it comes. */
static void abandon(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	atomic_fetch_add(&exchange->holders, 1);
	if (!change_state(exchange, SUSPENDED, ABANDONED)) {
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
	struct loop *loop = exchange->loop;
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
static void resume_others(struct loop *loop)
{
	struct http_exchange *exchange = atomic_load(&loop->answered) != NULL ? atomic_exchange(&loop->answered, NULL) : NULL;

	while (exchange != NULL && exchange->earlier != NULL) {
		struct http_exchange *earlier = exchange->earlier;

		MHD_resume_connection(exchange->connection);
		atomic_fetch_sub(&loop->server->under_way, 1);
		exchange = earlier;
	}
}

/* Calls the handler; what it does not answer at once is suspended. Suspending comes before SUSPENDED is told, since from
 * then on the answerer may resume.
 *
 * libmicrohttpd 0.9.75 reads from a resumed connection before it asks for the answer, and a client that has sent its last byte
 * by then loses the answer. A connection with a time-out of its own is asked first. */
static enum MHD_Result hand_out(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	atomic_fetch_add(&server->under_way, 1); /* before the look: give_up() tells, then counts */
	if (atomic_load(&server->closing)) {
		atomic_fetch_sub(&server->under_way, 1);
		return MHD_NO;
	}
	atomic_store_explicit(&exchange->watched.deadline_ms, HTTP_NO_DEADLINE, memory_order_relaxed);
	exchange->request.body = (struct slice){ exchange->body.data, exchange->body.len };
	if (!change_state(exchange, IDLE, HANDLING)) { /* LATE */
		atomic_fetch_sub(&server->under_way, 1);
		return MHD_NO;
	}
	server->options.handle(exchange, server->options.arg);
	if (atomic_load(&exchange->state) == ANSWERED)
		return queue_answer(exchange);
	MHD_suspend_connection(exchange->connection);
	MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, FIRST_IN_LINE_S);
	exchange->first_in_line = true;
	if (!change_state(exchange, HANDLING, SUSPENDED))
		MHD_resume_connection(exchange->connection); /* answered between the two looks */
	else if (atomic_load(&server->closing))
		abandon(exchange);
	return MHD_YES;
}

static void end_exchange(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server; /* gone when it is abandoned: not looked at then */

	if (exchange->release != NULL)
		exchange->release(exchange->data);
	exchange->release = NULL;
	exchange->data = NULL;
	if (change_state(exchange, HANDLING, ANSWERED)) {
		atomic_fetch_sub(&server->under_way, 1);
	} else if (change_state(exchange, SUSPENDED, ANSWERED)) {
		resume(exchange);
	} else {
		assert(atomic_load(&exchange->state) == ABANDONED); /* else: answered twice */
		drop_holder(exchange);
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

/* --- a request comes in --- */

/* Answers without the handler and gives the connection up. */
static enum MHD_Result refuse(struct http_exchange *exchange, const struct problem *problem)
{
	if (!change_state(exchange, IDLE, HANDLING))
		return MHD_NO;
	exchange->lingers = true;
	if (problem->status == 503)
		http_answer_header(exchange, MHD_HTTP_HEADER_RETRY_AFTER, RETRY_AFTER_S);
	atomic_fetch_add(&exchange->server->under_way, 1);
	problem_answer(exchange, problem);
	return queue_answer(exchange);
}

/* Where libmicrohttpd takes no answer, it goes out by our own hand: for a request that is still coming, so that nothing else
 * is on its way. False: it was not sent. */
static bool send_problem(const struct http_exchange *exchange, const struct problem *problem)
{
	const struct http_server *server = exchange->server;
	struct buf body = BUF_INIT, out = BUF_INIT;
	bool is_sent;

	problem_write(problem, &body);
	buf_addf(&out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: " PROBLEM_TYPE "\r\nContent-Length: %zu\r\n", problem->status,
		problem->title, body.len);
	if (problem->status == 503)
		buf_add_str(&out, "Retry-After: " RETRY_AFTER_S "\r\n");
	if (server->cors_origin != NULL)
		buf_addf(&out, "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: " EXPOSED "\r\n%s", server->cors_origin,
			strcmp(server->cors_origin, "*") != 0 ? "Vary: Origin\r\n" : "");
	buf_add_str(&out, "\r\n");
	buf_add(&out, body.data, body.len);
	is_sent = send(exchange->watched.fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
	buf_release(&body);
	buf_release(&out);
	return is_sent;
}

/* While the body comes. */
static enum MHD_Result refuse_body(struct http_exchange *exchange, const struct problem *problem)
{
	if (change_state(exchange, IDLE, ANSWERED))
		exchange->lingers |= send_problem(exchange, problem);
	return MHD_NO;
}

/* The watch is about to shut the connection. One that has begun a request hears why; the state sees to it that the request
 * is not answered here and handled there. */
static void on_overdue(struct http_watched *watched)
{
	struct http_exchange *exchange = (struct http_exchange *)watched;
	struct problem problem;

	if (!atomic_load(&watched->busy) || !change_state(exchange, IDLE, LATE))
		return;
	problem_set(&problem, 408, "", "the request was not whole in time");
	send_problem(exchange, &problem);
}

/* "http://host/path?query" and "/path?query": cuts text, which has the request target, into path and query. */
static void cut_target(struct http_exchange *exchange)
{
	struct slice rest = { exchange->text.data, exchange->text.len };
	char *from = exchange->text.data;
	char *mark;

	if (rest.len >= 7 && (strncasecmp(from, "http://", 7) == 0 || (rest.len >= 8 && strncasecmp(from, "https://", 8) == 0))) {
		from = strpbrk(strchr(from, '/') + 2, "/?");
		rest = from != NULL ? slice_of(from) : SLICE_NONE;
	}
	mark = rest.len > 0 ? memchr(rest.data, '?', rest.len) : NULL;
	if (mark != NULL)
		*mark = '\0';
	exchange->request.query = mark != NULL ? slice_of(mark + 1) : slice_of("");
	exchange->request.path = rest.len > 0 ? slice_of(rest.data) : slice_of("");
	if (exchange->request.path.len == 0 && exchange->text.len > 0)
		exchange->request.path = slice_of("/");
}

static void note_request_line(struct http_exchange *exchange, const char *method)
{
	size_t target_len = exchange->text.len;

	buf_add_char(&exchange->text, '\0');
	buf_add_str(&exchange->text, method); /* now the text stays where it is */
	exchange->text.len = target_len;
	cut_target(exchange);
	exchange->request.method = slice_of(exchange->text.data + target_len + 1);
}

/* What has come buys time; without a rate every piece buys the idle timeout. */
static void set_body_deadline(struct http_exchange *exchange)
{
	const struct http_options *options = &exchange->server->options;
	int64_t grace_ms = options->header_timeout_ms < BODY_GRACE_MS ? options->header_timeout_ms : BODY_GRACE_MS;
	int64_t deadline_ms;

	if (options->body_min_rate > 0)
		deadline_ms = exchange->body_began_ms + grace_ms + (int64_t)exchange->body.len * 1000 / options->body_min_rate;
	else
		deadline_ms = clock_mono_ms() + options->idle_timeout_ms;
	atomic_store_explicit(&exchange->watched.deadline_ms, deadline_ms, memory_order_relaxed);
}

/* False: there are too many already. */
static bool expect_body(struct http_exchange *exchange, int64_t length)
{
	size_t at_once = (size_t)(length < BODY_AT_ONCE ? length : BODY_AT_ONCE);

	if (!charge_body(exchange, at_once > 0 ? at_once : 1))
		return false;
	exchange->body_began_ms = clock_mono_ms();
	set_body_deadline(exchange);
	if (at_once > 0)
		buf_reserve(&exchange->body, at_once);
	return true;
}

static enum MHD_Result on_headers(struct http_exchange *exchange, const char *method, const char *version)
{
	const struct http_server *server = exchange->server;
	struct header_facts facts = { 0 };
	bool is_http_10 = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
	struct problem problem;
	int64_t length;

	exchange->headers_seen = true;
	note_request_line(exchange, method);
	MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, note_header, &facts);
	if (framing_is_wrong(&facts, is_http_10, &problem) || head_is_wrong(exchange, &facts, is_http_10, &problem))
		return refuse(exchange, &problem);
	length = announced_length(&facts);
	if (length > server->options.max_body) {
		set_too_large(server, &problem);
		return refuse(exchange, &problem);
	}
	exchange->request.has_body = length > 0 || facts.encodings > 0;
	if (exchange->request.has_body && !expect_body(exchange, length)) {
		set_too_busy(&problem);
		return refuse(exchange, &problem);
	}
	return MHD_YES;
}

static enum MHD_Result on_body(struct http_exchange *exchange, const char *bytes, size_t *len)
{
	const struct http_options *options = &exchange->server->options;
	struct problem problem;

	if (*len > (size_t)options->max_body - exchange->body.len) {
		set_too_large(exchange->server, &problem);
		return refuse_body(exchange, &problem);
	}
	if (!charge_body(exchange, exchange->body.len + *len)) {
		set_too_busy(&problem);
		return refuse_body(exchange, &problem);
	}
	buf_add(&exchange->body, bytes, *len);
	*len = 0;
	set_body_deadline(exchange);
	return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	const char *upload, size_t *upload_len, void **context)
{
	struct http_exchange *exchange = *context;

	(void)connection, (void)url;
	resume_others(arg);
	if (!exchange->headers_seen)
		return on_headers(exchange, method, version);
	if (*upload_len > 0)
		return on_body(exchange, upload, upload_len);
	switch (atomic_load(&exchange->state)) {
	case IDLE:
		return hand_out(exchange);
	case ANSWERED:
		return queue_answer(exchange);
	default: /* ABANDONED, LATE; in other states libmicrohttpd does not call */
		return MHD_NO;
	}
}

/* The first sight of a request. libmicrohttpd cuts and decodes the target in place after this, so it is kept as it came. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection)
{
	struct http_exchange *exchange = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	size_t len = uri != NULL ? strlen(uri) : 0;

	(void)arg;
	atomic_store(&exchange->watched.busy, true);
	exchange->uri_too_long = len > URI_MAX;
	if (!exchange->uri_too_long)
		buf_add(&exchange->text, uri, len);
	return exchange;
}

static size_t leave_escaped(void *arg, struct MHD_Connection *connection, char *text)
{
	(void)arg, (void)connection;
	return strlen(text);
}

static void empty(struct buf *b)
{
	if (b->size > KEPT_BYTES)
		buf_release(b);
	else
		buf_reset(b);
}

/* The answer has gone out, or the request came to nothing. */
static void on_completed(void *arg, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why)
{
	struct http_exchange *exchange = *context;

	(void)connection;
	resume_others(arg);
	if (exchange == NULL || atomic_load(&exchange->state) == ABANDONED)
		return;
	FAULT_POINT("http.answered");
	drop_stream(exchange);
	exchange->lingers |= why == MHD_REQUEST_TERMINATED_WITH_ERROR; /* libmicrohttpd refused it on its own */
	drop_charges(exchange);
	exchange->request = (struct http_request){ .has_body = false };
	empty(&exchange->text);
	empty(&exchange->body);
	exchange->headers_seen = false;
	exchange->params_read = false;
	buf_release(&exchange->answer.body);
	exchange->answer.constant = SLICE_NONE;
	empty(&exchange->answer.headers);
	atomic_store(&exchange->watched.busy, false); /* first: IDLE and busy is a request that is coming */
	atomic_store(&exchange->state, IDLE);
}

static void begin_connection(struct loop *loop, struct MHD_Connection *connection, void **context)
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

static void set_timer(const struct loop *loop, long every_ns)
{
	const struct itimerspec times = { .it_interval.tv_nsec = every_ns, .it_value.tv_nsec = every_ns };

	timerfd_settime(loop->timer_fd, 0, &times, NULL);
}

/* Far from where the timer is set, so that the two threads that count never cross. */
static void one_less(struct loop *loop)
{
	if (atomic_fetch_sub(&loop->connections, 1) == CROWD / 2)
		set_timer(loop, 0);
}

static void one_more(struct loop *loop)
{
	if (atomic_fetch_add(&loop->connections, 1) >= CROWD)
		set_timer(loop, CROWD_BEAT_NS);
}

static void end_connection(struct loop *loop, struct http_exchange *exchange)
{
	one_less(loop);
	http_watch_remove(loop->server->watch, &exchange->watched, exchange->lingers);
	drop_holder(exchange);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode what)
{
	struct loop *loop = arg;

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
	struct loop *loop = &server->loops[0];

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

/* --- the handler's view --- */

const struct http_request *http_request_of(const struct http_exchange *exchange)
{
	return &exchange->request;
}

struct name_count {
	const char *name;
	size_t count;
};

static enum MHD_Result count_name(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct name_count *wanted = arg;

	(void)kind, (void)value;
	wanted->count += strcasecmp(name, wanted->name) == 0;
	return MHD_YES;
}

size_t http_header_count(const struct http_exchange *exchange, const char *name)
{
	struct name_count wanted = { name, 0 };

	if (atomic_load(&exchange->state) != ABANDONED)
		MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, count_name, &wanted);
	return wanted.count;
}

struct slice http_header(const struct http_exchange *exchange, const char *name)
{
	const char *value = NULL;
	size_t len = 0;

	if (atomic_load(&exchange->state) == ABANDONED)
		return SLICE_NONE;
	if (MHD_lookup_connection_value_n(exchange->connection, MHD_HEADER_KIND, name, strlen(name), &value, &len) == MHD_NO || value == NULL)
		return SLICE_NONE;
	return slice_trim((struct slice){ value, len });
}

struct slice http_query(struct http_exchange *exchange, const char *name, bool *broken)
{
	const struct http_param *param;

	if (!exchange->params_read)
		http_params_read(&exchange->params, exchange->request.query);
	exchange->params_read = true;
	param = http_params_find(&exchange->params, name);
	if (param == NULL)
		return SLICE_NONE;
	if (param->broken && broken != NULL)
		*broken = true;
	return param->value;
}

void http_exchange_attach(struct http_exchange *exchange, void *data, void (*release)(void *data))
{
	exchange->data = data;
	exchange->release = release;
}

void *http_exchange_data(const struct http_exchange *exchange)
{
	return exchange->data;
}

/* --- life --- */

static int add_timer(struct loop *loop)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return loop->timer_fd < 0 || info == NULL ? -1 : epoll_ctl(info->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &event);
}

static void stop_loop(struct loop *loop)
{
	MHD_stop_daemon(loop->daemon);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
}

static int start_loop(struct http_server *server, struct loop *loop, struct err *err)
{
	const struct http_options *options = &server->options;
	unsigned limit = (unsigned)options->max_connections + 1; /* http_watch.c counts; this is to be out of its way */

	loop->server = server;
	loop->timer_fd = -1;
	loop->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
		on_request, loop, MHD_OPTION_STRICT_FOR_CLIENT, DISCIPLINE, MHD_OPTION_CONNECTION_LIMIT, limit,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)options->max_header + HEADER_SLACK, MHD_OPTION_URI_LOG_CALLBACK, on_uri, loop,
		MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, loop,
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
	struct http_watch_options watch = { .listen_fd = listen_fd, .shared = options->inherited_fd >= 0, .accepted = on_accepted, .overdue = on_overdue, .arg = server };
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
	abandon((struct http_exchange *)watched);
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
