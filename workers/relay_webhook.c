/* Product events go in, a row for each webhook that wants them comes out; threads of its own deliver the rows. */
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/store/schema.h"
#include "common/store/webhooks.h"
#include "workers/relay.h"
#include "workers/webhook_sender.h"

struct webhook_sink {
	struct relay relay;
	struct store *store;
	struct webhook_event *events;
	struct webhook_senders *senders;
};

static void webhook_close(void *state)
{
	struct webhook_sink *sink = state;

	webhook_senders_close(sink->senders);
	store_close(sink->store);
	relay_release(&sink->relay);
	free(sink->events);
	free(sink);
}

static int webhook_open(const struct settings *settings, void **state, struct err *err)
{
	struct webhook_sink *sink = mem_zalloc(sizeof(*sink));

	relay_init(&sink->relay, settings, "webhook");
	sink->events = mem_array((size_t)settings->relay.batch, sizeof(*sink->events));
	if (store_open(settings, &sink->store, err) < 0 || webhook_senders_open(settings, &sink->senders, err) < 0) {
		webhook_close(sink);
		return -1;
	}
	*state = sink;
	return 0;
}

static int webhook_sink_check(void *state, struct err *err)
{
	struct webhook_sink *sink = state;

	return schema_check(sink->store, err);
}

static int enqueue(struct webhook_sink *sink, const struct batch *batch, struct err *err)
{
	if (store_begin(sink->store, err) < 0)
		return -1;
	if (webhooks_enqueue(sink->store, sink->events, sink->relay.count, err) == 0) {
		if (batch_still_owned(batch))
			return store_commit(sink->store, err);
		err_set(err, ERR_CONFLICT, "a partition of the batch is not ours any more");
	}
	store_rollback(sink->store);
	return -1;
}

static int webhook_handle(void *state, struct batch *batch, struct err *err)
{
	struct webhook_sink *sink = state;
	struct relay *relay = &sink->relay;

	relay_take(relay, batch);
	if (relay->count == 0)
		return 0;
	for (size_t e = 0; e < relay->count; e++)
		sink->events[e] = (struct webhook_event){ relay->events[e].id, slice_of(relay->events[e].routing_key), relay->events[e].value };
	if (enqueue(sink, batch, err) < 0)
		return -1;
	webhook_senders_wake(sink->senders);
	for (size_t e = 0; e < relay->count; e++)
		relay_done(relay, &relay->events[e]);
	return 0;
}

const struct worker_ops relay_webhook_sink = {
	.settings = relay_settings,
	.open = webhook_open,
	.dependency = "webhook",
	.check = webhook_sink_check,
	.handle = webhook_handle,
	.close = webhook_close,
};
