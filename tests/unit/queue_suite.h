/* queue_suite: what every back end of queue.h must do, through queue.h alone. A back end's test program says how an empty place
 * is made, and runs this; its own stories use the same helpers. */
#ifndef FEEDMILL_TESTS_QUEUE_SUITE_H
#define FEEDMILL_TESTS_QUEUE_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/settings.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"

enum { PATIENCE_MS = 60000, PARTITIONS = 4 /* as librdkafka's mock cluster makes them */ };

struct place {
	struct settings settings;
	char prefix[32];
	struct queue *queue;
	void *host, *cluster; /* the back end's own */
	char folder[64];
};

struct queue_rig {
	const char *type;                        /* setting queue.type */
	void (*start)(struct place *place);      /* fills in settings; nothing is open yet */
	void (*make_topics)(struct place *place);
	void (*empty)(struct place *place);      /* what was made goes, before the queue is closed */
	void (*stop)(struct place *place);       /* after that */
	bool is_whole;                           /* false: librdkafka's mock cluster, which knows no topics without being told, … */
};

extern struct queue_rig queue_rig; /* the test program's */

int queue_suite_run(void); /* the number of failed tests */

/* A story in a place with all topics, or without. *state is the place. */
int full_place(void **state);
int bare_place(void **state);
int leave_place(void **state);
#define STORY(name) cmocka_unit_test_setup_teardown(name, full_place, leave_place)
#define BARE(name) cmocka_unit_test_setup_teardown(name, bare_place, leave_place)
void suite_make_topics(struct place *place); /* by queue_topic_create() */

void pass_ms(int ms);
#define WAIT_FOR(condition)                                                                \
	do {                                                                               \
		int64_t until_ms_ = clock_mono_ms() + PATIENCE_MS;                         \
		while (!(condition)) {                                                     \
			if (clock_mono_ms() > until_ms_)                                   \
				fail_msg("not within %d ms: %s", PATIENCE_MS, #condition); \
			pass_ms(5);                                                        \
		}                                                                          \
	} while (0)

/* ---- senders */

struct tally {
	_Atomic int outcomes[SENT_UNKNOWN + 1];
};

void tally_up(void *arg, enum sent sent, const char *why); /* arg: a struct tally */
int reported(const struct tally *tally);
struct producer *ready_producer(struct place *place);
int send_text(struct producer *producer, const char *topic, int32_t partition, const char *key, const char *value, struct tally *tally,
	struct err *err);
void send_all(struct producer *producer, const char *topic, int32_t partition, int first, int past); /* numbers, and waits */

/* ---- readers */

struct consumer *open_consumer(struct place *place, const struct consumer_options *options);
struct consumer *group_consumer(struct place *place, const char *group, const char *topic);
struct consumer *reader(struct place *place, const char *topic, int32_t partition); /* of one partition, from its beginning */
void next_record(struct consumer *consumer, struct record *record);
void expect(struct consumer *consumer, int32_t partition, const char *value);
void expect_numbers(struct consumer *consumer, int32_t partition, int first, int past);
void poll_past(struct consumer *consumer); /* for what is not a record; one that comes is let go */
void poll_until_owned(struct consumer *consumer, size_t partitions);
int64_t committed(struct place *place, const char *group, const char *topic, int32_t partition);
int64_t partitions_stopped(void); /* the metric */

#endif
