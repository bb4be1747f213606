/* feedctl job: background jobs are sent, asked for, revoked, and their workers looked at, by RabbitMQ as a Celery client does. */
#include "ctl/job.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "ctl/ctl.h"
#include "ctl/when.h"

#define SECOND_MS 1000
#define SECONDS_MAX (INT64_C(365) * 86400)
#define TIMEOUT_MS 2000
#define AMQP_NAME_MAX 255

/* What a word takes: letters of options, and how many words behind it. */
static const struct word {
	const char *name;
	const char *options;
	const char *takes; /* what it says when there are others */
	int words_min, words_max;
	bool needs_broker;
	bool signs; /* what it sends, and reads what is signed: where the settings name a key */
	int (*run)(const struct settings *settings, const struct job_order *order, struct err *err);
} words[] = {
	{ "send", "qecxpw", "NAME [ARGUMENTS] [{ARGUMENTS BY NAME}]", 1, 3, true, true, job_send },
	{ "status", "", "ID", 1, 1, false, true, job_status },
	{ "revoke", "knt", "ID", 1, 1, true, true, job_revoke },
	{ "inspect", "nt", "one of what --help lists", 0, 1, true, true, job_inspect },
	{ "purge", "y", "QUEUE", 1, 1, true, false, job_purge },
};

static const struct option options[] = {
	{ "queue", required_argument, NULL, 'q' },
	{ "eta", required_argument, NULL, 'e' },
	{ "countdown", required_argument, NULL, 'c' },
	{ "expires", required_argument, NULL, 'x' },
	{ "priority", required_argument, NULL, 'p' },
	{ "wait", required_argument, NULL, 'w' },
	{ "terminate", no_argument, NULL, 'k' },
	{ "node", required_argument, NULL, 'n' },
	{ "timeout", required_argument, NULL, 't' },
	{ "yes", no_argument, NULL, 'y' },
	{ NULL, 0, NULL, 0 },
};

/* ---- the command line; 0, or the exit code */

static int read_number(const char *option, const char *text, int64_t min, int64_t max, int64_t *out)
{
	if (str_int64(slice_of(text), out) && *out >= min && *out <= max)
		return 0;
	return program_usage("job: --%s takes a number from %lld to %lld, not \"%s\"", option, (long long)min, (long long)max, text);
}

/* Seconds from now. */
static int read_moment(const char *option, const char *text, int64_t min, int64_t *wall_ms)
{
	int64_t seconds;
	const int rc = read_number(option, text, min, SECONDS_MAX, &seconds);

	if (rc == 0)
		*wall_ms = clock_wall_ms() + seconds * SECOND_MS;
	return rc;
}

static int read_eta(const char *text, int64_t *wall_ms)
{
	if (when_read(text, clock_wall_ms(), wall_ms))
		return 0;
	return program_usage("job: --eta takes " WHEN_FORMS ", not \"%s\"", text);
}

static int read_timeout(const char *text, int64_t *timeout_ms)
{
	int64_t seconds;
	const int rc = read_number("timeout", text, 1, 3600, &seconds);

	if (rc == 0)
		*timeout_ms = seconds * SECOND_MS;
	return rc;
}

static int read_option(struct job_order *order, int option, const char *text)
{
	switch (option) {
	case 'e': return read_eta(text, &order->eta_ms);
	case 'c': return read_moment("countdown", text, 0, &order->eta_ms);
	case 'x': return read_moment("expires", text, 1, &order->expires_ms);
	case 'p': return read_number("priority", text, 0, 255, &order->priority);
	case 'w': return read_number("wait", text, 0, 86400, &order->wait_s);
	case 't': return read_timeout(text, &order->timeout_ms);
	case 'q': order->queue = text; return 0;
	case 'n': order->node = text; return 0;
	case 'k': order->terminate = true; return 0;
	default: order->is_sure = true; return 0; /* 'y' */
	}
}

static int read_options(struct job_order *order, const struct word *word, int argc, char **argv)
{
	int option, rc = 0;

	optind = 0; /* the program's own options were read by getopt too */
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == '?')
			return program_usage("job %s: see feedctl job --help", word->name);
		if (strchr(word->options, option) == NULL)
			return program_usage("job %s: it does not take %s", word->name, argv[optind - 1]);
		rc = read_option(order, option, optarg);
	}
	return rc;
}

static int read_order(struct job_order *order, const struct word *word, int argc, char **argv)
{
	const int rc = read_options(order, word, argc, argv);

	if (rc != 0)
		return rc;
	if (argc - optind < word->words_min || argc - optind > word->words_max)
		return program_usage("job %s: it takes %s", word->name, word->takes);
	for (int i = optind; i < argc; i++)
		order->words[i - optind] = argv[i];
	if (word->words_min > 0 && order->words[0][0] == '\0')
		return program_usage("job %s: it takes %s, not an empty word", word->name, word->takes);
	if (order->queue != NULL && (order->queue[0] == '\0' || strlen(order->queue) > AMQP_NAME_MAX))
		return program_usage("job %s: a queue's name has 1 to %d bytes", word->name, AMQP_NAME_MAX);
	return 0;
}

/* ---- running */

static int run(const struct settings *settings, const struct word *word, struct job_order *order)
{
	struct signer *signer = NULL;
	struct err err = ERR_INIT;
	int rc;

	if (word->needs_broker && settings->amqp.url[0] == '\0') {
		fprintf(stderr, "feedctl job %s: setting amqp.url is empty: it says where RabbitMQ is\n", word->name);
		return 1;
	}
	if (word->signs && signer_open(settings, &signer, &err) < 0) {
		fprintf(stderr, "feedctl job %s: %s\n", word->name, err.message);
		return 2;
	}
	order->signer = signer;
	stop_install();
	rc = word->run(settings, order, &err);
	signer_close(signer);
	if (rc < 0)
		fprintf(stderr, "feedctl job %s: %s\n", word->name, err.message);
	return rc < 0 ? 1 : rc;
}

int ctl_job(const struct settings *settings, int argc, char **argv)
{
	struct job_order order = { .priority = -1, .wait_s = -1, .timeout_ms = TIMEOUT_MS };

	for (size_t i = 0; argc > 1 && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].name, argv[1]) == 0) {
			const int code = read_order(&order, &words[i], argc - 1, argv + 1);

			return code != 0 ? code : run(settings, &words[i], &order);
		}
	}
	return program_usage("job: it takes send, status, revoke, inspect or purge");
}
