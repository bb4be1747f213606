/* settled: the ids of tasks that were acknowledged a moment ago. RabbitMQ does not confirm an acknowledgement: when the connection is
 * lost, those that were sent last may not have come there, and their deliveries come again. Uses mem and str. */
#ifndef FEEDMILL_WORKERS_CELERY_SETTLED_H
#define FEEDMILL_WORKERS_CELERY_SETTLED_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

#define SETTLED_MAX 16384       /* the oldest go first */
#define SETTLED_FLIGHT_MS 60000 /* an acknowledgement that is older has come there, or its connection is long dead */

struct settled {
	struct settled_id *ids; /* a ring */
	size_t first, count;
};

void settled_init(struct settled *settled);
void settled_release(struct settled *settled);
void settled_add(struct settled *settled, struct slice id, int64_t now_mono_ms);
/* Takes the oldest that is still in flight; the caller frees it. NULL: no more. */
char *settled_take(struct settled *settled, int64_t now_mono_ms);

#endif
