/* A size or a limit goes in, random bytes or a random number below it come out. */
#include "common/base/rand.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void rand_bytes(void *out, size_t len)
{
	unsigned char *at = out;

	while (len > 0) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno != EINTR)
			abort();
		if (got > 0) {
			at += got;
			len -= (size_t)got;
		}
	}
}

uint64_t rand_below(uint64_t limit)
{
	uint64_t bits;

	assert(limit > 0);
	rand_bytes(&bits, sizeof(bits));
	return (uint64_t)(((unsigned __int128)bits * limit) >> 64); /* off by at most limit / 2^64: jitter, not lots */
}
