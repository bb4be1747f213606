/* Settings go in, a queue on a Kafka cluster comes out: librdkafka's configurations and errors, and the table of operations. */
#include "common/queue/queue_kafka.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"

/* ---- configuration */

/* Nagle's algorithm and silent dead peers are librdkafka's defaults; an idle connection that the broker closes is no news;
 * a broker that is back is found within a second. Topics are made by feedctl, with their partitions, or not at all. */
static const struct kafka_setting common_settings[] = {
	{ "client.id", "feedmill" },
	{ "socket.nagle.disable", "true" },
	{ "socket.keepalive.enable", "true" },
	{ "socket.timeout.ms", "20000" },
	{ "reconnect.backoff.ms", "50" },
	{ "reconnect.backoff.max.ms", "1000" },
	{ "log.connection.close", "false" },
	{ "allow.auto.create.topics", "false" },
};

/* librdkafka's own lines, in our log. It says "connection refused" once in 30 s by itself. */
static void on_log(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	enum { ERROR = 3, NOTICE = 5 };

	(void)rk;
	if (severity < ERROR)
		log_error("kafka", log_str("facility", facility), log_str("text", text));
	else if (severity < NOTICE)
		log_warn("kafka", log_str("facility", facility), log_str("text", text));
	else
		log_debug("kafka", log_str("facility", facility), log_str("text", text));
}

/* Without one, librdkafka logs what the callers of a handle are told anyway. */
static void on_error(rd_kafka_t *rk, int code, const char *why, void *opaque)
{
	(void)rk, (void)code, (void)opaque;
	log_debug("kafka", log_str("error", why));
}

int kafka_conf_text(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err)
{
	char why[256];

	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK)
		return 0;
	return err_set(err, ERR_FATAL, "Kafka setting %s: %s", name, why);
}

int kafka_conf_int(rd_kafka_conf_t *conf, const char *name, int64_t value, struct err *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	return kafka_conf_text(conf, name, text, err);
}

static int conf_put(rd_kafka_conf_t *conf, const struct kafka_setting *settings, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (kafka_conf_text(conf, settings[i].name, settings[i].value, err) < 0)
			return -1;
	}
	return 0;
}

rd_kafka_conf_t *kafka_conf_new(const struct kafka_queue *queue, const struct kafka_setting *settings, size_t count, struct err *err)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_error_cb(conf, on_error);
	if (kafka_conf_text(conf, "bootstrap.servers", queue->brokers, err) == 0 &&
	    conf_put(conf, common_settings, sizeof(common_settings) / sizeof(common_settings[0]), err) == 0 &&
	    conf_put(conf, settings, count, err) == 0)
		return conf;
	rd_kafka_conf_destroy(conf);
	return NULL;
}

rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err)
{
	char why[256];
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));

	if (rk == NULL) {
		rd_kafka_conf_destroy(conf);
		err_set(err, ERR_FATAL, "Kafka client: %s", why);
	}
	return rk;
}

/* ---- errors */

/* What is not named here is the cluster's trouble, and passes. */
static const struct {
	rd_kafka_resp_err_t code;
	enum err_kind kind;
} kinds[] = {
	{ RD_KAFKA_RESP_ERR__QUEUE_FULL, ERR_FULL },
	{ RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR__INVALID_ARG, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_INVALID_CONFIG, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_POLICY_VIOLATION, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_INVALID_RECORD, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, ERR_INVALID },
	{ RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, ERR_FATAL },
	{ RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, ERR_FATAL }, /* a broker that this client can't talk to */
	{ RD_KAFKA_RESP_ERR__FATAL, ERR_FATAL },
	{ RD_KAFKA_RESP_ERR__STATE, ERR_CONFLICT },
	{ RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, ERR_CONFLICT },
	{ RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, ERR_CONFLICT },
	{ RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, ERR_CONFLICT },
	{ RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, ERR_CONFLICT },
};

enum err_kind kafka_kind(rd_kafka_resp_err_t code)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].code == code)
			return kinds[i].kind;
	}
	return ERR_UNAVAILABLE;
}

int kafka_err(struct err *err, rd_kafka_resp_err_t code, const char *doing)
{
	return err_set(err, kafka_kind(code), "%s: %s", doing, rd_kafka_err2str(code));
}

/* ---- the queue */

