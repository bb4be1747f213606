/* feedctl lag: the consumer groups go in, how many records each has still to do comes out. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"

#define ASK_MS 8000
#define PARTITIONS_MAX 4096
#define LINE "%-10s %-20s %10s %14s %14s %12s\n"

/* Where the group is: at its offset, or at what is left of the beginning. */
static int64_t position(const struct partition_lag *p)
{
	return p->committed >= 0 ? p->committed : p->low;
}

static void print_line(const char *group, const char *topic, const char *partition, int64_t committed, int64_t end, int64_t lag)
{
	char numbers[3][24];

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, committed);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, end);
	snprintf(numbers[2], sizeof(numbers[2]), "%" PRId64, lag);
	printf(LINE, group, topic, partition, committed < 0 ? "-" : numbers[0], numbers[1], numbers[2]);
}

static void print_each(const struct consumer_group *group, const struct partition_lag *partitions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%d", (int)partitions[i].partition);
		print_line(group->group, group->topic, number, partitions[i].committed, partitions[i].high,
			partitions[i].high - position(&partitions[i]));
	}
}

static void print_sum(const struct consumer_group *group, const struct partition_lag *partitions, size_t count)
{
	int64_t committed = 0, end = 0;
	char number[24];

	for (size_t i = 0; i < count; i++) {
		committed += position(&partitions[i]);
		end += partitions[i].high;
	}
	snprintf(number, sizeof(number), "%zu", count);
	print_line(group->group, group->topic, number, committed, end, end - committed);
}

static int show(struct queue *queue, bool each, struct err *err)
{
	struct partition_lag *partitions = mem_array(PARTITIONS_MAX, sizeof(*partitions));
	int rc = 0;

	printf(LINE, "group", "topic", each ? "partition" : "partitions", "committed", "end", "lag");
	for (size_t i = 0; i < consumer_group_count && rc == 0; i++) {
		const struct consumer_group *group = &consumer_group_table[i];
		size_t count;

		rc = queue_lag(queue, group->group, group->topic, partitions, PARTITIONS_MAX, &count, ASK_MS, err);
		if (rc == 0 && each)
			print_each(group, partitions, count);
		else if (rc == 0)
			print_sum(group, partitions, count);
	}
	free(partitions);
	return rc;
}

int ctl_lag(const struct settings *settings, int argc, char **argv)
{
	bool each = argc == 2 && strcmp(argv[1], "--partitions") == 0;
	struct queue *queue;
	struct err err = ERR_INIT;
	int rc;

	if (argc > 1 && !each)
		return program_usage("lag: unexpected %s (it takes --partitions alone)", argv[1]);
	rc = queue_open(settings, &queue, &err);
	if (rc == 0) {
		rc = show(queue, each, &err);
		queue_close(queue);
	}
	if (rc < 0)
		fprintf(stderr, "feedctl lag: %s\n", err.message);
	return rc < 0 ? 1 : 0;
}
