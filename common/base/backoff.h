/* backoff: how long to wait before the next try: full jitter, 0 … min(limit, first * 2^tries). Uses rand. */
#ifndef FEEDMILL_BASE_BACKOFF_H
#define FEEDMILL_BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t first_ms;
	int64_t limit_ms;
	unsigned tries;
};

int64_t backoff_next_ms(struct backoff *b); /* counts the try; at least 1 */
void backoff_reset(struct backoff *b);      /* after a success */

#endif
