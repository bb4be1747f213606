/* Reads go in, and are done on a thread that has connections to the store and the search engine, or handed back when they are late. */
#include "api-gateway/readers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "api-gateway/nap.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define LATE_EVERY_MS 50 /* how late a read may be handed back */

struct job {
	read_fn *read;
	void *arg;
	int64_t begin_by_ms;
};

struct lane {
	struct job *ring;
	size_t first, count;
	size_t running, limit; /* threads that work on this lane */
};

struct readers {
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool is_closing;
	size_t room; /* of each ring */
	struct lane lanes[READ_FROM_COUNT];
	struct reader *each;
	pthread_t *threads;
	size_t open, started;
	struct nap nap;
	pthread_t usher; /* hands back what is late */
	bool has_usher;
};

static struct lane *next_lane(struct readers *readers)
{
	for (size_t i = 0; i < READ_FROM_COUNT; i++) {
		struct lane *lane = &readers->lanes[i];

		if (lane->count > 0 && lane->running < lane->limit)
			return lane;
	}
	return NULL;
}

/* Under the lock, which is let go while it reads. */
static void do_one(struct readers *readers, struct lane *lane, const struct reader *reader)
{
	struct job job = lane->ring[lane->first];

	lane->first = (lane->first + 1) % readers->room;
	lane->count--;
	lane->running++;
	pthread_mutex_unlock(&readers->lock);
	job.read(reader, job.arg);
	pthread_mutex_lock(&readers->lock);
	lane->running--;
}

/* A thread that ends its own search looks for work again itself, so that a lane at its limit needs no other wake-up. */
static void read_until_closed(struct readers *readers, const struct reader *reader)
{
	pthread_mutex_lock(&readers->lock);
	for (;;) {
		struct lane *lane = next_lane(readers);

		if (lane != NULL)
			do_one(readers, lane, reader);
		else if (readers->is_closing)
			break;
		else
			pthread_cond_wait(&readers->work, &readers->lock);
	}
	pthread_mutex_unlock(&readers->lock);
}

/* ---- what is late */

/* Takes what must have begun by now out of the lane: moves it to `late`, which has room; returns how many. Under the lock. */
static size_t take_late(const struct readers *readers, struct lane *lane, int64_t now_ms, struct job *late)
{
	size_t kept = 0, taken = 0;

	for (size_t i = 0; i < lane->count; i++) {
		struct job job = lane->ring[(lane->first + i) % readers->room];

		if (job.begin_by_ms <= now_ms)
			late[taken++] = job;
		else
			lane->ring[(lane->first + kept++) % readers->room] = job;
	}
	lane->count = kept;
	return taken;
}

/* Callbacks are called without the lock: they answer. */
static void hand_back(struct readers *readers, enum read_from from, int64_t now_ms)
{
	struct lane *lane = &readers->lanes[from];
	struct job *late = NULL;
	size_t count = 0;

	pthread_mutex_lock(&readers->lock);
	if (lane->count > 0) {
		late = mem_array(lane->count, sizeof(*late));
		count = take_late(readers, lane, now_ms, late);
	}
	pthread_mutex_unlock(&readers->lock);
	for (size_t i = 0; i < count; i++)
		late[i].read(NULL, late[i].arg);
	free(late);
}

static void *usher(void *arg)
{
	struct readers *readers = arg;

	while (nap_for(&readers->nap, LATE_EVERY_MS))
		for (int from = 0; from < READ_FROM_COUNT; from++)
			hand_back(readers, from, clock_mono_ms());
	return NULL;
}

void readers_stop(struct readers *readers)
{
	pthread_mutex_lock(&readers->lock);
	readers->is_closing = true;
	pthread_cond_broadcast(&readers->work);
	pthread_mutex_unlock(&readers->lock);
	for (int from = 0; from < READ_FROM_COUNT; from++)
		hand_back(readers, from, INT64_MAX);
}

/* ---- threads */

struct start {
	struct readers *readers;
	const struct reader *reader;
};

