/* fault: named points at which a build for the fault tests (make faults, -DFEEDMILL_FAULTS) dies, stops, or fails; in any other
 * build they are nothing, and no code of this module is linked. Uses libc only.
 *
 *   FAULT=name:N:kill|stop|err[,…]   at the N-th passage of that point: SIGKILL, SIGSTOP, or FAULT_FAILS() is true, once
 *   SABOTAGE=name[,…]                a protection is off, to see that the checker finds what then goes wrong: ledger, offset,
 *                                    409, report, plan
 *
 * A name says the place: what has been done last, seen from the log that replays it. tests/faults/test_points.py has a test for
 * each, and fails for a point that it does not know. */
#ifndef FEEDMILL_BASE_FAULT_H
#define FEEDMILL_BASE_FAULT_H

#include <stdbool.h>

#ifdef FEEDMILL_FAULTS

bool fault_at(const char *point);     /* any thread; true: fail here */
bool fault_is_off(const char *guard); /* SABOTAGE names it */

#define FAULT_POINT(point) ((void)fault_at(point))
#define FAULT_FAILS(point) fault_at(point)
#define SABOTAGED(guard) fault_is_off(guard)

#else

#define FAULT_POINT(point) ((void)0)
#define FAULT_FAILS(point) false
#define SABOTAGED(guard) false

#endif

#endif
