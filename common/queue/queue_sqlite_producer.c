/* Records go in from any thread; they are on disk, or their sender is told that they are not, when they come out.
 *
 * What gathers while one transaction is written and synced goes into the next, so that many senders share one sync. One thread
 * does that, and runs the reports. When the disk is full, what waits is reported as not stored and new records are refused at
 * once, until a small write goes through again.
 *
 * Lines that may be lost go the same way, through a sender of their own with a smaller queue. */
#include "common/queue/queue_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"

#define EVER_MS (INT64_C(1) << 50) /* of a producer that gives no record up */

enum {
	QUEUE_BYTES = 16 << 20,      /* from producer_send() to the report */
	LOSSY_BYTES = 4 << 20,
	LINE_BYTES = 1 << 20,        /* largest line that may be lost; topics.c has what each topic takes */
	TRANSACTION_BYTES = 1 << 20, /* larger ones save nothing more, and make the WAL long */
	MISSING_MS = 100,            /* between two looks for a topic that is not there */
	PROBE_MS = 200,              /* between two tries to write after a failure */
	CLOSE_MS = 1000,             /* for what still waits when the sender is closed */
	LOSSY_LINGER_MS = 100,       /* nobody waits for a line: more of them make one transaction */
};

/* A topic, as it is sent to. */
struct outlet {
	const char *topic;
	int64_t max_bytes; /* of a record */
	_Atomic int32_t partitions; /* 0: not there */
	bool is_open;
	struct sqlq_log log;
	struct sqlq_list list; /* what the next transactions take */
};

struct sender {
	const struct sqlq *queue;
	struct outlet *outlets;
	size_t outlet_count;
	size_t room;
	bool is_lossy;
	int64_t patience_ms;     /* from the call to giving up */
	_Atomic size_t missing;  /* topics that are not there */
	_Atomic int64_t pending; /* not reported */
	_Atomic bool stop;
	_Atomic int64_t give_up_ms; /* monotonic: after that a lock of another process is not waited for */
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t wake, flushed;
	struct sqlq_list waiting; /* under lock, as what follows */
	size_t bytes;
	bool is_asleep;
	struct err trouble;       /* ERR_NONE: all is well */

	/* of the thread alone */
	struct outlet *troubled;
	int64_t look_ms, probe_ms;
};

struct sqlq_producer {
	struct producer base;
	struct sender sender;
};

struct sqlq_lossy {
	struct lossy base;
	struct sender sender;
	char *topic;
	lost_fn *lost;
	void *arg;
};

/* ---- lists */

