/* Bytes of connections go in, as libmicrohttpd cuts them; whole requests come out to the handler, and refusals to the client. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/http/http_exchange.h"
#include "common/http/http_head.h"

#define URI_MAX 8192
#define BODY_GRACE_MS 5000   /* then the rate counts */
#define BODY_AT_ONCE 65536   /* a longer body gets its room as it comes, not as it is announced */
#define KEPT_BYTES 16384     /* a larger buffer is not kept for the connection's next request */
#define RETRY_AFTER_S "1"    /* when too many bodies come at once */
#define FIRST_IN_LINE_S 86400 /* any time-out, never reached: see hand_out() */

static void set_too_large(const struct http_server *server, struct problem *problem)
{
	problem_set(problem, 413, "", "the body is longer than %lld bytes", (long long)server->options.max_body);
}

static void set_too_busy(struct problem *problem)
{
	problem_set(problem, 503, "", "too much is being received at once; nothing was stored, try again later");
}

/* The body takes that many bytes by now; false when all bodies together take too many. */
static bool charge_body(struct http_exchange *exchange, size_t bytes)
{
	struct http_server *server = exchange->server;
	size_t more = bytes > exchange->body_charge ? bytes - exchange->body_charge : 0;
	size_t all = atomic_fetch_add_explicit(&server->body_bytes, more, memory_order_relaxed) + more;

	exchange->body_charge += more;
	return more == 0 || server->options.max_bodies == 0 || all <= (size_t)server->options.max_bodies;
}

/* --- answers of our own --- */

/* Answers without the handler and gives the connection up. */
static enum MHD_Result refuse(struct http_exchange *exchange, const struct problem *problem)
{
	if (!http_exchange_change(exchange, HTTP_IDLE, HTTP_HANDLING))
		return MHD_NO;
	exchange->lingers = true;
	if (problem->status == 503)
		http_answer_header(exchange, MHD_HTTP_HEADER_RETRY_AFTER, RETRY_AFTER_S);
	atomic_fetch_add(&exchange->server->under_way, 1);
	problem_answer(exchange, problem);
	return http_exchange_queue_answer(exchange);
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
		buf_addf(&out, "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: " HTTP_EXPOSED "\r\n%s", server->cors_origin,
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
	if (http_exchange_change(exchange, HTTP_IDLE, HTTP_ANSWERED))
		exchange->lingers |= send_problem(exchange, problem);
	return MHD_NO;
}

/* The watch is about to shut the connection. One that has begun a request hears why; the state sees to it that the request
 * is not answered here and handled there. */
void http_on_overdue(struct http_watched *watched)
{
	struct http_exchange *exchange = (struct http_exchange *)watched;
	struct problem problem;

	if (!atomic_load(&watched->busy) || !http_exchange_change(exchange, HTTP_IDLE, HTTP_LATE))
		return;
	problem_set(&problem, 408, "", "the request was not whole in time");
	send_problem(exchange, &problem);
}

/* --- a request comes in --- */

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

static bool target_is_too_long(const struct http_exchange *exchange, struct problem *problem)
{
	if (exchange->uri_too_long)
		problem_set(problem, 414, "", "the request target is longer than %d bytes", URI_MAX);
	return exchange->uri_too_long;
}

static enum MHD_Result on_headers(struct http_exchange *exchange, const char *method, const char *version)
{
	const struct http_server *server = exchange->server;
	struct http_head head;
	bool is_http_10 = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
	struct problem problem;
	int64_t length;

	exchange->headers_seen = true;
	note_request_line(exchange, method);
	http_head_read(exchange->connection, &head);
	if (http_framing_is_wrong(&head, is_http_10, &problem) || target_is_too_long(exchange, &problem) ||
		http_head_is_wrong(&head, exchange->request.path, is_http_10, server->options.max_header, &problem))
		return refuse(exchange, &problem);
	length = http_announced_length(&head);
	if (length > server->options.max_body) {
		set_too_large(server, &problem);
		return refuse(exchange, &problem);
	}
	exchange->request.has_body = length > 0 || head.encodings > 0;
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

/* Calls the handler; what it does not answer at once is suspended. Suspending comes before HTTP_SUSPENDED is told, since from
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
	if (!http_exchange_change(exchange, HTTP_IDLE, HTTP_HANDLING)) { /* HTTP_LATE */
		atomic_fetch_sub(&server->under_way, 1);
		return MHD_NO;
	}
	server->options.handle(exchange, server->options.arg);
	if (atomic_load(&exchange->state) == HTTP_ANSWERED)
		return http_exchange_queue_answer(exchange);
	MHD_suspend_connection(exchange->connection);
	MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, FIRST_IN_LINE_S);
	exchange->first_in_line = true;
	if (!http_exchange_change(exchange, HTTP_HANDLING, HTTP_SUSPENDED))
		MHD_resume_connection(exchange->connection); /* answered between the two looks */
	else if (atomic_load(&server->closing))
		http_exchange_abandon(exchange);
	return MHD_YES;
}

enum MHD_Result http_on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	const char *upload, size_t *upload_len, void **context)
{
	struct http_exchange *exchange = *context;

	(void)connection, (void)url;
	http_loop_resume_answered(arg);
	if (!exchange->headers_seen)
		return on_headers(exchange, method, version);
	if (*upload_len > 0)
		return on_body(exchange, upload, upload_len);
	switch (atomic_load(&exchange->state)) {
	case HTTP_IDLE:
		return hand_out(exchange);
	case HTTP_ANSWERED:
		return http_exchange_queue_answer(exchange);
	default: /* HTTP_ABANDONED, HTTP_LATE; in other states libmicrohttpd does not call */
		return MHD_NO;
	}
}

/* The first sight of a request. libmicrohttpd cuts and decodes the target in place after this, so it is kept as it came. */
void *http_on_uri(void *arg, const char *uri, struct MHD_Connection *connection)
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

size_t http_leave_escaped(void *arg, struct MHD_Connection *connection, char *text)
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
void http_on_completed(void *arg, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why)
{
	struct http_exchange *exchange = *context;

	(void)connection;
	http_loop_resume_answered(arg);
	if (exchange == NULL || atomic_load(&exchange->state) == HTTP_ABANDONED)
		return;
	FAULT_POINT("http.answered");
	http_exchange_drop_stream(exchange);
	exchange->lingers |= why == MHD_REQUEST_TERMINATED_WITH_ERROR; /* libmicrohttpd refused it on its own */
	http_exchange_drop_charges(exchange);
	exchange->request = (struct http_request){ .has_body = false };
	empty(&exchange->text);
	empty(&exchange->body);
	exchange->headers_seen = false;
	exchange->params_read = false;
	buf_release(&exchange->answer.body);
	exchange->answer.constant = SLICE_NONE;
	empty(&exchange->answer.headers);
	atomic_store(&exchange->watched.busy, false); /* first: HTTP_IDLE and busy is a request that is coming */
	atomic_store(&exchange->state, HTTP_IDLE);
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

	if (atomic_load(&exchange->state) != HTTP_ABANDONED)
		MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, count_name, &wanted);
	return wanted.count;
}

struct slice http_header(const struct http_exchange *exchange, const char *name)
{
	const char *value = NULL;
	size_t len = 0;

	if (atomic_load(&exchange->state) == HTTP_ABANDONED)
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
