/* The whole turn of a worker's thread, against a queue in memory that stands in for common/queue: it fails to send, loses and
 * gives back partitions, acknowledges late and out of order; the worker fails in every way it may. Each run has its own process
 * and its own seed, and must end with every record done or in the dead letter topic, and no offset stored too early. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/stop.h"
#include "workers/engine/loop.h"

#define PARTITIONS 4
#define RECORDS 150 /* of each partition */
#define BATCH 20
#define ACKS 4096
#define DEADLINE_MS 60000

static unsigned seed;

static unsigned roll(unsigned sides)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	unsigned value;

	pthread_mutex_lock(&lock);
	value = (unsigned)rand_r(&seed) % sides;
	pthread_mutex_unlock(&lock);
	return value;
}

static void check(bool holds, const char *what, long long detail)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s (%lld)\n", what, detail);
	_exit(1);
}

/* ---- the queue */

struct ack {
	sent_fn *done;
	void *arg;
	int partition; /* of the input that the output came from */
	int64_t offset;
};

static struct {
	pthread_mutex_t lock;
	bool is_owned[PARTITIONS], is_paused[PARTITIONS];
	int64_t position[PARTITIONS], committed[PARTITIONS];
	_Atomic int64_t stored[PARTITIONS]; /* what both threads look at without the lock is atomic */
	bool is_acked[PARTITIONS][RECORDS]; /* an output of the record is stored */
	bool is_dead[PARTITIONS][RECORDS];  /* its dead letter is */
	size_t in_use;                      /* records not released */
	struct ack acks[ACKS];
	size_t ack_count;
	struct consumer_options options;
	int until_rebalance;
	_Atomic size_t sends;
	size_t rewinds, revocations;
	atomic_bool is_calm; /* no more failures: the end must come */
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool strikes(unsigned one_in)
{
	return !queue.is_calm && roll(one_in) == 0;
}

int consumer_open(struct queue *unused, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	(void)unused;
	(void)err;
	queue.options = *options;
	queue.until_rebalance = 0;
	*out = (struct consumer *)&queue;
	return 0;
}

static void assign_all(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		queue.is_owned[p] = true;
		queue.is_paused[p] = false;
		queue.position[p] = queue.committed[p];
		queue.stored[p] = queue.committed[p];
	}
}

/* Eager: all partitions go, and those that come start where the group is. */
static void rebalance(void)
{
	const bool lost = roll(3) == 0;
	struct topic_partition partitions[PARTITIONS];
	size_t count = 0;

	for (int32_t p = 0; p < PARTITIONS; p++)
		if (queue.is_owned[p])
			partitions[count++] = (struct topic_partition){ queue.options.topic, p };
	queue.revocations++;
	if (count > 0) {
		queue.options.revoked(queue.options.arg, partitions, count, lost);
		for (int p = 0; p < PARTITIONS; p++)
			if (!lost)
				queue.committed[p] = queue.stored[p];
	}
	memset(queue.is_owned, 0, sizeof(queue.is_owned));
}

static void release_one(void *handle)
{
	free(handle);
	queue.in_use--;
}

static int next_of(int p, struct record *out)
{
	int64_t *where = malloc(sizeof(*where));

	*where = queue.position[p]++;
	queue.in_use++;
	*out = (struct record){ .topic = queue.options.topic, .partition = p, .offset = *where, .timestamp_ms = clock_wall_ms(),
		.value = { (const char *)where, sizeof(*where) }, .handle = where, .release = release_one };
	return 1;
}

int consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err)
{
	const unsigned first = roll(PARTITIONS);
	bool any_owned = false;

	(void)consumer;
	(void)err;
	for (int p = 0; p < PARTITIONS; p++)
		any_owned |= queue.is_owned[p];
	if (!any_owned)
		assign_all();
	else if (strikes(60))
		rebalance();
	for (unsigned i = 0; i < PARTITIONS; i++) {
		const int p = (int)((first + i) % PARTITIONS);

		if (queue.is_owned[p] && !queue.is_paused[p] && queue.position[p] < RECORDS && roll(8) > 0)
			return next_of(p, out);
	}
	usleep((useconds_t)(timeout_ms > 2 ? 2000 : timeout_ms * 1000));
	return 0;
}

int consumer_pause(struct consumer *consumer, bool paused, struct err *err)
{
	(void)consumer;
	if (strikes(10))
		return err_set(err, ERR_UNAVAILABLE, "no pause today");
	for (int p = 0; p < PARTITIONS; p++)
		if (queue.is_owned[p])
			queue.is_paused[p] = paused;
	return 0;
}

bool consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition)
{
	(void)consumer;
	check(strcmp(topic, queue.options.topic) == 0, "asked for another topic", 0);
	return queue.is_owned[partition];
}

bool consumer_connected(const struct consumer *consumer)
{
	(void)consumer;
	return true;
}

