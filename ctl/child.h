/* child: one process of ours: started, listened to, told to stop, and buried. Uses libc, buf, clock.
 *
 * A child never outlives us: the kernel kills it when we are gone, however that came. It is in a process group of its own, so that
 * a Ctrl-C at the terminal reaches us alone. Both its outputs are one pipe to us. One thread may use this. */
#ifndef FEEDMILL_CTL_CHILD_H
#define FEEDMILL_CTL_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

#define CHILD_VARIABLES 4

struct child_plan {
	const char *const *argv; /* argv[0] is a path, or a name that PATH knows; ends with NULL */
	struct {
		const char *name;
		const char *value;
	} variables[CHILD_VARIABLES]; /* beside our own environment; name NULL: no more */
	int socket;              /* a listening socket to hand down (LISTEN_FDS, LISTEN_PID), or -1 */
};

struct child {
	pid_t pid;          /* 0: there is none */
	int out;            /* what it writes; non-blocking, for poll(2). -1: it has closed it */
	struct buf text;    /* of a line that has not ended */
	int64_t started_ms; /* monotonic clock, as the others */
	int64_t asked_ms;   /* to stop; 0: not */
	bool is_killed;     /* it did not stop in time */
	bool is_ready;      /* the owner's to set; false again when it has ended */
};

int child_start(struct child *child, const struct child_plan *plan, struct err *err);

/* Reads what is there; `line` is called for each whole line (without its end), and for a rest when the pipe ends. */
typedef void line_fn(void *arg, struct child *child, struct slice line);
void child_read(struct child *child, line_fn *line, void *arg);

void child_ask(struct child *child);  /* SIGTERM, once */
void child_kill(struct child *child); /* SIGKILL */

/* True when it has ended: *status as waitpid(2)'s, its last lines read, and pid is 0. */
bool child_ended(struct child *child, int *status, line_fn *line, void *arg);

#endif
