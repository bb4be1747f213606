/* feedctl dlq: dead letters are listed, shown, sent again to where they came from, or deleted. */
#include "ctl/dlq.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"
#include "ctl/when.h"

#define RATE_DEFAULT 100
#define RATE_MAX 100000

/* What a word takes: letters of options, and how many topics and offsets are named behind it. */
static const struct word {
	const char *name;
	const char *options;
	bool needs_worker; /* what changes something is told where: a worker, or "all" */
	bool is_single;    /* one worker, not "all" */
	int offsets_min, offsets_max;
	int (*run)(struct dlq *dlq, const char *topic, struct err *err);
} words[] = {
	{ "list", "suekjr", false, false, 0, 0, dlq_list },
	{ "show", "j", true, true, 1, 1, dlq_show },
	{ "replay", "suekndr", true, false, 0, 1000, dlq_replay },
	{ "purge", "tdy", true, false, 0, 0, dlq_purge },
};

static const struct option options[] = {
	{ "since", required_argument, NULL, 's' },
	{ "until", required_argument, NULL, 'u' },
	{ "error", required_argument, NULL, 'e' },
	{ "key", required_argument, NULL, 'k' },
	{ "json", no_argument, NULL, 'j' },
	{ "replayed", no_argument, NULL, 'r' },
	{ "rate", required_argument, NULL, 'n' },
	{ "dry-run", no_argument, NULL, 'd' },
	{ "to", required_argument, NULL, 't' },
	{ "yes", no_argument, NULL, 'y' },
	{ NULL, 0, NULL, 0 },
};

/* ---- the command line; 0, or the exit code */

static int read_time(const char *option, const char *text, int64_t *out)
{
	if (when_read(text, clock_wall_ms(), out))
		return 0;
	return program_usage("dlq: --%s takes " WHEN_FORMS ", not \"%s\"", option, text);
}

static int read_rate(struct dlq *dlq, const char *text)
{
	if (str_int64(slice_of(text), &dlq->rate) && dlq->rate > 0 && dlq->rate <= RATE_MAX)
		return 0;
	return program_usage("dlq: --rate takes a number from 1 to %d, letters a second, not \"%s\"", RATE_MAX, text);
}

static int read_option(struct dlq *dlq, int option, const char *text)
{
	switch (option) {
	case 's': return read_time("since", text, &dlq->filter.since_ms);
	case 'u': return read_time("until", text, &dlq->filter.until_ms);
	case 'n': return read_rate(dlq, text);
	case 'e': dlq->filter.error = text; return 0;
	case 'k': dlq->filter.key = text; return 0;
	case 't': dlq->to = text; return 0;
	case 'j': dlq->is_json = true; return 0;
	case 'r': dlq->filter.with_replayed = true; return 0;
	case 'd': dlq->is_dry = true; return 0;
	default: dlq->is_sure = true; return 0; /* 'y' */
	}
}

static int read_options(struct dlq *dlq, const struct word *word, int argc, char **argv)
{
	int option, rc = 0;

	optind = 0; /* the program's own options were read by getopt too */
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == '?')
			return program_usage("dlq %s: see feedctl dlq --help", word->name);
		if (strchr(word->options, option) == NULL)
			return program_usage("dlq %s: it does not take %s", word->name, argv[optind - 1]);
		rc = read_option(dlq, option, optarg);
	}
	return rc;
}

static bool is_dead_letters(const char *topic)
{
	const size_t len = strlen(topic);

	return len > 4 && strcmp(topic + len - 4, ".dlq") == 0;
}

/* A worker's topic by the worker's name, or by its own. */
static bool is_named(const char *topic, const char *name)
{
	return strcmp(topic, name) == 0 || (strncmp(topic, name, strlen(name)) == 0 && strcmp(topic + strlen(name), ".dlq") == 0);
}

static int unknown_worker(const char *name)
{
	struct buf names = BUF_INIT;
	int code;

	for (size_t i = 0; i < topic_count; i++) {
		if (is_dead_letters(topic_table[i].name))
			buf_addf(&names, " %.*s", (int)strlen(topic_table[i].name) - 4, topic_table[i].name);
	}
	code = program_usage("dlq: no worker %s; those with dead letters are%s, or all", name, names.data);
	buf_release(&names);
	return code;
}

