/* What a group says about its members goes in; partitions that are taken, and given back with their offsets committed, come out.
 *
 * The assignment is eager: librdkafka 2.0 loses partitions with the cooperative one. Offsets to start from are always explicit, so that a
 * partition starts at its beginning only when the group has never been there. */
#include "common/queue/queue_kafka_consumer.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	COMMITTED_MS = 5000, /* to learn where the group is */
	COMMIT_MS = 5000,    /* to commit when partitions are taken away */
	LEAVE_MS = 8000,     /* to commit and leave the group; below the session timeout, after which both are moot */
	LEAVE_POLL_MS = 20,
	REJOIN_MS = 1000,    /* between two tries to learn where the group is */
};

/* ---- assignment */

/* Puts the offset to start from into each; false when the cluster does not say. */
static bool find_offsets(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
	rd_kafka_resp_err_t code = rd_kafka_committed(consumer->rk, partitions, COMMITTED_MS);

	for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < partitions->cnt; i++) {
		rd_kafka_topic_partition_t *p = &partitions->elems[i];

		code = p->err;
		if (p->offset < 0)
			p->offset = RD_KAFKA_OFFSET_BEGINNING;
	}
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		log_warn("committed offsets not learned, joining again", log_str("topic", consumer->topics[0]),
			log_str("error", rd_kafka_err2str(code)));
	return code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* The answer to an assignment that is not wanted. NULL would leave the group waiting for one. */
static void assign_nothing(struct kafka_consumer *consumer)
{
	rd_kafka_topic_partition_list_t *nothing = rd_kafka_topic_partition_list_new(0);

	rd_kafka_assign(consumer->rk, nothing);
	rd_kafka_topic_partition_list_destroy(nothing);
}

void kafka_group_join_soon(struct kafka_consumer *consumer)
{
	consumer->rejoin = true;
	consumer->rejoin_ms = clock_mono_ms() + REJOIN_MS;
}

/* What is in the list of an assignment goes with every later commit. */
static void forget_begun(rd_kafka_topic_partition_list_t *partitions)
{
	for (int i = 0; i < partitions->cnt; i++) {
		free(partitions->elems[i].metadata);
		partitions->elems[i].metadata = NULL;
		partitions->elems[i].metadata_size = 0;
	}
}

static void assign(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *partitions)
{
	if (partitions->cnt > 0 && !find_offsets(consumer, partitions)) {
		assign_nothing(consumer);
		kafka_group_join_soon(consumer);
		return;
	}
	kafka_owned_set(consumer, partitions);
	forget_begun(partitions);
	rd_kafka_assign(consumer->rk, partitions);
	atomic_store(&consumer->link->missing, 0);
	atomic_store(&consumer->joined, true);
	FAULT_POINT("consumer.assigned");
	log_debug("partitions assigned", log_str("topic", consumer->topics[0]), log_int("count", partitions->cnt));
}

/* These offsets, or what is stored (NULL), committed within a bounded time. */
rd_kafka_resp_err_t kafka_group_commit(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *offsets)
{
	rd_kafka_queue_t *answers = rd_kafka_queue_new(consumer->rk);
	rd_kafka_resp_err_t code = rd_kafka_commit_queue(consumer->rk, offsets, answers, NULL, NULL);
	rd_kafka_event_t *answer = NULL;

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		answer = rd_kafka_queue_poll(answers, COMMIT_MS);
		code = answer != NULL ? rd_kafka_event_error(answer) : RD_KAFKA_RESP_ERR__TIMED_OUT;
	}
	if (answer != NULL)
		rd_kafka_event_destroy(answer);
	rd_kafka_queue_destroy(answers);
	return code;
}

static void commit_stored(struct kafka_consumer *consumer)
{
	rd_kafka_resp_err_t code = kafka_group_commit(consumer, NULL);

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
		log_warn("offsets not committed", log_str("topic", consumer->topics[0]), log_str("error", rd_kafka_err2str(code)));
}

static void tell_revoked(struct kafka_consumer *consumer, bool lost)
{
	size_t count = consumer->owned_count;
	struct topic_partition *gone;

	if (consumer->revoked == NULL || count == 0)
		return;
	gone = mem_array(count, sizeof(*gone));
	for (size_t i = 0; i < count; i++)
		gone[i] = (struct topic_partition){ consumer->owned[i].topic, consumer->owned[i].partition };
	consumer->revoked(consumer->arg, gone, count, lost);
	free(gone);
}

/* For librdkafka a pause outlasts the assignment: a partition that comes back would stand still, and nobody would know why. */
static void unpause_all(struct kafka_consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = NULL;

	if (rd_kafka_assignment(consumer->rk, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	rd_kafka_resume_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void revoke(struct kafka_consumer *consumer)
{
	bool lost = rd_kafka_assignment_lost(consumer->rk);

	tell_revoked(consumer, lost);
	if (!lost && consumer->owned_count > 0)
		commit_stored(consumer);
	FAULT_POINT("consumer.committed");
	unpause_all(consumer);
	rd_kafka_assign(consumer->rk, NULL);
	kafka_owned_set(consumer, NULL);
	atomic_store(&consumer->joined, false);
	log_debug("partitions revoked", log_str("topic", consumer->topics[0]), log_int("lost", lost));
}

void kafka_group_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
	(void)rk;
	if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
		assign(opaque, partitions);
	else
		revoke(opaque);
}

/* ---- joining and leaving */

int kafka_group_subscribe(struct kafka_consumer *consumer, struct err *err)
{
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new((int)consumer->topic_count);
	rd_kafka_resp_err_t code;

	for (size_t i = 0; i < consumer->topic_count; i++)
		kafka_place_add(consumer, topics, consumer->topics[i], RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID);
	code = rd_kafka_subscribe(consumer->rk, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, "subscribing");
}

int kafka_group_join(struct kafka_consumer *consumer, struct err *err)
{
	if (!consumer->rejoin || !consumer->grouped || clock_mono_ms() < consumer->rejoin_ms)
		return 0;
	consumer->rejoin = false;
	return kafka_group_subscribe(consumer, err);
}

/* What comes while the group is left: partitions to give back, and records that nobody will read. */
static void serve_leaving(struct kafka_consumer *consumer, rd_kafka_queue_t *events)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(events, LEAVE_POLL_MS);

	if (event == NULL)
		return;
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
		if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
			assign_nothing(consumer);
		else
			revoke(consumer);
	}
	rd_kafka_event_destroy(event);
}

/* Leaves the group: true when that is done, and nothing of librdkafka calls us any more. rd_kafka_consumer_close() would do
 * the same without a limit. */
bool kafka_group_leave(struct kafka_consumer *consumer)
{
	rd_kafka_queue_t *events = rd_kafka_queue_new(consumer->rk);
	rd_kafka_error_t *error = rd_kafka_consumer_close_queue(consumer->rk, events);
	int64_t until_ms = clock_mono_ms() + LEAVE_MS;
	bool left = error != NULL; /* fenced: there is nothing to leave */

	while (!left && clock_mono_ms() < until_ms) {
		serve_leaving(consumer, events);
		left = rd_kafka_consumer_closed(consumer->rk);
	}
	if (error != NULL)
		rd_kafka_error_destroy(error);
	rd_kafka_queue_destroy(events);
	return left;
}
