/* A topic's or a group's name goes in; what the cluster has under it comes out, or it is made. */
#include "common/queue/queue_kafka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/str.h"

enum { SHORT_MS = 50 }; /* between two looks at what takes effect soon */

/* ---- asking */

/* A consumer of a group that nobody joins: librdkafka 2.0.2 answers a coordinator that is not ready by a look for its own handle's,
 * and ends the process where the handle has no group. */
static const struct kafka_setting admin_settings[] = {
	{ "group.id", "feedmill-admin" },
	{ "enable.auto.commit", "false" },
};

static rd_kafka_t *admin(struct kafka_queue *queue, struct err *err)
{
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;

	pthread_mutex_lock(&queue->lock);
	if (queue->admin == NULL) {
		conf = kafka_conf_new(queue, admin_settings, sizeof(admin_settings) / sizeof(admin_settings[0]), err);
		queue->admin = conf != NULL ? kafka_handle_new(RD_KAFKA_CONSUMER, conf, err) : NULL;
	}
	rk = queue->admin;
	pthread_mutex_unlock(&queue->lock);
	return rk;
}

static int away(const struct kafka_queue *queue, rd_kafka_resp_err_t code, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "no answer from Kafka at %s: %s. Start it, or set kafka.brokers", queue->brokers,
		rd_kafka_err2str(code));
}

/* One kind of question to the cluster: options and a queue for the answer. */
struct question {
	rd_kafka_t *rk;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_queue_t *answers;
	rd_kafka_event_t *answer;
	int timeout_ms;
};

static void question_init(struct question *q, rd_kafka_t *rk, rd_kafka_admin_op_t op, int64_t timeout_ms)
{
	char ignored[128];

	*q = (struct question){ .rk = rk, .timeout_ms = (int)timeout_ms };
	q->options = rd_kafka_AdminOptions_new(rk, op);
	rd_kafka_AdminOptions_set_request_timeout(q->options, q->timeout_ms, ignored, sizeof(ignored));
	q->answers = rd_kafka_queue_new(rk);
}

static rd_kafka_resp_err_t question_wait(struct question *q)
{
	q->answer = rd_kafka_queue_poll(q->answers, q->timeout_ms + 1000); /* librdkafka's own limit is the one that counts */
	return q->answer != NULL ? rd_kafka_event_error(q->answer) : RD_KAFKA_RESP_ERR__TIMED_OUT;
}

static void question_release(struct question *q)
{
	if (q->answer != NULL)
		rd_kafka_event_destroy(q->answer);
	rd_kafka_queue_destroy(q->answers);
	rd_kafka_AdminOptions_destroy(q->options);
}

/* ---- topics */

static const struct rd_kafka_metadata_topic *find(const struct rd_kafka_metadata *seen, const char *name)
{
	for (int i = 0; i < seen->topic_cnt; i++) {
		if (strcmp(seen->topics[i].topic, name) == 0)
			return &seen->topics[i];
	}
	return NULL;
}

static bool has_leaders(const struct rd_kafka_metadata_topic *topic)
{
	for (int i = 0; i < topic->partition_cnt; i++) {
		if (topic->partitions[i].leader < 0)
			return false;
	}
	return true;
}

/* Of all topics, since asking for one by name may make it. *ready: every partition has a leader. */
static int ask_partitions(const struct kafka_queue *queue, rd_kafka_t *rk, const char *name, int64_t timeout_ms, struct topic_state *out,
	bool *ready, struct err *err)
{
	const struct rd_kafka_metadata *seen;
	const struct rd_kafka_metadata_topic *topic;
	rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 1, NULL, &seen, (int)timeout_ms);

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return away(queue, code, err);
	*out = (struct topic_state){ .retention_ms = -1 };
	topic = find(seen, name);
	*ready = topic != NULL && topic->partition_cnt > 0 && has_leaders(topic);
	if (topic != NULL && topic->partition_cnt > 0) {
		out->partitions = topic->partition_cnt;
		out->replication = topic->partitions[0].replica_cnt;
	}
	rd_kafka_metadata_destroy(seen);
	return 0;
}

int kafka_partitions(const struct kafka_queue *queue, rd_kafka_t *rk, const char *name, int64_t timeout_ms, int32_t *out, struct err *err)
{
	struct topic_state state;
	bool ready;

	if (ask_partitions(queue, rk, name, timeout_ms, &state, &ready, err) < 0)
		return -1;
	*out = state.partitions;
	return 0;
}

