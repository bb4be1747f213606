/* metrics: counters, gauges and histograms in the Prometheus text format 0.0.4. Uses buf.
 *
 * A metric is made once, at start, and lives as long as the process; asking for the same name and labels again gives the
 * same one. Changing it is one atomic operation, from any thread. Labels are written as they are rendered
 * (`worker="fanout"`), and their values are ours: never an id or anything else from outside. */
#ifndef FEEDMILL_BASE_METRICS_H
#define FEEDMILL_BASE_METRICS_H

#include <stdint.h>

#include "common/base/buf.h"

struct metric;

struct metric *metric_counter(const char *name, const char *labels, const char *help); /* labels NULL: none */
struct metric *metric_gauge(const char *name, const char *labels, const char *help);
struct metric *metric_histogram(const char *name, const char *labels, const char *help); /* seconds, 0.0005 … 60 */

/* A gauge whose value is asked for when it is rendered. */
typedef double metric_read_fn(void *arg);
void metric_gauge_read(const char *name, const char *labels, const char *help, metric_read_fn *read, void *arg);

void metric_add(struct metric *m, int64_t n);
void metric_set(struct metric *m, int64_t value);
void metric_unset(struct metric *m); /* a gauge: left out of the text until it is set again */
void metric_observe_us(struct metric *m, int64_t microseconds);
int64_t metric_value(const struct metric *m); /* counter or gauge; a histogram's count */

void metrics_render(struct buf *out);

#endif