static void list_clear(struct sqlq_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_add(struct sqlq_list *list, struct sqlq_item *item)
{
	item->next = NULL;
	*list->end = item;
	list->end = &item->next;
}

/* Takes all before past. */
static void list_cut(struct sqlq_list *list, struct sqlq_item *past)
{
	list->first = past;
	if (past == NULL)
		list_clear(list);
}

static struct sqlq_item *list_take(struct sqlq_list *list)
{
	struct sqlq_item *first = list->first;

	list_clear(list);
	return first;
}

/* ---- reports */

static void report(struct sender *sender, struct sqlq_item *item, enum sent sent, const char *why)
{
	if (!sender->is_lossy)
		metric_add(sender->queue->sent[sent], 1);
	if (item->done != NULL)
		item->done(item->arg, sent, sent == SENT_STORED ? NULL : why);
}

/* Those up to past. Their room is given back before their senders know, who may send the next at once. */
static void report_all(struct sender *sender, struct sqlq_item *first, const struct sqlq_item *past, enum sent sent, const char *why)
{
	size_t bytes = 0;
	int64_t count = 0;

	for (const struct sqlq_item *item = first; item != past; item = item->next)
		bytes += sizeof(*item) + item->size;
	pthread_mutex_lock(&sender->lock);
	sender->bytes -= bytes;
	pthread_mutex_unlock(&sender->lock);
	while (first != past) {
		struct sqlq_item *item = first;

		first = item->next;
		report(sender, item, sent, why);
		free(item);
		count++;
	}
	if (atomic_fetch_sub(&sender->pending, count) == count) {
		pthread_mutex_lock(&sender->lock);
		pthread_cond_broadcast(&sender->flushed);
		pthread_mutex_unlock(&sender->lock);
	}
}

/* ---- trouble */

static void set_trouble(struct sender *sender, struct outlet *outlet, const struct err *err)
{
	bool is_new = sender->troubled == NULL;

	pthread_mutex_lock(&sender->lock);
	sender->trouble = *err;
	pthread_mutex_unlock(&sender->lock);
	sender->troubled = outlet;
	sender->probe_ms = clock_mono_ms() + PROBE_MS;
	if (is_new)
		log_warn("records can't be stored", log_str("topic", outlet->topic), log_err(err));
}

static void clear_trouble(struct sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	sender->trouble = (struct err)ERR_INIT;
	pthread_mutex_unlock(&sender->lock);
	sender->troubled = NULL;
}

static bool has_file(const struct sender *sender, const struct outlet *outlet)
{
	char path[SQLQ_PATH_MAX];

	sqlq_path(sender->queue, outlet->topic, ".topic", path);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

/* A file that was removed is not ours any more: the topic is looked for like one that was never there. */
static void forget(struct sender *sender, struct outlet *outlet)
{
	sqlq_log_close(&outlet->log);
	outlet->is_open = false;
	if (atomic_exchange(&outlet->partitions, 0) > 0)
		atomic_fetch_add(&sender->missing, 1);
}

static int outlet_open(struct sender *sender, struct outlet *outlet, struct err *err)
{
	if (outlet->is_open)
		return 0;
	if (!has_file(sender, outlet))
		return err_set(err, ERR_UNAVAILABLE, "no topic %s%s: `feedctl topics` makes it", sender->queue->prefix, outlet->topic);
	if (sqlq_log_open(sender->queue, outlet->topic, sender->is_lossy, sender->patience_ms, &outlet->log, err) < 0)
		return -1;
	outlet->log.file.give_up_ms = &sender->give_up_ms;
	outlet->is_open = true;
	return 0;
}

static void probe(struct sender *sender)
{
	struct outlet *outlet = sender->troubled;
	struct err err = ERR_INIT;

	if (outlet_open(sender, outlet, &err) == 0 && sqlq_log_probe(&outlet->log, &err) == 0) {
		log_info("records can be stored again", log_str("topic", outlet->topic));
		clear_trouble(sender);
		return;
	}
	if (outlet->is_open ? !sqlq_file_is_there(&outlet->log.file) : !has_file(sender, outlet)) {
		forget(sender, outlet);
		clear_trouble(sender); /* what is sent now is refused, since there is no such topic */
		return;
	}
	set_trouble(sender, outlet, &err);
}

/* ---- the thread */

/* Where the next transaction ends. */
static struct sqlq_item *end_of_transaction(struct sqlq_item *first)
{
	size_t bytes = 0;

	while (first != NULL && bytes < TRANSACTION_BYTES) {
		bytes += first->size;
		first = first->next;
	}
	return first;
}

static enum sent write_some(struct sender *sender, struct outlet *outlet, struct sqlq_item *first, const struct sqlq_item *past,
	struct err *err)
{
	enum sent sent;

	if (sender->troubled != NULL) {
		*err = sender->trouble;
		return SENT_NOT;
	}
	if (outlet_open(sender, outlet, err) < 0) {
		set_trouble(sender, outlet, err);
		return SENT_NOT;
	}
	sent = sqlq_log_append(&outlet->log, first, past, err);
	if (sent != SENT_STORED)
		set_trouble(sender, outlet, err);
	return sent;
}

/* A record that is sent again later would come behind others: a patient producer keeps it at its place instead. */
static bool keeps(const struct sender *sender)
{
	return sender->patience_ms == EVER_MS && !atomic_load(&sender->stop);
}

static void write_outlet(struct sender *sender, struct outlet *outlet)
{
	struct sqlq_item *first;

	while ((first = outlet->list.first) != NULL) {
		struct sqlq_item *past = end_of_transaction(first);
		struct err err = ERR_INIT;
		enum sent sent = write_some(sender, outlet, first, past, &err);

		if (sent != SENT_STORED && keeps(sender))
			return;
		list_cut(&outlet->list, past);
		report_all(sender, first, past, sent, err.message);
		if (sent == SENT_STORED)
			sqlq_log_care(&outlet->log);
	}
}

static void write_all(struct sender *sender, struct sqlq_item *items)
{
	while (items != NULL) {
		struct sqlq_item *item = items;

		items = item->next;
		list_add(&sender->outlets[item->topic].list, item);
	}
	for (size_t i = 0; i < sender->outlet_count; i++)
		write_outlet(sender, &sender->outlets[i]);
}

static bool has_kept(const struct sender *sender)
{
	for (size_t i = 0; i < sender->outlet_count; i++) {
		if (sender->outlets[i].list.first != NULL)
			return true;
	}
	return false;
}

static void look_for_topics(struct sender *sender)
{
	for (size_t i = 0; i < sender->outlet_count; i++) {
		struct outlet *outlet = &sender->outlets[i];
		struct err err = ERR_INIT;
		int32_t partitions = 0;

		if (atomic_load(&outlet->partitions) > 0)
			continue;
		if (sqlq_log_partitions(sender->queue, outlet->topic, &partitions, &err) < 0)
			log_debug("topic not read", log_str("topic", outlet->topic), log_err(&err));
		if (partitions > 0) {
			atomic_store(&outlet->partitions, partitions);
			atomic_fetch_sub(&sender->missing, 1);
		}
	}
	sender->look_ms = clock_mono_ms() + MISSING_MS;
}

/* What is due besides sending; returns when something is due next. */
static int64_t do_chores(struct sender *sender)
{
	int64_t now_ms = clock_mono_ms();
	int64_t next_ms = INT64_MAX;

	if (sender->troubled != NULL && now_ms >= sender->probe_ms)
		probe(sender);
	if (atomic_load(&sender->missing) > 0 && now_ms >= sender->look_ms)
		look_for_topics(sender);
	for (size_t i = 0; i < sender->outlet_count && sender->troubled == NULL; i++) {
		struct outlet *outlet = &sender->outlets[i];
		int64_t due_ms = !outlet->is_open ? INT64_MAX : outlet->log.trim_ms <= now_ms ? sqlq_log_care(&outlet->log)
											    : outlet->log.trim_ms;

		next_ms = due_ms < next_ms ? due_ms : next_ms;
	}
	if (sender->troubled == NULL && has_kept(sender))
		return 0;
	if (sender->troubled != NULL && sender->probe_ms < next_ms)
		next_ms = sender->probe_ms;
	if (atomic_load(&sender->missing) > 0 && sender->look_ms < next_ms)
		next_ms = sender->look_ms;
	return next_ms;
}

/* What has gathered, waiting for it until something else is due. */
static struct sqlq_item *gather(struct sender *sender, int64_t until_ms)
{
	struct timespec until = cond_until(until_ms < INT64_MAX ? until_ms : clock_mono_ms() + 3600000);
	struct sqlq_item *items;
	int rc = 0;

	pthread_mutex_lock(&sender->lock);
	sender->is_asleep = true;
	while (sender->waiting.first == NULL && !atomic_load(&sender->stop) && rc == 0)
		rc = pthread_cond_timedwait(&sender->wake, &sender->lock, &until);
	sender->is_asleep = false;
	items = list_take(&sender->waiting);
	pthread_mutex_unlock(&sender->lock);
	return items;
}

static void linger(struct sender *sender)
{
	struct timespec until = cond_until(clock_mono_ms() + LOSSY_LINGER_MS);
	int rc = 0;

	pthread_mutex_lock(&sender->lock);
	while (!atomic_load(&sender->stop) && rc == 0)
		rc = pthread_cond_timedwait(&sender->wake, &sender->lock, &until);
	pthread_mutex_unlock(&sender->lock);
}

static void *serve(void *arg)
{
	struct sender *sender = arg;
	struct sqlq_item *items;
	bool stop;

	do {
		stop = atomic_load(&sender->stop); /* what is sent after that is nobody's */
		items = gather(sender, do_chores(sender));
		write_all(sender, items);
		if (sender->is_lossy && items != NULL)
			linger(sender);
	} while (!stop || items != NULL);
	return NULL;
}

/* ---- sending */

static int check(struct sender *sender, const struct outlet *outlet, const struct record *record, struct err *err)
{
	int32_t partitions = atomic_load(&outlet->partitions);

	if (partitions == 0)
		return err_set(err, ERR_UNAVAILABLE, "no topic %s%s: `feedctl topics` makes it", sender->queue->prefix, outlet->topic);
	if (record->partition >= partitions)
		return err_set(err, ERR_INVALID, "topic %s%s has partitions 0 to %d, not %d", sender->queue->prefix, outlet->topic,
			(int)partitions - 1, (int)record->partition);
	return 0;
}

static struct sqlq_item *copy(const struct record *record, size_t headers, size_t size)
{
	struct sqlq_item *item = mem_alloc(sizeof(*item) + size);
	char *at = item->bytes;

	*item = (struct sqlq_item){ .size = size, .first_ms = clock_mono_ms(), .partition = record->partition };
	item->timestamp_ms = record->timestamp_ms > 0 ? record->timestamp_ms : clock_wall_ms();
	item->key = slice_put(&at, record->key);
	item->value = slice_put(&at, record->value);
	if (headers > 0) {
		sqlq_headers_put(record, at);
		item->headers = (struct slice){ at, headers };
	}
	return item;
}

/* -1: there is no room, or trouble. */
static int enqueue(struct sender *sender, struct sqlq_item *item, struct err *err)
{
	size_t bytes = sizeof(*item) + item->size;
	int rc = 0;

	pthread_mutex_lock(&sender->lock);
	if (sender->trouble.kind != ERR_NONE) {
		rc = err_set(err, sender->trouble.kind, "%s", sender->trouble.message);
	} else if (sender->bytes + bytes > sender->room) {
		rc = err_set(err, ERR_FULL, "the local queue is full: %zu bytes wait for the disk", sender->bytes);
	} else {
		sender->bytes += bytes;
		atomic_fetch_add(&sender->pending, 1);
		list_add(&sender->waiting, item);
		if (sender->is_asleep)
			pthread_cond_signal(&sender->wake);
	}
	pthread_mutex_unlock(&sender->lock);
	return rc;
}

static int32_t choose_partition(const struct record *record, int32_t partitions)
{
	if (record->partition >= 0)
		return record->partition;
	if (record->key.data == NULL)
		return (int32_t)rand_below((uint64_t)partitions);
	return record_partition_of(record->key, partitions);
}

static int send_to(struct sender *sender, size_t topic, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	struct outlet *outlet = &sender->outlets[topic];
	size_t headers = sqlq_headers_size(record);
	size_t size = record->key.len + record->value.len + headers;
	struct sqlq_item *item;

	if (check(sender, outlet, record, err) < 0)
		return -1;
	if ((int64_t)size > outlet->max_bytes)
		return err_set(err, ERR_INVALID, "a record of %zu bytes is too large for topic %s%s, which takes %lld", size,
			sender->queue->prefix, outlet->topic, (long long)outlet->max_bytes);
	item = copy(record, headers, size);
	item->done = done;
	item->arg = arg;
	item->topic = topic;
	item->partition = choose_partition(record, atomic_load(&outlet->partitions));
	if (enqueue(sender, item, err) == 0)
		return 0;
	free(item);
	return -1;
}

/* ---- life of a sender */

static void outlet_init(struct outlet *outlet, const char *topic, int64_t max_bytes)
{
	*outlet = (struct outlet){ .topic = topic, .max_bytes = max_bytes };
	list_clear(&outlet->list);
}

/* What is there is known when this returns. */
static void sender_start(struct sender *sender, const struct sqlq *queue, size_t room, int64_t patience_ms)
{
	sender->queue = queue;
	sender->room = room;
	sender->patience_ms = patience_ms;
	sender->missing = sender->outlet_count;
	sender->give_up_ms = INT64_MAX;
	list_clear(&sender->waiting);
	pthread_mutex_init(&sender->lock, NULL);
	cond_init(&sender->wake);
	cond_init(&sender->flushed);
	look_for_topics(sender);
	if (pthread_create(&sender->thread, NULL, serve, sender) != 0)
		abort(); /* as mem: no thread, no process */
}

/* What still waits is written first, unless there is trouble: within a bounded time. */
static void sender_end(struct sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	atomic_store(&sender->give_up_ms, clock_mono_ms() + CLOSE_MS);
	atomic_store(&sender->stop, true);
	pthread_cond_broadcast(&sender->wake);
	pthread_mutex_unlock(&sender->lock);
	pthread_join(sender->thread, NULL);
	for (size_t i = 0; i < sender->outlet_count; i++) {
		if (sender->outlets[i].is_open)
			sqlq_log_close(&sender->outlets[i].log);
	}
	pthread_cond_destroy(&sender->wake);
	pthread_cond_destroy(&sender->flushed);
	pthread_mutex_destroy(&sender->lock);
	free(sender->outlets);
}

/* ---- producer */

int sqlq_producer_open(struct queue *queue, int flags, struct producer **out, struct err *err)
{
	struct sqlq_producer *producer = mem_zalloc(sizeof(*producer));
	const struct sqlq *sqlq = (const struct sqlq *)queue;
	struct sender *sender = &producer->sender;

	(void)err; /* nothing is opened yet. PRODUCER_LOW_LATENCY asks for nothing: no batch ever waits to be full. Nor does
	            * PRODUCER_PACKED: nothing is compressed here, so what was taken once is taken again */
	producer->base.ops = queue->ops;
	sender->outlet_count = topic_count;
	sender->outlets = mem_array(topic_count, sizeof(*sender->outlets));
	for (size_t i = 0; i < topic_count; i++)
		outlet_init(&sender->outlets[i], topic_table[i].name, topic_table[i].max_bytes);
	sender_start(sender, sqlq, QUEUE_BYTES, flags & PRODUCER_PATIENT ? EVER_MS : sqlq->message_timeout_ms);
	*out = &producer->base;
	return 0;
}

int sqlq_producer_send(struct producer *base, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	struct sender *sender = &((struct sqlq_producer *)base)->sender;
	const struct topic *topic = topic_find(record->topic);

	if (topic == NULL)
		return err_set(err, ERR_INVALID, "no topic %s in the table of topics", record->topic);
	if (send_to(sender, (size_t)(topic - topic_table), record, done, arg, err) == 0)
		return 0;
	metric_add(sender->queue->refused, 1);
	return -1;
}

/* Also one that was removed meanwhile: its thread learns that only from the next record. */
static bool has_topic(const struct sender *sender, const struct outlet *outlet)
{
	return atomic_load(&outlet->partitions) > 0 && has_file(sender, outlet);
}

static bool is_ready(struct sender *sender, struct err *err)
{
	bool is_well;

	for (size_t i = 0; i < sender->outlet_count; i++) {
		if (!has_topic(sender, &sender->outlets[i])) {
			err_set(err, ERR_UNAVAILABLE, "no topic %s%s: `feedctl topics` makes it", sender->queue->prefix,
				sender->outlets[i].topic);
			return false;
		}
	}
	pthread_mutex_lock(&sender->lock);
	is_well = sender->trouble.kind == ERR_NONE;
	if (!is_well)
		*err = sender->trouble;
	pthread_mutex_unlock(&sender->lock);
	return is_well;
}

bool sqlq_producer_ready(struct producer *base, struct err *err)
{
	struct err unseen = ERR_INIT;

	return is_ready(&((struct sqlq_producer *)base)->sender, err != NULL ? err : &unseen);
}

int64_t sqlq_producer_pending(const struct producer *base)
{
	return atomic_load(&((const struct sqlq_producer *)base)->sender.pending);
}

int sqlq_producer_flush(struct producer *base, int64_t timeout_ms)
{
	struct sender *sender = &((struct sqlq_producer *)base)->sender;
	struct timespec until = cond_until(clock_mono_ms() + timeout_ms);
	int rc = 0;

	pthread_mutex_lock(&sender->lock);
	while (atomic_load(&sender->pending) > 0 && rc == 0)
		rc = pthread_cond_timedwait(&sender->flushed, &sender->lock, &until);
	pthread_mutex_unlock(&sender->lock);
	return atomic_load(&sender->pending) == 0 ? 0 : -1;
}

void sqlq_producer_close(struct producer *base)
{
	struct sqlq_producer *producer = (struct sqlq_producer *)base;

	sender_end(&producer->sender);
	free(producer);
}

/* ---- lines that may be lost */

static void on_line(void *arg, enum sent sent, const char *why)
{
	const struct sqlq_lossy *lossy = arg;

	if (sent != SENT_STORED)
		lossy->lost(lossy->arg, why);
}

int sqlq_lossy_open(struct queue *queue, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err)
{
	struct sqlq_lossy *lossy = mem_zalloc(sizeof(*lossy));

	(void)err;
	lossy->base.ops = queue->ops;
	lossy->topic = mem_strdup(topic);
	lossy->lost = lost;
	lossy->arg = arg;
	lossy->sender.is_lossy = true;
	lossy->sender.outlet_count = 1;
	lossy->sender.outlets = mem_array(1, sizeof(*lossy->sender.outlets));
	outlet_init(&lossy->sender.outlets[0], lossy->topic, LINE_BYTES);
	sender_start(&lossy->sender, (const struct sqlq *)queue, LOSSY_BYTES, ((const struct sqlq *)queue)->message_timeout_ms);
	*out = &lossy->base;
	return 0;
}

void sqlq_lossy_send(struct lossy *base, struct slice line)
{
	struct sqlq_lossy *lossy = (struct sqlq_lossy *)base;
	struct record record = { .topic = lossy->topic, .partition = -1, .value = line };
	struct err err = ERR_INIT;

	if (send_to(&lossy->sender, 0, &record, on_line, lossy, &err) < 0)
		lossy->lost(lossy->arg, err.message);
}

void sqlq_lossy_close(struct lossy *base)
{
	struct sqlq_lossy *lossy = (struct sqlq_lossy *)base;

	sender_end(&lossy->sender);
	free(lossy->topic);
	free(lossy);
}
