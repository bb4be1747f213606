/* A client that wants to listen for product events comes in, and is given to those who send them. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/events.h"
#include "api-gateway/reply.h"

#define EVENT_STREAM "text/event-stream"

void get_product_events(struct call *call)
{
	struct events *events = call->gateway->events;
	const struct slice last = http_header(call->exchange, "Last-Event-ID");
	struct events_place place;
	struct err err = ERR_INIT;

	if (last.len > 0 && !events_parse(last, &place)) {
		reply_problem(call, 400, "", "Last-Event-ID is no id of ours");
	} else if (events_room(events, &err) < 0) {
		reply_away(call, &err);
	} else if (slice_is(http_request_of(call->exchange)->method, "HEAD")) {
		reply_static(call, 200, EVENT_STREAM, slice_of(""));
	} else {
		http_answer_header(call->exchange, "Cache-Control", "no-store");
		http_answer_header(call->exchange, "X-Accel-Buffering", "no");
		events_add(events, reply_stream(call, EVENT_STREAM, EVENTS_WAITING), last.len > 0 ? &place : NULL);
	}
}
