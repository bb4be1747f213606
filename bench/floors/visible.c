/* Posts go out at a constant rate, each at its own time whatever became of those before it; how long each takes from that time until
 * it is in a friend's inbound comes out. MODE=http posts to a service; MODE=floor does what must be done in any case: a record
 * produced, consumed, its rows inserted and committed.
 *   RATE=200  SECONDS=10  WARM_UP=2 (seconds that do not count)  SENDERS=64  AUTHORS=1000  WATCH=1 (the friend, of every author)
 *   MYSQL_…  SEEN="SELECT subject … ORDER BY … DESC LIMIT" (the newest of the friend's inbound; a number follows)
 *   http: PORT  BYTES=190      floor: KAFKA_BROKERS  TOPIC  PARTITIONS=1  FRIENDS=20 */
#include <arpa/inet.h>
#include <librdkafka/rdkafka.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/floors/floor.h"
#include "bench/floors/sql.h"

#define NEAR 100         /* a look sees so many rows more than posts are under way; a wide look sees all, and takes its time */
#define LOOK_EVERY 0.002 /* seconds */
#define WIDE_EVERY 5.0
#define PATIENCE 60.0   /* seconds for what is still missing at the end */

static double began, rate;
static long posts, authors, watch;
static atomic_long next_post;
static _Atomic double *seen; /* when, by post; 0: not yet */
static double *answered;
static char story[65536];

static double due(long post)
{
	return began + (double)post / rate;
}

/* ---- by HTTP */

static int dial(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)floor_number("PORT", 3000)) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	floor_want(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void read_answer(int fd)
{
	char answer[65536];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, answer + len, sizeof(answer) - 1 - len);
		const char *end, *size;

		floor_want(n > 0, "an answer");
		len += (size_t)n;
		answer[len] = '\0';
		end = strstr(answer, "\r\n\r\n");
		if (end == NULL)
			continue;
		floor_want(strncmp(answer, "HTTP/1.1 20", 11) == 0, answer);
		size = strcasestr(answer, "\r\ncontent-length:");
		floor_want(size != NULL, "Content-Length");
		if (len >= (size_t)(end + 4 - answer) + strtoul(size + 17, NULL, 10))
			return;
	}
}

static void post_http(int fd, long post)
{
	char body[70000], head[256];
	const long author = post % authors + 2;
	const int size = snprintf(body, sizeof(body), "{\"from\":\"/participant/%ld\",\"occurred\":\"2026-01-31T12:00:00Z\",\"subject\":\"v%ld\",\"story\":\"%s\"}", author, post, story);
	const int len = snprintf(head, sizeof(head), "POST /participant/%ld/outbound HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", author, size);

	memmove(body + len, body, (size_t)size);
	memcpy(body, head, (size_t)len);
	floor_want(write(fd, body, (size_t)(len + size)) == len + size, "write");
	read_answer(fd);
}

/* ---- by hand */

static rd_kafka_t *producer, *consumer;
static rd_kafka_topic_t *topic;
static long friends, partitions;

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
		set(conf, "enable.auto.commit", "false");
	}
	rk = rd_kafka_new(type, conf, why, sizeof(why));
	floor_want(rk != NULL, why);
	return rk;
}

static void open_floor(void)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)partitions);

	friends = floor_number("FRIENDS", 20);
	producer = make(RD_KAFKA_PRODUCER);
	topic = rd_kafka_topic_new(producer, floor_text("TOPIC", NULL), NULL);
	consumer = make(RD_KAFKA_CONSUMER);
	rd_kafka_poll_set_consumer(consumer);
	for (long p = 0; p < partitions; p++)
		rd_kafka_topic_partition_list_add(list, floor_text("TOPIC", NULL), (int32_t)p)->offset = RD_KAFKA_OFFSET_END;
	floor_want(rd_kafka_assign(consumer, list) == 0, "assign");
	rd_kafka_topic_partition_list_destroy(list);
}

static void insert(MYSQL *link, const long *batch, size_t count)
{
	static char rows[8 << 20], outbound[16 << 20];
	char *r = rows + sprintf(rows, "INSERT INTO inbound (participant_id, post_id, from_id) VALUES ");
	char *o = outbound + sprintf(outbound, "INSERT INTO outbound (id, participant_id, posted_at, subject, story, chunks) VALUES ");

	for (size_t i = 0; i < count; i++) {
		const long post = batch[i], author = post % authors + 2;

		o += sprintf(o, "%s(%ld,%ld,'2026-01-31 12:00:00','v%ld','%s',0)", i > 0 ? "," : "", post + 1, author, post, story);
		for (long f = 0; f < friends; f++)
			r += sprintf(r, "%s(%ld,%ld,%ld)", i + (size_t)f > 0 ? "," : "", f == 0 ? watch : (author + f) % authors + 2, post + 1, author);
	}
	sql_run(link, outbound, (size_t)(o - outbound));
	sql_run(link, rows, (size_t)(r - rows));
	sql_run(link, "COMMIT", 0);
}

