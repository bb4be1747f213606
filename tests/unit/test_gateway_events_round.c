/* events_round: a round begins where its leader is, or a little before for others, and nobody gets a record out of turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api-gateway/events_round.h"

enum { FAR, HALF, NEAR, CLIENTS };

static struct client clients[CLIENTS];
static struct events_round round_of_all;

/* Two partitions that end at 10,000, and three clients. */
static int make(void **state)
{
	static const int64_t at[CLIENTS][2] = { { 0, 500 }, { 5000, 5000 }, { 9000, 10000 } };

	round_of_all = (struct events_round){ .clients = clients, .partitions = 2, .until = { 10000, 10000 } };
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){ .next = i + 1 < CLIENTS ? &clients[i + 1] : NULL, .at = { at[i][0], at[i][1] } };
	*state = &round_of_all;
	return 0;
}

static void one_sweeps_from_the_farthest(void **state)
{
	struct events_round *round = *state;

	events_round_plan(round);
	assert_int_equal(0, round->from[0]);
	assert_int_equal(500, round->from[1]);
	assert_int_equal(2, round->unread);
	assert_true(events_round_wants(round, &clients[FAR], 0, 0));
	assert_false(events_round_wants(round, &clients[HALF], 0, 4999)); /* it has that */
	assert_true(events_round_wants(round, &clients[HALF], 0, 5000));  /* it is passed */
}

static void the_next_is_for_the_nearest(void **state)
{
	struct events_round *round = *state;

	round->is_for_nearest = true;
	events_round_plan(round);
	assert_int_equal(9000, round->from[0]);
	assert_int_equal(10000, round->from[1]); /* it has all of that */
	assert_int_equal(1, round->unread);
	assert_true(events_round_wants(round, &clients[NEAR], 0, 9000));
	assert_false(events_round_wants(round, &clients[FAR], 0, 9000)); /* what lies between would be skipped */
	assert_false(events_round_wants(round, &clients[HALF], 0, 9999));
}

static void it_begins_a_little_earlier_for_others(void **state)
{
	struct events_round *round = *state;

	round->is_for_nearest = true;
	clients[HALF].at[0] = 9000 - EVENTS_ROUND_SLACK;
	clients[HALF].at[1] = 10000 - EVENTS_ROUND_SLACK - 1;
	events_round_plan(round);
	assert_int_equal(9000 - EVENTS_ROUND_SLACK, round->from[0]);
	assert_int_equal(10000, round->from[1]); /* that was too far */
	assert_true(events_round_wants(round, &clients[HALF], 0, 9000 - EVENTS_ROUND_SLACK));
	assert_false(events_round_wants(round, &clients[NEAR], 0, 8999));
}

static void one_that_left_gets_no_more_of_it(void **state)
{
	struct events_round *round = *state;

	events_round_plan(round);
	clients[FAR].has_left = true;
	assert_false(events_round_wants(round, &clients[FAR], 0, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(one_sweeps_from_the_farthest, make),
		cmocka_unit_test_setup(the_next_is_for_the_nearest, make),
		cmocka_unit_test_setup(it_begins_a_little_earlier_for_others, make),
		cmocka_unit_test_setup(one_that_left_gets_no_more_of_it, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
