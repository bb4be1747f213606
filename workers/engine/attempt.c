/* Return values of handle() go in, rulings come out: taken, again, halved, rejected, or the end of the process. */
#include "workers/engine/attempt.h"

#include <string.h>

#include "common/base/backoff.h"

#define DOWN_FIRST_MS 100
#define DOWN_LIMIT_MS 5000
#define CONFLICT_FIRST_MS 2
#define CONFLICT_LIMIT_MS 200

void attempt_start(struct attempt *attempt, struct item *items)
{
	*attempt = (struct attempt){
		.items = items,
		.down = { DOWN_FIRST_MS, DOWN_LIMIT_MS, 0 },
		.conflict = { CONFLICT_FIRST_MS, CONFLICT_LIMIT_MS, 0 },
	};
}

void attempt_add(struct attempt *attempt, const struct record *record)
{
	attempt->items[attempt->count++] = (struct item){ .record = record };
}

size_t attempt_width(const struct attempt *attempt)
{
	if (attempt->suspect == 0 || attempt->suspect > attempt->count)
		return attempt->count;
	return attempt->suspect > 1 ? attempt->suspect / 2 : 1;
}

void attempt_prepare(struct attempt *attempt)
{
	const size_t width = attempt_width(attempt);

	for (size_t i = 0; i < width; i++) {
		attempt->items[i].outcome = DONE;
		attempt->items[i].tries++;
		err_clear(&attempt->items[i].why);
	}
}

/* ---- what each kind of failure means */

static enum ruling on_down(struct attempt *attempt, const struct err *err, int64_t *wait_ms)
{
	(void)err;
	*wait_ms = backoff_next_ms(&attempt->down);
	return RULING_DOWN;
}

static enum ruling on_conflict(struct attempt *attempt, const struct err *err, int64_t *wait_ms)
{
	const size_t width = attempt_width(attempt);

	*wait_ms = backoff_next_ms(&attempt->conflict);
	if (++attempt->conflicts < (attempt->is_halved_by_conflict ? ATTEMPT_CONFLICTS_MORE : ATTEMPT_CONFLICTS))
		return RULING_AGAIN;
	attempt->conflicts = 0;
	attempt->is_halved_by_conflict = true;
	attempt->suspect = width;
	if (width > 1)
		return RULING_HALVED;
	attempt->items[0].outcome = RETRY;
	attempt->items[0].why = *err;
	return RULING_LOST;
}

static enum ruling on_invalid(struct attempt *attempt, const struct err *err, int64_t *wait_ms)
{
	const size_t width = attempt_width(attempt);

	*wait_ms = 0;
	if (width > 1) {
		attempt->suspect = width;
		return RULING_HALVED;
	}
	attempt->items[0].outcome = REJECT;
	attempt->items[0].why = *err;
	attempt->suspect = 1;
	return RULING_WRONG;
}

static enum ruling on_fatal(struct attempt *attempt, const struct err *err, int64_t *wait_ms)
{
	(void)attempt;
	(void)err;
	*wait_ms = 0;
	return RULING_FATAL;
}

typedef enum ruling judge_fn(struct attempt *attempt, const struct err *err, int64_t *wait_ms);

static judge_fn *const judges[] = {
	[ERR_NONE] = on_fatal, /* -1 without a reason: a bug in the worker */
	[ERR_INVALID] = on_invalid,
	[ERR_UNAVAILABLE] = on_down,
	[ERR_CONFLICT] = on_conflict,
	[ERR_UNKNOWN] = on_conflict,
	[ERR_FULL] = on_down,
	[ERR_FATAL] = on_fatal,
};

enum ruling attempt_judge(struct attempt *attempt, int rc, const struct err *err, int64_t *wait_ms)
{
	if (rc < 0)
		return judges[err->kind](attempt, err, wait_ms);
	*wait_ms = 0;
	attempt->conflicts = 0;
	backoff_reset(&attempt->down);
	backoff_reset(&attempt->conflict);
	return RULING_TAKEN;
}

/* What was taken is not suspect any more; what follows may go together again. */
void attempt_take(struct attempt *attempt, size_t width)
{
	memmove(attempt->items, &attempt->items[width], (attempt->count - width) * sizeof(*attempt->items));
	attempt->count -= width;
	attempt->suspect = attempt->suspect > width ? attempt->suspect - width : 0;
	if (attempt->suspect == 0)
		attempt->is_halved_by_conflict = false;
}

void attempt_drop(struct attempt *attempt, bool (*gone)(const struct record *record, const void *arg), const void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < attempt->count; i++)
		if (!gone(attempt->items[i].record, arg))
			attempt->items[kept++] = attempt->items[i];
	if (kept < attempt->count) {
		attempt->suspect = 0;
		attempt->is_halved_by_conflict = false;
	}
	attempt->count = kept;
}
