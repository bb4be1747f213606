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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/stop.h"
#include "workers/engine/letter.h"
#include "workers/engine/loop.h"

#define PARTITIONS 4
#define RECORDS 150 /* of each partition */
#define TOPICS 3    /* the worker's, and two retry topics; each with PARTITIONS */
#define SLOTS (TOPICS * PARTITIONS)
#define LOG 2000    /* room in a partition of a retry topic */
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
	int partition; /* of the input that the output came from; by PARTITIONS more: its dead letter, or its retry */
	int64_t offset;
	int slot;      /* of a retry: where it is stored */
	struct again *again;
};

/* A record of a retry topic. */
struct again {
	int64_t origin; /* offset in the worker's topic */
	char due[24], tries[24], offset[24], partition[24];
};

static struct {
	pthread_mutex_t lock;
	char topics[TOPICS][TOPIC_NAME_MAX];
	bool is_owned[SLOTS], is_paused[SLOTS], is_held[SLOTS];
	int64_t position[SLOTS], committed[SLOTS], held_at[SLOTS];
	_Atomic int64_t high[SLOTS];        /* what both threads look at without the lock is atomic */
	_Atomic int64_t stored[SLOTS];
	struct again log[SLOTS][LOG];       /* of the retry topics */
	bool is_acked[PARTITIONS][RECORDS]; /* an output of the record is stored */
	bool is_dead[PARTITIONS][RECORDS];  /* its dead letter is */
	bool is_retried[PARTITIONS][RECORDS]; /* it is in a retry topic */
	bool is_settled[SLOTS][LOG];        /* of a retry: it has its effect, its dead letter, or the next retry */
	size_t in_use;                      /* records not released */
	struct ack acks[ACKS];
	size_t ack_count;
	struct consumer_options options;
	int until_rebalance;
	_Atomic size_t sends, retries, holds;
	size_t rewinds, revocations;
	atomic_bool is_calm; /* no more failures: the end must come */
	bool is_ordered;
	bool is_doomed; /* the next poll ends the process */
	bool is_lost;   /* others have our partitions, and the next poll will say so */
	size_t losses;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What outlives a process: the group's offsets, and what is stored. NULL: this run is one process. */
static struct {
	int64_t committed[SLOTS], begun[SLOTS];
	bool is_acked[PARTITIONS][RECORDS], is_dead[PARTITIONS][RECORDS];
	int deaths;
} *world;

static void commit_world(int slot, int64_t offset, int64_t begun)
{
	if (world == NULL)
		return;
	world->committed[slot] = offset;
	world->begun[slot] = begun;
}

static int slot_of(const char *topic, int32_t partition)
{
	for (int t = 0; t < TOPICS; t++)
		if (strcmp(topic, queue.topics[t]) == 0)
			return t * PARTITIONS + partition;
	check(false, "asked for another topic", 0);
	return 0;
}

static bool strikes(unsigned one_in)
{
	return !queue.is_calm && roll(one_in) == 0;
}

int consumer_open(struct queue *unused, const struct consumer_options *options, struct consumer **out, struct err *err)
{
	(void)unused;
	(void)err;
	queue.options = *options;
	check(strcmp(options->topic, queue.topics[0]) == 0, "reads another topic", 0);
	check((options->more[0] == NULL) == queue.is_ordered, "retry topics", 0);
	queue.until_rebalance = 0;
	*out = (struct consumer *)&queue;
	return 0;
}

static void assign_all(void)
{
	for (int p = 0; p < (queue.is_ordered ? PARTITIONS : SLOTS); p++) {
		queue.is_owned[p] = true;
		queue.is_paused[p] = queue.is_held[p] = false;
		queue.position[p] = queue.committed[p];
		queue.stored[p] = queue.committed[p];
	}
}

/* Eager: all partitions go, and those that come start where the group is. */
static void rebalance(void)
{
	const bool lost = queue.is_lost || roll(3) == 0;
	struct topic_partition partitions[SLOTS];
	size_t count = 0;

	for (int32_t p = 0; p < SLOTS; p++)
		if (queue.is_owned[p])
			partitions[count++] = (struct topic_partition){ queue.topics[p / PARTITIONS], p % PARTITIONS };
	queue.revocations++;
	queue.is_lost = false;
	if (count > 0) {
		queue.options.revoked(queue.options.arg, partitions, count, lost);
		for (int p = 0; p < SLOTS; p++)
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
	struct again *where = malloc(sizeof(*where));

	*where = p < PARTITIONS ? (struct again){ .origin = queue.position[p] } : queue.log[p][queue.position[p]];
	queue.in_use++;
	*out = (struct record){ .topic = queue.topics[p / PARTITIONS], .partition = p % PARTITIONS, .offset = queue.position[p]++,
		.timestamp_ms = clock_wall_ms(), .value = { (const char *)&where->origin, sizeof(where->origin) }, .handle = where,
		.release = release_one };
	if (p >= PARTITIONS) {
		record_header_add(out, HEADER_DUE, slice_of(where->due));
		record_header_add(out, HEADER_ATTEMPTS, slice_of(where->tries));
		record_header_add(out, HEADER_ORIGIN_OFFSET, slice_of(where->offset));
		record_header_add(out, HEADER_ORIGIN_PARTITION, slice_of(where->partition));
	}
	return 1;
}

int consumer_poll(struct consumer *consumer, int64_t timeout_ms, struct record *out, struct err *err)
{
	const unsigned first = roll(SLOTS);
	bool any_owned = false;

	(void)consumer;
	(void)err;
	if (queue.is_doomed)
		_exit(9);
	for (int p = 0; p < SLOTS; p++)
		any_owned |= queue.is_owned[p];
	if (!any_owned)
		assign_all();
	else if (queue.is_lost || strikes(60))
		rebalance();
	for (unsigned i = 0; i < SLOTS; i++) {
		const int p = (int)((first + i) % SLOTS);

		if (queue.is_owned[p] && !queue.is_paused[p] && !queue.is_held[p] && queue.position[p] < queue.high[p] && roll(8) > 0)
			return next_of(p, out);
	}
	usleep((useconds_t)(timeout_ms > 2 ? 2000 : timeout_ms * 1000));
	return 0;
}

int consumer_pause(struct consumer *consumer, bool paused, struct err *err)
{
	int done = SLOTS;

	(void)consumer;
	if (strikes(10))
		done = (int)roll(SLOTS); /* some of them only */
	for (int p = 0; p < done; p++)
		if (queue.is_owned[p])
			queue.is_paused[p] = paused;
	return done < SLOTS ? err_set(err, ERR_UNAVAILABLE, "no pause today") : 0;
}

int consumer_hold(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	const int p = slot_of(topic, partition);

	(void)consumer;
	if (!queue.is_owned[p])
		return err_set(err, ERR_CONFLICT, "not ours");
	if (strikes(10))
		return err_set(err, ERR_UNAVAILABLE, "no hold today");
	queue.is_held[p] = true;
	queue.position[p] = offset;
	queue.holds++;
	return 0;
}

int consumer_release(struct consumer *consumer, const char *topic, int32_t partition, struct err *err)
{
	const int p = slot_of(topic, partition);

	(void)consumer;
	if (!queue.is_owned[p])
		return err_set(err, ERR_CONFLICT, "not ours");
	if (strikes(5))
		return err_set(err, ERR_UNAVAILABLE, "no release today");
	queue.is_held[p] = false;
	return 0;
}

bool consumer_owns(const struct consumer *consumer, const char *topic, int32_t partition)
{
	(void)consumer;
	return queue.is_owned[slot_of(topic, partition)] && !queue.is_lost;
}

bool consumer_connected(const struct consumer *consumer)
{
	(void)consumer;
	return true;
}

/* With the lock held. Here is the promise: everything below a stored offset is done, and what it gave out is stored. */
static void check_done(int p, int64_t from, int64_t to)
{
	for (int64_t o = from; o < to; o++) {
		if (p < PARTITIONS)
			check(queue.is_acked[p][o] || queue.is_dead[p][o] || queue.is_retried[p][o], "stored before its output was", o);
		else
			check(queue.is_settled[p][o], "a retry is stored as done before its output was", o);
	}
}

int consumer_store(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	const int p = slot_of(topic, partition);

	(void)consumer;
	if (!queue.is_owned[p] || queue.is_lost)
		return err_set(err, ERR_CONFLICT, "not ours");
	pthread_mutex_lock(&queue.lock);
	check(offset > queue.stored[p], "stored offset goes back", offset);
	check_done(p, queue.stored[p], offset);
	queue.stored[p] = offset;
	pthread_mutex_unlock(&queue.lock);
	return 0;
}

int consumer_begin(struct consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	(void)consumer;
	if (strikes(10))
		return err_set(err, ERR_UNAVAILABLE, "no commit today");
	pthread_mutex_lock(&queue.lock);
	for (size_t i = 0; i < count; i++) {
		const int p = slot_of(beginnings[i].topic, beginnings[i].partition);

		check(queue.is_owned[p], "begins what is not ours", p);
		check(beginnings[i].offset >= queue.committed[p], "the group goes back", beginnings[i].offset);
		check_done(p, queue.committed[p], beginnings[i].offset);
		queue.committed[p] = beginnings[i].offset;
		commit_world(p, beginnings[i].offset, beginnings[i].tries);
	}
	for (int p = 0; p < SLOTS; p++) /* what is stored goes with it */
		if (queue.is_owned[p] && queue.stored[p] > queue.committed[p]) {
			queue.committed[p] = queue.stored[p];
			commit_world(p, queue.stored[p], 0);
		}
	pthread_mutex_unlock(&queue.lock);
	return 0;
}

int64_t consumer_begun(const struct consumer *consumer, const char *topic, int32_t partition)
{
	(void)consumer;
	return world != NULL ? world->begun[slot_of(topic, partition)] : 0;
}

int consumer_seek(struct consumer *consumer, const char *topic, int32_t partition, int64_t offset, struct err *err)
{
	const int p = slot_of(topic, partition);

	(void)consumer;
	if (strikes(3))
		return err_set(err, ERR_UNAVAILABLE, "no seek today");
	check(offset == queue.stored[p] || offset == queue.committed[p], "sought another offset than the first that is not stored", offset);
	queue.position[p] = offset;
	queue.rewinds++;
	return 0;
}

void consumer_close(struct consumer *consumer)
{
	(void)consumer;
	for (int p = 0; p < SLOTS; p++)
		if (queue.is_owned[p])
			queue.committed[p] = queue.stored[p];
}

static void copy_text(char out[24], struct slice text)
{
	check(text.len < 24, "a long number", (long long)text.len);
	snprintf(out, 24, "%.*s", (int)text.len, text.data);
}

/* Where a letter lies when it is stored. */
static struct again *again_of(const struct record *record)
{
	struct again *again = calloc(1, sizeof(*again));

	memcpy(&again->origin, record->value.data, sizeof(again->origin));
	copy_text(again->due, record_header_get(record, HEADER_DUE));
	copy_text(again->tries, record_header_get(record, HEADER_ATTEMPTS));
	copy_text(again->offset, record_header_get(record, HEADER_ORIGIN_OFFSET));
	copy_text(again->partition, record_header_get(record, HEADER_ORIGIN_PARTITION));
	return again;
}

/* An output says in its key where its input was: partition, then slot and offset there; a letter in its headers and its handle. */
struct from {
	int64_t partition, slot, offset;
};

int producer_send(struct producer *producer, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	struct ack ack = { .done = done, .arg = arg };
	const bool is_dead = strcmp(record->topic, "tester.dlq") == 0, is_out = strcmp(record->topic, "out") == 0;
	int64_t partition = 0, offset = 0;

	(void)producer;
	memcpy(&ack.offset, record->value.data, sizeof(ack.offset));
	if (is_out) {
		struct from from; /* its bytes may lie anywhere */

		memcpy(&from, record->key.data, sizeof(from));
		partition = from.partition;
	} else {
		str_int64(record_header_get(record, HEADER_ORIGIN_PARTITION), &partition);
		str_int64(record_header_get(record, HEADER_ORIGIN_OFFSET), &offset);
		check(offset == ack.offset, "a letter of another record", offset);
	}
	ack.partition = (int)partition + (is_out ? 0 : PARTITIONS);
	if (strikes(40))
		return err_set(err, ERR_FULL, "full");
	if (strikes(400))
		return err_set(err, ERR_UNAVAILABLE, "no broker");
	if (!is_out && !is_dead) {
		ack.slot = slot_of(record->topic, (int32_t)partition);
		ack.again = again_of(record);
	}
	pthread_mutex_lock(&queue.lock);
	check(queue.ack_count < ACKS, "too much under way", (long long)queue.ack_count);
	queue.acks[queue.ack_count++] = ack;
	queue.sends++;
	pthread_mutex_unlock(&queue.lock);
	return 0;
}

/* With the lock held. What a letter or an output settles: its input, and every retry of it that came before. */
static void settle_retries(int partition, int64_t origin, int below)
{
	for (int p = PARTITIONS + partition; p < below; p += PARTITIONS)
		for (int64_t o = 0; o < queue.high[p]; o++)
			if (queue.log[p][o].origin == origin)
				queue.is_settled[p][o] = true;
}

static void store_ack(struct ack *ack)
{
	const int partition = ack->partition % PARTITIONS;

	if (ack->partition < PARTITIONS) {
		queue.is_acked[partition][ack->offset] = true;
		if (world != NULL)
			world->is_acked[partition][ack->offset] = true;
	} else if (ack->again == NULL) {
		queue.is_dead[partition][ack->offset] = true;
		if (world != NULL)
			world->is_dead[partition][ack->offset] = true;
	} else {
		queue.is_retried[partition][ack->offset] = true;
		settle_retries(partition, ack->offset, ack->slot);
		check(queue.high[ack->slot] < LOG, "too many retries", queue.high[ack->slot]);
		queue.log[ack->slot][queue.high[ack->slot]] = *ack->again;
		queue.high[ack->slot]++; /* only now it can be seen */
		queue.retries++;
		return;
	}
	settle_retries(partition, ack->offset, SLOTS);
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
	if (!fails)
		store_ack(&ack);
	free(ack.again);
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

/* Never before it is due, and with its tries and its origin. */
static void check_retry(const struct item *item, int64_t origin)
{
	const struct record *record = item->record;
	int64_t due_ms = 0, offset = -1;

	if (strcmp(record->topic, queue.topics[0]) == 0)
		return;
	check(str_int64(record_header_get(record, HEADER_DUE), &due_ms), "no due time", 0);
	check(clock_wall_ms() >= due_ms, "early", due_ms);
	check(item->tries > letter_tries(record) && letter_tries(record) > 0, "tries", item->tries);
	check(str_int64(record_header_get(record, HEADER_ORIGIN_OFFSET), &offset) && offset == origin, "origin", offset);
}

/* Some can't be done at all, some not yet; where order counts nothing goes past them. */
static bool has_to_wait(const struct record *record, int64_t origin, bool *is_waiting)
{
	const bool must_wait = (origin + record->partition) % 37 == 5 || strikes(200);

	if (queue.is_ordered && *is_waiting)
		return true;
	if (must_wait)
		*is_waiting = true;
	return must_wait;
}

static int tester_handle(void *state, struct batch *batch, struct err *err)
{
	static const enum err_kind kinds[] = { ERR_UNAVAILABLE, ERR_FULL, ERR_CONFLICT, ERR_UNKNOWN };
	int64_t before[SLOTS];
	bool is_waiting[PARTITIONS] = { false };

	(void)state;
	memset(before, 0xff, sizeof(before));
	check(batch->count > 0 && batch->count <= BATCH, "batch size", (long long)batch->count);
	for (size_t i = 0; i < batch->count; i++) {
		const struct record *record = batch->items[i].record;
		const int slot = slot_of(record->topic, record->partition);
		const struct from from = { record->partition, slot, record->offset };
		struct record output = { .topic = "out", .partition = -1, .value = record->value };
		struct err why = ERR_INIT;
		int64_t origin;

		memcpy(&origin, record->value.data, sizeof(origin));
		check(record->offset > before[slot], "not in the order of the partition", record->offset);
		before[slot] = record->offset;
		check(queue.is_owned[slot], "handled a record of a partition that is not ours", record->offset);
		check_retry(&batch->items[i], origin);
		output.key = (struct slice){ (const char *)&from, sizeof(from) };
		if (is_poison(record->partition, origin) && record->partition < 2)
			return err_set(err, ERR_INVALID, "poison at %lld", (long long)origin);
		err_set(&why, ERR_INVALID, "wrong");
		if (has_to_wait(record, origin, &is_waiting[record->partition]))
			batch_retry(batch, i, &why);
		else if (is_poison(record->partition, origin))
			batch_reject(batch, i, &why);
		else
			batch_emit(batch, i, &output);
	}
	if (!batch_still_owned(batch)) /* the next poll will tell the engine */
		return err_set(err, ERR_CONFLICT, "not ours any more");
	if (strikes(60)) { /* before the commit: somebody else has the partitions now */
		queue.is_lost = true;
		queue.losses++;
		check(!batch_still_owned(batch), "a commit of what others have", 0);
		return err_set(err, ERR_CONFLICT, "not ours any more");
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
	for (int p = 0; p < SLOTS; p++)
		if (queue.stored[p] < queue.high[p])
			return false;
	return true;
}

static void check_end(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		check(queue.committed[p] == RECORDS, "committed", queue.committed[p]);
		for (int64_t o = 0; o < RECORDS; o++) {
			const bool is_stuck = (o + p) % 37 == 5 && !(is_poison(p, o) && p < 2);

			check(is_poison(p, o) || is_stuck ? queue.is_dead[p][o] : queue.is_acked[p][o] || queue.is_dead[p][o],
				"a record without its effect", o);
			check(!is_stuck || queue.is_ordered || queue.is_retried[p][o], "given up without another try", o);
		}
	}
	check(queue.in_use == 0, "records not released", (long long)queue.in_use);
	check(queue.rewinds + queue.revocations > 0, "nothing went wrong", (long long)queue.sends);
	check((queue.retries > 0) == !queue.is_ordered, "retry topics", (long long)queue.retries);
	check(queue.holds > 0, "no partition was held", 0);
}

static void fill_queue(struct settings *settings, const char *delays)
{
	struct err err = ERR_INIT;

	settings->retry_delays = (char *)delays;
	check(topics_open(settings, &err) == 0, "delays", 0);
	snprintf(queue.topics[0], TOPIC_NAME_MAX, "in");
	for (size_t i = 1; i < TOPICS; i++)
		topic_retry("tester", i - 1, queue.topics[i]);
	for (int p = 0; p < PARTITIONS; p++)
		queue.high[p] = RECORDS;
}

static int run(unsigned number)
{
	const struct worker_entry entry = { .name = "tester", .topic = "in", .writes = "out", .ops = &tester_ops,
		.retries = number % 2 ? RETRY_BY_TOPIC : RETRY_IN_PLACE };
	struct settings settings = { .drain_timeout_ms = 5000, .crash_limit = 5, .fanout = { 1, BATCH, 2 } };
	struct vitals vitals;
	struct loop_shared shared = { &entry, &settings, NULL, NULL, &vitals };
	const int64_t began = clock_mono_ms();
	struct loop *loop;
	struct err err = ERR_INIT;

	seed = number;
	alarm(DEADLINE_MS / 1000 + 30);
	log_set_level("error");
	stop_install();
	fill_queue(&settings, "20ms, 40ms");
	queue.is_ordered = entry.retries == RETRY_IN_PLACE;
	vitals_init(&vitals, &entry, 1);
	check(loop_start(&shared, 0, &loop, &err) == 0, "start", 0);
	while (!is_over() || queue.ack_count > 0) {
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

/* ---- processes that die */

#define KILLER_PARTITION 1
#define KILLER 117 /* not in the first batch */

static int deadly_handle(void *state, struct batch *batch, struct err *err)
{
	(void)state;
	(void)err;
	for (size_t i = 0; i < batch->count; i++) {
		const struct record *record = batch->items[i].record;
		const struct from from = { record->partition, slot_of(record->topic, record->partition), record->offset };
		const struct record output = { .topic = "out", .partition = -1, .key = { (const char *)&from, sizeof(from) }, .value = record->value };

		if (record->partition == KILLER_PARTITION && record->offset == KILLER) {
			world->deaths++;
			_exit(9);
		}
		batch_emit(batch, i, &output);
	}
	return 0;
}

/* The dependency is away, and somebody kills the worker that waits for it. */
static int away_handle(void *state, struct batch *batch, struct err *err)
{
	static int calls;

	if (world->deaths >= 12)
		return deadly_handle(state, batch, err);
	if (++calls == 3) {
		world->deaths++;
		queue.is_doomed = true;
	}
	return err_set(err, ERR_UNAVAILABLE, "away");
}

static int live_and_die(int (*handle)(void *state, struct batch *batch, struct err *err))
{
	const struct worker_ops ops = { .settings = tester_settings, .open = tester_open, .dependency = "nothing", .check = tester_check,
		.handle = handle };
	const struct worker_entry entry = { .name = "tester", .topic = "in", .writes = "out", .ops = &ops, .retries = RETRY_IN_PLACE };
	struct settings settings = { .drain_timeout_ms = 5000, .crash_limit = 5, .fanout = { 1, BATCH, 2 } };
	struct vitals vitals;
	struct loop_shared shared = { &entry, &settings, NULL, NULL, &vitals };
	struct err err = ERR_INIT;
	struct loop *loop;

	alarm(60);
	queue.is_calm = queue.is_ordered = true;
	log_set_level("error");
	stop_install();
	fill_queue(&settings, "20ms, 40ms");
	memcpy(queue.committed, world->committed, sizeof(queue.committed));
	memcpy(queue.is_acked, world->is_acked, sizeof(queue.is_acked));
	memcpy(queue.is_dead, world->is_dead, sizeof(queue.is_dead));
	for (int p = 0; p < SLOTS; p++)
		queue.stored[p] = queue.committed[p];
	vitals_init(&vitals, &entry, 1);
	check(loop_start(&shared, 0, &loop, &err) == 0, "start", 0);
	while (!is_over() || queue.ack_count > 0)
		report_one();
	stop_request();
	while (loop_join(loop, clock_mono_ms()) < 0)
		report_one();
	loop_free(loop);
	vitals_release(&vitals);
	return 0;
}

/* Until a process comes to its end. */
static void live_again_and_again(int (*handle)(void *state, struct batch *batch, struct err *err))
{
	int status = -1;

	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(MAP_FAILED, world);
	for (int lives = 0; status != 0 && lives < 30; lives++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(live_and_die(handle));
		assert_int_equal(pid, waitpid(pid, &status, 0));
		if (status != 0 && WEXITSTATUS(status) != 9)
			fail_msg("life %d: status %d", lives, status);
	}
	assert_int_equal(0, status);
}

static void a_record_that_kills_its_worker_is_a_dead_letter_after_five_deaths(void **state)
{
	(void)state;
	live_again_and_again(deadly_handle);
	assert_int_equal(5, world->deaths);
	for (int p = 0; p < PARTITIONS; p++)
		for (int64_t o = 0; o < RECORDS; o++) {
			const bool is_killer = p == KILLER_PARTITION && o == KILLER;

			if (world->is_dead[p][o] != is_killer || world->is_acked[p][o] == is_killer)
				fail_msg("partition %d offset %d: dead %d, done %d", p, (int)o, world->is_dead[p][o], world->is_acked[p][o]);
		}
	munmap(world, sizeof(*world));
	world = NULL;
}

static void deaths_while_a_dependency_is_away_are_nobodys_fault(void **state)
{
	(void)state;
	live_again_and_again(away_handle);
	assert_int_equal(12 + 5, world->deaths); /* and then those of the one that kills */
	for (int p = 0; p < PARTITIONS; p++)
		for (int64_t o = 0; o < RECORDS; o++)
			assert_int_equal(p == KILLER_PARTITION && o == KILLER, world->is_dead[p][o]);
	munmap(world, sizeof(*world));
	world = NULL;
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
	static const struct worker_entry entry = { .name = "tester", .topic = "in", .writes = "out", .ops = &ops, .retries = RETRY_BY_TOPIC };
	struct settings settings = { .drain_timeout_ms = 5000, .crash_limit = 5, .fanout = { 1, BATCH, 2 } };
	struct vitals vitals;
	struct loop_shared shared = { &entry, &settings, NULL, NULL, &vitals };
	struct err err = ERR_INIT;
	struct loop *loop;

	alarm(30);
	queue.is_calm = true;
	stop_install();
	fill_queue(&settings, "20ms, 40ms");
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
		cmocka_unit_test(a_record_that_kills_its_worker_is_a_dead_letter_after_five_deaths),
		cmocka_unit_test(deaths_while_a_dependency_is_away_are_nobodys_fault),
		cmocka_unit_test(a_fatal_error_ends_the_process_and_stores_nothing),
	};
	int64_t number;

	if (argc == 2 && str_int64(slice_of(argv[1]), &number)) /* one seed again, under a debugger */
		return run((unsigned)number);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
