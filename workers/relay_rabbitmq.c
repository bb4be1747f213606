/* Product events go in, confirmed messages on a topic exchange of RabbitMQ come out.
 *
 * The exchange is ours, queues are the subscribers': an event that no queue is bound for is dropped by RabbitMQ, which is no
 * error here, and counted. Events of different products go at once; one of a product that is under way waits for it, so that
 * a message that is refused or lost can't come behind a later one of its product. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/queue/amqp_publisher.h"
#include "workers/relay.h"

#define CONFIRM_MS 10000  /* for a message; then the batch comes again */
#define CONNECT_MS 3000   /* that check() gives a connection that is being made */
#define WINDOW 256
#define CLOSE_MS 1000

struct rabbitmq {
	struct relay relay;
	struct amqp_publisher *publisher;
	const char *exchange;
	struct metric *unroutable;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t reported;
	struct flight *flights; /* of the wave */
	size_t pending;
	char why[200]; /* one of the wave was not stored; "": all were, or were unfit, */
	char unfit[200]; /* which says why; "": none was */
};

struct flight {
	struct rabbitmq *owner;
	bool is_stored;
};

/* ---- life */

static bool rabbitmq_is_on(const struct settings *settings)
{
	return settings->amqp.url[0] != '\0';
}

static int declare(struct amqp *amqp, void *arg, struct err *err)
{
	const struct rabbitmq *sink = arg;

	return amqp_declare_exchange(amqp, sink->exchange, "topic", AMQP_DURABLE, AMQP_NO_TABLE, err);
}

static void rabbitmq_close(void *state)
{
	struct rabbitmq *sink = state;

	amqp_publisher_close(sink->publisher, CLOSE_MS);
	relay_release(&sink->relay);
	pthread_cond_destroy(&sink->reported);
	pthread_mutex_destroy(&sink->lock);
	free(sink->flights);
	free(sink);
}

static int rabbitmq_open(const struct settings *settings, void **state, struct err *err)
{
	struct rabbitmq *sink = mem_zalloc(sizeof(*sink));
	const struct amqp_publisher_options options = { "feed-worker relay.rabbitmq", declare, sink, WINDOW, (size_t)settings->relay.batch };

	relay_init(&sink->relay, settings, "rabbitmq");
	pthread_mutex_init(&sink->lock, NULL);
	pthread_cond_init(&sink->reported, NULL);
	sink->exchange = settings->sink.exchange;
	sink->flights = mem_array((size_t)settings->relay.batch, sizeof(*sink->flights));
	sink->unroutable = metric_counter("feedmill_relay_unroutable_total", NULL, "Product events that no queue of RabbitMQ was bound for.");
	if (amqp_publisher_open(settings, &options, &sink->publisher, err) < 0) {
		rabbitmq_close(sink);
		return -1;
	}
	*state = sink;
	return 0;
}

