/* The number of failed tries goes in, the milliseconds to wait come out. */
#include "common/base/backoff.h"

#include "common/base/rand.h"

int64_t backoff_next_ms(struct backoff *b)
{
	int64_t ceiling = b->first_ms;
	int64_t wait;

	for (unsigned i = 0; i < b->tries && ceiling < b->limit_ms; i++)
		ceiling *= 2;
	if (ceiling > b->limit_ms)
		ceiling = b->limit_ms;
	b->tries++;
	wait = ceiling > 0 ? (int64_t)rand_below((uint64_t)ceiling + 1) : 0;
	return wait > 0 ? wait : 1;
}

void backoff_reset(struct backoff *b)
{
	b->tries = 0;
}
