/* webhooks: subscriptions to product events by HTTP, and what is to be delivered to each, in the store. Uses store.
 *
 * A webhook's events wait as rows, in order; one sender at a time has a webhook (a lease by the database's clock), delivers its oldest
 * row, and marks it. A row that is delivered stays for WEBHOOK_KEEP_MS, so that an event that comes again meanwhile is not
 * delivered again. Ids are UUIDs. */
#ifndef FEEDMILL_STORE_WEBHOOKS_H
#define FEEDMILL_STORE_WEBHOOKS_H

#include "common/base/uuid.h"
#include "common/store/store.h"

#define WEBHOOK_URL_MAX 2000
#define WEBHOOK_SECRET_TEXT 80  /* "whsec_" and base64 of 32 bytes */
#define WEBHOOK_EVENTS_MAX 255
#define WEBHOOKS_MAX 1000
#define WEBHOOK_KEEP_MS (24 * INT64_C(3600000))
#define WEBHOOK_TEST "webhook.test" /* the type of a test delivery; every webhook gets its own */

struct webhook { /* borrowed for the call; copies where a function says so */
	struct slice id, url, secret, events; /* events: "product.created,product.deleted"; empty: all */
	int64_t created_ms, disabled_ms, failing_since_ms;
	int64_t tries;
	struct slice reason;
	int64_t waiting; /* deliveries */
};

/* ---- for those who manage them */

/* Checks url and events, makes id and secret (which is never given out again). ERR_INVALID: what is wrong; ERR_FULL: WEBHOOKS_MAX are there. */
int webhook_check(struct slice url, struct slice events, struct err *err);
int webhooks_add(struct store *store, struct slice url, struct slice events, char id[UUID_TEXT], char secret[WEBHOOK_SECRET_TEXT],
	int64_t *created_ms, struct err *err);
typedef int webhook_row_fn(void *arg, const struct webhook *webhook);
int webhooks_list(struct store *store, webhook_row_fn *row, void *arg, struct err *err); /* in order of creation; secret is empty */
int webhooks_find(struct store *store, struct slice id, webhook_row_fn *row, void *arg, struct err *err);
int webhooks_remove(struct store *store, struct slice id, bool *found, struct err *err); /* with what waits */
/* A row for a test message, whose event id is made here. *found false: no such webhook, or a disabled one. */
int webhooks_test(struct store *store, struct slice id, char event[UUID_TEXT], bool *found, struct err *err);
/* It is called again, at once, with what waits for it; one that was not disabled too. */
int webhooks_enable(struct store *store, struct slice id, bool *found, struct err *err);
int webhooks_is_done(struct store *store, struct slice id, const char *event, bool *done, struct err *err);

/* ---- for the worker */

struct webhook_event {
	struct slice id, type, body;
};
/* Rows for every webhook that wants the events, in their order; those that are there stay. In a transaction of the caller's. */
int webhooks_enqueue(struct store *store, const struct webhook_event *events, size_t count, struct err *err);

/* A webhook of which something is due, for `holder` (a UUID) alone from now on for lease_ms: true, with id. Of several that one that was let
 * go longest ago. */
int webhooks_claim(struct store *store, const char *holder, int64_t lease_ms, char id[UUID_TEXT], bool *found, struct err *err);

struct webhook_delivery { /* owned: webhook_delivery_release() */
	int64_t n;
	struct buf url, secret, event, type, body;
	int64_t tries;
	int64_t failing_ms; /* for how long already */
};
/* The oldest that is open, and renews the lease. *found false: none, or the webhook is not the holder's any more. */
int webhooks_next(struct store *store, const char *holder, int64_t lease_ms, const char *id, struct webhook_delivery *out, bool *found,
	struct err *err);
void webhook_delivery_release(struct webhook_delivery *delivery);

/* What became of it. The last three end the lease. Who has lost the lease meanwhile changes nothing of the webhook; *found: still had it. */
int webhooks_delivered(struct store *store, const char *holder, const char *id, const struct webhook_delivery *delivery, struct err *err);
int webhooks_failed(struct store *store, const char *holder, const char *id, const char *reason, int64_t wait_ms, struct err *err);
int webhooks_disable(struct store *store, const char *holder, const char *id, const char *reason, bool *found, struct err *err);
int webhooks_let_go(struct store *store, const char *holder, const char *id, struct err *err);

/* Some of what was delivered more than WEBHOOK_KEEP_MS ago, about WEBHOOK_PRUNE_ROWS at most; *deleted 0: there is no more. */
#define WEBHOOK_PRUNE_ROWS 500
int webhooks_prune(struct store *store, int64_t *deleted, struct err *err);

#endif
