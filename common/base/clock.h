/* clock: the two clocks, and times as text. Uses libc only.
 * Deadlines and durations use the monotonic clock, what is stored or shown the wall clock. */
#ifndef FEEDMILL_BASE_CLOCK_H
#define FEEDMILL_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_ms(void); /* since 1970-01-01T00:00Z */

#define CLOCK_TEXT 32
void clock_rfc3339(int64_t wall_ms, char out[CLOCK_TEXT]); /* 2026-01-31T12:00:00.123Z */
void clock_date(int64_t wall_ms, char out[CLOCK_TEXT]);    /* 2026-01-31 in the process's zone (TZ) */

/* RFC 3339: "full-date" (2026-01-31, a day that exists), and "date-time" (any offset, fraction ignored past ms). */
bool clock_is_date(struct slice text);
bool clock_parse_rfc3339(struct slice text, int64_t *wall_ms);

#endif
