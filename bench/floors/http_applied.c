/* POST bodies go in over HTTP and take the hops of an applied command: a record on Kafka, consumed, an INSERT of two rows committed with
 * all that came meanwhile, a record on Kafka for the result, consumed, answered. One process, four threads, no ids, no checks.
 *   PORT  KAFKA_BROKERS  TOPIC  PARTITIONS=1 (of it; another one every 16 ms)  RESULTS (one partition)  MYSQL_… (tables product, command)  BATCH=200 */
#include <microhttpd.h>
#include <pthread.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"
#include "bench/floors/sql.h"

#define BODY_MAX 4096

struct post {
	struct MHD_Connection *connection;
	int is_done;
	size_t len;
	char body[BODY_MAX]; /* behind 16 hexadecimal digits: where this struct is, so that the result finds it */
};

static rd_kafka_t *producer;
static rd_kafka_topic_t *commands, *results;
static struct MHD_Response *response;
static long batch, partition_count;

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char why[256];

	floor_want(rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK, name);
}

static rd_kafka_t *make(rd_kafka_type_t type)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char why[256];

	set(conf, "bootstrap.servers", floor_text("KAFKA_BROKERS", NULL));
	set(conf, "socket.nagle.disable", "true");
	if (type == RD_KAFKA_PRODUCER) {
		set(conf, "enable.idempotence", "true");
		set(conf, "linger.ms", "0");
	} else {
		set(conf, "group.id", "floor");
		set(conf, "fetch.wait.max.ms", "200");
		set(conf, "enable.auto.commit", "false");
	}
	rk = rd_kafka_new(type, conf, why, sizeof(why));
	floor_want(rk != NULL, why);
	return rk;
}

static rd_kafka_t *subscribe(const char *topic, long partitions)
{
	rd_kafka_t *consumer = make(RD_KAFKA_CONSUMER);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)partitions);

	rd_kafka_poll_set_consumer(consumer);
	for (long p = 0; p < partitions; p++)
		rd_kafka_topic_partition_list_add(list, topic, (int32_t)p)->offset = RD_KAFKA_OFFSET_END;
	floor_want(rd_kafka_assign(consumer, list) == 0, "assign");
	rd_kafka_topic_partition_list_destroy(list);
	return consumer;
}

static void send_to(rd_kafka_topic_t *topic, long partition, const char *data, size_t len)
{
	floor_want(rd_kafka_produce(topic, (int32_t)partition, RD_KAFKA_MSG_F_COPY, (void *)data, len, NULL, 0, NULL) == 0, "produce");
}

static void *poll_reports(void *arg)
{
	for (;;)
		rd_kafka_poll(producer, 1000);
	return arg;
}

/* Both rows of each command, one transaction for all. */
static void apply(MYSQL *link, rd_kafka_message_t **messages, long count)
{
	static char products[65536 * 4], ledger[65536 * 8];
	static long id;
	char *p = products + sprintf(products, "INSERT INTO product (id, name, price) VALUES ");
	char *l = ledger + sprintf(ledger, "INSERT INTO command (id, type, entity_id, outcome, body) VALUES ");

	for (long i = 0; i < count; i++) {
		const char *comma = i > 0 ? "," : "";

		id++;
		p += sprintf(p, "%s(%ld,'a product',12.5)", comma, id);
		l += sprintf(l, "%s('%036ld','product.create',%ld,'done','{\"id\":%ld,\"name\":\"a product\",\"price\":12.5}')", comma, id, id, id);
	}
	sql_run(link, products, (size_t)(p - products));
	sql_run(link, ledger, (size_t)(l - ledger));
	sql_run(link, "COMMIT", 0);
	for (long i = 0; i < count; i++) {
		send_to(results, 0, messages[i]->payload, 16);
		rd_kafka_message_destroy(messages[i]);
	}
}

static void *work(void *arg)
{
	rd_kafka_t *consumer = subscribe(floor_text("TOPIC", NULL), partition_count);
	rd_kafka_message_t **messages = calloc((size_t)batch, sizeof(*messages));
	MYSQL *link = sql_connect();

	for (;;) {
		long count = 0;
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 1000);

		for (; message != NULL; message = count < batch ? rd_kafka_consumer_poll(consumer, 0) : NULL) {
			if (message->err == 0)
				messages[count++] = message;
			else
				rd_kafka_message_destroy(message);
		}
		if (count > 0)
			apply(link, messages, count);
	}
	return arg;
}

static void *answer(void *arg)
{
	rd_kafka_t *consumer = subscribe(floor_text("RESULTS", NULL), 1);

	for (;;) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 1000);

		if (message != NULL && message->err == 0) {
			char digits[17] = "";
			struct post *post;

			memcpy(digits, message->payload, 16);
			post = (struct post *)strtoull(digits, NULL, 16);
			post->is_done = 1;
			MHD_resume_connection(post->connection);
		}
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
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
		post->is_done = 0;
		post->len = (size_t)sprintf(post->body, "%016llx", (unsigned long long)(uintptr_t)post);
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
	if (post->is_done)
		return MHD_queue_response(connection, MHD_HTTP_OK, response);
	MHD_suspend_connection(connection);
	send_to(commands, (long)(floor_now() / 0.016) % partition_count, post->body, post->len);
	return MHD_YES;
}

static void on_end(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	(void)arg, (void)connection, (void)code;
	free(*state);
	*state = NULL;
}

int main(int argc, char **argv)
{
	static char text[] = "{\"id\":123456789012345,\"name\":\"a product\",\"price\":12.5}";
	void *(*const bodies[])(void *) = { poll_reports, work, answer };
	struct MHD_Daemon *daemon;
	pthread_t thread;
	sigset_t stop;
	int signal_number;

	floor_options(argc, argv);
	batch = floor_number("BATCH", 200);
	partition_count = floor_number("PARTITIONS", 1);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);
	producer = make(RD_KAFKA_PRODUCER);
	commands = rd_kafka_topic_new(producer, floor_text("TOPIC", NULL), NULL);
	results = rd_kafka_topic_new(producer, floor_text("RESULTS", NULL), NULL);
	response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
	MHD_add_response_header(response, "Content-Type", "application/json");
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		pthread_create(&thread, NULL, bodies[i], NULL);
	daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)floor_number("PORT", 3000), NULL, NULL, on_request,
		NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_CONNECTION_LIMIT, 4000u, MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u, MHD_OPTION_END);
	floor_want(daemon != NULL, "listen");
	floor_keep_going(MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	floor_report("ready", 1);
	sigwait(&stop, &signal_number);
	_Exit(0);
}
