/* Waiting requests go in; each comes out once: by its report, by its result, or when its time is up.
 *
 * As many can wait as there are connections, so the sweeper simply looks at all of them. */
#include "api-gateway/pending.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "api-gateway/nap.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SHARDS 16
#define BUCKETS 256

struct shard {
	pthread_mutex_t lock;
	bool is_closed;
	struct waiter *buckets[BUCKETS];
};

struct pending {
	struct shard shards[SHARDS];
	atomic_size_t count;
	expired_fn *expired;
	pthread_t sweeper;
	struct nap nap;
};

/* FNV-1a over the 36 characters. */
static uint32_t hash(struct slice command)
{
	uint32_t h = UINT32_C(2166136261);

	for (size_t i = 0; i < command.len; i++)
		h = (h ^ (unsigned char)command.data[i]) * UINT32_C(16777619);
	return h;
}

static struct waiter **chain_of(struct pending *pending, struct slice command, struct shard **shard)
{
	uint32_t h = hash(command);

	*shard = &pending->shards[h % SHARDS];
	return &(*shard)->buckets[h / SHARDS % BUCKETS];
}

static struct slice command_of(const struct waiter *waiter)
{
	return (struct slice){ waiter->command, UUID_TEXT - 1 };
}

/* Under the shard's lock. */
static struct waiter *unlink_at(struct pending *pending, struct waiter **at)
{
	struct waiter *waiter = *at;

	*at = waiter->next;
	waiter->next = NULL;
	waiter->is_waiting = false;
	atomic_fetch_sub(&pending->count, 1);
	return waiter;
}

bool pending_add(struct pending *pending, struct waiter *waiter)
{
	struct shard *shard;
	struct waiter **chain = chain_of(pending, command_of(waiter), &shard);
	bool is_open;

	assert(!waiter->is_waiting);
	pthread_mutex_lock(&shard->lock);
	is_open = !shard->is_closed;
	if (is_open) {
		waiter->is_stored = false;
		waiter->is_waiting = true;
		waiter->next = *chain;
		*chain = waiter;
		atomic_fetch_add(&pending->count, 1);
	}
	pthread_mutex_unlock(&shard->lock);
	return is_open;
}

bool pending_take(struct pending *pending, struct waiter *waiter)
{
	struct shard *shard;
	struct waiter **at = chain_of(pending, command_of(waiter), &shard);
	bool took;

	pthread_mutex_lock(&shard->lock);
	took = waiter->is_waiting;
	if (took) {
		while (*at != waiter)
			at = &(*at)->next;
		unlink_at(pending, at);
	}
	pthread_mutex_unlock(&shard->lock);
	return took;
}

struct waiter *pending_find(struct pending *pending, struct slice command)
{
	struct shard *shard;
	struct waiter **at = chain_of(pending, command, &shard);
	struct waiter *found = NULL;

	pthread_mutex_lock(&shard->lock);
	while (*at != NULL && !slice_equal(command_of(*at), command))
		at = &(*at)->next;
	if (*at != NULL)
		found = unlink_at(pending, at);
	pthread_mutex_unlock(&shard->lock);
	return found;
}

void pending_stored(struct pending *pending, struct waiter *waiter)
{
	struct shard *shard;

	chain_of(pending, command_of(waiter), &shard);
	pthread_mutex_lock(&shard->lock);
	if (waiter->is_waiting)
		waiter->is_stored = true;
	pthread_mutex_unlock(&shard->lock);
}

/* ---- time */

static bool is_due(const struct waiter *waiter, int64_t now_ms)
{
	return now_ms >= (waiter->is_stored ? waiter->answer_by_ms : waiter->report_by_ms);
}

/* Takes those of a shard that are due, as a list. */
static struct waiter *take_due(struct pending *pending, struct shard *shard, int64_t now_ms)
{
	struct waiter *due = NULL;

	pthread_mutex_lock(&shard->lock);
	for (size_t i = 0; i < BUCKETS; i++) {
		struct waiter **at = &shard->buckets[i];

		while (*at != NULL) {
			struct waiter *waiter;

			if (!is_due(*at, now_ms)) {
				at = &(*at)->next;
				continue;
			}
			waiter = unlink_at(pending, at);
			waiter->next = due;
			due = waiter;
		}
	}
	pthread_mutex_unlock(&shard->lock);
	return due;
}

void pending_sweep(struct pending *pending, int64_t now_ms)
{
	for (size_t i = 0; i < SHARDS; i++) {
		struct waiter *due = take_due(pending, &pending->shards[i], now_ms);

		while (due != NULL) {
			struct waiter *next = due->next;

			due->next = NULL;
			pending->expired(due, due->is_stored); /* which may free it */
			due = next;
		}
	}
}

static void *sweep(void *arg)
{
	struct pending *pending = arg;

	while (nap_for(&pending->nap, PENDING_SWEEP_MS))
		if (pending_count(pending) > 0)
			pending_sweep(pending, clock_mono_ms());
	return NULL;
}

/* ---- life */

struct pending *pending_new(expired_fn *expired)
{
	struct pending *pending = mem_zalloc(sizeof(*pending));

	pending->expired = expired;
	for (size_t i = 0; i < SHARDS; i++)
		pthread_mutex_init(&pending->shards[i].lock, NULL);
	nap_init(&pending->nap);
	if (pthread_create(&pending->sweeper, NULL, sweep, pending) != 0)
		abort();
	return pending;
}

size_t pending_count(const struct pending *pending)
{
	return atomic_load(&pending->count);
}

void pending_close(struct pending *pending)
{
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&pending->shards[i].lock);
		pending->shards[i].is_closed = true;
		pthread_mutex_unlock(&pending->shards[i].lock);
	}
	pending_sweep(pending, INT64_MAX);
}

void pending_free(struct pending *pending)
{
	if (pending == NULL)
		return;
	nap_end(&pending->nap);
	pthread_join(pending->sweeper, NULL);
	assert(pending_count(pending) == 0);
	for (size_t i = 0; i < SHARDS; i++)
		pthread_mutex_destroy(&pending->shards[i].lock);
	nap_release(&pending->nap);
	free(pending);
}
