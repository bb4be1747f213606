/* feedctl tail: a topic goes in, its records come out, one a line, as they arrive. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/base/str.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"
#include "ctl/visible.h"

#define ASK_MS 8000
#define POLL_MS 200 /* how late a stop signal is seen */
#define COUNT_MAX INT64_C(1000000000)
#define TIMEOUT_MAX_S INT64_C(1000000)

struct tail_options {
	const char *topic;
	bool from_beginning;
	int64_t count;     /* 0: no end */
	int64_t timeout_s; /* 0: no end */
};

static int read_number(const char *option, const char *text, int64_t limit, int64_t *out)
{
	if (str_int64(slice_of(text), out) && *out > 0 && *out <= limit)
		return 0;
	return program_usage("tail: --%s takes a number from 1 to %" PRId64 ", not %s", option, limit, text);
}

/* 0, or the exit code. */
static int read_options(int argc, char **argv, struct tail_options *out)
{
	static const struct option options[] = {
		{ "from-beginning", no_argument, NULL, 'b' },
		{ "count", required_argument, NULL, 'c' },
		{ "timeout", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int option, rc = 0;

	*out = (struct tail_options){ 0 };
	optind = 0; /* the program's own options were read by getopt too */
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'b')
			out->from_beginning = true;
		else if (option == 'c')
			rc = read_number("count", optarg, COUNT_MAX, &out->count);
		else if (option == 't')
			rc = read_number("timeout", optarg, TIMEOUT_MAX_S, &out->timeout_s);
		else
			return program_usage("tail: it takes TOPIC [--from-beginning] [--count N] [--timeout S]");
	}
	if (rc == 0 && argc - optind != 1)
		return program_usage("tail: it takes one TOPIC, not %d", argc - optind);
	if (rc == 0)
		out->topic = argv[optind];
	return rc;
}

static void print_record(const struct record *record, struct buf *line)
{
	char time[CLOCK_TEXT];

	clock_rfc3339(record->timestamp_ms, time);
	buf_reset(line);
	buf_addf(line, "partition=%d offset=%" PRId64 " time=%s key=", (int)record->partition, record->offset, time);
	visible_add(line, record->key);
	for (size_t i = 0; i < record->header_count; i++) {
		buf_add_char(line, ' ');
		visible_add(line, slice_of(record->headers[i].name));
		buf_add_char(line, '=');
		visible_add(line, record->headers[i].value);
	}
	buf_add_str(line, " value=");
	visible_add(line, record->value);
	puts(line->data);
	fflush(stdout); /* whoever reads us in a pipe follows too */
}

static int64_t ms_left(const struct tail_options *options, int64_t began_ms)
{
	int64_t left = began_ms + options->timeout_s * 1000 - clock_mono_ms();

	if (options->timeout_s == 0 || left > POLL_MS)
		return POLL_MS;
	return left > 0 ? left : 0;
}

/* 0: done, 1: the time was up before --count records came, -1: failed. */
static int follow(struct consumer *consumer, const struct tail_options *options, struct err *err)
{
	struct buf line = BUF_INIT;
	int64_t began_ms = clock_mono_ms();
	int64_t seen = 0;
	int got = 0;

	while (got >= 0 && !stop_requested() && (options->count == 0 || seen < options->count) && ms_left(options, began_ms) > 0) {
		struct record record;

		got = consumer_poll(consumer, ms_left(options, began_ms), &record, err);
		if (got <= 0)
			continue;
		print_record(&record, &line);
		record_release(&record);
		seen++;
	}
	buf_release(&line);
	if (got < 0)
		return -1;
	return seen < options->count && !stop_requested() ? 1 : 0;
}

static int run(struct queue *queue, const struct tail_options *options, struct err *err)
{
	const struct consumer_options consumer_options = { .topic = options->topic };
	struct consumer *consumer;
	int rc;

	if (consumer_open(queue, &consumer_options, &consumer, err) < 0)
		return -1;
	rc = consumer_assign(consumer, options->topic, QUEUE_EVERY, options->from_beginning ? QUEUE_BEGINNING : QUEUE_END, ASK_MS, err);
	if (rc == 0)
		rc = follow(consumer, options, err);
	consumer_close(consumer);
	return rc;
}

static void say_failed(const struct err *err)
{
	fprintf(stderr, "feedctl tail: %s\n", err->message);
	if (err->kind != ERR_INVALID)
		return;
	fprintf(stderr, "Feedmill's topics:");
	for (size_t i = 0; i < topic_count; i++)
		fprintf(stderr, " %s", topic_table[i].name);
	fprintf(stderr, "\n");
}

int ctl_tail(const struct settings *settings, int argc, char **argv)
{
	struct tail_options options;
	struct queue *queue;
	struct err err = ERR_INIT;
	int rc = read_options(argc, argv, &options);

	if (rc != 0)
		return rc;
	rc = queue_open(settings, &queue, &err);
	if (rc == 0) {
		rc = run(queue, &options, &err);
		queue_close(queue);
	}
	if (rc < 0)
		say_failed(&err);
	return rc == 0 ? 0 : 1;
}