static void *run(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	read_until_closed(start.readers, start.reader);
	return NULL;
}

int readers_add(struct readers *readers, enum read_from from, read_fn *read, void *arg, int64_t begin_by_ms, struct err *err)
{
	struct lane *lane = &readers->lanes[from];
	bool is_full;

	pthread_mutex_lock(&readers->lock);
	is_full = lane->count == readers->room || readers->is_closing;
	if (!is_full) {
		lane->ring[(lane->first + lane->count) % readers->room] = (struct job){ read, arg, begin_by_ms };
		lane->count++;
		pthread_cond_signal(&readers->work);
	}
	pthread_mutex_unlock(&readers->lock);
	return is_full ? err_set(err, ERR_FULL, "too many requests wait to be read") : 0;
}

size_t readers_busy(struct readers *readers)
{
	size_t busy = 0;

	pthread_mutex_lock(&readers->lock);
	for (size_t i = 0; i < READ_FROM_COUNT; i++)
		busy += readers->lanes[i].count + readers->lanes[i].running;
	pthread_mutex_unlock(&readers->lock);
	return busy;
}

static int open_each(struct readers *readers, const struct settings *settings, size_t count, struct err *err)
{
	for (; readers->open < count; readers->open++) {
		struct reader *reader = &readers->each[readers->open];

		if (store_open(settings, &reader->store, err) < 0)
			return -1;
		if (search_open(settings, &reader->search, err) < 0) {
			store_close(reader->store);
			return -1;
		}
	}
	return 0;
}

static int start_each(struct readers *readers, struct err *err)
{
	for (; readers->started < readers->open; readers->started++) {
		struct start *start = mem_alloc(sizeof(*start));

		*start = (struct start){ readers, &readers->each[readers->started] };
		if (pthread_create(&readers->threads[readers->started], NULL, run, start) != 0) {
			free(start);
			return err_set(err, ERR_FATAL, "no thread for a reader");
		}
	}
	readers->has_usher = pthread_create(&readers->usher, NULL, usher, readers) == 0;
	return readers->has_usher ? 0 : err_set(err, ERR_FATAL, "no thread to hand back late reads");
}

int readers_open(const struct settings *settings, struct readers **out, struct err *err)
{
	struct readers *readers = mem_zalloc(sizeof(*readers));
	size_t count = (size_t)settings->gateway.readers;

	pthread_mutex_init(&readers->lock, NULL);
	pthread_cond_init(&readers->work, NULL);
	nap_init(&readers->nap);
	readers->room = (size_t)settings->gateway.reader_queue;
	readers->each = mem_array(count, sizeof(*readers->each));
	readers->threads = mem_array(count, sizeof(*readers->threads));
	for (size_t i = 0; i < READ_FROM_COUNT; i++)
		readers->lanes[i].ring = mem_array(readers->room, sizeof(struct job));
	readers->lanes[READ_ANSWER].limit = readers->lanes[READ_STORE].limit = count;
	readers->lanes[READ_SEARCH].limit = count > 1 ? count / 2 : 1;
	if (open_each(readers, settings, count, err) < 0 || start_each(readers, err) < 0) {
		readers_close(readers);
		return -1;
	}
	*out = readers;
	return 0;
}

void readers_close(struct readers *readers)
{
	if (readers == NULL)
		return;
	readers_stop(readers);
	nap_end(&readers->nap);
	if (readers->has_usher)
		pthread_join(readers->usher, NULL);
	for (size_t i = 0; i < readers->started; i++)
		pthread_join(readers->threads[i], NULL);
	for (size_t i = 0; i < readers->open; i++) {
		search_close(readers->each[i].search);
		store_close(readers->each[i].store);
	}
	for (size_t i = 0; i < READ_FROM_COUNT; i++)
		free(readers->lanes[i].ring);
	pthread_cond_destroy(&readers->work);
	pthread_mutex_destroy(&readers->lock);
	nap_release(&readers->nap);
	free(readers->threads);
	free(readers->each);
	free(readers);
}
