/* mem: memory, or the end of the process. Uses libc only.
 *
 * These never return NULL. When memory is out the process writes one line to standard error and aborts: to a system in
 * which kill -9 loses nothing that is safer than a thousand untested error paths. Sizes that come from outside are
 * bounded before they get here. What they return is freed with free(). */
#ifndef FEEDMILL_BASE_MEM_H
#define FEEDMILL_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);                            /* all bytes zero */
void *mem_array(size_t count, size_t size);               /* zeroed; aborts when count * size overflows */
void *mem_grow(void *old, size_t count, size_t size);     /* realloc of an array */
char *mem_strdup(const char *text);
char *mem_dup(const void *bytes, size_t len);             /* a copy with a NUL behind it */


/* What malloc keeps of what was freed: so many pools for all threads together (by default up to 8 a processor, each as large as its largest
 * moment), and pieces of `large` bytes or more go back to the system at once, always (by default only until the first is freed). Before
 * there are threads. */
void mem_keep_little(int pools, int large);
/* What was freed goes back to the system, page by page, wherever in the pools it lies; malloc alone gives back the ends of its pools. For
 * now and then: it holds each pool for about a millisecond in 10 MiB. */
void mem_give_back(void);

#endif
