/* rand: random bytes from the kernel, and cheap jitter. Uses libc only. */
#ifndef FEEDMILL_BASE_RAND_H
#define FEEDMILL_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_bytes(void *out, size_t len);     /* getrandom(2): for ids and keys. Never fails (aborts) */
uint64_t rand_below(uint64_t limit);        /* 0 … limit-1, for jitter; limit > 0 */

#endif
