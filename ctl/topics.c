/* feedctl topics: the table of topics goes in, the same topics on Kafka, and what became of each, come out. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/program.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"

#define ASK_MS 8000
#define PATIENCE_MS 3000 /* of a check as a whole */
#define AGAIN_MS 20
#define LINE "%-22s %10s %11s %9s  %s\n"

static int wanted_partitions(const struct settings *settings, const struct topic *topic)
{
	return topic->partitions > 0 ? topic->partitions : (int)settings->kafka.partitions;
}

/* What differs from the table, or NULL. Replication 0 leaves it to the broker. */
static const char *difference(const struct settings *settings, const struct topic *topic, const struct topic_state *state)
{
	if (state->partitions != wanted_partitions(settings, topic))
		return "differs: partitions";
	if (settings->kafka.replication > 0 && state->replication != settings->kafka.replication)
		return "differs: replication";
	if (state->retention_ms != topic->retention_ms)
		return "differs: retention";
	return NULL;
}

static void format_age(int64_t ms, char out[32])
{
	static const struct {
		int64_t ms;
		const char *unit;
	} units[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" }, { 1, "ms" } };
	size_t i = 0;

	if (ms < 0) {
		snprintf(out, 32, "for ever");
		return;
	}
	while (i < sizeof(units) / sizeof(units[0]) - 1 && (ms % units[i].ms != 0 || ms < units[i].ms))
		i++;
	snprintf(out, 32, "%" PRId64 " %s", ms / units[i].ms, units[i].unit);
}

static void print_topic(const struct settings *settings, const struct topic *topic, const struct topic_state *state, const char *verdict)
{
	char name[TOPIC_NAME_MAX + 64], partitions[16] = "-", replication[16] = "-", retention[32] = "-";

	snprintf(name, sizeof(name), "%s%s", settings->kafka.topic_prefix, topic->name);
	if (state->partitions > 0) {
		snprintf(partitions, sizeof(partitions), "%d", (int)state->partitions);
		snprintf(replication, sizeof(replication), "%d", state->replication);
		format_age(state->retention_ms, retention);
	}
	printf(LINE, name, partitions, replication, retention, verdict);
}

/* One pass over the table. */
struct pass {
	struct queue *queue;
	const struct settings *settings;
	bool only_check;
	int64_t patient_until_ms; /* monotonic: so long a topic that a check misses is looked for again */
	int wrong;                /* topics that are missing or different */
};

/* Brokers learn of a new topic one after another, and another may be asked than the one that knew it: asks again. */
static int state_until(struct pass *pass, const struct topic *topic, int64_t until_ms, struct topic_state *state, struct err *err)
{
	for (;;) {
		int rc = queue_topic_state(pass->queue, topic->name, state, ASK_MS, err);

		if ((rc == 0 && state->partitions > 0) || clock_mono_ms() >= until_ms)
			return rc;
		poll(NULL, 0, AGAIN_MS);
	}
}

/* -1: Kafka did not answer. */
static int settle_topic(struct pass *pass, const struct topic *topic, struct err *err)
{
	struct topic_state state;
	const char *verdict = "ok";
	const char *differs;

	if (state_until(pass, topic, pass->patient_until_ms, &state, err) < 0)
		return -1;
	if (state.partitions == 0 && !pass->only_check) {
		if (queue_topic_create(pass->queue, topic, ASK_MS, err) < 0 ||
			state_until(pass, topic, clock_mono_ms() + ASK_MS, &state, err) < 0)
			return -1;
		verdict = "created";
	}
	differs = state.partitions > 0 ? difference(pass->settings, topic, &state) : "missing";
	print_topic(pass->settings, topic, &state, differs != NULL ? differs : verdict);
	pass->wrong += differs != NULL;
	return 0;
}

static int settle_all(struct pass *pass, struct err *err)
{
	struct topic request_log;

	if (topic_of_request_log(pass->settings, &request_log, err) < 0)
		return -1;
	printf(LINE, "topic", "partitions", "replication", "retention", "state");
	for (size_t i = 0; i < topic_count; i++) {
		if (settle_topic(pass, &topic_table[i], err) < 0)
			return -1;
	}
	return request_log.name != NULL ? settle_topic(pass, &request_log, err) : 0;
}

int ctl_topics(const struct settings *settings, int argc, char **argv)
{
	bool only_check = argc == 2 && strcmp(argv[1], "--check") == 0;
	struct pass pass = { .settings = settings, .only_check = only_check };
	struct err err = ERR_INIT;
	int rc;

	if (argc > 1 && !only_check)
		return program_usage("topics: unexpected %s (it takes --check alone)", argv[1]);
	rc = queue_open(settings, &pass.queue, &err);
	if (rc == 0) {
		pass.patient_until_ms = only_check ? clock_mono_ms() + PATIENCE_MS : 0;
		rc = settle_all(&pass, &err);
		queue_close(pass.queue);
	}
	if (rc < 0)
		fprintf(stderr, "feedctl topics: %s\n", err.message);
	return rc < 0 || (only_check && pass.wrong > 0) ? 1 : 0;
}
