/* Records go in from any thread; they are on Kafka, or their sender is told that they are not, when they come out.
 *
 * One thread of ours runs librdkafka's delivery reports and through them the senders' callbacks. librdkafka keeps the bytes of
 * a record until its report; what we keep beside them is a struct pending.
 *
 * A fatal error (librdkafka's word for an idempotent producer that lost count) ends the handle, not the producer. Its reports
 * still come: stored is stored, and what failed is kept, in the order in which it was sent, for the handle that follows. */
#include "common/queue/queue_kafka.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	POLL_MS = 100,     /* how late a stop is seen; reports wake the thread */
	DRAIN_MS = 1000,   /* for what is on the wire of a handle that failed */
	REBUILD_MS = 1000, /* between two tries to make a handle */
	PURGE_MS = 5000,   /* librdkafka hands everything back at once; only a bug takes this long */
};

/* What goes with a record from queue_send() to its report. */
struct pending {
	struct pending *next, *previous; /* in resent */
	sent_fn *done;
	void *arg;
	int64_t number;   /* order of sending */
	int64_t first_ms; /* monotonic, of the first sending */
	size_t topic;     /* in topic_table */
	int32_t partition; /* as given: -1 for the key's */
	bool linked;      /* in resent */
	bool doubtful;    /* an earlier sending may have stored it */
	bool reported;    /* the sender knows; librdkafka does not yet */
};

/* A record that came back from a handle that failed. */
struct held {
	struct pending *pending;
	int64_t timestamp_ms;
	struct slice key, value; /* ours */
	rd_kafka_headers_t *headers;
};

struct kafka_producer {
	struct producer base;
	const struct kafka_queue *queue;
	int64_t linger_ms;
	bool is_packed;
	int64_t timeout_ms;       /* from the first send to giving up; 0: never */
	pthread_rwlock_t lock;    /* of link: senders read */
	struct kafka_link *link;
	_Atomic bool replacing;
	_Atomic int64_t pending;  /* not reported */
	_Atomic int64_t sendings; /* gives pending.number */
	pthread_t thread;
	_Atomic bool stop;
	pthread_mutex_t flush_lock;
	pthread_cond_t flushed;
	_Atomic int flushing;     /* threads in producer_flush() */
	/* of the thread alone */
	bool closing;
	struct held *held;
	size_t held_count, held_room;
	struct pending *resent;   /* sent by a second handle: these have less time than it gives them */
};

/* ---- reports */

static void report(struct kafka_producer *producer, struct pending *pending, enum sent sent, const char *why)
{
	if (pending->reported)
		return;
	pending->reported = true;
	if (sent == SENT_NOT && pending->doubtful)
		sent = SENT_UNKNOWN;
	metric_add(producer->queue->sent[sent], 1);
	if (pending->done != NULL)
		pending->done(pending->arg, sent, sent == SENT_STORED ? NULL : why);
	if (atomic_fetch_sub(&producer->pending, 1) == 1 && atomic_load(&producer->flushing) > 0) {
		pthread_mutex_lock(&producer->flush_lock);
		pthread_cond_broadcast(&producer->flushed);
		pthread_mutex_unlock(&producer->flush_lock);
	}
}

static void resent_add(struct kafka_producer *producer, struct pending *pending)
{
	pending->next = producer->resent;
	pending->previous = NULL;
	if (producer->resent != NULL)
		producer->resent->previous = pending;
	producer->resent = pending;
	pending->linked = true;
}

static void resent_remove(struct kafka_producer *producer, struct pending *pending)
{
	if (!pending->linked)
		return;
	if (pending->previous != NULL)
		pending->previous->next = pending->next;
	else
		producer->resent = pending->next;
	if (pending->next != NULL)
		pending->next->previous = pending->previous;
	pending->linked = false;
}

static bool is_late(const struct kafka_producer *producer, const struct pending *pending)
{
	return producer->timeout_ms > 0 && clock_mono_ms() - pending->first_ms >= producer->timeout_ms;
}

static void expire_resent(struct kafka_producer *producer)
{
	for (struct pending *p = producer->resent; p != NULL; p = p->next) {
		if (!p->reported && is_late(producer, p)) {
			p->doubtful = true; /* the handle may still store it */
			report(producer, p, SENT_UNKNOWN, "not acknowledged in time, after a fatal error");
		}
	}
}

static struct slice copy(const void *bytes, size_t len)
{
	return bytes == NULL ? SLICE_NONE : (struct slice){ mem_dup(bytes, len), len };
}

