/* lease_keeper: keeps this gateway's number leased, and makes ids with it. Uses lease, id.
 *
 * A thread with a connection of its own takes a number and renews it every LEASE_RENEW_MS. While the database is away
 * ids go on until the lease has run out by our own clock; after that there are none. */
#ifndef FEEDMILL_API_GATEWAY_LEASE_KEEPER_H
#define FEEDMILL_API_GATEWAY_LEASE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/base/settings.h"

struct lease_keeper;

/* granted: called from the thread after each taking and renewal, with the number; must not block. */
int lease_keeper_open(const struct settings *settings, void (*granted)(void *arg, int number), void *arg, struct lease_keeper **out,
	struct err *err);
/* ERR_UNAVAILABLE: no lease. Any thread. fits: see id_next_that(). */
int lease_keeper_id(struct lease_keeper *keeper, id_fits_fn *fits, void *arg, int64_t *id, struct err *err);
bool lease_keeper_held(const struct lease_keeper *keeper, struct err *why);     /* why may be NULL */
void lease_keeper_close(struct lease_keeper *keeper); /* gives the number back; NULL is fine */

#endif
