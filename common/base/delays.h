/* delays: "5s, 1m, 10m" as a list. Uses err and str. */
#ifndef FEEDMILL_BASE_DELAYS_H
#define FEEDMILL_BASE_DELAYS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define DELAYS_MAX 8
#define DELAYS_INITIAL "5s, 1m, 10m" /* where no setting says */

struct delay {
	char name[12]; /* as written: part of the name of a topic */
	int64_t ms;
};

struct delays {
	struct delay list[DELAYS_MAX];
	size_t count;
};

/* Words between commas, each a number from 1 on and a unit: ms, s, m or h; none twice, at least one. -1: ERR_INVALID, out untouched. */
int delays_parse(const char *text, struct delays *out, struct err *err);

#endif
