/* Counts and durations go in from any thread, the Prometheus text format comes out. */
#include "common/base/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const kind_names[] = { "counter", "gauge", "histogram" };

static const struct bound {
	int64_t us;
	const char *text; /* seconds */
} bounds[] = {
	{ 500, "0.0005" }, { 1000, "0.001" }, { 2500, "0.0025" }, { 5000, "0.005" }, { 10000, "0.01" }, { 25000, "0.025" },
	{ 50000, "0.05" }, { 100000, "0.1" }, { 250000, "0.25" }, { 500000, "0.5" }, { 1000000, "1" }, { 2500000, "2.5" },
	{ 5000000, "5" }, { 10000000, "10" }, { 30000000, "30" }, { 60000000, "60" },
};
#define BOUNDS (sizeof(bounds) / sizeof(bounds[0]))

#define UNSET INT64_MIN

struct metric {
	struct metric *next;         /* of the same family */
	char *labels;                /* "" for none */
	_Atomic int64_t value;       /* a histogram's sum in microseconds */
	_Atomic int64_t *buckets;    /* BOUNDS + 1, not cumulative; histograms alone */
	metric_read_fn *read;
	void *arg;
};

struct family { /* all metrics of one name stand together in the text */
	struct family *next;
	char *name;
	char *help;
	enum kind kind;
	struct metric *metrics;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the lists; values are atomic */
static struct family *families;

static struct family *family_get(const char *name, const char *help, enum kind kind)
{
	struct family **at = &families;

	while (*at != NULL && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	if (*at == NULL) {
		*at = mem_zalloc(sizeof(**at));
		(*at)->name = mem_strdup(name);
		(*at)->help = mem_strdup(help);
		(*at)->kind = kind;
	}
	assert((*at)->kind == kind);
	return *at;
}

static struct metric *metric_get(const char *name, const char *labels, const char *help, enum kind kind)
{
	struct metric **at;
	struct metric *m;

	if (labels == NULL)
		labels = "";
	pthread_mutex_lock(&lock);
	at = &family_get(name, help, kind)->metrics;
	while (*at != NULL && strcmp((*at)->labels, labels) != 0)
		at = &(*at)->next;
	if (*at == NULL) {
		*at = mem_zalloc(sizeof(**at));
		(*at)->labels = mem_strdup(labels);
		if (kind == HISTOGRAM)
			(*at)->buckets = mem_array(BOUNDS + 1, sizeof(*(*at)->buckets));
	}
	m = *at;
	pthread_mutex_unlock(&lock);
	return m;
}

struct metric *metric_counter(const char *name, const char *labels, const char *help)
{
	return metric_get(name, labels, help, COUNTER);
}

struct metric *metric_gauge(const char *name, const char *labels, const char *help)
{
	return metric_get(name, labels, help, GAUGE);
}

struct metric *metric_histogram(const char *name, const char *labels, const char *help)
{
	return metric_get(name, labels, help, HISTOGRAM);
}

void metric_gauge_read(const char *name, const char *labels, const char *help, metric_read_fn *read, void *arg)
{
	struct metric *m = metric_get(name, labels, help, GAUGE);

	pthread_mutex_lock(&lock);
	m->read = read;
	m->arg = arg;
	pthread_mutex_unlock(&lock);
}

void metric_add(struct metric *m, int64_t n)
{
	atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void metric_set(struct metric *m, int64_t value)
{
	atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

void metric_unset(struct metric *m)
{
	metric_set(m, UNSET);
}

void metric_observe_us(struct metric *m, int64_t microseconds)
{
	size_t i = 0;

	while (i < BOUNDS && microseconds > bounds[i].us)
		i++;
	atomic_fetch_add_explicit(&m->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->value, microseconds, memory_order_relaxed);
}

int64_t metric_value(const struct metric *m)
{
	int64_t count = 0;

	if (m->buckets == NULL)
		return atomic_load_explicit(&m->value, memory_order_relaxed);
	for (size_t i = 0; i <= BOUNDS; i++)
		count += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
	return count;
}

static void render_name(struct buf *out, const char *name, const char *suffix, const char *labels, const char *bound)
{
	buf_addf(out, "%s%s", name, suffix);
	if (labels[0] == '\0' && bound == NULL)
		return;
	buf_addf(out, "{%s", labels);
	if (bound != NULL)
		buf_addf(out, "%sle=\"%s\"", labels[0] != '\0' ? "," : "", bound);
	buf_add_char(out, '}');
}

static void render_histogram(struct buf *out, const char *name, const struct metric *m)
{
	int64_t count = 0;

	for (size_t i = 0; i <= BOUNDS; i++) {
		count += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
		render_name(out, name, "_bucket", m->labels, i < BOUNDS ? bounds[i].text : "+Inf");
		buf_addf(out, " %lld\n", (long long)count);
	}
	render_name(out, name, "_sum", m->labels, NULL);
	buf_addf(out, " %.6f\n", (double)atomic_load_explicit(&m->value, memory_order_relaxed) / 1e6);
	render_name(out, name, "_count", m->labels, NULL);
	buf_addf(out, " %lld\n", (long long)count); /* the sum of the buckets above, even while others add */
}

static void render_metric(struct buf *out, const char *name, const struct metric *m)
{
	int64_t value;

	if (m->buckets != NULL) {
		render_histogram(out, name, m);
		return;
	}
	value = metric_value(m);
	if (value == UNSET)
		return;
	render_name(out, name, "", m->labels, NULL);
	if (m->read != NULL)
		buf_addf(out, " %.17g\n", m->read(m->arg));
	else
		buf_addf(out, " %lld\n", (long long)value);
}

void metrics_render(struct buf *out)
{
	pthread_mutex_lock(&lock);
	for (const struct family *f = families; f != NULL; f = f->next) {
		buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, kind_names[f->kind]);
		for (const struct metric *m = f->metrics; m != NULL; m = m->next)
			render_metric(out, f->name, m);
	}
	pthread_mutex_unlock(&lock);
}