static int no_topic(const char *name, struct err *err)
{
	return err_set(err, ERR_INVALID, "no topic %s on Kafka: `feedctl topics` makes those of Feedmill", name);
}

static void read_retention(const rd_kafka_ConfigResource_t *resource, struct topic_state *out)
{
	size_t count;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "retention.ms") == 0)
			str_int64(slice_of(rd_kafka_ConfigEntry_value(entries[i])), &out->retention_ms);
	}
}

static int ask_retention(rd_kafka_t *rk, const char *name, int64_t timeout_ms, struct topic_state *out, struct err *err)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
	const rd_kafka_ConfigResource_t **found;
	struct question q;
	rd_kafka_resp_err_t code;
	size_t count = 0;

	question_init(&q, rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout_ms);
	rd_kafka_DescribeConfigs(rk, &resource, 1, q.options, q.answers);
	code = question_wait(&q);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		found = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(q.answer), &count);
		code = count > 0 ? rd_kafka_ConfigResource_error(found[0]) : RD_KAFKA_RESP_ERR_NO_ERROR;
		if (count > 0 && code == RD_KAFKA_RESP_ERR_NO_ERROR)
			read_retention(found[0], out);
	}
	question_release(&q);
	rd_kafka_ConfigResource_destroy(resource);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, "asking for a topic's retention");
}

int kafka_topic_state(struct queue *base, const char *topic, struct topic_state *out, int64_t timeout_ms, struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	struct topic_state state;
	char name[KAFKA_NAME_MAX];
	bool ready;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic, name);
	if (ask_partitions(queue, rk, name, timeout_ms, &state, &ready, err) < 0)
		return -1;
	if (state.partitions > 0 && ask_retention(rk, name, timeout_ms, &state, err) < 0)
		return -1;
	*out = state;
	return 0;
}

/* ---- making topics */

/* With three copies one may be away; the default of one in sync would let a single disk hold what was acknowledged. */
static const char *in_sync(int64_t replication)
{
	return replication >= 3 ? "2" : "1";
}

static rd_kafka_NewTopic_t *new_topic(const struct kafka_queue *queue, const struct topic *topic, const char *name, struct err *err)
{
	char why[256];
	char retention[24], largest[24];
	int partitions = topic->partitions > 0 ? topic->partitions : (int)queue->partitions;
	int replication = queue->replication > 0 ? (int)queue->replication : -1; /* -1: the broker's default */
	rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(name, partitions, replication, why, sizeof(why));

	if (wanted == NULL) {
		err_set(err, ERR_INVALID, "topic %s: %s", name, why);
		return NULL;
	}
	snprintf(retention, sizeof(retention), "%lld", (long long)topic->retention_ms);
	rd_kafka_NewTopic_set_config(wanted, "retention.ms", retention);
	rd_kafka_NewTopic_set_config(wanted, "cleanup.policy", "delete");
	snprintf(largest, sizeof(largest), "%lld", (long long)topic->max_bytes);
	rd_kafka_NewTopic_set_config(wanted, "max.message.bytes", largest);
	if (replication > 0)
		rd_kafka_NewTopic_set_config(wanted, "min.insync.replicas", in_sync(replication));
	return wanted;
}

static int created(const struct question *q, const char *name, struct err *err)
{
	size_t count = 0;
	const rd_kafka_topic_result_t **results =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(q->answer), &count);
	rd_kafka_resp_err_t code = count > 0 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__FAIL;

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		return 0;
	return err_set(err, kafka_kind(code), "making topic %s: %s", name,
		count > 0 && rd_kafka_topic_result_error_string(results[0]) != NULL ? rd_kafka_topic_result_error_string(results[0])
										    : rd_kafka_err2str(code));
}

/* Brokers learn of a topic one after another: it is there when all its partitions have leaders. */
static int wait_for_leaders(const struct kafka_queue *queue, rd_kafka_t *rk, const char *name, int64_t timeout_ms, struct err *err)
{
	int64_t until_ms = clock_mono_ms() + timeout_ms;
	struct topic_state state;
	bool ready = false;

	while (!ready) {
		if (ask_partitions(queue, rk, name, timeout_ms, &state, &ready, err) < 0)
			return -1;
		if (!ready && clock_mono_ms() >= until_ms)
			return err_set(err, ERR_UNAVAILABLE, "topic %s was made, but has no leaders yet", name);
		if (!ready)
			nanosleep(&(struct timespec){ .tv_nsec = SHORT_MS * 1000000L }, NULL);
	}
	return 0;
}

