/* Leases from the database go in, ids that no other gateway gives come out. */
#include "api-gateway/lease_keeper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "api-gateway/nap.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/lease.h"

#define RETRY_FIRST_MS 200
#define RETRY_LIMIT_MS 5000

struct lease_keeper {
	struct id_source ids;
	_Atomic int64_t deadline_ms; /* monotonic clock; 0: never held */
	void (*granted)(void *arg, int number);
	void *arg;
	struct store *store; /* the thread's, as is all below */
	struct lease lease;
	struct backoff retry;
	struct nap nap;
	pthread_t thread;
	bool is_running;
};

static void grant(struct lease_keeper *keeper, int number_before)
{
	const struct lease *lease = &keeper->lease;

	if (lease->number != number_before)
		log_info("gateway number leased", log_int("number", lease->number), log_str("holder", lease->holder));
	id_source_grant(&keeper->ids, lease->number, lease->ids_from_ms, lease->ids_until_ms);
	atomic_store(&keeper->deadline_ms, lease->deadline_mono_ms);
	keeper->granted(keeper->arg, lease->number);
}

/* How long to rest until the next try. */
static int64_t take_or_renew(struct lease_keeper *keeper)
{
	struct err err = ERR_INIT;
	int number = keeper->lease.number;

	if (lease_take(keeper->store, &keeper->lease, &err) == 0) {
		grant(keeper, number);
		backoff_reset(&keeper->retry);
		return LEASE_RENEW_MS;
	}
	if (keeper->retry.tries == 0)
		log_warn("gateway number not leased", log_int("number", number), log_err(&err));
	return backoff_next_ms(&keeper->retry);
}

static void *run(void *arg)
{
	struct lease_keeper *keeper = arg;

	while (nap_for(&keeper->nap, take_or_renew(keeper)))
		;
	lease_release(keeper->store, &keeper->lease, id_source_close(&keeper->ids));
	return NULL;
}

int lease_keeper_open(const struct settings *settings, void (*granted)(void *arg, int number), void *arg, struct lease_keeper **out,
	struct err *err)
{
	struct lease_keeper *keeper = mem_zalloc(sizeof(*keeper));

	id_source_init(&keeper->ids);
	lease_init(&keeper->lease);
	nap_init(&keeper->nap);
	keeper->retry = (struct backoff){ .first_ms = RETRY_FIRST_MS, .limit_ms = RETRY_LIMIT_MS };
	keeper->granted = granted;
	keeper->arg = arg;
	if (store_open(settings, &keeper->store, err) < 0)
		goto failed;
	if (pthread_create(&keeper->thread, NULL, run, keeper) != 0) {
		err_set(err, ERR_FATAL, "no thread for the lease");
		goto failed;
	}
	keeper->is_running = true;
	*out = keeper;
	return 0;
failed:
	lease_keeper_close(keeper);
	return -1;
}

bool lease_keeper_held(const struct lease_keeper *keeper, struct err *why)
{
	int64_t deadline_ms = atomic_load(&keeper->deadline_ms);

	if (deadline_ms > clock_mono_ms())
		return true;
	if (why != NULL)
		err_set(why, ERR_UNAVAILABLE, deadline_ms == 0 ? "no gateway number is leased yet" : "the lease of the gateway number has run out");
	return false;
}

int lease_keeper_id(struct lease_keeper *keeper, id_fits_fn *fits, void *arg, int64_t *id, struct err *err)
{
	if (!lease_keeper_held(keeper, err))
		return -1;
	return id_next_that(&keeper->ids, fits, arg, id, err);
}

void lease_keeper_close(struct lease_keeper *keeper)
{
	if (keeper == NULL)
		return;
	nap_end(&keeper->nap);
	if (keeper->is_running)
		pthread_join(keeper->thread, NULL);
	store_close(keeper->store);
	nap_release(&keeper->nap);
	free(keeper);
}
