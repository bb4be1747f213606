/* Answered requests go in, lines on a topic come out, as far as they can without anyone waiting. */
#include "api-gateway/request_log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/queue/topics.h"

#define MINUTE_MS 60000
#define LINE_MAX_BYTES 96
#define WARN_EVERY_MS 60000

struct request_log {
	struct lossy *lines;
	struct metric *written, *dropped;
	_Atomic int64_t warned_ms; /* monotonic clock */
	const char *const *words;  /* "entity|operation" of each row of route_table; NULL: not logged */
};

static const struct {
	const char *operation; /* operationId */
	const char *words;
} logged[] = {
	{ "add_participant", "participant|post" },
	{ "get_participant", "participant|get" },
	{ "add_friend", "friends|post" },
	{ "get_friend", "friends|get" },
	{ "add_outbound", "outbound|post" },
	{ "get_outbound", "outbound|get" },
	{ "search_outbound", "outbound|search" },
	{ "get_inbound", "inbound|get" },
};

static const char *words_of(const char *operation)
{
	for (size_t i = 0; i < sizeof(logged) / sizeof(logged[0]); i++)
		if (strcmp(logged[i].operation, operation) == 0)
			return logged[i].words;
	return NULL;
}

/* One line of ours in a minute: a broker that is away would fill the disk otherwise; the counter has all. */
static void on_lost(void *arg, const char *why)
{
	struct request_log *log = arg;
	int64_t now_ms = clock_mono_ms();
	int64_t warned_ms = atomic_load(&log->warned_ms);

	metric_add(log->dropped, 1);
	if (warned_ms != 0 && now_ms - warned_ms < WARN_EVERY_MS)
		return;
	if (atomic_compare_exchange_strong(&log->warned_ms, &warned_ms, now_ms))
		log_warn("request log drops lines", log_str("reason", why), log_int("dropped", metric_value(log->dropped)));
}

static void make_metrics(struct request_log *log)
{
	log->written = metric_counter("feedmill_gateway_request_log_lines_total", NULL, "requests that the request log was told of");
	log->dropped = metric_counter("feedmill_gateway_request_log_dropped_total", NULL, "lines of the request log that could not go");
}

int request_log_open(const struct settings *settings, struct queue *queue, struct request_log **out, struct err *err)
{
	struct topic topic;
	struct request_log *log;
	const char **words;

	if (topic_of_request_log(settings, &topic, err) < 0)
		return -1;
	*out = NULL;
	if (topic.name == NULL)
		return 0;
	log = mem_zalloc(sizeof(*log));
	make_metrics(log);
	if (lossy_open(queue, topic.name, on_lost, log, &log->lines, err) < 0) {
		free(log);
		return -1;
	}
	words = mem_array(route_count, sizeof(*words));
	for (size_t i = 0; i < route_count; i++)
		words[i] = words_of(route_table[i].operation);
	log->words = words;
	*out = log;
	return 0;
}

void request_log_close(struct request_log *log)
{
	if (log == NULL)
		return;
	lossy_close(log->lines);
	free((void *)log->words);
	free(log);
}

/* "yyyy|MM|dd|HH|mm", made once a minute and thread: the zone's rules lie behind a lock. */
static const char *minute_text(void)
{
	static _Thread_local char text[32];
	static _Thread_local int64_t made_for = -1;
	int64_t now_ms = clock_wall_ms();
	time_t seconds = (time_t)(now_ms / 1000);
	struct tm parts;

	if (now_ms / MINUTE_MS != made_for) {
		localtime_r(&seconds, &parts);
		strftime(text, sizeof(text), "%Y|%m|%d|%H|%M", &parts);
		made_for = now_ms / MINUTE_MS;
	}
	return text;
}

void request_log_add(struct request_log *log, const struct route *route, int status, int64_t took_us)
{
	const char *words = log != NULL && route != NULL ? log->words[route - route_table] : NULL;
	char line[LINE_MAX_BYTES];
	int len;

	if (words == NULL || status / 100 != 2)
		return;
	len = snprintf(line, sizeof(line), "%s|%s|%lld", minute_text(), words, (long long)((took_us + 500) / 1000));
	metric_add(log->written, 1);
	lossy_send(log->lines, (struct slice){ line, (size_t)len });
}
