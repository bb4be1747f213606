/* feedctl prune: rows that nobody asks for any more go, and how many they were comes out. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/store/prune.h"
#include "common/store/schema.h"
#include "ctl/ctl.h"

#define ASK_MS 10000
#define TELL_MS 2000
#define LINE "%-10s %-44s %-25s %12s\n"

struct pruning {
	struct queue *queue;
	struct store *store;
	bool is_dry;
	int64_t told_ms, deleted;
};

static bool is_over(void *arg, const struct prune_kind *kind, int64_t deleted)
{
	struct pruning *pruning = arg;

	pruning->deleted = deleted;
	if (clock_mono_ms() - pruning->told_ms >= TELL_MS) {
		pruning->told_ms = clock_mono_ms();
		fprintf(stderr, "%s: %" PRId64 " deleted\n", kind->name, deleted);
	}
	return stop_requested();
}

static int prune_one(struct pruning *pruning, const struct prune_kind *kind, struct err *err)
{
	char time[CLOCK_TEXT], number[24];
	int64_t before_ms;
	int rc;

	if (prune_before(kind, pruning->queue, ASK_MS, &before_ms, err) < 0)
		return -1;
	pruning->deleted = 0;
	pruning->told_ms = clock_mono_ms();
	rc = pruning->is_dry ? kind->count(pruning->store, before_ms, &pruning->deleted, err)
		: prune_all(kind, pruning->store, before_ms, is_over, pruning, err);
	clock_rfc3339(before_ms, time);
	snprintf(number, sizeof(number), "%" PRId64, pruning->deleted);
	printf(LINE, kind->name, kind->what, time, number);
	return rc;
}

/* 1: stopped before all was done. */
static int prune(struct pruning *pruning, struct err *err)
{
	if (schema_check(pruning->store, err) < 0)
		return -1;
	printf(LINE, "rows", "", "of before", pruning->is_dry ? "would go" : "deleted");
	for (size_t i = 0; i < prune_count; i++) {
		if (stop_requested())
			return 1;
		if (prune_one(pruning, &prune_table[i], err) < 0)
			return -1;
	}
	return stop_requested();
}

int ctl_prune(const struct settings *settings, int argc, char **argv)
{
	struct pruning pruning = { .is_dry = argc == 2 && strcmp(argv[1], "--dry-run") == 0 };
	struct err err = ERR_INIT;
	int rc;

	if (argc > 1 && !pruning.is_dry)
		return program_usage("prune: unexpected %s (it takes --dry-run alone)", argv[1]);
	rc = queue_open(settings, &pruning.queue, &err);
	if (rc == 0)
		rc = store_open(settings, &pruning.store, &err);
	if (rc == 0)
		rc = prune(&pruning, &err);
	store_close(pruning.store);
	queue_close(pruning.queue);
	if (rc < 0)
		fprintf(stderr, "feedctl prune: %s\n", err.message);
	return rc == 0 ? 0 : 1;
}
