/* feedctl lag: the consumer groups go in; how many records each has still to do, and whether some will be lost, comes out. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/queue/backlog.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"

#define ASK_MS 8000
#define PARTITIONS_MAX 4096
#define EVERY_DEFAULT 5
#define EVERY_MAX 86400
#define EXIT_AT_RISK 3
#define LINE "%-14s %-20s %10s %14s %14s %12s %8s %9s  %s\n"

struct lag_options {
	bool each, watch;
	int64_t every_s;
};

/* ---- a line */

/* "3d04h", "2h05m", "15m07s", "7s"; "-" for nothing. */
static void format_age(int64_t oldest_ms, int64_t now_ms, char out[24])
{
	const int64_t s = now_ms > oldest_ms ? (now_ms - oldest_ms) / 1000 : 0;

	if (oldest_ms <= 0)
		snprintf(out, 24, "-");
	else if (s >= 86400)
		snprintf(out, 24, "%" PRId64 "d%02dh", s / 86400, (int)(s / 3600 % 24));
	else if (s >= 3600)
		snprintf(out, 24, "%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
	else if (s >= 60)
		snprintf(out, 24, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else
		snprintf(out, 24, "%ds", (int)s);
}

/* A sink of a worker ("relay.redis") that was never on has nothing to lose: nobody waits for it. */
static bool is_off(const struct consumer_group *group, bool has_begun)
{
	return !has_begun && strchr(group->group, '.') != NULL;
}

/* What an operator has to know of it; "" when all is well. */
static const char *state_of(const struct backlog *backlog, double used, char out[64])
{
	if (backlog->lost > 0)
		snprintf(out, 64, "LOST %" PRId64 ": see feedctl offsets", backlog->lost);
	else if (backlog->is_astray)
		snprintf(out, 64, "BEHIND THE END: see feedctl offsets");
	else if (used >= BACKLOG_WARN)
		snprintf(out, 64, "AT RISK");
	else
		out[0] = '\0';
	return out;
}

/* True when records are lost, or will be. */
static bool print_line(const struct consumer_group *group, const char *partition, const struct backlog *backlog, bool has_begun,
	int64_t retention_ms)
{
	const bool off = is_off(group, has_begun);
	const int64_t now_ms = clock_wall_ms();
	const double used = backlog_used(backlog, retention_ms, now_ms);
	char numbers[3][24], age[24], part[16], state[64];

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, backlog->position);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, backlog->end);
	snprintf(numbers[2], sizeof(numbers[2]), "%" PRId64, backlog->lag);
	format_age(backlog->oldest_ms, now_ms, age);
	snprintf(part, sizeof(part), "%d%%", (int)(used * 100));
	printf(LINE, group->group, group->topic, partition, backlog->is_begun ? numbers[0] : "-", numbers[1],
		numbers[2], age, retention_ms > 0 ? part : "-", off ? "never ran" : state_of(backlog, used, state));
	return !off && state[0] != '\0';
}

static bool print_each(const struct consumer_group *group, const struct partition_backlog *partitions, size_t count, int64_t retention_ms)
{
	const bool has_begun = backlog_sum(partitions, count).is_begun;
	bool at_risk = false;

	for (size_t i = 0; i < count; i++) {
		const struct backlog one = backlog_sum(&partitions[i], 1);
		char number[16];

		snprintf(number, sizeof(number), "%d", (int)partitions[i].lag.partition);
		at_risk |= print_line(group, number, &one, has_begun, retention_ms);
	}
	return at_risk;
}

static bool print_sum(const struct consumer_group *group, const struct partition_backlog *partitions, size_t count, int64_t retention_ms)
{
	const struct backlog sum = backlog_sum(partitions, count);
	char number[24];

	snprintf(number, sizeof(number), "%zu", count);
	return print_line(group, number, &sum, sum.is_begun, retention_ms);
}

/* ---- all groups */

static int show_group(struct queue *queue, const struct consumer_group *group, bool each, struct partition_backlog *partitions, bool *at_risk,
	struct err *err)
{
	struct topic_state topic;
	size_t count;

	if (queue_topic_state(queue, group->topic, &topic, ASK_MS, err) < 0 ||
		backlog_ask(queue, group->group, group->topic, partitions, PARTITIONS_MAX, &count, ASK_MS, err) < 0)
		return -1;
	if (each)
		*at_risk |= print_each(group, partitions, count, topic.retention_ms);
	else
		*at_risk |= print_sum(group, partitions, count, topic.retention_ms);
	return 0;
}

/* The exit code: 0, 3, or 1, which is told. */
static int show(struct queue *queue, bool each)
{
	struct partition_backlog *partitions = mem_array(PARTITIONS_MAX, sizeof(*partitions));
	struct err err = ERR_INIT;
	bool at_risk = false;
	int rc = 0;

	printf(LINE, "group", "topic", each ? "partition" : "partitions", "committed", "end", "lag", "oldest", "retention", "state");
	for (size_t i = 0; i < consumer_group_count && rc == 0; i++)
		rc = show_group(queue, &consumer_group_table[i], each, partitions, &at_risk, &err);
	fflush(stdout); /* whoever reads us in a pipe follows too */
	free(partitions);
	if (rc < 0)
		fprintf(stderr, "feedctl lag: %s\n", err.message);
	return rc < 0 ? 1 : at_risk ? EXIT_AT_RISK : 0;
}

/* At a terminal each picture takes the place of the one before; elsewhere it follows it. What is away may come back. */
static int watch(struct queue *queue, const struct lag_options *options)
{
	char time[CLOCK_TEXT];
	int code;

	do {
		clock_rfc3339(clock_wall_ms(), time);
		printf("%s%s, every %" PRId64 " s\n", isatty(STDOUT_FILENO) ? "\033[H\033[2J" : "", time, options->every_s);
		code = show(queue, options->each);
		if (!isatty(STDOUT_FILENO))
			printf("\n");
		fflush(stdout);
	} while (!ferror(stdout) && !stop_wait(options->every_s * 1000));
	return code;
}

/* ---- the command line */

/* 0, or the exit code. */
static int read_options(int argc, char **argv, struct lag_options *out)
{
	static const struct option options[] = {
		{ "partitions", no_argument, NULL, 'p' },
		{ "watch", no_argument, NULL, 'w' },
		{ "every", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*out = (struct lag_options){ .every_s = EVERY_DEFAULT };
	optind = 0; /* the program's own options were read by getopt too */
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == '?')
			return program_usage("lag: it takes [--partitions] [--watch] [--every S]");
		out->each |= option == 'p';
		out->watch |= option == 'w' || option == 'e';
		if (option == 'e' && (!str_int64(slice_of(optarg), &out->every_s) || out->every_s < 1 || out->every_s > EVERY_MAX))
			return program_usage("lag: --every takes a number of seconds from 1 to %d, not \"%s\"", EVERY_MAX, optarg);
	}
	return optind == argc ? 0 : program_usage("lag: unexpected %s", argv[optind]);
}

int ctl_lag(const struct settings *settings, int argc, char **argv)
{
	struct lag_options options;
	struct queue *queue;
	struct err err = ERR_INIT;
	int code = read_options(argc, argv, &options);

	if (code != 0)
		return code;
	if (queue_open(settings, &queue, &err) < 0) {
		fprintf(stderr, "feedctl lag: %s\n", err.message);
		return 1;
	}
	code = options.watch ? watch(queue, &options) : show(queue, options.each);
	queue_close(queue);
	return code;
}
