/* A whole HTTP request goes in; what handlers need to know of it comes out. */
#include "api-gateway/call.h"

#include <stdlib.h>

#include "api-gateway/once.h"
#include "api-gateway/reply.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/model/participant.h"

struct call *call_new(struct gateway *gateway, struct http_exchange *exchange)
{
	struct call *call = mem_zalloc(sizeof(*call));

	call->gateway = gateway;
	call->exchange = exchange;
	call->started_us = clock_mono_us();
	call->prefer.wait_s = -1;
	call->answer = (struct buf)BUF_INIT;
	atomic_init(&call->holders, 1);
	http_exchange_attach(exchange, call, call_release);
	return call;
}

void call_hold(struct call *call)
{
	atomic_fetch_add(&call->holders, 1);
}

void call_release(void *arg)
{
	struct call *call = arg;

	if (atomic_fetch_sub(&call->holders, 1) > 1)
		return;
	call_drop_body(call);
	once_free(call->once);
	buf_release(&call->answer);
	free(call);
}

void call_drop_body(struct call *call)
{
	json_free(call->contract.body);
	call->contract.body = NULL;
}

const struct trace *call_trace(struct call *call)
{
	struct trace parent;

	if (call->has_trace)
		return &call->trace;
	if (trace_parse(http_header(call->exchange, TRACE_HEADER), &parent))
		trace_child(&parent, &call->trace);
	else
		trace_start(&call->trace);
	call->has_trace = true;
	return &call->trace;
}

const struct json *call_field(const struct call *call, const char *name)
{
	return json_get(call->contract.body, name);
}

bool call_from_is_path(struct call *call)
{
	const struct json *from = call_field(call, "from");
	int64_t id;

	if (from == NULL || (link_parse(json_string(from), &id) && id == call->id))
		return true;
	reply_problem(call, 400, "/from", "from is not /participant/%lld, the participant of the path", (long long)call->id);
	return false;
}

static void read_now(const struct reader *reader, void *arg)
{
	struct call *call = arg;

	if (reader == NULL)
		reply_away(call, &(struct err){ ERR_FULL, "no reader was free in time" });
	else
		call->read(call, reader);
}

void call_read(struct call *call, enum read_from from, call_fn *read)
{
	int64_t begin_by_ms = call->started_us / 1000 + call->gateway->settings->gateway.wait_ms;
	struct err err = ERR_INIT;

	call->read = read;
	if (readers_add(call->gateway->readers, from, read_now, call, begin_by_ms, &err) < 0)
		reply_away(call, &err);
}
