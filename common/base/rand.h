/* rand: random bytes from the kernel, and cheap jitter. Uses libc only. */
#ifndef FEEDMILL_BASE_RAND_H
#define FEEDMILL_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_bytes(void *out, size_t len);     /* for ids and keys: getrandom(2) by way of a pool a thread, which a fork() empties. Never fails (aborts) */
uint64_t rand_below(uint64_t limit);        /* 0 … limit-1, for jitter; limit > 0 */

#endif
