/* events: what the two threads do on a queue that lost records, can't be asked, or does not answer. The queue is one of the test's own. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "api-gateway/events.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/http/http_stream.h"
#include "common/queue/queue_ops.h"

#define PATIENCE_MS 60000
#define PARTITIONS 2
#define LENGTH 2000 /* records of a partition at the beginning */
#define LOW 300     /* of partition 0: what was before is gone */
#define LAGGING 1000 /* where partition 1 seems to end */

/* Records are nothing but their places. */
struct queue_of_test {
	struct queue base;
	pthread_mutex_t lock; /* of all that follows */
	int64_t low[PARTITIONS], high[PARTITIONS];
	bool gives_nothing, cant_be_asked;
	bool has_reader; /* the thread that met the gap */
	pthread_t reader;
	bool is_held;    /* an answer to that thread */
	bool is_asked;   /* by it, and has not answered */
};

struct consumer_of_test {
	struct consumer base;
	struct queue_of_test *queue;
	struct queue_place places[PARTITIONS];
	size_t count;
};

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int open_consumer(struct queue *base, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	struct consumer_of_test *consumer = calloc(1, sizeof(*consumer));

	(void)options, (void)err;
	consumer->base.ops = base->ops;
	consumer->queue = (struct queue_of_test *)base;
	*out = &consumer->base;
	return 0;
}

static void close_consumer(struct consumer *consumer)
{
	free(consumer);
}

static int assign_places(struct consumer *base, const char *topic, const struct queue_place *places, size_t count, struct err *err)
{
	struct consumer_of_test *consumer = (struct consumer_of_test *)base;

	(void)topic, (void)err;
	if (count > 0)
		memcpy(consumer->places, places, count * sizeof(*places));
	consumer->count = count;
	return 0;
}

/* With the lock held. */
static int read_place(struct queue_of_test *queue, struct queue_place *place, struct record *out, struct err *err)
{
	if (queue->gives_nothing || place->offset >= queue->high[place->partition])
		return 0;
	if (place->offset < queue->low[place->partition]) {
		queue->has_reader = true;
		queue->reader = pthread_self();
		return err_set(err, ERR_CONFLICT, "gone");
	}
	*out = (struct record){ .partition = place->partition, .offset = place->offset++, .value = slice_of("x") };
	return 1;
}

static int poll_consumer(struct consumer *base, int64_t timeout_ms, struct record *out, struct err *err)
{
	struct consumer_of_test *consumer = (struct consumer_of_test *)base;
	int got = 0;

	(void)timeout_ms;
	pthread_mutex_lock(&consumer->queue->lock);
	for (size_t i = 0; i < consumer->count && got == 0; i++)
		got = read_place(consumer->queue, &consumer->places[i], out, err);
	pthread_mutex_unlock(&consumer->queue->lock);
	if (got == 0)
		nap();
	return got;
}

/* To the thread that met the gap partition 1 seems shorter than it is. */
static int ask(struct queue *base, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err)
{
	struct queue_of_test *queue = (struct queue_of_test *)base;
	bool is_reader, is_away;

	(void)group, (void)topic, (void)room, (void)timeout_ms;
	pthread_mutex_lock(&queue->lock);
	is_reader = queue->has_reader && pthread_equal(queue->reader, pthread_self());
	while (is_reader && queue->is_held) {
		queue->is_asked = true;
		pthread_mutex_unlock(&queue->lock);
		nap();
		pthread_mutex_lock(&queue->lock);
	}
	queue->is_asked = false;
	for (int32_t p = 0; p < PARTITIONS; p++)
		out[p] = (struct partition_lag){ .partition = p, .committed = -1, .low = queue->low[p], .high = queue->high[p] };
	if (is_reader)
		out[1].high = LAGGING;
	*count = PARTITIONS;
	is_away = queue->cant_be_asked;
	pthread_mutex_unlock(&queue->lock);
	return is_away ? err_set(err, ERR_UNAVAILABLE, "away") : 0;
}

static const struct queue_ops ops = {
	.consumer_open = open_consumer,
	.consumer_assign_places = assign_places,
	.consumer_poll = poll_consumer,
	.consumer_close = close_consumer,
	.lag = ask,
};

/* ---- one client */