static int read_worker(struct dlq *dlq, const struct word *word, const char *name)
{
	const bool is_all = strcmp(name, "all") == 0;

	if (is_all && word->is_single)
		return program_usage("dlq %s: it takes one worker", word->name);
	for (size_t i = 0; i < topic_count && dlq->topic_count < DLQ_TOPICS_MAX; i++) {
		if (is_dead_letters(topic_table[i].name) && (is_all || is_named(topic_table[i].name, name)))
			dlq->topics[dlq->topic_count++] = topic_table[i].name;
	}
	return dlq->topic_count > 0 ? 0 : unknown_worker(name);
}

/* "17", or "3/17". */
static bool read_place(const char *text, struct queue_place *out)
{
	struct slice offset = slice_of(text);
	struct slice partition = strchr(text, '/') != NULL ? slice_cut(&offset, '/') : slice_of("0");
	int64_t number;

	if (!str_int64(partition, &number) || number < 0 || number > INT32_MAX || !str_int64(offset, &out->offset) || out->offset < 0)
		return false;
	out->partition = (int32_t)number;
	return true;
}

static int read_places(struct dlq *dlq, const struct word *word, int count, char **texts)
{
	if (count < word->offsets_min || count > word->offsets_max)
		return word->offsets_max == 0 ? program_usage("dlq %s: unexpected %s", word->name, texts[0])
			: program_usage("dlq %s: it takes %s", word->name, word->offsets_min > 0 ? "one offset" : "at most 1000 offsets");
	dlq->places = mem_array((size_t)count, sizeof(*dlq->places));
	for (int i = 0; i < count; i++) {
		if (!read_place(texts[i], &dlq->places[i]))
			return program_usage("dlq %s: \"%s\" is no offset (17, or partition/offset: 3/17)", word->name, texts[i]);
	}
	dlq->filter.places = dlq->places;
	dlq->filter.place_count = (size_t)count;
	return 0;
}

static int read_words(struct dlq *dlq, const struct word *word, int argc, char **argv)
{
	int rc = read_options(dlq, word, argc, argv);

	if (rc != 0)
		return rc;
	if (word->needs_worker && optind == argc)
		return program_usage("dlq %s: it takes a worker's name%s", word->name, word->is_single ? "" : ", or all");
	rc = read_worker(dlq, word, optind < argc ? argv[optind] : "all");
	if (rc == 0)
		rc = read_places(dlq, word, argc - optind - 1 > 0 ? argc - optind - 1 : 0, argv + optind + 1);
	if (rc == 0 && dlq->filter.place_count > 0 && dlq->topic_count != 1)
		rc = program_usage("dlq %s: offsets belong to one worker", word->name);
	if (rc == 0 && strcmp(word->name, "purge") == 0 && dlq->to == NULL)
		rc = program_usage("dlq purge: --to says what goes: an offset, " WHEN_FORMS ", or end");
	return rc;
}

/* ---- running */

/* The worst of the topics' exit codes. One that fails does not hold up the others. */
static int run_topics(struct dlq *dlq, const struct word *word)
{
	int code = 0;

	for (size_t i = 0; i < dlq->topic_count; i++) {
		struct err err = ERR_INIT;
		int rc = word->run(dlq, dlq->topics[i], &err);

		if (rc < 0)
			fprintf(stderr, "feedctl dlq %s: %s\n", word->name, err.message);
		if (rc != 0)
			code = rc < 0 ? 1 : rc;
	}
	return code;
}

static int run(struct dlq *dlq, const struct word *word)
{
	struct err err = ERR_INIT;
	int code;

	if (queue_open(dlq->settings, &dlq->queue, &err) < 0) {
		fprintf(stderr, "feedctl dlq: %s\n", err.message);
		return 1;
	}
	if (strcmp(word->name, "list") == 0 && !dlq->is_json)
		dlq_print_head();
	code = run_topics(dlq, word);
	queue_close(dlq->queue);
	return code;
}

int ctl_dlq(const struct settings *settings, int argc, char **argv)
{
	struct dlq dlq = { .settings = settings, .rate = RATE_DEFAULT };
	int code = -1;

	for (size_t i = 0; argc > 1 && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].name, argv[1]) != 0)
			continue;
		code = read_words(&dlq, &words[i], argc - 1, argv + 1);
		if (code == 0)
			code = run(&dlq, &words[i]);
	}
	free(dlq.places);
	return code >= 0 ? code : program_usage("dlq: it takes list, show, replay or purge");
}
