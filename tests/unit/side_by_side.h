/* side_by_side: tests that mostly wait, several at a time, each part of them in a process of its own. */
#ifndef FEEDMILL_TESTS_SIDE_BY_SIDE_H
#define FEEDMILL_TESTS_SIDE_BY_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Runs the tests and says what came of them, one part after another. The number of failed tests; a part that died counts as one.
 * No thread may run yet. */
int side_by_side_run(const char *name, const struct CMUnitTest *tests, size_t count);
#define side_by_side(name, tests) side_by_side_run(name, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
