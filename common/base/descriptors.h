/* descriptors: how many files and sockets this process may have open. Uses libc only. */
#ifndef FEEDMILL_BASE_DESCRIPTORS_H
#define FEEDMILL_BASE_DESCRIPTORS_H

#include <stdint.h>

/* Raises the limit to `wanted`, as far as the hard limit lets it, and returns what holds now: it may be less, or more. */
int64_t descriptors_allow(int64_t wanted);

#endif
