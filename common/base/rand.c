/* A size or a limit goes in, random bytes or a random number below it come out. */
#include "common/base/rand.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A thread's bytes from the kernel that nobody has had yet: a call for each trace id would be a tenth of a request. */
struct pool {
	unsigned forks; /* at which it was filled */
	size_t left;
	unsigned char bytes[512];
};

static _Thread_local struct pool pool;
static atomic_uint forks; /* a child must not draw what its parent draws */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_fork(void)
{
	atomic_fetch_add(&forks, 1);
}

static void watch_forks(void)
{
	if (pthread_atfork(NULL, NULL, on_fork) != 0)
		abort();
}

static void ask_kernel(unsigned char *at, size_t len)
{
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

static void fill(void)
{
	pthread_once(&once, watch_forks);
	pool.forks = atomic_load(&forks);
	ask_kernel(pool.bytes, sizeof(pool.bytes));
	pool.left = sizeof(pool.bytes);
}

void rand_bytes(void *out, size_t len)
{
	unsigned char *from;

	if (len > sizeof(pool.bytes)) {
		ask_kernel(out, len);
		return;
	}
	if (pool.left < len || pool.forks != atomic_load(&forks))
		fill();
	pool.left -= len;
	from = pool.bytes + pool.left;
	memcpy(out, from, len);
	explicit_bzero(from, len); /* it may have become a secret */
}

uint64_t rand_below(uint64_t limit)
{
	uint64_t bits;

	assert(limit > 0);
	rand_bytes(&bits, sizeof(bits));
	return (uint64_t)(((unsigned __int128)bits * limit) >> 64); /* off by at most limit / 2^64: jitter, not lots */
}
