/* Lines go in from any thread; they are on Kafka a moment later, or counted as lost: nobody waits for them. */
#include "common/queue/queue_kafka.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

enum {
	POLL_MS = 100,   /* how late a close is seen; reports wake the thread */
	FLUSH_MS = 1000, /* at the end */
	PURGE_MS = 1000,
};

struct kafka_lossy {
	struct lossy base;
	rd_kafka_t *rk;
	rd_kafka_topic_t *topic;
	lost_fn *lost;
	void *arg;
	pthread_t thread;
	_Atomic bool stop;
};

/* Only what failed is reported. Large batches, since nobody waits; a queue that holds a second or more of a busy gateway, and a
 * broker that is away for longer costs no more memory than this. One broker's word is enough. */
static const struct kafka_setting lossy_settings[] = {
	{ "acks", "1" },
	{ "linger.ms", "100" },
	{ "message.timeout.ms", "10000" },
	{ "queue.buffering.max.messages", "20000" },
	{ "queue.buffering.max.kbytes", "4096" },
	{ "delivery.report.only.error", "true" },
	{ "compression.type", "lz4" },
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_lossy *lossy = opaque;

	(void)rk;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		lossy->lost(lossy->arg, rd_kafka_err2str(message->err));
}

static void *serve(void *arg)
{
	struct kafka_lossy *lossy = arg;

	while (!atomic_load(&lossy->stop))
		rd_kafka_poll(lossy->rk, POLL_MS);
	return NULL;
}

static rd_kafka_t *handle_new(struct kafka_lossy *lossy, const struct kafka_queue *queue, struct err *err)
{
	rd_kafka_conf_t *conf = kafka_conf_new(queue, lossy_settings, sizeof(lossy_settings) / sizeof(lossy_settings[0]), err);

	if (conf == NULL)
		return NULL;
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_opaque(conf, lossy);
	return kafka_handle_new(RD_KAFKA_PRODUCER, conf, err);
}

int kafka_lossy_open(struct queue *base, const char *topic, lost_fn *lost, void *arg, struct lossy **out, struct err *err)
{
	const struct kafka_queue *queue = (struct kafka_queue *)base;
	struct kafka_lossy *lossy = mem_zalloc(sizeof(*lossy));
	char name[KAFKA_NAME_MAX];

	lossy->base.ops = base->ops;
	lossy->lost = lost;
	lossy->arg = arg;
	lossy->rk = handle_new(lossy, queue, err);
	if (lossy->rk == NULL) {
		free(lossy);
		return -1;
	}
	kafka_name(queue, topic, name);
	lossy->topic = rd_kafka_topic_new(lossy->rk, name, NULL);
	if (lossy->topic == NULL) {
		kafka_err(err, rd_kafka_last_error(), name);
		rd_kafka_destroy(lossy->rk);
		free(lossy);
		return -1;
	}
	if (pthread_create(&lossy->thread, NULL, serve, lossy) != 0)
		abort(); /* as mem: no thread, no process */
	*out = &lossy->base;
	return 0;
}

void kafka_lossy_send(struct lossy *base, struct slice line)
{
	struct kafka_lossy *lossy = (struct kafka_lossy *)base;

	if (rd_kafka_produce(lossy->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)line.data, line.len, NULL, 0, NULL) < 0)
		lossy->lost(lossy->arg, rd_kafka_err2str(rd_kafka_last_error()));
}

void kafka_lossy_close(struct lossy *base)
{
	struct kafka_lossy *lossy = (struct kafka_lossy *)base;

	atomic_store(&lossy->stop, true);
	pthread_join(lossy->thread, NULL);
	if (rd_kafka_flush(lossy->rk, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR) {
		rd_kafka_purge(lossy->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		rd_kafka_flush(lossy->rk, PURGE_MS); /* counts them as lost */
	}
	rd_kafka_topic_destroy(lossy->topic);
	rd_kafka_destroy(lossy->rk);
	free(lossy);
}
