/* feedctl webhook: subscriptions to product events by HTTP are added, shown, enabled, removed and tried, in the store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/store/schema.h"
#include "common/store/webhooks.h"
#include "ctl/ctl.h"

#define TEST_MS 30000 /* how long `test` waits for the worker */
#define ASK_EVERY_MS 100

/* What went wrong with the command goes to err (-1); 1 is an exit code without more to say. */
typedef int verb_fn(struct store *store, int argc, char **argv, struct err *err);

static int add(struct store *store, int argc, char **argv, struct err *err)
{
	char id[UUID_TEXT], secret[WEBHOOK_SECRET_TEXT];
	struct slice events = SLICE_NONE;
	int64_t created_ms;

	if (argc == 3 && strcmp(argv[1], "--events") == 0)
		events = slice_of(argv[2]);
	else if (argc != 1)
		return program_usage("webhook add: it takes URL [--events TYPE,…]");
	if (webhooks_add(store, slice_of(argv[0]), events, id, secret, &created_ms, err) < 0)
		return -1;
	printf("%s\n%s\n", id, secret);
	fprintf(stderr, "The second line is the secret of its signatures. It is not shown again.\n");
	return 0;
}

static void print_time(const char *what, int64_t wall_ms)
{
	char time[CLOCK_TEXT];

	clock_rfc3339(wall_ms, time);
	printf("  %s %s", what, time);
}

static int print_webhook(void *arg, const struct webhook *webhook)
{
	(void)arg;
	printf("%.*s  %-8s  %6" PRId64 " waiting  %.*s  %.*s", (int)webhook->id.len, webhook->id.data,
		webhook->disabled_ms > 0 ? "disabled" : webhook->tries > 0 ? "failing" : "active", webhook->waiting,
		(int)webhook->url.len, webhook->url.data, webhook->events.len > 0 ? (int)webhook->events.len : 3,
		webhook->events.len > 0 ? webhook->events.data : "all");
	if (webhook->disabled_ms > 0)
		print_time("disabled at", webhook->disabled_ms);
	else if (webhook->tries > 0)
		print_time("failing since", webhook->failing_since_ms);
	if (webhook->reason.len > 0)
		printf("  tries %" PRId64 "  reason: %.*s", webhook->tries, (int)webhook->reason.len, webhook->reason.data);
	putchar('\n');
	return 0;
}

static int list(struct store *store, int argc, char **argv, struct err *err)
{
	if (argc != 0)
		return program_usage("webhook list: unexpected %s", argv[0]);
	return webhooks_list(store, print_webhook, NULL, err);
}

static int say_missing(const char *verb, const char *id)
{
	fprintf(stderr, "feedctl webhook %s: there is no webhook %s, or it is disabled\n", verb, id);
	return 1;
}

static int remove_webhook(struct store *store, int argc, char **argv, struct err *err)
{
	bool found = false;

	if (argc != 1)
		return program_usage("webhook remove: it takes ID");
	if (webhooks_remove(store, slice_of(argv[0]), &found, err) < 0)
		return -1;
	return found ? 0 : say_missing("remove", argv[0]);
}

/* The worker delivers it in its turn, behind what waits already. */
static int test(struct store *store, int argc, char **argv, struct err *err)
{
	const int64_t deadline_ms = clock_mono_ms() + TEST_MS;
	char event[UUID_TEXT];
	bool found = false, done = false;

	if (argc != 1)
		return program_usage("webhook test: it takes ID");
	if (webhooks_test(store, slice_of(argv[0]), event, &found, err) < 0)
		return -1;
	if (!found)
		return say_missing("test", argv[0]);
	while (!done && clock_mono_ms() < deadline_ms && !stop_wait(ASK_EVERY_MS))
		if (webhooks_is_done(store, slice_of(argv[0]), event, &done, err) < 0)
			return -1;
	if (done) {
		printf("delivered: %s\n", event);
		return 0;
	}
	fprintf(stderr, "feedctl webhook test: %s is not delivered after %d s (does `feed-worker relay` run?):\n", event, TEST_MS / 1000);
	return webhooks_find(store, slice_of(argv[0]), print_webhook, NULL, err) < 0 ? -1 : 1;
}

static int enable(struct store *store, int argc, char **argv, struct err *err)
{
	bool found = false;

	if (argc != 1)
		return program_usage("webhook enable: it takes ID");
	if (webhooks_enable(store, slice_of(argv[0]), &found, err) < 0)
		return -1;
	if (found)
		return 0;
	fprintf(stderr, "feedctl webhook enable: there is no webhook %s\n", argv[0]);
	return 1;
}

static const struct {
	const char *name;
	verb_fn *run;
} words[] = {
	{ "add", add },
	{ "enable", enable },
	{ "list", list },
	{ "remove", remove_webhook },
	{ "test", test },
};

static verb_fn *find_word(const char *name)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (name != NULL && strcmp(words[i].name, name) == 0)
			return words[i].run;
	return NULL;
}

int ctl_webhook(const struct settings *settings, int argc, char **argv)
{
	verb_fn *run = find_word(argc > 1 ? argv[1] : NULL);
	struct store *store = NULL;
	struct err err = ERR_INIT;
	int rc = -1;

	if (run == NULL)
		return program_usage("webhook: add URL, list, enable ID, remove ID or test ID");
	stop_install();
	if (store_open(settings, &store, &err) == 0 && schema_check(store, &err) == 0)
		rc = run(store, argc - 2, argv + 2, &err);
	store_close(store);
	if (rc < 0)
		fprintf(stderr, "feedctl webhook: %s\n", err.message);
	return rc < 0 ? 1 : rc;
}
