/* events_recent: whoever is a little behind gets exactly what it lacks, in order; what is kept has a bound, and a client that is beyond it
 * gets nothing out of turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "api-gateway/events_message.h"
#include "api-gateway/events_recent.h"
#include "common/base/buf.h"
#include "common/http/http_stream.h"

static const int64_t begun[2] = { 10, 20 };

static int make(void **state)
{
	struct events_recent *recent = calloc(1, sizeof(*recent));

	events_recent_begin(recent, begun, 2);
	*state = recent;
	return 0;
}

static int unmake(void **state)
{
	events_recent_release(*state);
	free(*state);
	return 0;
}

static void add(struct events_recent *recent, int32_t partition, int64_t offset)
{
	struct buf text = BUF_INIT;

	buf_addf(&text, "/%d.%d\n\n", (int)partition, (int)offset);
	events_recent_add(recent, partition, offset, (struct slice){ text.data, text.len });
	buf_release(&text);
}

static void never(void *connection)
{
	(void)connection;
}

/* What the client at this place is sent. */
static void serves(const struct events_recent *recent, int64_t *at, const char *expected)
{
	struct http_stream *stream = http_stream_new(EVENTS_WAITING);
	char out[4096];
	ssize_t len = 0;

	assert_true(events_recent_serve(recent, at, stream));
	if (http_stream_waiting(stream) > 0)
		len = http_stream_take(stream, out, sizeof(out) - 1, never);
	out[len] = '\0';
	assert_string_equal(expected, out);
	http_stream_end(stream);
	http_stream_release(stream);
}

static void what_is_missing_comes_once_and_in_order(void **state)
{
	struct events_recent *recent = *state;
	int64_t at[EVENTS_PARTITIONS] = { 11, 20 };

	for (int64_t n = 0; n < 3; n++) {
		add(recent, 1, 20 + n);
		add(recent, 0, 10 + n);
	}
	assert_true(events_recent_covers(recent, at));
	serves(recent, at, "id: 1-11-21/1.20\n\nid: 1-11-22/1.21\n\nid: 1-12-22/0.11\n\nid: 1-12-23/1.22\n\nid: 1-13-23/0.12\n\n");
	serves(recent, at, "");
	add(recent, 0, 13);
	serves(recent, at, "id: 1-14-23/0.13\n\n");
}

static void who_lacks_more_has_to_be_read_for(void **state)
{
	struct events_recent *recent = *state;
	int64_t at[EVENTS_PARTITIONS] = { 9, 20 };

	add(recent, 0, 10);
	add(recent, 1, 20);
	assert_false(events_recent_covers(recent, at));
	serves(recent, at, "id: 1-9-21/1.20\n\n"); /* of the other partition: it would be out of order */
	assert_int_equal(9, at[0]);
	at[0] = 10;
	serves(recent, at, "id: 1-11-21/0.10\n\n");
}

static void one_that_nobody_is_told_of_is_passed(void **state)
{
	struct events_recent *recent = *state;
	int64_t at[EVENTS_PARTITIONS] = { 10, 20 };

	events_recent_add(recent, 0, 10, SLICE_NONE);
	serves(recent, at, "");
	assert_int_equal(11, at[0]);
}

static void the_number_is_bounded(void **state)
{
	struct events_recent *recent = *state;
	int64_t at[EVENTS_PARTITIONS] = { 10, 20 };

	add(recent, 1, 20);
	for (int64_t n = 0; n < EVENTS_RECENT + 5; n++)
		add(recent, 0, 10 + n);
	assert_int_equal(EVENTS_RECENT, recent->count);
	assert_int_equal(15, recent->base[0]);
	assert_int_equal(21, recent->base[1]);
	assert_false(events_recent_covers(recent, at));
	at[0] = 15;
	assert_false(events_recent_covers(recent, at)); /* for the other partition */
	at[1] = 21;
	assert_true(events_recent_covers(recent, at));
}

static void the_bytes_are_bounded(void **state)
{
	enum { EACH = EVENTS_RECENT_BYTES / 4 };
	struct events_recent *recent = *state;
	char *text = calloc(1, EVENTS_RECENT_BYTES + 1);

	for (int64_t n = 0; n < 6; n++)
		events_recent_add(recent, 0, 10 + n, (struct slice){ text, EACH });
	assert_int_equal(4, recent->count);
	assert_int_equal(12, recent->base[0]);
	events_recent_add(recent, 0, 16, (struct slice){ text, EVENTS_RECENT_BYTES + 1 });
	assert_int_equal(0, recent->count);
	assert_int_equal(0, recent->bytes);
	assert_int_equal(17, recent->base[0]);
	free(text);
}

/* It gets as much as may wait, and the rest when it has taken that. */
static void who_does_not_take_is_not_given_more(void **state)
{
	enum { EACH = EVENTS_WAITING / 8, ALL = 16 };
	struct events_recent *recent = *state;
	struct http_stream *stream = http_stream_new(EVENTS_WAITING);
	int64_t at[EVENTS_PARTITIONS] = { 10, 20 };
	char *text = calloc(1, EACH), *out = calloc(1, EVENTS_WAITING);

	for (int64_t n = 0; n < ALL; n++)
		events_recent_add(recent, 0, 10 + n, (struct slice){ text, EACH });
	for (int rounds = 0; at[0] < 10 + ALL; rounds++) {
		assert_in_range(rounds, 0, ALL);
		assert_true(events_recent_serve(recent, at, stream));
		assert_in_range(http_stream_waiting(stream), 1, EVENTS_WAITING * 3 / 4);
		assert_true(http_stream_take(stream, out, EVENTS_WAITING, never) > 0);
	}
	http_stream_detach(stream);
	events_recent_add(recent, 0, 10 + ALL, (struct slice){ text, EACH });
	assert_false(events_recent_serve(recent, at, stream)); /* it has gone */
	http_stream_end(stream);
	http_stream_release(stream);
	free(text);
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_missing_comes_once_and_in_order, make, unmake),
		cmocka_unit_test_setup_teardown(who_lacks_more_has_to_be_read_for, make, unmake),
		cmocka_unit_test_setup_teardown(one_that_nobody_is_told_of_is_passed, make, unmake),
		cmocka_unit_test_setup_teardown(the_number_is_bounded, make, unmake),
		cmocka_unit_test_setup_teardown(the_bytes_are_bounded, make, unmake),
		cmocka_unit_test_setup_teardown(who_does_not_take_is_not_given_more, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
