/* Limits by task name go in; whether one may start now, and else when, comes out. */
#include "workers/celery/rates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct rate {
	char *task;
	char text[32];
	double per_us;   /* tokens; 0: no limit */
	double tokens;   /* at most 1: as Celery's bucket */
	int64_t at_us;
};

static struct rate *find(const struct rates *rates, struct slice task)
{
	for (size_t i = 0; i < rates->count; i++)
		if (slice_is(task, rates->list[i].task))
			return &rates->list[i];
	return NULL;
}

static int parse(struct slice limit, double *per_us, struct err *err)
{
	static const struct {
		const char *name;
		double us;
	} units[] = { { "s", 1e6 }, { "m", 60e6 }, { "h", 3600e6 } };
	struct slice rest = limit;
	const struct slice number = slice_cut(&rest, '/');
	char text[32], *end;
	double n;

	snprintf(text, sizeof(text), "%.*s", (int)(number.len < 31 ? number.len : 31), number.len > 0 ? number.data : "");
	n = strtod(text, &end);
	*per_us = 0;
	if (limit.len == 0 || slice_is_nocase(limit, "none"))
		return 0;
	if (number.len > 0 && *end == '\0' && isfinite(n) && n >= 0) {
		if (rest.len == 0 && memchr(limit.data, '/', limit.len) == NULL)
			rest = slice_of("s");
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
			if (slice_is(rest, units[i].name)) {
				*per_us = n / units[i].us;
				return 0;
			}
		}
	}
	return err_set(err, ERR_INVALID, "Invalid rate limit string: '%.*s'", (int)(limit.len < 60 ? limit.len : 60), limit.data);
}

int rates_set(struct rates *rates, struct slice task, struct slice limit, int64_t now_us, struct err *err)
{
	struct rate *rate = find(rates, task);
	double per_us;

	if (parse(limit, &per_us, err) < 0)
		return -1;
	if (rate == NULL) {
		rates->list = mem_grow(rates->list, rates->count + 1, sizeof(*rates->list));
		rate = &rates->list[rates->count++];
		*rate = (struct rate){ .task = mem_dup(task.data, task.len) };
	}
	snprintf(rate->text, sizeof(rate->text), "%.*s", (int)limit.len, limit.len > 0 ? limit.data : "");
	rate->per_us = per_us;
	rate->tokens = 1;
	rate->at_us = now_us;
	return 0;
}

int rates_read(struct rates *rates, struct slice settings, struct err *err)
{
	while (settings.len > 0) {
		struct slice limit = slice_trim(slice_cut(&settings, ','));
		const struct slice task = slice_trim(slice_cut(&limit, '='));

		if (task.len == 0)
			continue;
		if (rates_set(rates, task, slice_trim(limit), 0, err) < 0)
			return err_wrap(err, "setting job.rate_limits, %.*s: ", (int)task.len, task.data);
	}
	return 0;
}

void rates_release(struct rates *rates)
{
	for (size_t i = 0; i < rates->count; i++)
		free(rates->list[i].task);
	free(rates->list);
	*rates = (struct rates){ NULL, 0 };
}

int64_t rates_take(struct rates *rates, struct slice task, int64_t now_us)
{
	struct rate *rate = rates->count > 0 ? find(rates, task) : NULL;

	if (rate == NULL || rate->per_us <= 0)
		return 0;
	rate->tokens += (double)(now_us - rate->at_us) * rate->per_us;
	rate->at_us = now_us;
	if (rate->tokens > 1)
		rate->tokens = 1;
	if (rate->tokens >= 0.999999) {
		rate->tokens -= 1;
		return 0;
	}
	return (int64_t)((1 - rate->tokens) / rate->per_us) + 1;
}

const char *rates_text(const struct rates *rates, struct slice task)
{
	const struct rate *rate = find(rates, task);

	return rate != NULL && rate->per_us > 0 ? rate->text : NULL;
}
