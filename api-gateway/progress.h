/* progress: whether the gateway's threads move, for the service manager's watchdog. Uses gateway's parts. */
#ifndef FEEDMILL_API_GATEWAY_PROGRESS_H
#define FEEDMILL_API_GATEWAY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "api-gateway/gateway.h"

/* The threads that make rounds have made one since then, and where requests are under way, one was answered since this was
 * last true. A server that is away does not count: only a call that hangs does. The main thread's alone. */
bool progress_since(struct gateway *gateway, int64_t since_mono_ms);

#endif
