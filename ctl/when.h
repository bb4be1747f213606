/* when: a time as an operator types it. Uses clock. */
#ifndef FEEDMILL_CTL_WHEN_H
#define FEEDMILL_CTL_WHEN_H

#include <stdbool.h>
#include <stdint.h>

/* 2026-01-31T12:00:00Z, with any offset and fraction; 2026-01-31: its first moment in UTC; 90s, 15m, 2h, 7d: so long before now. */
bool when_read(const char *text, int64_t now_ms, int64_t *wall_ms);
#define WHEN_FORMS "a time like 2026-01-31T12:00:00Z or 2026-01-31, or 90s, 15m, 2h, 7d ago"

#endif
