/* What came of a request goes in, its HTTP answer goes out, measured, and logged when it is our fault. */
#include "api-gateway/reply.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "api-gateway/meters.h"
#include "api-gateway/once.h"
#include "api-gateway/request_log.h"
#include "common/base/clock.h"
#include "common/base/log.h"

#define RETRY_SOON "1"  /* seconds: a full queue empties */
#define RETRY_LATER "3" /* a dependency comes back */
#define LOGGED_A_SECOND 5

static const char *operation_of(const struct call *call)
{
	return call->route != NULL ? call->route->operation : NULL;
}

static const char *command_of(const struct call *call)
{
	return call->waiter.command[0] != '\0' ? call->waiter.command : NULL;
}

/* Where a trace begins; its last line is the worker's. */
static void log_answer(struct call *call, int status, int64_t took_us)
{
	char trace[33];

	trace_id_format(call_trace(call), trace);
	log_debug("request answered", log_str("operation", operation_of(call)), log_int("status", status), log_int("ms", took_us / 1000),
		log_str("command", command_of(call)), log_str("trace", trace));
}

static void measure(struct call *call, int status)
{
	int64_t took_us = clock_mono_us() - call->started_us;

	if (log_enabled(LOG_LEVEL_DEBUG))
		log_answer(call, status, took_us);
	meters_answered(call->route, status, took_us);
	request_log_add(call->gateway->request_log, call->route, status, took_us);
}

void reply_kept(struct call *call, int status, const char *type, struct buf *body)
{
	measure(call, status);
	http_answer(call->exchange, status, type, body);
}

/* Takes body's bytes. */
static void answer(struct call *call, int status, const char *type, struct buf *body)
{
	if (!once_keeps(call, status, type, body))
		reply_kept(call, status, type, body);
}

void reply_json(struct call *call, struct buf *body)
{
	answer(call, 200, JSON_TYPE, body);
}

void reply_static(struct call *call, int status, const char *type, struct slice body)
{
	measure(call, status);
	http_answer_static(call->exchange, status, type, body);
}

struct http_stream *reply_stream(struct call *call, const char *type, size_t limit)
{
	measure(call, 200);
	return http_answer_stream(call->exchange, type, limit);
}

void reply_empty(struct call *call, int status)
{
	struct buf nothing = BUF_INIT;

	measure(call, status);
	http_answer(call->exchange, status, NULL, &nothing);
}

/* At most LOGGED_A_SECOND lines a second: a broker that is away would fill the disk otherwise; the counters have all. */
bool reply_may_log(void)
{
	static _Atomic int64_t second;
	static atomic_int lines;
	int64_t now = clock_mono_ms() / 1000;

	if (atomic_exchange(&second, now) != now)
		atomic_store(&lines, 0);
	return atomic_fetch_add(&lines, 1) < LOGGED_A_SECOND;
}

static void log_failure(struct call *call, int status, const char *reason)
{
	char trace[33];

	if (!reply_may_log())
		return;
	trace_id_format(call_trace(call), trace);
	log_warn("request failed", log_int("status", status),
		log_str("operation", operation_of(call)), log_str("reason", reason), log_str("command", command_of(call)),
		log_str("trace", trace));
}

static void answer_problem(struct call *call, const struct problem *problem)
{
	struct buf body = BUF_INIT;

	problem_write(problem, &body);
	answer(call, problem->status, PROBLEM_TYPE, &body);
}

void reply_with_problem(struct call *call, const struct problem *problem)
{
	if (problem->status >= 500)
		log_failure(call, problem->status, problem->detail);
	answer_problem(call, problem);
}

void reply_problem(struct call *call, int status, const char *pointer, const char *format, ...)
{
	struct problem problem;
	char detail[sizeof(problem.detail)];
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	problem_set(&problem, status, pointer, "%s", detail);
	reply_with_problem(call, &problem);
}

/* The reason names servers of ours: it goes to the log, not to the client. */
void reply_away(struct call *call, const struct err *err)
{
	bool is_full = err->kind == ERR_FULL;
	struct problem problem;

	if (once_in_doubt(call)) {
		reply_unknown(call, err->message);
		return;
	}
	log_failure(call, 503, err->message);
	problem_set(&problem, 503, "", "%s; nothing was stored, try again later",
		is_full ? "too many requests wait already" : "a server that this needs is away");
	http_answer_header(call->exchange, "Retry-After", is_full ? RETRY_SOON : RETRY_LATER);
	answer_problem(call, &problem);
}

static struct slice asked_about(const struct call *call)
{
	return call->about.data != NULL ? call->about : slice_of(call->waiter.command);
}

#define LOCATION_MAX (UUID_TEXT + 16)

static void add_location(struct call *call, char location[LOCATION_MAX])
{
	struct slice id = asked_about(call);

	snprintf(location, LOCATION_MAX, "%s/%.*s", call->is_job ? "/jobs" : "/commands", (int)id.len, id.data);
	http_answer_header(call->exchange, "Location", location);
}

void reply_accepted(struct call *call)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	char location[LOCATION_MAX];

	add_location(call, location);
	json_open(&w, NULL, '{');
	json_put_string(&w, "id", asked_about(call));
	json_put_string(&w, "status", slice_of("pending"));
	json_close(&w, '}');
	answer(call, 202, JSON_TYPE, &body);
}

void reply_again(struct call *call, int status, struct buf *body)
{
	char location[LOCATION_MAX];

	if (status == 202)
		add_location(call, location);
	answer(call, status, status < 400 ? JSON_TYPE : PROBLEM_TYPE, body);
}

void reply_busy(struct call *call, const char *what)
{
	http_answer_header(call->exchange, "Retry-After", RETRY_SOON);
	reply_problem(call, 409, "", "%s", what);
}

void reply_unknown(struct call *call, const char *why)
{
	struct problem problem;
	char location[LOCATION_MAX];

	log_failure(call, 504, why);
	add_location(call, location);
	problem_set(&problem, 504, "", "it is not known whether this was stored; GET %s will tell", location);
	answer_problem(call, &problem);
}
