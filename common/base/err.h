/* err: what went wrong, in words for a person and in a kind for the program. Uses libc only.
 *
 * A function that can fail returns 0 or -1 and takes a `struct err *` as its last argument. On success the err is
 * untouched; on failure its kind is set and its message says what was wrong, where, and where it helps what to do.
 * The kinds are the whole vocabulary between libraries and the engine: see workers/engine/settle.c. */
#ifndef FEEDMILL_BASE_ERR_H
#define FEEDMILL_BASE_ERR_H

enum err_kind {
	ERR_NONE,
	ERR_INVALID,     /* the input is wrong: the same input fails for ever */
	ERR_UNAVAILABLE, /* a dependency is away: nothing has happened, try later */
	ERR_CONFLICT,    /* lost a race (deadlock, lock wait, duplicate key): do the whole unit again, at once */
	ERR_UNKNOWN,     /* sent, and the outcome is not known (lost COMMIT, timed-out produce): look before doing again */
	ERR_FULL,        /* a bounded queue or a disk is full: nothing has happened, try later */
	ERR_FATAL,       /* this process can't go on: fenced, wrong schema, broken configuration */
};

struct err {
	enum err_kind kind;
	char message[376];
};

#define ERR_INIT { ERR_NONE, "" }

/* Sets both and returns -1, so that a failing function ends with `return err_set(…)`. */
int err_set(struct err *err, enum err_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts words before the message ("while …: "), keeps the kind; returns -1. */
int err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

void err_clear(struct err *err);
const char *err_kind_name(enum err_kind kind); /* "invalid", "unavailable", …: for logs and metrics */

#endif
