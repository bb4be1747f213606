/* log: one event a line on standard error, logfmt: time, level, program, what happened, then key=value. Uses libc, buf.
 *
 *   log_info("record rejected", log_str("topic", topic), log_int("partition", p), log_err(&err));
 *   → time=2026-01-31T12:00:00.123Z level=info program=feed-worker event="record rejected" topic=feed.posts …
 *
 * Values are escaped, so that what comes from outside can't forge a line. A line is one write(2); a failing write is
 * dropped, never waited for. Programs log; libraries return errors and log at debug alone. No secrets, no bodies. */
#ifndef FEEDMILL_BASE_LOG_H
#define FEEDMILL_BASE_LOG_H

#include <stdbool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_field {
	const char *key; /* NULL: no field */
	struct slice text;
	int64_t number;  /* when text.data is NULL */
};

void log_open(const char *program, const char *worker); /* worker NULL: left out. Keeps both pointers */
int log_set_level(const char *name);                    /* error, warn, info, debug; -1: unknown name */
bool log_enabled(enum log_level level);                 /* worth making fields for: ask first where many lines would be made */
const char *log_level_names(void);                      /* "error|warn|info|debug" */

struct log_field log_str(const char *key, const char *value); /* NULL value: the field is left out */
struct log_field log_slice(const char *key, struct slice value);
struct log_field log_int(const char *key, int64_t value);
struct log_field log_err(const struct err *err); /* error="…" */

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

#define LOG_AT(level, event, ...)                                                                        \
	log_write(level, event, (const struct log_field[]){ { NULL, { NULL, 0 }, 0 } __VA_OPT__(, ) __VA_ARGS__ }, \
		sizeof((const struct log_field[]){ { NULL, { NULL, 0 }, 0 } __VA_OPT__(, ) __VA_ARGS__ }) /   \
			sizeof(struct log_field))
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
