/* POST bodies go in over HTTP, each becomes a record on Kafka; the answer comes after the delivery report. libmicrohttpd and
 * librdkafka, nothing else: no JSON, no routing, no validation, no ids.
 *   PORT  KAFKA_BROKERS  TOPIC  LINGER_MS=0  THREADS=1  */
#include <microhttpd.h>
#include <pthread.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"

#define BODY_MAX 65536

struct post {
	struct MHD_Connection *connection;
	size_t len;
	int is_stored;
	char body[BODY_MAX];
};

static rd_kafka_t *kafka;
static rd_kafka_topic_t *topic;
static struct MHD_Response *answer;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *arg)
{
	struct post *post = message->_private;

	(void)rk, (void)arg;
	floor_want(message->err == 0, "delivery");
	post->is_stored = 1;
	MHD_resume_connection(post->connection);
}

static void *poll_reports(void *arg)
{
	for (;;)
		rd_kafka_poll(kafka, 1000);
	return arg;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	const char *data, size_t *size, void **state)
{
	struct post *post = *state;

	(void)arg, (void)url, (void)method, (void)version;
	if (post == NULL) {
		post = malloc(sizeof(*post));
		post->connection = connection;
		post->len = 0;
		post->is_stored = 0;
		*state = post;
		return MHD_YES;
	}
	if (*size > 0) {
		floor_want(post->len + *size <= BODY_MAX, "body");
		memcpy(post->body + post->len, data, *size);
		post->len += *size;
		*size = 0;
		return MHD_YES;
	}
	if (post->is_stored)
		return MHD_queue_response(connection, MHD_HTTP_OK, answer);
	MHD_suspend_connection(connection);
	floor_want(rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, post->body, post->len, url, strlen(url), post) == 0, "produce");
	return MHD_YES;
}

static void on_end(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	(void)arg, (void)connection, (void)code;
	free(*state);
	*state = NULL;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char why[256];

	floor_want(rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK, name);
}

int main(int argc, char **argv)
{
	static char text[] = "{\"id\":123456789012345,\"from\":\"/participant/1\",\"to\":null,\"occurred\":\"2026-01-31\",\"subject\":\"a subject\",\"story\":\"a story\"}";
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	struct MHD_Daemon *daemon;
	pthread_t thread;
	sigset_t stop;
	char why[256];
	int signal_number;
	unsigned threads;

	floor_options(argc, argv);
	threads = (unsigned)floor_number("THREADS", 1);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);
	set(conf, "bootstrap.servers", floor_text("KAFKA_BROKERS", NULL));
	set(conf, "enable.idempotence", "true");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "socket.nagle.disable", "true");
	set(conf, "linger.ms", floor_text("LINGER_MS", "0"));
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	floor_want(kafka != NULL, why);
	topic = rd_kafka_topic_new(kafka, floor_text("TOPIC", NULL), NULL);
	answer = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
	MHD_add_response_header(answer, "Content-Type", "application/json");
	daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)floor_number("PORT", 3000), NULL, NULL, on_request,
		NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0, MHD_OPTION_CONNECTION_LIMIT, 4000u,
		MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u, MHD_OPTION_END);
	floor_want(daemon != NULL, "listen");
	floor_keep_going(MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	pthread_create(&thread, NULL, poll_reports, NULL);
	floor_report("ready", 1);
	sigwait(&stop, &signal_number);
	_Exit(0);
}
