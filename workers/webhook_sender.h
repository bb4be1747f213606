/* webhook_sender: threads that deliver what waits for webhooks, each with a connection to the store and an HTTP client of its own.
 * Uses store, http_client.
 *
 * A webhook is called by one thread of one process at a time, in the order of its deliveries; an answer of 200 … 299 is a
 * success, 410 disables it at once, all else is tried again, with backoff and jitter, until relay.webhook_give_up_s, five
 * times at least. */
#ifndef FEEDMILL_WORKERS_WEBHOOK_SENDER_H
#define FEEDMILL_WORKERS_WEBHOOK_SENDER_H

#include "common/base/err.h"
#include "common/base/settings.h"

struct webhook_senders;

int webhook_senders_open(const struct settings *settings, struct webhook_senders **out, struct err *err);
void webhook_senders_wake(struct webhook_senders *senders); /* something waits */
void webhook_senders_close(struct webhook_senders *senders); /* after the calls under way; NULL is fine */

#endif