static struct queue_of_test queue;
static struct events *events;
static struct http_stream *stream;
static struct buf taken;
static bool has_ended;

static void nothing(void *connection)
{
	(void)connection;
}

static void set(bool *what, bool value)
{
	pthread_mutex_lock(&queue.lock);
	*what = value;
	pthread_mutex_unlock(&queue.lock);
}

static bool get(const bool *what)
{
	bool value;

	pthread_mutex_lock(&queue.lock);
	value = *what;
	pthread_mutex_unlock(&queue.lock);
	return value;
}

static int start_with(bool gives_nothing)
{
	static struct settings settings;
	struct err err = ERR_INIT;

	settings.gateway.max_listeners = 10;
	queue = (struct queue_of_test){ .base = { &ops }, .low = { LOW, 0 }, .high = { LENGTH, LENGTH },
		.gives_nothing = gives_nothing };
	pthread_mutex_init(&queue.lock, NULL);
	taken = (struct buf)BUF_INIT;
	has_ended = false;
	assert_int_equal(0, events_open(&settings, &queue.base, &events, &err));
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_with(false);
}

static int start_stuck(void **state)
{
	(void)state;
	return start_with(true);
}

static int finish(void **state)
{
	(void)state;
	set(&queue.is_held, false);
	events_close(events);
	http_stream_detach(stream);
	http_stream_release(stream);
	buf_release(&taken);
	pthread_mutex_destroy(&queue.lock);
	return 0;
}

static void listen_from(const struct events_place *place)
{
	static _Atomic int64_t deadline_ms;
	const struct http_stream_hooks hooks = { nothing, NULL, &deadline_ms, PATIENCE_MS };
	const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
	struct err err = ERR_INIT;

	while (events_room(events, &err) < 0 && clock_mono_ms() < until_ms)
		nap();
	stream = http_stream_new(EVENTS_WAITING);
	http_stream_attach(stream, &hooks);
	events_add(events, stream, place);
}

static void take(void)
{
	char out[4096];
	ssize_t len;

	while ((len = http_stream_take(stream, out, sizeof(out), nothing)) > 0)
		buf_add(&taken, out, (size_t)len);
	has_ended = len < 0;
}

static void take_until(const char *text)
{
	const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

	for (take(); strstr(taken.data, text) == NULL; take()) {
		assert_true(clock_mono_ms() < until_ms);
		nap();
	}
}

static size_t count_of(const char *text)
{
	size_t count = 0;

	for (const char *at = taken.data; (at = strstr(at, text)) != NULL; at += strlen(text))
		count++;
	return count;
}

/* ---- the tests */

static const struct events_place first = { .next = { 0, LENGTH - 10 }, .count = PARTITIONS };

static void a_gap_in_one_partition_repeats_nothing_of_another(void **state)
{
	(void)state;
	listen_from(&first);
	take_until("id: 1-2000-2000/");
	pthread_mutex_lock(&queue.lock);
	queue.high[0]++;
	queue.high[1]++;
	pthread_mutex_unlock(&queue.lock);
	take_until("id: 1-2001-2001/");
	assert_true(get(&queue.has_reader));
	assert_int_equal(LENGTH - LOW + 1 + 10 + 1, count_of("\ndata: "));
}

static void a_stop_ends_streams_while_the_queue_is_asked(void **state)
{
	(void)state;
	set(&queue.is_held, true);
	listen_from(&first);
	for (const int64_t until_ms = clock_mono_ms() + PATIENCE_MS; !get(&queue.is_asked) && clock_mono_ms() < until_ms; take())
		nap();
	assert_true(get(&queue.is_asked));
	events_stop(events);
	take();
	assert_true(has_ended);
	assert_true(get(&queue.is_asked)); /* it was not waited for */
}

static void comments_come_while_it_cant_be_begun_anew(void **state)
{
	(void)state;
	listen_from(NULL);
	set(&queue.cant_be_asked, true);
	take_until("\n:\n\n");
	assert_false(has_ended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_gap_in_one_partition_repeats_nothing_of_another, start, finish),
		cmocka_unit_test_setup_teardown(a_stop_ends_streams_while_the_queue_is_asked, start, finish),
		cmocka_unit_test_setup_teardown(comments_come_while_it_cant_be_begun_anew, start_stuck, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