void kafka_name(const struct kafka_queue *queue, const char *name, char out[KAFKA_NAME_MAX])
{
	snprintf(out, KAFKA_NAME_MAX, "%s%s", queue->prefix, name);
}

static struct metric *sent_counter(const char *labels)
{
	return metric_counter("feedmill_queue_sent_total", labels, "records sent, by what became of them");
}

static void make_metrics(struct kafka_queue *queue)
{
	queue->sent[SENT_STORED] = sent_counter("outcome=\"stored\"");
	queue->sent[SENT_NOT] = sent_counter("outcome=\"not_stored\"");
	queue->sent[SENT_UNKNOWN] = sent_counter("outcome=\"unknown\"");
	queue->refused = sent_counter("outcome=\"refused\"");
	queue->replaced = metric_counter("feedmill_queue_producers_replaced_total", NULL, "producers replaced after a fatal error");
	queue->consumer_errors = metric_counter("feedmill_queue_consumer_errors_total", NULL, "errors reported while fetching");
	queue->stopped = metric_counter("feedmill_queue_partitions_stopped_total", NULL,
		"partitions stopped: an offset out of range, or a record that is corrupt");
}

static int kafka_open(const struct settings *settings, struct queue **out, struct err *err)
{
	struct kafka_queue *queue = mem_zalloc(sizeof(*queue));

	(void)err; /* nothing is opened yet */
	queue->base.ops = &queue_kafka;
	queue->brokers = mem_strdup(settings->kafka.brokers);
	queue->prefix = mem_strdup(settings->kafka.topic_prefix);
	queue->replication = settings->kafka.replication;
	queue->partitions = settings->kafka.partitions;
	queue->message_timeout_ms = settings->kafka.message_timeout_ms;
	queue->linger_ms = settings->kafka.linger_ms;
	queue->session_timeout_ms = settings->kafka.session_timeout_ms;
	pthread_mutex_init(&queue->lock, NULL);
	make_metrics(queue);
	*out = &queue->base;
	return 0;
}

static void kafka_close(struct queue *base)
{
	struct kafka_queue *queue = (struct kafka_queue *)base;

	if (queue->admin != NULL)
		rd_kafka_destroy_flags(queue->admin, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	pthread_mutex_destroy(&queue->lock);
	free(queue->brokers);
	free(queue->prefix);
	free(queue);
}

static const char *kafka_library(void)
{
	static char text[48]; /* the same bytes whoever writes them */

	snprintf(text, sizeof(text), "librdkafka %s", rd_kafka_version_str());
	return text;
}

static void kafka_describe(const struct settings *settings, struct buf *out)
{
	buf_add_str(out, settings->kafka.brokers);
}

const struct queue_ops queue_kafka = {
	.library = kafka_library,
	.describe = kafka_describe,
	.open = kafka_open,
	.close = kafka_close,
	.producer_open = kafka_producer_open,
	.producer_send = kafka_producer_send,
	.producer_ready = kafka_producer_ready,
	.producer_pending = kafka_producer_pending,
	.producer_flush = kafka_producer_flush,
	.producer_close = kafka_producer_close,
	.lossy_open = kafka_lossy_open,
	.lossy_send = kafka_lossy_send,
	.lossy_close = kafka_lossy_close,
	.consumer_open = kafka_consumer_open,
	.consumer_assign = kafka_consumer_assign,
	.consumer_assign_places = kafka_consumer_assign_places,
	.consumer_poll = kafka_consumer_poll,
	.consumer_store = kafka_consumer_store,
	.consumer_seek = kafka_consumer_seek,
	.consumer_owns = kafka_consumer_owns,
	.consumer_owned = kafka_consumer_owned,
	.consumer_pause = kafka_consumer_pause,
	.consumer_hold = kafka_consumer_hold,
	.consumer_release = kafka_consumer_release,
	.consumer_begin = kafka_consumer_begin,
	.consumer_begun = kafka_consumer_begun,
	.consumer_connected = kafka_consumer_connected,
	.consumer_close = kafka_consumer_close,
	.topic_state = kafka_topic_state,
	.topic_create = kafka_topic_create,
	.lag = kafka_lag,
	.offsets_set = kafka_offsets_set,
	.offsets_at = kafka_offsets_at,
	.trim = kafka_trim,
};