static int rabbitmq_check(void *state, struct err *err)
{
	struct rabbitmq *sink = state;
	const int64_t deadline_ms = clock_mono_ms() + CONNECT_MS;
	const struct timespec nap = { 0, 20 * 1000000 };

	while (amqp_publisher_ready(sink->publisher, err) < 0) {
		if (clock_mono_ms() >= deadline_ms)
			return -1;
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* ---- reports, on the publisher's thread */

static void on_sent(void *arg, enum amqp_sent sent, const char *why)
{
	struct flight *flight = arg;
	struct rabbitmq *sink = flight->owner;

	FAULT_POINT("relay.confirmed");
	pthread_mutex_lock(&sink->lock);
	flight->is_stored = sent == AMQP_SENT_STORED || sent == AMQP_SENT_UNROUTABLE;
	if (sent == AMQP_SENT_UNFIT)
		snprintf(sink->unfit, sizeof(sink->unfit), "%s", why);
	else if (!flight->is_stored && sink->why[0] == '\0')
		snprintf(sink->why, sizeof(sink->why), "%s", why);
	if (sent == AMQP_SENT_UNROUTABLE)
		metric_add(sink->unroutable, 1);
	sink->pending--;
	pthread_cond_signal(&sink->reported);
	pthread_mutex_unlock(&sink->lock);
}

/* ---- messages */

/* The CloudEvents binding for AMQP: attributes "ce_x" of Kafka are headers "cloudEvents:x" here. */
#define CE "ce_"
#define ATTRIBUTE_MAX 64

static size_t add_attributes(const struct record *record, struct amqp_field *fields, char (*names)[ATTRIBUTE_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < record->header_count; i++) {
		const struct record_header *header = &record->headers[i];

		if (header->value.data == NULL)
			continue;
		if (strncmp(header->name, CE, strlen(CE)) == 0 && strlen(header->name) < ATTRIBUTE_MAX - 12)
			snprintf(names[count], ATTRIBUTE_MAX, "cloudEvents:%s", header->name + strlen(CE));
		else if (strcmp(header->name, HEADER_TRACE) == 0)
			snprintf(names[count], ATTRIBUTE_MAX, "%s", header->name);
		else
			continue;
		fields[count] = amqp_text(names[count], header->value);
		count++;
	}
	return count;
}

static int send_event(struct rabbitmq *sink, const struct relay_event *event, struct flight *flight, struct err *err)
{
	struct amqp_field fields[RECORD_HEADERS];
	char names[RECORD_HEADERS][ATTRIBUTE_MAX];
	const struct slice content_type = record_header_get(event->record, "content-type");
	const struct slice time = record_header_get(event->record, "ce_time");
	int64_t wall_ms = event->record->timestamp_ms;
	struct amqp_message message = {
		.exchange = sink->exchange,
		.routing_key = event->routing_key,
		.properties = {
			.content_type = content_type.data != NULL && content_type.len <= 255 ? content_type : slice_of("application/json"),
			.message_id = event->id,
			.app_id = slice_of("feedmill"),
			.delivery_mode = 2,
			.headers = { fields, add_attributes(event->record, fields, names) },
		},
		.body = event->value,
		.mandatory = true,
	};

	if (time.data != NULL)
		(void)clock_parse_rfc3339(time, &wall_ms);
	message.properties.timestamp_s = wall_ms / 1000;
	return amqp_publisher_send(sink->publisher, &message, CONFIRM_MS, on_sent, flight, err);
}

/* ---- a wave: events of different products */

/* What is down comes first: an event that does not fit is found among those that are left when it is up again. */
static int wait_reports(struct rabbitmq *sink, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&sink->lock);
	while (sink->pending > 0)
		pthread_cond_wait(&sink->reported, &sink->lock); /* each is reported, when its time is up at the latest */
	if (sink->why[0] != '\0')
		rc = err_set(err, ERR_UNAVAILABLE, "%s", sink->why);
	else if (sink->unfit[0] != '\0')
		rc = err_set(err, ERR_INVALID, "%s", sink->unfit);
	pthread_mutex_unlock(&sink->lock);
	return rc;
}

static int send_wave(struct rabbitmq *sink, const struct relay_event *events, size_t count, struct err *err)
{
	int rc = 0;
	size_t sent;

	sink->why[0] = sink->unfit[0] = '\0';
	for (sent = 0; sent < count && rc == 0; sent++) {
		sink->flights[sent] = (struct flight){ sink, false };
		pthread_mutex_lock(&sink->lock);
		sink->pending++;
		pthread_mutex_unlock(&sink->lock);
		rc = send_event(sink, &events[sent], &sink->flights[sent], err);
		if (rc < 0) {
			pthread_mutex_lock(&sink->lock);
			sink->pending--;
			pthread_mutex_unlock(&sink->lock);
		}
	}
	FAULT_POINT("relay.published");
	if (wait_reports(sink, err) < 0)
		rc = -1;
	for (size_t e = 0; e < sent; e++)
		if (sink->flights[e].is_stored)
			relay_done(&sink->relay, &events[e]); /* the others come again without them */
	return rc;
}

static int rabbitmq_handle(void *state, struct batch *batch, struct err *err)
{
	struct rabbitmq *sink = state;
	size_t wave;

	relay_take(&sink->relay, batch);
	for (size_t e = 0; e < sink->relay.count; e += wave) {
		wave = relay_wave(&sink->relay, e);
		if (send_wave(sink, &sink->relay.events[e], wave, err) < 0)
			return -1;
	}
	return 0;
}

const struct worker_ops relay_rabbitmq_sink = {
	.settings = relay_settings,
	.open = rabbitmq_open,
	.dependency = "rabbitmq",
	.check = rabbitmq_check,
	.handle = rabbitmq_handle,
	.close = rabbitmq_close,
	.is_on = rabbitmq_is_on,
};