/* Here is the promise: everything below a stored offset is done, and what it gave out is stored. */
int consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	(void)consumer;
	(void)topic;
	if (!queue.is_owned[partition])
		return err_set(err, ERR_CONFLICT, "not ours");
	pthread_mutex_lock(&queue.lock);
	check(offset > queue.stored[partition], "stored offset goes back", offset);
	for (int64_t o = queue.stored[partition]; o < offset; o++)
		check(queue.is_acked[partition][o] || queue.is_dead[partition][o], "stored before its output was", o);
	queue.stored[partition] = offset;
	pthread_mutex_unlock(&queue.lock);
	return 0;
}

int consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	(void)consumer;
	(void)topic;
	if (strikes(3))
		return err_set(err, ERR_UNAVAILABLE, "no seek today");
	check(offset == queue.stored[partition], "sought another offset than the first that is not stored", offset);
	queue.position[partition] = offset;
	queue.rewinds++;
	return 0;
}

void consumer_close(struct consumer *consumer)
{
	(void)consumer;
	for (int p = 0; p < PARTITIONS; p++)
		if (queue.is_owned[p])
			queue.committed[p] = queue.stored[p];
}

int producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	struct ack ack = { .done = done, .arg = arg };
	const bool is_dead = strcmp(record->topic, "tester.dlq") == 0;
	int64_t partition = 0;

	(void)producer;
	memcpy(&ack.offset, record->value.data, sizeof(ack.offset));
	if (is_dead)
		str_int64(record_header_get(record, HEADER_ORIGIN_PARTITION), &partition);
	else
		memcpy(&partition, record->key.data, sizeof(partition));
	ack.partition = (int)partition + (is_dead ? PARTITIONS : 0);
	if (strikes(40))
		return err_set(err, ERR_FULL, "full");
	if (strikes(400))
		return err_set(err, ERR_UNAVAILABLE, "no broker");
	pthread_mutex_lock(&queue.lock);
	check(queue.ack_count < ACKS, "too much under way", (long long)queue.ack_count);
	queue.acks[queue.ack_count++] = ack;
	queue.sends++;
	pthread_mutex_unlock(&queue.lock);
	return 0;
}

/* The producer's thread: reports in any order. */
static void report_one(void)
{
	const bool fails = strikes(300);
	struct ack ack;

	pthread_mutex_lock(&queue.lock);
	if (queue.ack_count == 0) {
		pthread_mutex_unlock(&queue.lock);
		return;
	}
	{
		const size_t i = roll((unsigned)queue.ack_count);

		ack = queue.acks[i];
		queue.acks[i] = queue.acks[--queue.ack_count];
	}
	if (!fails && ack.partition < PARTITIONS)
		queue.is_acked[ack.partition][ack.offset] = true;
	if (!fails && ack.partition >= PARTITIONS)
		queue.is_dead[ack.partition - PARTITIONS][ack.offset] = true;
	pthread_mutex_unlock(&queue.lock);
	ack.done(ack.arg, fails ? (roll(2) ? SENT_NOT : SENT_UNKNOWN) : SENT_STORED, fails ? "lost" : NULL);
}

/* ---- the worker: one output for each record; what it did is kept as a database would */

static bool is_poison(int32_t partition, int64_t offset)
{
	return (partition * 31 + offset * 7) % 29 == 0;
}

static const struct worker_settings *tester_settings(const struct settings *settings)
{
	return &settings->fanout;
}

static int tester_open(const struct settings *settings, void **state, struct err *err)
{
	(void)settings;
	(void)err;
	*state = &queue;
	return 0;
}

static int tester_check(void *state, struct err *err)
{
	(void)state;
	return strikes(2) ? err_set(err, ERR_UNAVAILABLE, "not yet") : 0;
}

static int tester_handle(void *state, struct batch *batch, struct err *err)
{
	static const enum err_kind kinds[] = { ERR_UNAVAILABLE, ERR_FULL, ERR_CONFLICT, ERR_UNKNOWN };
	int64_t before[PARTITIONS] = { -1, -1, -1, -1 };

	(void)state;
	check(batch->count > 0 && batch->count <= BATCH, "batch size", (long long)batch->count);
	for (size_t i = 0; i < batch->count; i++) {
		const struct record *record = batch->items[i].record;
		const int64_t partition = record->partition;
		struct record output = { .topic = "out", .partition = -1 };
		struct err why = ERR_INIT;

		check(record->offset > before[record->partition], "not in the order of the partition", record->offset);
		before[record->partition] = record->offset;
		check(queue.is_owned[record->partition], "handled a record of a partition that is not ours", record->offset);
		output.key = (struct slice){ (const char *)&partition, sizeof(partition) };
		output.value = record->value;
		batch_emit(batch, i, &output);
		if (is_poison(record->partition, record->offset) && record->partition < 2)
			return err_set(err, ERR_INVALID, "poison at %lld", (long long)record->offset);
		err_set(&why, ERR_INVALID, "wrong");
		if (is_poison(record->partition, record->offset))
			batch_reject(batch, i, &why);
		else if (strikes(200)) /* the record stays in front: it comes again before the later ones */
			batch_retry(batch, i, &why);
	}
	if (strikes(25))
		return err_set(err, kinds[roll(4)], "as it happens");
	return 0;
}

