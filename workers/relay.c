/* Records of product_events go in, events that did not come lately come out. */
#include "workers/relay.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"

void relay_init(struct relay *relay, const struct settings *settings, const char *sink)
{
	char labels[64];

	snprintf(labels, sizeof(labels), "sink=\"%s\"", sink);
	*relay = (struct relay){
		.window = relay_window_new((size_t)settings->sink.window),
		.events = mem_array((size_t)settings->relay.batch, sizeof(*relay->events)),
		.repeats = metric_counter("feedmill_relay_repeats_total", labels, "Product events that were not sent again, because their id was sent lately."),
	};
}

void relay_release(struct relay *relay)
{
	relay_window_free(relay->window);
	free(relay->events);
}

const struct worker_settings *relay_settings(const struct settings *settings)
{
	return &settings->relay;
}

static const char *routing_key_of(struct slice action)
{
	if (slice_is(action, "created"))
		return "product.created";
	return slice_is(action, "deleted") ? "product.deleted" : NULL;
}

static int decode(struct relay_event *event, const struct record *record, struct err *why)
{
	struct json *json = json_parse(record->value, why);
	int rc = -1;

	if (json == NULL)
		return err_wrap(why, "product event: ");
	event->record = record;
	event->key = record->key;
	event->value = record->value;
	event->id = record_header_get(record, "ce_id");
	event->routing_key = routing_key_of(json_string(json_get(json, "action")));
	if (event->id.len == 0)
		err_set(why, ERR_INVALID, "a product event without a header ce_id");
	else if (!str_utf8_valid(event->id) || event->id.len > 255 || str_has_control(event->id)) /* it becomes a header of webhooks */
		err_set(why, ERR_INVALID, "a product event whose ce_id is no text of at most 255 bytes without control characters");
	else if (event->routing_key == NULL)
		err_set(why, ERR_INVALID, "a product event whose action is neither created nor deleted");
	else if (!json_int64(json_get(json, "id"), &event->product))
		err_set(why, ERR_INVALID, "a product event without the id of a product");
	else
		rc = 0;
	json_free(json);
	return rc;
}

static bool is_repeat(const struct relay *relay, struct slice id)
{
	if (relay_window_has(relay->window, id))
		return true;
	for (size_t e = 0; e < relay->count; e++)
		if (slice_equal(relay->events[e].id, id))
			return true;
	return false;
}

void relay_take(struct relay *relay, struct batch *batch)
{
	relay->count = 0;
	for (size_t i = 0; i < batch->count; i++) {
		struct relay_event event = { .item = i };
		struct err why = ERR_INIT;

		if (decode(&event, batch->items[i].record, &why) < 0)
			batch_reject(batch, i, &why);
		else if (is_repeat(relay, event.id))
			metric_add(relay->repeats, 1);
		else
			relay->events[relay->count++] = event;
	}
}

void relay_done(struct relay *relay, const struct relay_event *event)
{
	relay_window_add(relay->window, event->id);
}

size_t relay_wave(const struct relay *relay, size_t from)
{
	size_t end;

	for (end = from; end < relay->count; end++)
		for (size_t e = from; e < end; e++)
			if (relay->events[e].product == relay->events[end].product)
				return end - from;
	return end - from;
}