static void *fan_out(void *arg)
{
	MYSQL *link = sql_connect();
	long batch[100];

	for (;;) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 1000);
		size_t count = 0;

		while (message != NULL) {
			if (message->err == 0)
				batch[count++] = *(long *)message->payload;
			rd_kafka_message_destroy(message);
			message = count < sizeof(batch) / sizeof(batch[0]) ? rd_kafka_consumer_poll(consumer, 0) : NULL;
		}
		if (count > 0)
			insert(link, batch, count);
	}
	return arg;
}

static void *poll_reports(void *arg)
{
	for (;;)
		rd_kafka_poll(producer, 1000);
	return arg;
}

static void post_floor(int fd, long post)
{
	(void)fd;
	floor_want(rd_kafka_produce(topic, (int32_t)(post % partitions), RD_KAFKA_MSG_F_COPY, &post, sizeof(post), NULL, 0, NULL) == 0, "produce");
}

/* ---- both */

static void *send_all(void *arg)
{
	const int is_http = arg != NULL;
	const int fd = is_http ? dial() : -1;

	for (long post; (post = atomic_fetch_add(&next_post, 1)) < posts;) {
		floor_sleep_until(due(post));
		(is_http ? post_http : post_floor)(fd, post);
		answered[post] = floor_now() - due(post);
	}
	return NULL;
}

static long look(MYSQL *link, long limit)
{
	char text[1024];
	const int len = snprintf(text, sizeof(text), "%s %ld", floor_text("SEEN", NULL), limit);
	MYSQL_RES *result;
	MYSQL_ROW row;
	double now;
	long fresh = 0;

	floor_want(mysql_real_query(link, text, (unsigned long)len) == 0, mysql_error(link));
	result = mysql_store_result(link);
	floor_want(result != NULL, mysql_error(link));
	now = floor_now();
	while ((row = mysql_fetch_row(result)) != NULL) {
		const long post = row[0][0] == 'v' ? strtol(row[0] + 1, NULL, 10) : posts;

		if (post < posts && seen[post] == 0) {
			seen[post] = now;
			fresh++;
		}
	}
	mysql_free_result(result);
	return fresh;
}

static long watch_inbound(void)
{
	MYSQL *link = sql_connect();
	double wide = floor_now(), end = due(posts) + PATIENCE;
	long count = 0;

	mysql_autocommit(link, 1);
	while (count < posts && floor_now() < end) {
		const double now = floor_now();
		const int is_wide = now - wide > WIDE_EVERY;
		const long sent = atomic_load(&next_post);

		wide = is_wide ? now : wide;
		count += look(link, is_wide ? posts : (sent < posts ? sent : posts) - count + NEAR);
		floor_sleep_until(now + LOOK_EVERY);
	}
	return posts - count;
}

static void report(long from, long missing)
{
	double *latencies = calloc((size_t)posts, sizeof(*latencies));
	size_t count = 0;

	for (long post = from; post < posts; post++)
		if (seen[post] > 0)
			latencies[count++] = (seen[post] - due(post)) * 1e3;
	floor_report("missing", (double)missing);
	floor_report("visible_p50_ms", floor_quantile(latencies, count, 0.5));
	floor_report("visible_p99_ms", floor_quantile(latencies, count, 0.99));
	floor_report("visible_max_ms", floor_quantile(latencies, count, 1));
	count = 0;
	for (long post = from; post < posts; post++)
		latencies[count++] = answered[post] * 1e3;
	floor_report("answer_p50_ms", floor_quantile(latencies, count, 0.5));
	floor_report("answer_p99_ms", floor_quantile(latencies, count, 0.99));
	free(latencies);
}

int main(int argc, char **argv)
{
	static const int http = 1;
	pthread_t thread;
	long senders, warm_up, missing;
	int is_http;

	floor_options(argc, argv);
	is_http = strcmp(floor_text("MODE", "http"), "http") == 0;
	rate = (double)floor_number("RATE", 200);
	warm_up = (long)(rate * (double)floor_number("WARM_UP", 2));
	posts = warm_up + (long)(rate * (double)floor_number("SECONDS", 10));
	authors = floor_number("AUTHORS", 1000);
	partitions = floor_number("PARTITIONS", 1);
	watch = floor_number("WATCH", 1);
	seen = calloc((size_t)posts, sizeof(*seen));
	answered = calloc((size_t)posts, sizeof(*answered));
	floor_story(story, (size_t)floor_number("BYTES", 190), 7);
	if (!is_http) {
		open_floor();
		pthread_create(&thread, NULL, fan_out, NULL);
		pthread_create(&thread, NULL, poll_reports, NULL);
		sleep(2); /* the consumer finds the end of its partition */
	}
	began = floor_now() + 0.2;
	senders = is_http ? floor_number("SENDERS", 64) : 1;
	for (long i = 0; i < senders; i++)
		pthread_create(&thread, NULL, send_all, is_http ? (void *)&http : NULL);
	missing = watch_inbound();
	report(warm_up, missing);
	_Exit(missing == 0 ? 0 : 1);
}