int kafka_topic_create(struct queue *base, const struct topic *topic, int64_t timeout_ms, struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	rd_kafka_NewTopic_t *wanted;
	struct question q;
	rd_kafka_resp_err_t code;
	char name[KAFKA_NAME_MAX];
	int rc;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic->name, name);
	wanted = new_topic(queue, topic, name, err);
	if (wanted == NULL)
		return -1;
	question_init(&q, rk, RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout_ms);
	rd_kafka_CreateTopics(rk, &wanted, 1, q.options, q.answers);
	code = question_wait(&q);
	rc = code == RD_KAFKA_RESP_ERR_NO_ERROR ? created(&q, name, err) : away(queue, code, err);
	question_release(&q);
	rd_kafka_NewTopic_destroy(wanted);
	return rc == 0 ? wait_for_leaders(queue, rk, name, timeout_ms, err) : -1;
}

/* ---- lag */

static void read_committed(const rd_kafka_topic_partition_list_t *offsets, struct partition_lag *out, size_t count)
{
	for (int i = 0; i < offsets->cnt; i++) {
		const rd_kafka_topic_partition_t *p = &offsets->elems[i];

		if (p->partition >= 0 && (size_t)p->partition < count && p->offset >= 0)
			out[p->partition].committed = p->offset;
	}
}

static int ask_committed(const struct kafka_queue *queue, rd_kafka_t *rk, const char *group, const char *topic, struct partition_lag *out,
	size_t count, int64_t timeout_ms, struct err *err)
{
	rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new((int)count);
	rd_kafka_ListConsumerGroupOffsets_t *request;
	const rd_kafka_group_result_t **groups;
	const rd_kafka_error_t *error = NULL;
	struct question q;
	rd_kafka_resp_err_t code;
	size_t answers = 0;

	rd_kafka_topic_partition_list_add_range(wanted, topic, 0, (int32_t)count - 1);
	request = rd_kafka_ListConsumerGroupOffsets_new(group, wanted);
	question_init(&q, rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout_ms);
	rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, q.options, q.answers);
	code = question_wait(&q);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
			rd_kafka_event_ListConsumerGroupOffsets_result(q.answer), &answers);
		error = answers > 0 ? rd_kafka_group_result_error(groups[0]) : NULL;
		code = error != NULL ? rd_kafka_error_code(error) : RD_KAFKA_RESP_ERR_NO_ERROR;
		if (answers > 0 && code == RD_KAFKA_RESP_ERR_NO_ERROR)
			read_committed(rd_kafka_group_result_partitions(groups[0]), out, count);
	}
	question_release(&q);
	rd_kafka_ListConsumerGroupOffsets_destroy(request);
	rd_kafka_topic_partition_list_destroy(wanted);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : away(queue, code, err);
}

static int ask_watermarks(const struct kafka_queue *queue, rd_kafka_t *rk, const char *topic, struct partition_lag *out, size_t count,
	int64_t timeout_ms, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		rd_kafka_resp_err_t code =
			rd_kafka_query_watermark_offsets(rk, topic, out[i].partition, &out[i].low, &out[i].high, (int)timeout_ms);

		if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
			return away(queue, code, err);
	}
	return 0;
}

int kafka_lag(struct queue *base, const char *group, const char *topic, struct partition_lag *out, size_t room, size_t *count,
	int64_t timeout_ms, struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	char topic_name[KAFKA_NAME_MAX];
	char group_name[KAFKA_NAME_MAX];
	int32_t partitions;
	size_t shown;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic, topic_name);
	kafka_name(queue, group, group_name);
	if (kafka_partitions(queue, rk, topic_name, timeout_ms, &partitions, err) < 0)
		return -1;
	if (partitions == 0)
		return no_topic(topic_name, err);
	shown = (size_t)partitions < room ? (size_t)partitions : room;
	for (size_t i = 0; i < shown; i++)
		out[i] = (struct partition_lag){ .partition = (int32_t)i, .committed = -1 };
	if (ask_committed(queue, rk, group_name, topic_name, out, shown, timeout_ms, err) < 0 ||
	    ask_watermarks(queue, rk, topic_name, out, shown, timeout_ms, err) < 0)
		return -1;
	*count = shown;
	return 0;
}

