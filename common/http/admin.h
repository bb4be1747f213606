/* admin: the port for operators of every program: /healthz, /readyz, /metrics. Uses http_server, metrics.
 *
 * A check is a line of /readyz: {"status":"ready"|"not ready","checks":{"kafka":"ok",…}}, 200 or 503. A check that is not `fatal`
 * is shown and does not count. Checks are called on the admin thread and must not block: they read what others keep. */
#ifndef FEEDMILL_HTTP_ADMIN_H
#define FEEDMILL_HTTP_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"

typedef bool health_fn(void *arg, struct err *why); /* false: why says what is missing */

struct health_check {
	const char *name;
	bool fatal;   /* for readiness */
	bool live;    /* also for liveness (/healthz) */
	health_fn *ask;
	void *arg;
};

struct admin;
int admin_start(const char *listen, const struct health_check *checks, size_t count, struct admin **out, struct err *err); /* copies checks */
int admin_port(const struct admin *admin);
void admin_stop(struct admin *admin);

#endif
