/* Answers go in as they are given, counters for /metrics come out. */
#include "api-gateway/meters.h"

#include <stdio.h>

#include "api-gateway/known.h"
#include "api-gateway/pending.h"
#include "api-gateway/readers.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/http/http_server.h"

#define STATUS_CLASSES 6 /* by the first digit */

struct meter {
	struct metric *answers[STATUS_CLASSES];
	struct metric *seconds;
};

static const char *const key_events[KEY_EVENTS] = {
	[RESERVED_FIRST] = "first",
	[RESERVED_AGAIN] = "taken_over",
	[RESERVED_ANSWERED] = "answered",
	[RESERVED_BUSY] = "busy",
	[RESERVED_OTHER] = "other",
	[KEY_NOT_KEPT] = "not_kept",
};
static struct metric *keys[KEY_EVENTS];

static struct meter *meters; /* one a route, and behind them one for what reached none */

static void meter_init(struct meter *meter, const char *operation)
{
	char labels[128];

	for (int class = 2; class < STATUS_CLASSES; class++) {
		snprintf(labels, sizeof(labels), "operation=\"%s\",status=\"%dxx\"", operation, class);
		meter->answers[class] = metric_counter("feedmill_gateway_requests_total", labels, "requests answered");
	}
	snprintf(labels, sizeof(labels), "operation=\"%s\"", operation);
	meter->seconds = metric_histogram("feedmill_gateway_request_seconds", labels, "from a whole request to its answer");
}

static double read_pending(void *arg)
{
	return (double)pending_count(((struct gateway *)arg)->pending);
}

static double read_busy(void *arg)
{
	return (double)readers_busy(((struct gateway *)arg)->readers);
}

static double read_known(void *arg)
{
	return (double)known_count(((struct gateway *)arg)->known);
}

static double read_connections(void *arg)
{
	const struct gateway *gateway = arg;

	return gateway->server != NULL ? (double)http_server_connections(gateway->server) : 0;
}

static double read_answers(void *arg)
{
	return (double)atomic_load(&((struct gateway *)arg)->answer_bytes);
}

static double read_bodies(void *arg)
{
	const struct gateway *gateway = arg;

	return gateway->server != NULL ? (double)http_server_body_bytes(gateway->server) : 0;
}

static void keys_init(void)
{
	char labels[64];

	for (int event = 0; event < KEY_EVENTS; event++) {
		snprintf(labels, sizeof(labels), "found=\"%s\"", key_events[event]);
		keys[event] = metric_counter("feedmill_gateway_keys_total", labels, "requests with an Idempotency-Key, by what came of it");
	}
}

void meters_key(int event)
{
	metric_add(keys[event], 1);
}

void meters_init(struct gateway *gateway)
{
	keys_init();
	meters = mem_array(route_count + 1, sizeof(*meters));
	for (size_t i = 0; i < route_count; i++)
		meter_init(&meters[i], route_table[i].operation);
	meter_init(&meters[route_count], "none");
	metric_gauge_read("feedmill_gateway_pending", NULL, "requests that wait for a report or a result", read_pending, gateway);
	metric_gauge_read("feedmill_gateway_reads", NULL, "requests that wait for, or are with, a reader", read_busy, gateway);
	metric_gauge_read("feedmill_gateway_known_participants", NULL, "participants in the cache", read_known, gateway);
	metric_gauge_read("feedmill_gateway_connections", NULL, "open connections", read_connections, gateway);
	metric_gauge_read("feedmill_gateway_answer_bytes", NULL, "bytes of answers that clients have not taken yet", read_answers, gateway);
	metric_gauge_read("feedmill_gateway_body_bytes", NULL, "bytes of bodies of requests that are not answered yet", read_bodies, gateway);
}

void meters_answered(const struct route *route, int status, int64_t took_us)
{
	struct meter *meter = &meters[route != NULL ? (size_t)(route - route_table) : route_count];
	int class = status / 100;

	if (class >= 2 && class < STATUS_CLASSES)
		metric_add(meter->answers[class], 1);
	metric_observe_us(meter->seconds, took_us);
}

int64_t meters_total(void)
{
	int64_t total = 0;

	for (size_t i = 0; i <= route_count; i++)
		total += metric_value(meters[i].seconds);
	return total;
}
