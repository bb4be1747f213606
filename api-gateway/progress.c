/* Signs of life of the gateway's threads go in, a verdict for the watchdog comes out. */
#include "api-gateway/progress.h"

#include "api-gateway/meters.h"
#include "api-gateway/results.h"
#include "api-gateway/watch.h"
#include "common/http/http_server.h"

static int64_t answered; /* when all moved last */

bool progress_since(struct gateway *gateway, int64_t since_mono_ms)
{
	const int64_t now = meters_total();

	if (results_beat_ms(gateway->results) <= since_mono_ms || watch_beat_ms(gateway->watch) <= since_mono_ms)
		return false;
	if (http_server_under_way(gateway->server) > 0 && now == answered)
		return false;
	answered = now;
	return true;
}
