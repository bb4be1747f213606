/* feedctl offsets: a group goes in; where it is comes out, or it is set to go on somewhere else. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/queue/backlog.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"
#include "ctl/when.h"

#define ASK_MS 10000
#define PARTITIONS_MAX 4096
#define SHOW_LINE "%-20s %9s %12s %12s %12s %12s  %s\n"
#define SET_LINE "%-20s %9s %12s %12s  %s\n"

struct offsets {
	const char *group;
	const char *topic;   /* NULL: all that the group reads */
	int64_t partition;   /* -1: all */
	const char *to;      /* of set: beginning, end, or a number */
	int64_t wall_ms;     /* of to-time */
	bool is_dry;
	struct queue *queue;
};

/* ---- what is there, of one topic */

struct there {
	const char *topic;
	struct partition_backlog *partitions; /* those that are asked for */
	size_t count;
	size_t all; /* partitions of the topic */
};

static int choose_partition(const struct offsets *offsets, struct there *there, struct err *err)
{
	if (offsets->partition < 0)
		return 0;
	if (offsets->partition >= (int64_t)there->count)
		return err_set(err, ERR_INVALID, "%s has partitions 0 to %zu", there->topic, there->count - 1);
	there->partitions[0] = there->partitions[offsets->partition];
	there->count = 1;
	return 0;
}

static int ask(const struct offsets *offsets, const char *topic, struct there *out, struct err *err)
{
	*out = (struct there){ .topic = topic, .partitions = mem_array(PARTITIONS_MAX, sizeof(*out->partitions)) };
	if (backlog_ask(offsets->queue, offsets->group, topic, out->partitions, PARTITIONS_MAX, &out->count, ASK_MS, err) == 0) {
		out->all = out->count;
		if (choose_partition(offsets, out, err) == 0)
			return 0;
	}
	free(out->partitions);
	return -1;
}

static void format(int64_t number, char out[24])
{
	if (number >= 0)
		snprintf(out, 24, "%" PRId64, number);
	else
		snprintf(out, 24, "-");
}

static int show_topic(const struct offsets *offsets, const char *topic, struct err *err)
{
	struct there there;

	if (ask(offsets, topic, &there, err) < 0)
		return -1;
	printf(SHOW_LINE, "topic", "partition", "committed", "first", "end", "lag", "next record of");
	for (size_t i = 0; i < there.count; i++) {
		const struct partition_backlog *p = &there.partitions[i];
		const struct backlog sum = backlog_sum(p, 1);
		char numbers[5][24], time[CLOCK_TEXT] = "-";

		format(p->lag.partition, numbers[0]);
		format(p->lag.committed, numbers[1]);
		format(p->lag.low, numbers[2]);
		format(p->lag.high, numbers[3]);
		format(sum.lag, numbers[4]);
		if (p->oldest_ms > 0)
			clock_rfc3339(p->oldest_ms, time);
		printf(SHOW_LINE, topic, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4],
			sum.lost > 0 ? "OUT OF RANGE: records were deleted" : sum.is_astray ? "OUT OF RANGE: behind the end" : time);
	}
	free(there.partitions);
	return 0;
}

/* ---- setting */

static int find_number(const struct offsets *offsets, const struct there *there, struct queue_place *places, struct err *err)
{
	const struct partition_lag *lag = &there->partitions[0].lag;
	int64_t number;

	if (!str_int64(slice_of(offsets->to), &number) || number < 0)
		return err_set(err, ERR_INVALID, "set takes beginning, end or an offset, not \"%s\"", offsets->to);
	if (there->count != 1)
		return err_set(err, ERR_INVALID, "%s has %zu partitions: --partition says of which that is the offset", there->topic, there->all);
	if (number < lag->low || number > lag->high)
		return err_set(err, ERR_INVALID, "partition %d of %s has the offsets %" PRId64 " to %" PRId64, (int)lag->partition, there->topic,
			lag->low, lag->high);
	places[0].offset = number;
	return 0;
}

static int find_places(const struct offsets *offsets, const struct there *there, struct queue_place *places, struct err *err)
{
	const bool is_end = offsets->to != NULL && strcmp(offsets->to, "end") == 0;

	for (size_t i = 0; i < there->count; i++) {
		const struct partition_lag *lag = &there->partitions[i].lag;

		places[i] = (struct queue_place){ lag->partition, is_end ? lag->high : lag->low };
	}
	if (offsets->to == NULL)
		return queue_offsets_at(offsets->queue, there->topic, offsets->wall_ms, places, there->count, ASK_MS, err);
	return is_end || strcmp(offsets->to, "beginning") == 0 ? 0 : find_number(offsets, there, places, err);
}

static void print_change(const char *topic, const struct partition_backlog *from, const struct queue_place *to)
{
	char numbers[3][24], what[64] = "";

	format(to->partition, numbers[0]);
	format(from->lag.committed, numbers[1]);
	format(to->offset, numbers[2]);
	if (to->offset > from->position)
		snprintf(what, sizeof(what), "%" PRId64 " skipped", to->offset - from->position);
	else if (to->offset < from->position)
		snprintf(what, sizeof(what), "%" PRId64 " come again", from->position - to->offset);
	printf(SET_LINE, topic, numbers[0], numbers[1], numbers[2], what);
}

