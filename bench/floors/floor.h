/* floor: what the minimal programs of the bench share. A floor does the same I/O as a part of Feedmill with nothing around it.
 *
 * Options are words NAME=value on the command line, over the environment (KAFKA_BROKERS, MYSQL_HOST …: .stack/env). Figures go to
 * standard output, a line "name value" each. Any failure ends the program: a floor that retries is no floor. */
#ifndef FEEDMILL_BENCH_FLOOR_H
#define FEEDMILL_BENCH_FLOOR_H

#include <stddef.h>
#include <stdint.h>

void floor_options(int argc, char **argv);
const char *floor_text(const char *name, const char *initial); /* initial NULL: it must be there */
long floor_number(const char *name, long initial);

double floor_now(void);                          /* seconds, monotonic */
void floor_sleep_until(double when);             /* of floor_now() */
void floor_report(const char *name, double value); /* flushed, so that a reader of a pipe sees it at once */
void floor_want(int is_fine, const char *what);  /* ends the program otherwise */

/* libmicrohttpd stands still when it gets just 128 events at once (see common/http/http_server.c): a timer among them ends that. */
void floor_keep_going(int epoll_fd);

/* Text like people's: words, so that it is stored and searched like a story. `out` has room for len + 1. */
void floor_story(char *out, size_t len, uint64_t seed);

/* Sorts `values`; the p-quantile (0 … 1) of them. */
double floor_quantile(double *values, size_t count, double p);

#endif