static const struct worker_ops tester_ops = {
	.settings = tester_settings,
	.open = tester_open,
	.dependency = "nothing",
	.check = tester_check,
	.handle = tester_handle,
};

/* ---- a run */

static bool is_over(void)
{
	for (int p = 0; p < PARTITIONS; p++)
		if (queue.stored[p] < RECORDS)
			return false;
	return true;
}

static void check_end(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		check(queue.committed[p] == RECORDS, "committed", queue.committed[p]);
		for (int64_t o = 0; o < RECORDS; o++)
			check(is_poison(p, o) ? queue.is_dead[p][o] : queue.is_acked[p][o], "a record without its effect", o);
	}
	check(queue.in_use == 0, "records not released", (long long)queue.in_use);
	check(queue.rewinds + queue.revocations > 0, "nothing went wrong", (long long)queue.sends);
}

static int run(unsigned number)
{
	static const struct worker_entry entry = { .name = "tester", .topic = "in", .writes = "out", .ops = &tester_ops };
	struct settings settings = { .drain_timeout_ms = 5000, .fanout = { 1, BATCH, 2 } };
	struct vitals vitals;
	struct loop_shared shared = { &entry, &settings, NULL, NULL, &vitals };
	const int64_t began = clock_mono_ms();
	struct loop *loop;
	struct err err = ERR_INIT;

	seed = number;
	alarm(DEADLINE_MS / 1000 + 30);
	log_set_level("error");
	stop_install();
	vitals_init(&vitals, &entry, 1);
	check(loop_start(&shared, 0, &loop, &err) == 0, "start", 0);
	while (!is_over()) {
		report_one();
		usleep(roll(4) == 0 ? 300 : 0);
		queue.is_calm = queue.sends > 450 || clock_mono_ms() - began > 20000;
		check(clock_mono_ms() - began < DEADLINE_MS, "not over in time", queue.stored[0]);
	}
	stop_request();
	while (loop_join(loop, clock_mono_ms()) < 0)
		report_one();
	while (queue.ack_count > 0)
		report_one();
	check(!loop_failed(loop), "failed", 0);
	loop_free(loop);
	check_end();
	vitals_release(&vitals);
	return 0;
}

static void every_record_has_its_effect_and_no_offset_is_early(void **state)
{
	(void)state;
	for (unsigned number = 1; number <= 6; number += 3) {
		int status[3];
		pid_t pid[3];

		for (unsigned i = 0; i < 3; i++) {
			pid[i] = fork();
			if (pid[i] == 0)
				_exit(run(number + i));
		}
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pid[i], waitpid(pid[i], &status[i], 0));
		for (unsigned i = 0; i < 3; i++)
			if (status[i] != 0)
				fail_msg("seed %u: status %d", number + i, status[i]);
	}
}

/* ---- the end by a fatal error */

static int fatal_handle(void *state, struct batch *batch, struct err *err)
{
	(void)state;
	(void)batch;
	return err_set(err, ERR_FATAL, "no such table");
}

static int run_fatal(void)
{
	static const struct worker_ops ops = { .settings = tester_settings, .open = tester_open, .dependency = "nothing",
		.check = tester_check, .handle = fatal_handle };
	static const struct worker_entry entry = { .name = "tester", .topic = "in", .writes = "out", .ops = &ops };
	struct settings settings = { .drain_timeout_ms = 5000, .fanout = { 1, BATCH, 2 } };
	struct vitals vitals;
	struct loop_shared shared = { &entry, &settings, NULL, NULL, &vitals };
	struct err err = ERR_INIT;
	struct loop *loop;

	alarm(30);
	queue.is_calm = true;
	stop_install();
	vitals_init(&vitals, &entry, 1);
	check(loop_start(&shared, 0, &loop, &err) == 0, "start", 0);
	check(stop_wait(20000), "no stop was asked for", 0);
	check(loop_join(loop, clock_mono_ms() + 20000) == 0, "join", 0);
	check(loop_failed(loop), "not failed", 0);
	loop_free(loop);
	check(queue.stored[0] + queue.stored[1] + queue.stored[2] + queue.stored[3] == 0, "an offset was stored", 0);
	check(queue.in_use == 0, "records not released", (long long)queue.in_use);
	vitals_release(&vitals);
	return 0;
}

static void a_fatal_error_ends_the_process_and_stores_nothing(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0)
		_exit(run_fatal());
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_int_equal(0, status);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_has_its_effect_and_no_offset_is_early),
		cmocka_unit_test(a_fatal_error_ends_the_process_and_stores_nothing),
	};
	int64_t number;

	if (argc == 2 && str_int64(slice_of(argv[1]), &number)) /* one seed again, under a debugger */
		return run((unsigned)number);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
