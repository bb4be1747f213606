/* relay: what the sinks of the worker relay share: product events read from a batch, and a window of ids to drop repeats.
 *
 * A repeat has the id of an event that came before (README, "Subscribing to product events"); each thread remembers the last so
 * many ids that reached its place, so that what a replay brings again soon is not sent again. The window is memory of one
 * thread: after a restart or a rebalance repeats go out again, which subscribers must bear anyway. */
#ifndef FEEDMILL_WORKERS_RELAY_H
#define FEEDMILL_WORKERS_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/worker.h"

struct relay_event { /* borrowed from its record */
	size_t item;              /* of the batch */
	struct slice id;          /* ce_id */
	struct slice key, value;  /* as on Kafka */
	int64_t product;
	const char *routing_key;  /* "product.created", "product.deleted" */
	const struct record *record; /* for its other headers */
};

struct relay_window;

struct relay {
	struct relay_window *window;
	struct relay_event *events; /* of the batch, without repeats; in order */
	size_t count;
	struct metric *repeats;
};

void relay_init(struct relay *relay, const struct settings *settings, const char *sink);
void relay_release(struct relay *relay);

/* Reads the batch into relay->events. What is no product event is rejected; what is remembered is left out. */
void relay_take(struct relay *relay, struct batch *batch);
void relay_done(struct relay *relay, const struct relay_event *event); /* it has reached its place: remembered */

/* How many of the events from `from` on have different products: they may go at once without upsetting the order of any product. */
size_t relay_wave(const struct relay *relay, size_t from);

const struct worker_settings *relay_settings(const struct settings *settings);

/* relay_window: the last `room` ids. Ids longer than RELAY_ID_MAX are not remembered. */
#define RELAY_ID_MAX 63
struct relay_window *relay_window_new(size_t room);
void relay_window_free(struct relay_window *window);
bool relay_window_has(const struct relay_window *window, struct slice id);
void relay_window_add(struct relay_window *window, struct slice id);

#endif
