/* Settings go in, a queue in a folder of SQLite files comes out: its folder, its names, and the table of operations. */
#include "common/queue/queue_sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/folder.h"
#include "common/base/mem.h"

/* ---- names */

bool sqlq_is_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	return name[strspn(name, allowed)] == '\0';
}

void sqlq_path(const struct sqlq *queue, const char *name, const char *suffix, char out[SQLQ_PATH_MAX])
{
	snprintf(out, SQLQ_PATH_MAX, "%s%s%s%s", queue->folder, queue->prefix, name, suffix);
}

/* ---- the queue */

static struct metric *sent_counter(const char *labels)
{
	return metric_counter("feedmill_queue_sent_total", labels, "records sent, by what became of them");
}

static void make_metrics(struct sqlq *queue)
{
	queue->sent[SENT_STORED] = sent_counter("outcome=\"stored\"");
	queue->sent[SENT_NOT] = sent_counter("outcome=\"not_stored\"");
	queue->sent[SENT_UNKNOWN] = sent_counter("outcome=\"unknown\"");
	queue->refused = sent_counter("outcome=\"refused\"");
	queue->consumer_errors = metric_counter("feedmill_queue_consumer_errors_total", NULL, "errors reported while fetching");
	queue->stopped = metric_counter("feedmill_queue_partitions_stopped_total", NULL,
		"partitions stopped: an offset out of range, or a record that is corrupt");
}

static void sqlq_close(struct queue *base)
{
	struct sqlq *queue = (struct sqlq *)base;

	free(queue->folder);
	free(queue->prefix);
	free(queue);
}

static int sqlq_open(const struct settings *settings, struct queue **out, struct err *err)
{
	struct sqlq *queue = mem_zalloc(sizeof(*queue));
	struct buf folder = BUF_INIT;
	bool made;

	queue->base.ops = &queue_sqlite;
	queue->prefix = mem_strdup(settings->kafka.topic_prefix);
	queue->partitions = settings->kafka.partitions;
	queue->message_timeout_ms = settings->kafka.message_timeout_ms;
	if (!sqlq_is_name(queue->prefix)) {
		err_set(err, ERR_FATAL, "setting kafka.topic_prefix: \"%s\" can't be part of a name", queue->prefix);
		goto fail;
	}
	if (folder_make(settings->embedded.folder, &made, err) < 0 || folder_path(settings->embedded.folder, "", &folder, err) < 0)
		goto fail;
	queue->folder = buf_detach(&folder);
	make_metrics(queue);
	*out = &queue->base;
	return 0;
fail:
	sqlq_close(&queue->base);
	return -1;
}

static void sqlq_describe(const struct settings *settings, struct buf *out)
{
	buf_add_str(out, settings->embedded.folder);
}

const struct queue_ops queue_sqlite = {
	.describe = sqlq_describe,
	.open = sqlq_open,
	.close = sqlq_close,
	.producer_open = sqlq_producer_open,
	.producer_send = sqlq_producer_send,
	.producer_ready = sqlq_producer_ready,
	.producer_pending = sqlq_producer_pending,
	.producer_flush = sqlq_producer_flush,
	.producer_close = sqlq_producer_close,
	.lossy_open = sqlq_lossy_open,
	.lossy_send = sqlq_lossy_send,
	.lossy_close = sqlq_lossy_close,
	.consumer_open = sqlq_consumer_open,
	.consumer_assign = sqlq_consumer_assign,
	.consumer_assign_places = sqlq_consumer_assign_places,
	.consumer_poll = sqlq_consumer_poll,
	.consumer_store = sqlq_consumer_store,
	.consumer_seek = sqlq_consumer_seek,
	.consumer_owns = sqlq_consumer_owns,
	.consumer_owned = sqlq_consumer_owned,
	.consumer_pause = sqlq_consumer_pause,
	.consumer_hold = sqlq_consumer_hold,
	.consumer_release = sqlq_consumer_release,
	.consumer_begin = sqlq_consumer_begin,
	.consumer_begun = sqlq_consumer_begun,
	.consumer_connected = sqlq_consumer_connected,
	.consumer_close = sqlq_consumer_close,
	.topic_state = sqlq_topic_state,
	.topic_create = sqlq_topic_create,
	.lag = sqlq_lag,
	.offsets_set = sqlq_offsets_set,
	.offsets_at = sqlq_offsets_at,
	.trim = sqlq_trim,
};
