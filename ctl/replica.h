/* replica: one place among the processes that `feedctl up` runs: who is there now, who comes next, and its lines. Uses child. */
#ifndef FEEDMILL_CTL_REPLICA_H
#define FEEDMILL_CTL_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/backoff.h"
#include "ctl/child.h"
#include "ctl/supervise.h"

struct replica {
	char name[48];          /* "fanout.2" */
	const struct kind *kind;
	int number;             /* from 1 */
	struct child now, next; /* next: in a rolling restart, until it is now */
	struct backoff backoff;
	int64_t start_at_ms;    /* monotonic; 0: nothing is to be started */
	int64_t dropped_lines;  /* since the last one that our reader had room for */
	int shown_level;        /* lines below it are not passed on; see log.h */
};

void replica_init(struct replica *replica, const struct kind *kind, int number);
bool replica_is_gateway(const struct replica *replica);
/* True when two of it can't be there at once. */
bool replica_is_named(const struct replica *replica, const struct settings *settings);

/* Starts child, which is now or next. */
int replica_start(struct replica *replica, struct child *child, const struct supervised *what, const struct settings *settings,
	struct err *err);

line_fn replica_line; /* arg: the replica. Passes the line on with its name, and sees when the child is ready */

#endif
