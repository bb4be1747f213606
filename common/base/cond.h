/* cond: condition variables whose timed waits go by the monotonic clock: a wait does not last longer because somebody has set the clock.
 * Waited for and signalled by pthread itself. */
#ifndef FEEDMILL_BASE_COND_H
#define FEEDMILL_BASE_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void cond_init(pthread_cond_t *cond); /* ended by pthread_cond_destroy() */
struct timespec cond_until(int64_t mono_ms); /* a time of clock_mono_ms(), as pthread_cond_timedwait() takes it */

#endif