/* ---- offsets */

static rd_kafka_topic_partition_list_t *list_places(const char *topic, const struct queue_place *places, size_t count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);

	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, topic, places[i].partition)->offset = places[i].offset;
	return list;
}

static rd_kafka_resp_err_t first_error(const rd_kafka_topic_partition_list_t *list)
{
	for (int i = 0; i < list->cnt; i++) {
		if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return list->elems[i].err;
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* The coordinator takes an offset without a member's name only for a group without members. */
static int not_set(const char *group, rd_kafka_resp_err_t code, struct err *err)
{
	if (code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || code == RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP ||
		code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS)
		return err_set(err, ERR_CONFLICT, "group %s has members: stop its workers first", group);
	return kafka_err(err, code, "setting offsets");
}

int kafka_offsets_set(struct queue *base, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	char topic_name[KAFKA_NAME_MAX], group_name[KAFKA_NAME_MAX];
	rd_kafka_topic_partition_list_t *wanted;
	rd_kafka_AlterConsumerGroupOffsets_t *request;
	struct question q;
	rd_kafka_resp_err_t code;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic, topic_name);
	kafka_name(queue, group, group_name);
	wanted = list_places(topic_name, places, count);
	request = rd_kafka_AlterConsumerGroupOffsets_new(group_name, wanted);
	question_init(&q, rk, RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout_ms);
	rd_kafka_AlterConsumerGroupOffsets(rk, &request, 1, q.options, q.answers);
	code = question_wait(&q);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		size_t answers;
		const rd_kafka_group_result_t **groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(
			rd_kafka_event_AlterConsumerGroupOffsets_result(q.answer), &answers);
		const rd_kafka_error_t *error = answers > 0 ? rd_kafka_group_result_error(groups[0]) : NULL;

		code = error != NULL ? rd_kafka_error_code(error)
			: answers > 0 ? first_error(rd_kafka_group_result_partitions(groups[0])) : RD_KAFKA_RESP_ERR__FAIL;
	}
	question_release(&q);
	rd_kafka_AlterConsumerGroupOffsets_destroy(request);
	rd_kafka_topic_partition_list_destroy(wanted);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : not_set(group_name, code, err);
}

/* Where there is no such record the answer is the end, as a word. */
static int read_offset(rd_kafka_t *rk, const rd_kafka_topic_partition_t *found, int64_t timeout_ms, int64_t *out, struct err *err)
{
	int64_t low;
	rd_kafka_resp_err_t code = found->err;

	*out = found->offset;
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && found->offset < 0)
		code = rd_kafka_query_watermark_offsets(rk, found->topic, found->partition, &low, out, (int)timeout_ms);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, "asking for the offset of a time");
}

int kafka_offsets_at(struct queue *base, const char *topic, int64_t wall_ms, struct queue_place *places, size_t count, int64_t timeout_ms,
	struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	char name[KAFKA_NAME_MAX];
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	int rc = -1;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic, name);
	for (size_t i = 0; i < count; i++)
		places[i].offset = wall_ms > 0 ? wall_ms : 0; /* a question has its time here */
	list = list_places(name, places, count);
	code = rd_kafka_offsets_for_times(rk, list, (int)timeout_ms);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		rc = 0;
	else
		away(queue, code, err);
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = read_offset(rk, &list->elems[i], timeout_ms, &places[i].offset, err);
	rd_kafka_topic_partition_list_destroy(list);
	return rc;
}

/* ---- deleting records */

int kafka_trim(struct queue *base, const char *topic, const struct queue_place *place, int64_t timeout_ms, struct err *err)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;
	rd_kafka_t *rk = admin(queue, err);
	char name[KAFKA_NAME_MAX];
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_DeleteRecords_t *request;
	struct question q;
	rd_kafka_resp_err_t code;

	if (rk == NULL)
		return -1;
	kafka_name(queue, topic, name);
	list = list_places(name, place, 1);
	request = rd_kafka_DeleteRecords_new(list);
	question_init(&q, rk, RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout_ms);
	rd_kafka_DeleteRecords(rk, &request, 1, q.options, q.answers);
	code = question_wait(&q);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = first_error(rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(q.answer)));
	question_release(&q);
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(list);
	return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_err(err, code, "deleting records");
}
