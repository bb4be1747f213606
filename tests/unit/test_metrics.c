/* metrics: the text format, one metric a name and labels, and counting from several threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/metrics.h"

static void has(const char *line)
{
	struct buf out = BUF_INIT;

	metrics_render(&out);
	if (strstr(out.data, line) == NULL)
		fail_msg("expected:\n%s\nin:\n%s", line, out.data);
	buf_release(&out);
}

static void counters_and_gauges_are_rendered(void **state)
{
	struct metric *plain = metric_counter("t_total", NULL, "Things.");
	struct metric *gauge = metric_gauge("t_level", "place=\"here\"", "How much.");

	(void)state;
	has("# HELP t_total Things.\n# TYPE t_total counter\nt_total 0\n");
	metric_add(plain, 3);
	metric_add(plain, 4);
	metric_set(gauge, 9);
	metric_set(gauge, -2);
	assert_int_equal(7, metric_value(plain));
	assert_int_equal(-2, metric_value(gauge));
	has("\nt_total 7\n");
	has("# HELP t_level How much.\n# TYPE t_level gauge\nt_level{place=\"here\"} -2\n");
}

static void a_gauge_that_is_unset_is_left_out(void **state)
{
	struct metric *one = metric_gauge("u_level", "place=\"here\"", "How much."), *other = metric_gauge("u_level", "place=\"there\"", "How much.");

	(void)state;
	metric_set(one, 5);
	metric_set(other, 6);
	metric_unset(one);
	has("# TYPE u_level gauge\nu_level{place=\"there\"} 6\n");
	metric_set(one, 7);
	has("# TYPE u_level gauge\nu_level{place=\"here\"} 7\nu_level{place=\"there\"} 6\n");
}

static void the_same_name_and_labels_are_one_metric(void **state)
{
	struct metric *a = metric_counter("same_total", "w=\"a\"", "Same.");
	struct metric *b = metric_counter("same_total", "w=\"b\"", "Same.");

	(void)state;
	metric_counter("between_total", NULL, "Made in between.");
	assert_ptr_equal(a, metric_counter("same_total", "w=\"a\"", "Same."));
	assert_ptr_not_equal(a, b);
	metric_add(a, 1);
	metric_add(metric_counter("same_total", "w=\"c\"", "Same."), 5);
	/* one family stands together under one HELP, whenever its members were made */
	has("# TYPE same_total counter\nsame_total{w=\"a\"} 1\nsame_total{w=\"b\"} 0\nsame_total{w=\"c\"} 5\n");
}

static void histograms_are_cumulative(void **state)
{
	struct metric *h = metric_histogram("t_seconds", "op=\"x\"", "Time.");

	(void)state;
	metric_observe_us(h, 500);      /* at a bound: inside */
	metric_observe_us(h, 501);
	metric_observe_us(h, 61000000); /* above all bounds */
	assert_int_equal(3, metric_value(h));
	has("# TYPE t_seconds histogram\nt_seconds_bucket{op=\"x\",le=\"0.0005\"} 1\nt_seconds_bucket{op=\"x\",le=\"0.001\"} 2\n");
	has("t_seconds_bucket{op=\"x\",le=\"60\"} 2\nt_seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n"
	    "t_seconds_sum{op=\"x\"} 61.001001\nt_seconds_count{op=\"x\"} 3\n");
	metric_observe_us(metric_histogram("bare_seconds", NULL, "Bare."), 1);
	has("bare_seconds_bucket{le=\"0.0005\"} 1\n");
	has("bare_seconds_sum 0.000001\nbare_seconds_count 1\n");
}

static double half(void *arg)
{
	return *(int *)arg / 2.0;
}

static void a_read_gauge_asks_when_it_is_rendered(void **state)
{
	static int value = 3;

	(void)state;
	metric_gauge_read("asked", NULL, "Asked.", half, &value);
	has("# TYPE asked gauge\nasked 1.5\n");
	value = 8;
	has("\nasked 4\n");
}

static void *count(void *arg)
{
	for (int i = 0; i < 50000; i++) {
		metric_add(metric_counter("threads_total", NULL, "Threads."), 1);
		metric_observe_us(arg, i);
	}
	return NULL;
}

static void threads_lose_no_count(void **state)
{
	struct metric *h = metric_histogram("threads_seconds", NULL, "Threads.");
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, count, h));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(200000, metric_value(metric_counter("threads_total", NULL, "Threads.")));
	assert_int_equal(200000, metric_value(h));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_and_gauges_are_rendered),
		cmocka_unit_test(a_gauge_that_is_unset_is_left_out),
		cmocka_unit_test(the_same_name_and_labels_are_one_metric),
		cmocka_unit_test(histograms_are_cumulative),
		cmocka_unit_test(a_read_gauge_asks_when_it_is_rendered),
		cmocka_unit_test(threads_lose_no_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
