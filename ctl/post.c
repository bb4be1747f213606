/* feedctl post: a participant, a subject and a story go to the gateway, its answer is printed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/program.h"
#include "common/model/participant.h"
#include "ctl/ctl.h"
#include "ctl/gateway_client.h"

#define WAIT_MAX_S 3600

enum { PARTICIPANT, SUBJECT, STORY, WORDS };

struct post_options {
	const char *words[WORDS];
	int64_t author;
	int64_t wait_s; /* -1: not asked for */
};

static int read_wait(const char *text, struct post_options *out)
{
	if (text == NULL || !str_int64(slice_of(text), &out->wait_s) || out->wait_s < 0 || out->wait_s > WAIT_MAX_S)
		return program_usage("post: --wait takes a number of seconds, 0 to %d", WAIT_MAX_S);
	return 0;
}

/* 0, or the exit code. What follows "--" is a word whatever it looks like. */
static int read_options(int argc, char **argv, struct post_options *out)
{
	int count = 0, rc = 0;
	bool only_words = false;

	*out = (struct post_options){ .wait_s = -1 };
	for (int i = 1; i < argc && rc == 0; i++) {
		if (!only_words && strcmp(argv[i], "--") == 0)
			only_words = true;
		else if (!only_words && strcmp(argv[i], "--wait") == 0)
			rc = read_wait(i + 1 < argc ? argv[++i] : NULL, out);
		else if (!only_words && strncmp(argv[i], "--wait=", 7) == 0)
			rc = read_wait(argv[i] + 7, out);
		else if (!only_words && strncmp(argv[i], "--", 2) == 0)
			return program_usage("post: unknown option %s", argv[i]);
		else if (count++ < WORDS)
			out->words[count - 1] = argv[i];
	}
	if (rc != 0)
		return rc;
	if (count != WORDS)
		return program_usage("post: it takes PARTICIPANT SUBJECT STORY [--wait N], not %d words", count);
	if (!link_parse(slice_of(out->words[PARTICIPANT]), &out->author))
		return program_usage("post: %s is no participant: 7 or /participant/7", out->words[PARTICIPANT]);
	if (!str_utf8_valid(slice_of(out->words[SUBJECT])) || !str_utf8_valid(slice_of(out->words[STORY])))
		return program_usage("post: subject and story must be UTF-8");
	return 0;
}

static int send_post(struct gateway_client *gateway, const struct post_options *options, struct err *err)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	char path[64];
	int rc;

	json_open(&w, NULL, '{');
	json_put_string(&w, "subject", slice_of(options->words[SUBJECT]));
	json_put_string(&w, "story", slice_of(options->words[STORY]));
	json_close(&w, '}');
	snprintf(path, sizeof(path), "/participant/%" PRId64 "/outbound", options->author);
	rc = gateway_ask(gateway, "POST", path, body.data, err);
	if (rc == 0 && gateway->status != 200 && gateway->status != 202)
		rc = gateway_problem(gateway, err);
	buf_release(&body);
	return rc;
}

int ctl_post(const struct settings *settings, int argc, char **argv)
{
	struct post_options options;
	struct gateway_client gateway;
	struct err err = ERR_INIT;
	int rc = read_options(argc, argv, &options);

	if (rc != 0)
		return rc;
	if (gateway_client_open(&gateway, settings, options.wait_s, &err) == 0) {
		rc = send_post(&gateway, &options, &err);
		if (rc == 0)
			printf("%s\n", gateway.answer.data);
		gateway_client_close(&gateway);
	}
	if (err.kind == ERR_NONE)
		return 0;
	fprintf(stderr, "feedctl post: %s\n", err.message);
	return 1;
}
