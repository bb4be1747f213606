/* fanout_sizes: how many friends authors had a moment ago. Decides how a post is fanned out, never to whom: a size that is out of date
 * makes a transaction larger or smaller than it should be, no more. One thread's; half a megabyte, whatever comes. */
#ifndef FEEDMILL_WORKERS_FANOUT_SIZES_H
#define FEEDMILL_WORKERS_FANOUT_SIZES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fanout_sizes;

struct fanout_sizes *fanout_sizes_new(void);
void fanout_sizes_free(struct fanout_sizes *sizes);

/* False: not known, or not any more. */
bool fanout_sizes_get(const struct fanout_sizes *sizes, int64_t author, int64_t now_ms, size_t *size);
void fanout_sizes_put(struct fanout_sizes *sizes, int64_t author, int64_t now_ms, size_t size);

#endif
