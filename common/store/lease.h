/* lease: a gateway's number (0 … 63) for a while: gateway_lease(number, holder, expires_at, ids_until), by the database's clock. Uses store.
 *
 * The holder counts its own deadline on the monotonic clock from before the request was sent. It gives no id at or past ids_until,
 * which is renewed ahead; the next holder of the number starts behind it. See common/base/id.h. */
#ifndef FEEDMILL_STORE_LEASE_H
#define FEEDMILL_STORE_LEASE_H

#include "common/store/store.h"

#define LEASE_MS (10 * 60 * 1000)
#define LEASE_RENEW_MS (20 * 1000)
#define LEASE_IDS_AHEAD_MS (LEASE_MS + 60 * 1000)

struct lease {
	int number;            /* -1: none held */
	char holder[64];       /* unique to this process */
	int64_t ids_from_ms;   /* wall clock: ids start at the later of this and now */
	int64_t ids_until_ms;
	int64_t deadline_mono_ms; /* after it the number is no longer ours */
};

void lease_init(struct lease *lease);
/* Takes a free number (any that has expired), or renews the one held. ERR_FULL: all 64 are taken. A lease that was lost
 * meanwhile is given up and a new number taken. */
int lease_take(struct store *store, struct lease *lease, struct err *err);
void lease_release(struct store *store, struct lease *lease, int64_t ids_free_ms); /* at a clean stop; best effort */

#endif
