/* rates: how often tasks of a name may start on this node: a token bucket each, as Celery's rate_limit "10/m". The clock is the
 * caller's. */
#ifndef FEEDMILL_WORKERS_CELERY_RATES_H
#define FEEDMILL_WORKERS_CELERY_RATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

struct rates {
	struct rate *list;
	size_t count;
};

int rates_read(struct rates *rates, struct slice settings, struct err *err); /* "task=10/m,other=2/s" */
void rates_release(struct rates *rates);
/* "10/m", "5/s", "100/h", "3" (a second), "0" or "none": no limit. -1: not such a text. */
int rates_set(struct rates *rates, struct slice task, struct slice limit, int64_t now_us, struct err *err);
/* 0: a token was taken, it may start; else how long until there is one, microseconds. */
int64_t rates_take(struct rates *rates, struct slice task, int64_t now_us);
const char *rates_text(const struct rates *rates, struct slice task); /* as it was set, or NULL */

#endif
