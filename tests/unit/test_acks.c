/* What becomes of tags: which acknowledgements RabbitMQ gets, and which it never may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "workers/celery/acks.h"

/* What was sent, oldest first: "5" for one tag, "-5" for all up to it, each with a space behind it. */
static struct buf sent;
static bool is_lost;

/* Instead of the one that has a connection. */
int amqp_ack(struct amqp *amqp, uint64_t generation, uint64_t tag, bool multiple, struct err *err)
{
	assert_null(amqp);
	if (is_lost)
		return err_set(err, ERR_UNAVAILABLE, "it is lost");
	buf_addf(&sent, "%s%llu/%llu ", multiple ? "-" : "", (unsigned long long)tag, (unsigned long long)generation);
	return 0;
}

static int start(void **state)
{
	static struct acks acks;

	acks = (struct acks){ 0 };
	sent = (struct buf)BUF_INIT;
	is_lost = false;
	acks_start(&acks, 1);
	*state = &acks;
	return 0;
}

static int release(void **state)
{
	acks_release(*state);
	buf_release(&sent);
	return 0;
}

static void come(struct acks *acks, uint64_t first, uint64_t last)
{
	for (uint64_t tag = first; tag <= last; tag++)
		acks_seen(acks, tag);
}

/* What the next flush sends. */
static void assert_sends(struct acks *acks, const char *wanted)
{
	struct err err = ERR_INIT;

	buf_reset(&sent);
	assert_int_equal(0, acks_flush(acks, NULL, &err));
	assert_string_equal(wanted, sent.data);
}

static void those_in_order_are_one(void **state)
{
	struct acks *acks = *state;

	come(acks, 1, 200); /* more than the ring has at first */
	assert_sends(acks, "");
	for (uint64_t tag = 200; tag >= 1; tag--)
		acks_done(acks, 1, tag);
	assert_sends(acks, "-200/1 ");
	assert_sends(acks, "");
	come(acks, 201, 201);
	acks_done(acks, 1, 201);
	assert_sends(acks, "-201/1 ");
}

/* One long job holds nothing up that came after it. */
static void those_behind_one_that_runs_go_one_by_one(void **state)
{
	struct acks *acks = *state;

	come(acks, 1, 100);
	acks_done(acks, 1, 3);
	acks_done(acks, 1, 2);
	acks_done(acks, 1, 3);
	assert_sends(acks, "3/1 2/1 ");
	acks_done(acks, 1, 1);
	acks_done(acks, 1, 5);
	assert_sends(acks, "-1/1 5/1 ");
	acks_done(acks, 1, 4);
	assert_sends(acks, "-4/1 ");
}

static void what_was_rejected_is_never_acknowledged(void **state)
{
	struct acks *acks = *state;

	come(acks, 1, 3);
	acks_gone(acks, 1, 1);
	acks_done(acks, 1, 1);
	assert_sends(acks, "");
	acks_gone(acks, 1, 3);
	acks_done(acks, 1, 2);
	assert_sends(acks, "-2/1 "); /* and not up to 3 */
	acks_done(acks, 1, 3);
	assert_sends(acks, "");
}

static void tags_that_were_not_ours_hold_nothing_up(void **state)
{
	struct acks *acks = *state;

	come(acks, 1, 2);
	acks_seen(acks, 6); /* 3 … 5 were not ours */
	acks_done(acks, 1, 4);
	acks_done(acks, 1, 500);
	assert_sends(acks, "");
	acks_done(acks, 1, 2);
	acks_done(acks, 1, 6);
	assert_sends(acks, "2/1 6/1 ");
	acks_done(acks, 1, 1);
	assert_sends(acks, "-1/1 ");
}

static void those_of_an_earlier_connection_are_nothing(void **state)
{
	struct acks *acks = *state;

	come(acks, 1, 200);
	acks_done(acks, 2, 5);
	assert_sends(acks, "");
	acks_done(acks, 1, 5);
	acks_start(acks, 2); /* lost before the flush */
	assert_sends(acks, "");
	acks_done(acks, 1, 6);
	assert_sends(acks, "");
	come(acks, 1, 6);
	acks_done(acks, 1, 6);
	acks_gone(acks, 1, 6);
	assert_sends(acks, "");
	acks_done(acks, 2, 6);
	assert_sends(acks, "6/2 ");
}

static void a_flush_says_that_the_connection_is_lost(void **state)
{
	struct acks *acks = *state;
	struct err err = ERR_INIT;

	come(acks, 1, 2);
	acks_done(acks, 1, 2);
	is_lost = true;
	assert_int_equal(-1, acks_flush(acks, NULL, &err));
	assert_string_equal("it is lost", err.message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_in_order_are_one, start, release),
		cmocka_unit_test_setup_teardown(those_behind_one_that_runs_go_one_by_one, start, release),
		cmocka_unit_test_setup_teardown(what_was_rejected_is_never_acknowledged, start, release),
		cmocka_unit_test_setup_teardown(tags_that_were_not_ours_hold_nothing_up, start, release),
		cmocka_unit_test_setup_teardown(those_of_an_earlier_connection_are_nothing, start, release),
		cmocka_unit_test_setup_teardown(a_flush_says_that_the_connection_is_lost, start, release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