/* Keeps what came back for the next handle. */
static void hold(struct kafka_producer *producer, const rd_kafka_message_t *message, struct pending *pending)
{
	struct held *held;
	rd_kafka_timestamp_type_t type;

	if (producer->held_count == producer->held_room) {
		producer->held_room = producer->held_room > 0 ? producer->held_room * 2 : 64;
		producer->held = mem_grow(producer->held, producer->held_room, sizeof(*producer->held));
	}
	held = &producer->held[producer->held_count++];
	held->pending = pending;
	held->timestamp_ms = rd_kafka_message_timestamp(message, &type);
	held->key = copy(message->key, message->key_len);
	held->value = copy(message->payload, message->len);
	held->headers = NULL;
	rd_kafka_message_detach_headers((rd_kafka_message_t *)message, &held->headers);
}

static void held_free(struct held *held)
{
	free((char *)held->key.data);
	free((char *)held->value.data);
	if (held->headers != NULL)
		rd_kafka_headers_destroy(held->headers);
}

static const enum sent sent_by_status[] = {
	[RD_KAFKA_MSG_STATUS_NOT_PERSISTED] = SENT_NOT,
	[RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED] = SENT_UNKNOWN,
	[RD_KAFKA_MSG_STATUS_PERSISTED] = SENT_STORED,
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_producer *producer = opaque;
	struct pending *pending = message->_private;
	enum sent sent = sent_by_status[rd_kafka_message_status(message)];

	resent_remove(producer, pending);
	if (sent == SENT_STORED)
		kafka_link_alive(producer->link);
	else if (sent == SENT_UNKNOWN)
		pending->doubtful = true;
	if (sent != SENT_STORED && !pending->reported && !producer->closing && !is_late(producer, pending) &&
	    rd_kafka_fatal_error(rk, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR) {
		hold(producer, message, pending);
		return;
	}
	report(producer, pending, sent, rd_kafka_err2str(message->err));
	free(pending);
}

static void on_error(rd_kafka_t *rk, int code, const char *why, void *opaque)
{
	struct kafka_producer *producer = opaque;

	(void)rk;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		kafka_link_suspect(producer->link);
	else
		log_debug("kafka producer", log_str("error", why));
}

/* ---- sending */

static int64_t size_of(const struct record *record)
{
	size_t size = record->key.len + record->value.len + 512; /* what Kafka puts around it */

	for (size_t i = 0; i < record->header_count; i++)
		size += strlen(record->headers[i].name) + record->headers[i].value.len + 10;
	return (int64_t)size;
}

/* -1, err set: it can't go out now, or never. With the lock held for reading. */
static int check(struct kafka_producer *producer, size_t topic, const struct record *record, struct err *err)
{
	const struct kafka_link *link = producer->link;
	int32_t partition = record->partition;
	int32_t partitions = atomic_load(&link->topics[topic].partitions);

	if (!atomic_load(&link->reachable))
		return err_set(err, ERR_UNAVAILABLE, "no Kafka broker of %s in reach", producer->queue->brokers);
	if (partitions == 0)
		return err_set(err, ERR_UNAVAILABLE, "no topic %s%s on Kafka: `feedctl topics` makes it", producer->queue->prefix,
			topic_table[topic].name);
	if (partition >= partitions)
		return err_set(err, ERR_INVALID, "topic %s%s has partitions 0 to %d, not %d", producer->queue->prefix,
			topic_table[topic].name, (int)partitions - 1, (int)partition);
	if (!producer->is_packed && size_of(record) > topic_table[topic].max_bytes)
		return err_set(err, ERR_INVALID, "a record of %lld bytes is too large for topic %s%s, which takes %lld", (long long)size_of(record),
			producer->queue->prefix, topic_table[topic].name, (long long)topic_table[topic].max_bytes);
	return 0;
}

/* Those of a fetched record that record->headers has no room for. */
static void add_unseen_headers(const struct record *record, rd_kafka_headers_t *headers)
{
	rd_kafka_headers_t *fetched;
	const char *name;
	const void *value;
	size_t len;

	if (rd_kafka_message_headers(record->handle, &fetched) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	for (size_t i = RECORD_HEADERS_FETCHED; i < rd_kafka_header_cnt(fetched); i++) {
		if (rd_kafka_header_get_all(fetched, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR)
			rd_kafka_header_add(headers, name, -1, value, (ssize_t)len);
	}
}

static rd_kafka_headers_t *headers_of(const struct record *record)
{
	rd_kafka_headers_t *headers;

	if (record->header_count == 0)
		return NULL;
	headers = rd_kafka_headers_new(record->header_count);
	for (size_t i = 0; i < record->header_count; i++)
		rd_kafka_header_add(headers, record->headers[i].name, -1, record->headers[i].value.data,
			(ssize_t)record->headers[i].value.len);
	if (record->handle != NULL && record->release == kafka_message_release)
		add_unseen_headers(record, headers);
	return headers;
}

/* librdkafka copies key and value; it takes the headers when all is well. */
static rd_kafka_resp_err_t produce(const struct kafka_link *link, struct pending *pending, struct slice key, struct slice value,
	int64_t timestamp_ms, rd_kafka_headers_t *headers)
{
	return rd_kafka_producev(link->rk, RD_KAFKA_V_RKT(link->topics[pending->topic].topic),
		RD_KAFKA_V_PARTITION(pending->partition < 0 ? RD_KAFKA_PARTITION_UA : pending->partition),
		RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(key.data, key.len),
		RD_KAFKA_V_VALUE((void *)value.data, value.len), RD_KAFKA_V_TIMESTAMP(timestamp_ms), RD_KAFKA_V_HEADERS(headers),
		RD_KAFKA_V_OPAQUE(pending), RD_KAFKA_V_END);
}

static int send_now(struct kafka_producer *producer, const struct record *record, struct pending *pending, struct err *err)
{
	rd_kafka_headers_t *headers = headers_of(record);
	rd_kafka_resp_err_t code;
	int rc = -1;

	pthread_rwlock_rdlock(&producer->lock);
	if (check(producer, pending->topic, record, err) < 0)
		goto out;
	code = produce(producer->link, pending, record->key, record->value, record->timestamp_ms, headers);
	if (code == RD_KAFKA_RESP_ERR__FATAL)
		err_set(err, ERR_UNAVAILABLE, "the Kafka producer is being replaced");
	else if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		kafka_err(err, code, "sending");
	else
		rc = 0;
out:
	pthread_rwlock_unlock(&producer->lock);
	if (rc < 0 && headers != NULL)
		rd_kafka_headers_destroy(headers);
	return rc;
}

int kafka_producer_send(struct producer *base, const struct record *record, sent_fn *done, void *arg, struct err *err)
{
	struct kafka_producer *producer = (struct kafka_producer *)base;
	const struct topic *topic = topic_find(record->topic);
	struct pending *pending;

	if (topic == NULL)
		return err_set(err, ERR_INVALID, "no topic %s in the table of topics", record->topic);
	if (atomic_load(&producer->replacing))
		return err_set(err, ERR_UNAVAILABLE, "the Kafka producer is being replaced");
	pending = mem_zalloc(sizeof(*pending));
	pending->done = done;
	pending->arg = arg;
	pending->number = atomic_fetch_add(&producer->sendings, 1);
	pending->first_ms = clock_mono_ms();
	pending->topic = (size_t)(topic - topic_table);
	pending->partition = record->partition;
	atomic_fetch_add(&producer->pending, 1);
	if (send_now(producer, record, pending, err) == 0)
		return 0;
	atomic_fetch_sub(&producer->pending, 1);
	free(pending);
	metric_add(producer->queue->refused, 1);
	return -1;
}

/* ---- the handle, and its replacement */

static const struct kafka_setting producer_settings[] = {
	{ "enable.idempotence", "true" }, /* with it: acks=all, no reordering, no duplicates by librdkafka's own retries */
	{ "partitioner", "murmur2_random" },
	{ "queue.buffering.max.kbytes", "16384" },
	{ "queue.buffering.max.messages", "32768" }, /* a small one costs much more than its bytes */
	{ "message.max.bytes", "4194304" }, /* a dead letter is a record and more; topics.c has what each topic takes */
	/* Processor time is scarcer than the network where records are small and a client waits. */
	{ "compression.type", "none" },
};

/* In their place with PRODUCER_PACKED. */
static const struct kafka_setting packed_settings[] = {
	{ "enable.idempotence", "true" },
	{ "partitioner", "murmur2_random" },
	{ "queue.buffering.max.kbytes", "262144" },
	{ "message.max.bytes", "104857600" },
	{ "compression.type", "gzip" },
};

static rd_kafka_t *handle_new(struct kafka_producer *producer, struct err *err)
{
	rd_kafka_conf_t *conf = producer->is_packed
		? kafka_conf_new(producer->queue, packed_settings, sizeof(packed_settings) / sizeof(packed_settings[0]), err)
		: kafka_conf_new(producer->queue, producer_settings, sizeof(producer_settings) / sizeof(producer_settings[0]), err);

	if (conf == NULL)
		return NULL;
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_opaque(conf, producer);
	if (kafka_conf_int(conf, "message.timeout.ms", producer->timeout_ms, err) < 0 ||
	    kafka_conf_int(conf, "linger.ms", producer->linger_ms, err) < 0) {
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	return kafka_handle_new(RD_KAFKA_PRODUCER, conf, err);
}

static void poll_until_empty(rd_kafka_t *rk, int64_t timeout_ms)
{
	int64_t until_ms = clock_mono_ms() + timeout_ms;

	while (rd_kafka_outq_len(rk) > 0 && clock_mono_ms() < until_ms)
		rd_kafka_poll(rk, POLL_MS / 2);
}

/* Every record of the handle has its report after this. */
static void drain(rd_kafka_t *rk, int64_t timeout_ms)
{
	poll_until_empty(rk, timeout_ms);
	rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	poll_until_empty(rk, PURGE_MS);
	if (rd_kafka_outq_len(rk) > 0)
		log_error("records without a delivery report", log_int("count", rd_kafka_outq_len(rk)));
}

static void link_close(struct kafka_link *link)
{
	kafka_link_stop(link);
	kafka_link_drop_topics(link);
	rd_kafka_destroy(link->rk);
	kafka_link_free(link);
}

static int by_number(const void *a, const void *b)
{
	int64_t left = ((const struct held *)a)->pending->number;
	int64_t right = ((const struct held *)b)->pending->number;

	return left < right ? -1 : left > right;
}

static void give_up(struct kafka_producer *producer, struct held *held, const char *why)
{
	report(producer, held->pending, SENT_NOT, why);
	free(held->pending);
	held_free(held);
}

/* What is held goes to the new handle, which has room for it: its limits are those of the old one. */
static void resend(struct kafka_producer *producer)
{
	if (producer->held_count > 0) /* else held may be NULL */
		qsort(producer->held, producer->held_count, sizeof(*producer->held), by_number);
	for (size_t i = 0; i < producer->held_count; i++) {
		struct held *held = &producer->held[i];
		rd_kafka_resp_err_t code = produce(producer->link, held->pending, held->key, held->value, held->timestamp_ms,
			held->headers);

		if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
			give_up(producer, held, rd_kafka_err2str(code));
			continue;
		}
		resent_add(producer, held->pending);
		held->headers = NULL; /* taken */
		held_free(held);
	}
	producer->held_count = 0;
}

static void expire_held(struct kafka_producer *producer)
{
	size_t kept = 0;

	for (size_t i = 0; i < producer->held_count; i++) {
		if (is_late(producer, producer->held[i].pending))
			give_up(producer, &producer->held[i], "not acknowledged in time, after a fatal error");
		else
			producer->held[kept++] = producer->held[i];
	}
	producer->held_count = kept;
}

static rd_kafka_t *handle_again(struct kafka_producer *producer)
{
	struct err err = ERR_INIT;
	rd_kafka_t *rk;

	while ((rk = handle_new(producer, &err)) == NULL && !atomic_load(&producer->stop)) {
		log_error("kafka producer not replaced", log_err(&err));
		nanosleep(&(struct timespec){ .tv_sec = REBUILD_MS / 1000 }, NULL);
		expire_held(producer);
	}
	return rk;
}

static void replace(struct kafka_producer *producer)
{
	struct kafka_link *old = producer->link;
	char why[256] = "";
	rd_kafka_t *rk;

	atomic_store(&producer->replacing, true);
	rd_kafka_fatal_error(old->rk, why, sizeof(why));
	log_error("kafka producer failed, making another", log_str("error", why), log_int("pending", atomic_load(&producer->pending)));
	drain(old->rk, DRAIN_MS);
	rk = handle_again(producer);
	if (rk == NULL)
		return; /* asked to stop */
	pthread_rwlock_wrlock(&producer->lock);
	producer->link = kafka_link_new(producer->queue, rk, true, old);
	pthread_rwlock_unlock(&producer->lock);
	drain(old->rk, 0); /* a sender may have been in the middle; none is any more */
	log_info("kafka producer replaced", log_int("resent", (int64_t)producer->held_count));
	resend(producer);
	atomic_store(&producer->replacing, false);
	metric_add(producer->queue->replaced, 1);
	link_close(old);
}

/* The thread's last act: everything is reported after this. */
static void finish(struct kafka_producer *producer)
{
	producer->closing = true;
	drain(producer->link->rk, 0);
	for (size_t i = 0; i < producer->held_count; i++)
		give_up(producer, &producer->held[i], "the program ended");
	producer->held_count = 0;
}

static void *serve(void *arg)
{
	struct kafka_producer *producer = arg;

	while (!atomic_load(&producer->stop)) {
		rd_kafka_poll(producer->link->rk, POLL_MS);
		expire_resent(producer);
		if (rd_kafka_fatal_error(producer->link->rk, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
			replace(producer);
	}
	finish(producer);
	return NULL;
}

/* ---- life */

static void make_locks(struct kafka_producer *producer)
{
	pthread_rwlockattr_t writer_first; /* else busy senders keep a new handle out */

	pthread_rwlockattr_init(&writer_first);
	pthread_rwlockattr_setkind_np(&writer_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&producer->lock, &writer_first);
	pthread_rwlockattr_destroy(&writer_first);
	pthread_mutex_init(&producer->flush_lock, NULL);
	cond_init(&producer->flushed);
}

int kafka_producer_open(struct queue *queue, int flags, struct producer **out, struct err *err)
{
	struct kafka_producer *producer = mem_zalloc(sizeof(*producer));
	rd_kafka_t *rk;

	producer->base.ops = queue->ops;
	producer->queue = (struct kafka_queue *)queue;
	producer->linger_ms = flags & PRODUCER_LOW_LATENCY ? 0 : producer->queue->linger_ms;
	producer->is_packed = (flags & PRODUCER_PACKED) != 0;
	producer->timeout_ms = flags & PRODUCER_PATIENT ? 0 : producer->queue->message_timeout_ms;
	rk = handle_new(producer, err);
	if (rk == NULL) {
		free(producer);
		return -1;
	}
	make_locks(producer);
	producer->link = kafka_link_new(producer->queue, rk, true, NULL);
	if (pthread_create(&producer->thread, NULL, serve, producer) != 0)
		abort(); /* as mem: no thread, no process */
	*out = &producer->base;
	return 0;
}

static const char *missing_topic(struct kafka_producer *producer, bool *reachable)
{
	const char *missing = NULL;

	pthread_rwlock_rdlock(&producer->lock);
	*reachable = atomic_load(&producer->link->reachable);
	for (size_t i = 0; i < topic_count && missing == NULL; i++) {
		if (atomic_load(&producer->link->topics[i].partitions) == 0)
			missing = topic_table[i].name;
	}
	pthread_rwlock_unlock(&producer->lock);
	return missing;
}

static int check_ready(struct kafka_producer *producer, struct err *err)
{
	bool reachable;
	const char *missing;

	if (atomic_load(&producer->replacing))
		return err_set(err, ERR_UNAVAILABLE, "the Kafka producer is being replaced");
	missing = missing_topic(producer, &reachable);
	if (!reachable)
		return err_set(err, ERR_UNAVAILABLE, "no Kafka broker of %s in reach", producer->queue->brokers);
	if (missing != NULL)
		return err_set(err, ERR_UNAVAILABLE, "no topic %s%s on Kafka: `feedctl topics` makes it", producer->queue->prefix, missing);
	return 0;
}

bool kafka_producer_ready(struct producer *base, struct err *err)
{
	struct err unused;

	return check_ready((struct kafka_producer *)base, err != NULL ? err : &unused) == 0;
}

int64_t kafka_producer_pending(const struct producer *base)
{
	return atomic_load(&((const struct kafka_producer *)base)->pending);
}

int kafka_producer_flush(struct producer *base, int64_t timeout_ms)
{
	struct kafka_producer *producer = (struct kafka_producer *)base;
	int64_t until_ms = clock_mono_ms() + timeout_ms;
	struct timespec until = cond_until(until_ms);
	int timed_out = 0;

	atomic_fetch_add(&producer->flushing, 1);
	pthread_mutex_lock(&producer->flush_lock);
	while (atomic_load(&producer->pending) > 0 && timed_out == 0)
		timed_out = pthread_cond_timedwait(&producer->flushed, &producer->flush_lock, &until);
	pthread_mutex_unlock(&producer->flush_lock);
	atomic_fetch_sub(&producer->flushing, 1);
	return atomic_load(&producer->pending) == 0 ? 0 : -1;
}

void kafka_producer_close(struct producer *base)
{
	struct kafka_producer *producer = (struct kafka_producer *)base;

	atomic_store(&producer->stop, true);
	pthread_join(producer->thread, NULL);
	link_close(producer->link);
	pthread_cond_destroy(&producer->flushed);
	pthread_mutex_destroy(&producer->flush_lock);
	pthread_rwlock_destroy(&producer->lock);
	free(producer->held);
	free(producer);
}

rd_kafka_t *kafka_producer_handle(struct producer *base)
{
	return ((struct kafka_producer *)base)->link->rk;
}
