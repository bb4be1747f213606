/* pattern: does a name match an expression as Python writes them? The only user of PCRE2.
 *
 * As re.match(): from the start of the name on, and not necessarily to its end; \d, \w and \s are Unicode's. Whoever may send remote control
 * writes them, so a match has a bounded number of steps and little memory, whatever the expression says. */
#ifndef FEEDMILL_WORKERS_CELERY_PATTERN_H
#define FEEDMILL_WORKERS_CELERY_PATTERN_H

#include "common/base/err.h"
#include "common/base/str.h"

/* 1, 0, or -1 with ERR_INVALID: it is not understood, or takes too many steps. Both are UTF-8. */
int pattern_matches(struct slice pattern, struct slice name, struct err *err);

#endif