static int set_topic(const struct offsets *offsets, const char *topic, struct err *err)
{
	struct queue_place *places = mem_array(PARTITIONS_MAX, sizeof(*places));
	struct there there;
	int rc = -1;

	if (ask(offsets, topic, &there, err) < 0)
		goto out;
	if (find_places(offsets, &there, places, err) == 0)
		rc = offsets->is_dry ? 0
			: queue_offsets_set(offsets->queue, offsets->group, topic, places, there.count, ASK_MS, err);
	if (rc == 0) {
		printf(SET_LINE, "topic", "partition", "was", offsets->is_dry ? "would be" : "is", "");
		for (size_t i = 0; i < there.count; i++)
			print_change(topic, &there.partitions[i], &places[i]);
	}
	free(there.partitions);
out:
	free(places);
	return rc;
}

/* ---- the command line; 0, or the exit code */

static int take_nothing(struct offsets *offsets, const char *text)
{
	(void)offsets;
	(void)text;
	return 0;
}

static int take_place(struct offsets *offsets, const char *text)
{
	offsets->to = text;
	return 0;
}

static int take_time(struct offsets *offsets, const char *text)
{
	if (when_read(text, clock_wall_ms(), &offsets->wall_ms))
		return 0;
	return program_usage("offsets: to-time takes " WHEN_FORMS ", not \"%s\"", text);
}

static const struct word {
	const char *name;
	int arguments;
	int (*take)(struct offsets *offsets, const char *text);
	int (*run)(const struct offsets *offsets, const char *topic, struct err *err);
} words[] = {
	{ "show", 0, take_nothing, show_topic },
	{ "set", 1, take_place, set_topic },
	{ "to-time", 1, take_time, set_topic },
};

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	}
	return NULL;
}

static int read_partition(struct offsets *offsets, const char *text)
{
	if (str_int64(slice_of(text), &offsets->partition) && offsets->partition >= 0)
		return 0;
	return program_usage("offsets: --partition takes a number, not \"%s\"", text);
}

static int read_options(struct offsets *offsets, int argc, char **argv)
{
	static const struct option options[] = {
		{ "topic", required_argument, NULL, 't' },
		{ "partition", required_argument, NULL, 'p' },
		{ "dry-run", no_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	int option, rc = 0;

	optind = 0; /* the program's own options were read by getopt too */
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 't')
			offsets->topic = optarg;
		else if (option == 'p')
			rc = read_partition(offsets, optarg);
		else if (option == 'd')
			offsets->is_dry = true;
		else
			rc = program_usage("offsets: it takes GROUP show, set or to-time, [--topic T] [--partition N] [--dry-run]");
	}
	return rc;
}

/* Retry topics are named, or left alone. */
static bool is_asked_for(const struct offsets *offsets, const struct consumer_group *row)
{
	if (strcmp(row->group, offsets->group) != 0)
		return false;
	return offsets->topic != NULL ? strcmp(row->topic, offsets->topic) == 0 : !row->is_retry;
}

static int check_group(const struct offsets *offsets)
{
	struct buf known = BUF_INIT;
	int code = 0;

	for (size_t i = 0; i < consumer_group_count; i++) {
		if (is_asked_for(offsets, &consumer_group_table[i]))
			goto out;
		buf_addf(&known, "%s %s (%s)", i > 0 ? "," : "", consumer_group_table[i].group, consumer_group_table[i].topic);
	}
	code = program_usage("offsets: no group %s%s%s; there are%s", offsets->group, offsets->topic != NULL ? " on " : "",
		offsets->topic != NULL ? offsets->topic : "", known.data);
out:
	buf_release(&known);
	return code;
}

static int read_words(struct offsets *offsets, const struct word **word, int argc, char **argv)
{
	int rc = read_options(offsets, argc, argv);

	if (rc != 0)
		return rc;
	if (argc - optind < 2)
		return program_usage("offsets: it takes a group, and show, set or to-time");
	offsets->group = argv[optind];
	*word = find_word(argv[optind + 1]);
	if (*word == NULL)
		return program_usage("offsets: no word %s; there are show, set and to-time", argv[optind + 1]);
	if (argc - optind - 2 != (*word)->arguments)
		return program_usage("offsets: %s takes %s", (*word)->name, (*word)->arguments > 0 ? "one argument" : "nothing more");
	rc = (*word)->take(offsets, (*word)->arguments > 0 ? argv[optind + 2] : NULL);
	return rc != 0 ? rc : check_group(offsets);
}

int ctl_offsets(const struct settings *settings, int argc, char **argv)
{
	struct offsets offsets = { .partition = -1 };
	const struct word *word = NULL;
	struct err err = ERR_INIT;
	int rc = topics_open(settings, &err);

	if (rc == 0 && (rc = read_words(&offsets, &word, argc, argv)) != 0)
		return rc;
	if (rc == 0)
		rc = queue_open(settings, &offsets.queue, &err);
	for (size_t i = 0; rc == 0 && i < consumer_group_count; i++) {
		if (is_asked_for(&offsets, &consumer_group_table[i]))
			rc = word->run(&offsets, consumer_group_table[i].topic, &err);
	}
	queue_close(offsets.queue);
	if (rc < 0)
		fprintf(stderr, "feedctl offsets: %s\n", err.message);
	return rc < 0 ? 1 : 0;
}
