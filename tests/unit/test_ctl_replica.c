/* replica: which line makes a child ready, and which lines are passed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/log.h"
#include "ctl/replica.h"

static const struct kind fanout = { "fanout", 2 };

/* Gives the line to a new replica; what it wrote to standard error comes out. */
static bool line_makes_ready(const char *text, int shown_level, char out[512])
{
	struct replica replica;
	int ends[2], kept = dup(STDERR_FILENO);
	ssize_t len;

	assert_int_equal(0, pipe(ends));
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	close(ends[1]);
	replica_init(&replica, &fanout, 2);
	replica.shown_level = shown_level;
	replica_line(&replica, &replica.now, slice_of(text));
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	close(kept);
	len = read(ends[0], out, 511); /* the end, when nothing was written */
	close(ends[0]);
	assert_true(len >= 0);
	out[len] = '\0';
	return replica.now.is_ready;
}

#define HEAD "time=2026-01-31T12:00:00.000Z level=info program=feed-worker worker=fanout "

static void the_ready_event_makes_ready(void **state)
{
	char out[512];

	(void)state;
	assert_true(line_makes_ready(HEAD "event=ready admin_port=1", LOG_LEVEL_INFO, out));
	assert_string_equal("replica=fanout.2 " HEAD "event=ready admin_port=1\n", out);
	assert_true(line_makes_ready(HEAD "event=ready", LOG_LEVEL_ERROR, out));
	assert_string_equal("", out);
}

static void nothing_else_passes_for_it(void **state)
{
	static const char *const lines[] = {
		HEAD "event=readying",
		HEAD "event=\"not ready\"",
		HEAD "event=\"record rejected\" reason=\"event=ready event=ready \"",
		"event=ready",
		" event=ready ",
		"",
		"time=",
	};
	char out[512];

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(line_makes_ready(lines[i], LOG_LEVEL_INFO, out));
}

static void lines_below_the_level_are_left_out_and_strange_ones_never(void **state)
{
	char out[512];

	(void)state;
	line_makes_ready("time=x level=warn program=p event=e", LOG_LEVEL_ERROR, out);
	assert_string_equal("", out);
	line_makes_ready("time=x level=warn program=p event=e", LOG_LEVEL_WARN, out);
	assert_string_equal("replica=fanout.2 time=x level=warn program=p event=e\n", out);
	line_makes_ready("feed-worker: file:1: setting x", LOG_LEVEL_ERROR, out);
	assert_string_equal("replica=fanout.2 feed-worker: file:1: setting x\n", out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ready_event_makes_ready),
		cmocka_unit_test(nothing_else_passes_for_it),
		cmocka_unit_test(lines_below_the_level_are_left_out_and_strange_ones_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
