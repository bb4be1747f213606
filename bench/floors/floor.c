/* Words of the command line go in; options, the time and lines with figures come out. */
#include "bench/floors/floor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

/* Memory in KiB, pages that are shared counted in part. */
static long pss_kib(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[128];
	long pss = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "Pss: %ld", &pss);
	if (file != NULL)
		fclose(file);
	return pss;
}

static void report_usage(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	floor_report("cpu_seconds",
		(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	floor_report("pss_mib", (double)pss_kib() / 1024);
}

void floor_options(int argc, char **argv)
{
	atexit(report_usage); /* those that serve are looked at from outside, and end by _Exit() */
	for (int i = 1; i < argc; i++)
		floor_want(strchr(argv[i], '=') != NULL && putenv(argv[i]) == 0, argv[i]);
}

const char *floor_text(const char *name, const char *initial)
{
	const char *value = getenv(name);

	floor_want(value != NULL || initial != NULL, name);
	return value != NULL ? value : initial;
}

long floor_number(const char *name, long initial)
{
	const char *value = getenv(name);

	return value != NULL ? strtol(value, NULL, 10) : initial;
}

double floor_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void floor_sleep_until(double when)
{
	const struct timespec until = { (time_t)when, (long)((when - (double)(time_t)when) * 1e9) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

void floor_report(const char *name, double value)
{
	printf("%s %.6g\n", name, value);
	fflush(stdout);
}

void floor_want(int is_fine, const char *what)
{
	if (is_fine)
		return;
	fprintf(stderr, "floor: failed: %s\n", what);
	exit(1);
}

void floor_story(char *out, size_t len, uint64_t seed)
{
	static const char *const words[] = { "river", "lantern", "market", "harbour", "copper", "window", "garden", "winter", "letter", "bridge",
		"orchard", "signal", "thunder", "velvet", "whistle", "meadow" };
	size_t at = 0;

	while (at < len) {
		const char *word = words[(seed >> 33) % (sizeof(words) / sizeof(words[0]))];

		for (; *word != '\0' && at < len; word++)
			out[at++] = *word;
		if (at < len)
			out[at++] = ' ';
		seed = seed * 6364136223846793005u + 1442695040888963407u;
	}
	out[at] = '\0';
}

void floor_keep_going(int epoll_fd)
{
	const struct itimerspec times = { .it_interval.tv_nsec = 5000000, .it_value.tv_nsec = 5000000 };
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	const int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	floor_want(timerfd_settime(timer_fd, 0, &times, NULL) == 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) == 0, "timer");
}

static int compare(const void *left, const void *right)
{
	const double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

double floor_quantile(double *values, size_t count, double p)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare);
	return values[(size_t)(p * (double)(count - 1) + 0.5)];
}
