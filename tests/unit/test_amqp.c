/* amqp against a real RabbitMQ (AMQP_URL in the environment; `source .stack/env`), and against servers that are none. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/queue/amqp.h"
#include "common/queue/amqp_publisher.h"

#define PATIENCE_MS 30000

static struct settings settings_for(const char *url)
{
	struct settings settings = { 0 };

	settings.amqp.url = (char *)url;
	settings.amqp.ca_file = (char *)"";
	settings.amqp.heartbeat_s = 20;
	settings.amqp.connect_timeout_ms = 5000;
	settings.amqp.answer_timeout_ms = 10000;
	return settings;
}

static struct amqp *connect_real(void)
{
	const struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = NULL;
	struct err err = ERR_INIT;

	if (getenv("AMQP_URL") == NULL)
		skip();
	if (amqp_open(&settings, "unit test", &amqp, &err) < 0)
		fail_msg("%s", err.message);
	return amqp;
}

static void make_queue(struct amqp *amqp, char *name)
{
	char id[UUID_TEXT];
	struct err err = ERR_INIT;

	uuid_v7(id);
	snprintf(name, 64, "unit.%s", id);
	assert_int_equal(0, amqp_declare_queue(amqp, name, AMQP_EXCLUSIVE | AMQP_AUTO_DELETE, AMQP_NO_TABLE, NULL, &err));
}

static struct amqp_event next(struct amqp *amqp)
{
	struct amqp_event event;
	struct err err = ERR_INIT;

	if (amqp_next(amqp, PATIENCE_MS, &event, &err) < 0)
		fail_msg("%s", err.message);
	return event;
}

static void put(struct amqp *amqp, const char *queue, const char *body)
{
	const struct amqp_message message = { .exchange = "", .routing_key = queue, .body = slice_of(body) };
	struct err err = ERR_INIT;

	assert_int_equal(0, amqp_publish(amqp, &message, NULL, &err));
}

static void message_comes_as_it_was_sent(void **state)
{
	const struct amqp_field inner[] = { amqp_int("n", -5), amqp_null("nothing") };
	const struct amqp_field list[] = { amqp_text(NULL, slice_of("one")), { NULL, { .type = AMQP_VALUE_TABLE, .items = AMQP_TABLE(inner) } } };
	const struct amqp_field headers[] = {
		amqp_text("word", slice_of("\xc3\xa4")),
		amqp_int("large", INT64_C(1) << 60),
		amqp_bool("yes", true),
		{ "real", { .type = AMQP_VALUE_FLOAT, .real = 0.5 } },
		{ "when", { .type = AMQP_VALUE_TIME, .number = 1700000000 } },
		{ "list", { .type = AMQP_VALUE_ARRAY, .items = AMQP_TABLE(list) } },
	};
	struct amqp *amqp = connect_real();
	struct amqp_message message = { .exchange = "", .body = { "a\0b", 3 } };
	struct amqp_delivery *in = NULL;
	struct err err = ERR_INIT;
	char queue[64];

	(void)state;
	make_queue(amqp, queue);
	message.routing_key = queue;
	message.properties = (struct amqp_properties){ .content_type = slice_of("text/x"), .message_id = slice_of("id-1"), .delivery_mode = 2,
		.has_priority = true, .priority = 3, .timestamp_s = 1700000001, .headers = AMQP_TABLE(headers) };
	assert_int_equal(0, amqp_publish(amqp, &message, NULL, &err));
	while (in == NULL)
		assert_int_equal(0, amqp_get(amqp, queue, false, &in, &err));
	assert_true(slice_equal(message.body, in->body));
	assert_true(slice_is(in->routing_key, queue));
	assert_true(slice_is(in->properties.content_type, "text/x"));
	assert_true(slice_is(in->properties.message_id, "id-1"));
	assert_null(in->properties.reply_to.data);
	assert_int_equal(2, in->properties.delivery_mode);
	assert_true(in->properties.has_priority);
	assert_int_equal(3, in->properties.priority);
	assert_int_equal(1700000001, in->properties.timestamp_s);
	assert_int_equal(6, in->properties.headers.count);
	assert_true(slice_is(amqp_table_value(&in->properties.headers, "word")->text, "\xc3\xa4"));
	assert_true(amqp_table_value(&in->properties.headers, "large")->number == INT64_C(1) << 60);
	assert_true(amqp_table_value(&in->properties.headers, "yes")->truth);
	assert_true(amqp_table_value(&in->properties.headers, "real")->real == 0.5);
	assert_int_equal(AMQP_VALUE_TIME, amqp_table_value(&in->properties.headers, "when")->type);
	assert_int_equal(2, amqp_table_value(&in->properties.headers, "list")->items.count);
	assert_int_equal(-5, amqp_table_value(&amqp_table_value(&in->properties.headers, "list")->items.fields[1].value.items, "n")->number);
	assert_null(amqp_table_value(&in->properties.headers, "other"));
	amqp_delivery_free(in);
	amqp_close(amqp);
}

static void large_body_comes_whole_among_deliveries(void **state)
{
	struct amqp *amqp = connect_real();
	const size_t size = 1 << 20;
	char *body = calloc(1, size + 1);
	struct amqp_delivery *in = NULL;
	struct amqp_event event;
	struct err err = ERR_INIT;
	char consumed[64], polled[64];

	(void)state;
	memset(body, 'x', size);
	make_queue(amqp, consumed);
	make_queue(amqp, polled);
	assert_int_equal(0, amqp_consume(amqp, consumed, "tag", 0, 10, AMQP_NO_TABLE, &err));
	for (int i = 0; i < 5; i++)
		put(amqp, consumed, body);
	put(amqp, polled, body);
	while (in == NULL)
		assert_int_equal(0, amqp_get(amqp, polled, true, &in, &err));
	assert_int_equal(size, in->body.len);
	amqp_delivery_free(in);
	for (int i = 0; i < 5; i++) {
		event = next(amqp);
		assert_int_equal(AMQP_EVENT_DELIVERY, event.type);
		assert_int_equal(size, event.delivery->body.len);
		assert_true(slice_is(event.delivery->consumer, "tag"));
		assert_int_equal(0, amqp_ack(amqp, event.delivery->generation, event.delivery->tag, false, &err));
		amqp_delivery_free(event.delivery);
	}
	free(body);
	amqp_close(amqp);
}

static void unroutable_message_returns_and_is_confirmed(void **state)
{
	struct amqp *amqp = connect_real();
	const struct amqp_message message = { .exchange = "", .routing_key = "no such queue", .mandatory = true, .body = slice_of("lost"),
		.properties = { .message_id = slice_of("id-2") } };
	struct amqp_event event;
	struct err err = ERR_INIT;
	uint64_t sequence;

	(void)state;
	assert_int_equal(0, amqp_confirm_publishes(amqp, &err));
	assert_int_equal(0, amqp_publish(amqp, &message, &sequence, &err));
	assert_int_equal(1, sequence);
	event = next(amqp);
	assert_int_equal(AMQP_EVENT_RETURNED, event.type);
	assert_int_equal(312, event.code);
	assert_true(slice_is(event.delivery->properties.message_id, "id-2"));
	assert_true(slice_is(event.delivery->body, "lost"));
	amqp_delivery_free(event.delivery);
	event = next(amqp);
	assert_int_equal(AMQP_EVENT_CONFIRMED, event.type);
	assert_true(event.is_ack);
	assert_int_equal(1, event.sequence);
	amqp_close(amqp);
}

static void wrong_declaration_loses_the_connection_and_nothing_else(void **state)
{
	struct amqp *amqp = connect_real();
	struct amqp_event event;
	struct amqp_delivery *in;
	struct err err = ERR_INIT;
	char queue[64];
	uint32_t count;

	(void)state;
	make_queue(amqp, queue);
	assert_int_equal(-1, amqp_declare_queue(amqp, "unit.never made", AMQP_PASSIVE, AMQP_NO_TABLE, NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_non_null(strstr(err.message, "404 NOT_FOUND"));
	assert_false(amqp_is_open(amqp));
	/* In every order. */
	assert_int_equal(-1, amqp_next(amqp, 10, &event, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_non_null(strstr(err.message, "404 NOT_FOUND"));
	assert_int_equal(-1, amqp_consume(amqp, queue, "tag", 0, 1, AMQP_NO_TABLE, &err));
	assert_int_equal(-1, amqp_get(amqp, queue, false, &in, &err));
	assert_int_equal(-1, amqp_confirm_publishes(amqp, &err));
	assert_int_equal(-1, amqp_ack(amqp, amqp_generation(amqp), 1, false, &err));
	assert_int_equal(-1, amqp_purge_queue(amqp, queue, &count, &err));
	assert_int_equal(-1, amqp_cancel(amqp, "tag", &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	amqp_close(amqp);
}

static void publish_to_a_missing_exchange_is_told(void **state)
{
	struct amqp *amqp = connect_real();
	const struct amqp_message message = { .exchange = "unit.no such exchange", .routing_key = "x" };
	struct amqp_event event;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, amqp_publish(amqp, &message, NULL, &err));
	assert_int_equal(-1, amqp_next(amqp, PATIENCE_MS, &event, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_non_null(strstr(err.message, "404 NOT_FOUND"));
	amqp_close(amqp);
}

static void deleted_queue_cancels_its_consumer(void **state)
{
	struct amqp *consumer = connect_real();
	struct amqp *other = connect_real();
	struct amqp_event event;
	struct err err = ERR_INIT;
	char name[64];

	(void)state;
	make_queue(other, name); /* exclusive: another one is made for both */
	snprintf(name + strlen(name), 8, ".both");
	assert_int_equal(0, amqp_declare_queue(other, name, AMQP_AUTO_DELETE, AMQP_NO_TABLE, NULL, &err));
	assert_int_equal(0, amqp_consume(consumer, name, "mine", 0, 1, AMQP_NO_TABLE, &err));
	assert_int_equal(0, amqp_delete_queue(other, name, &err));
	event = next(consumer);
	assert_int_equal(AMQP_EVENT_CANCELLED, event.type);
	assert_string_equal("mine", event.consumer);
	assert_true(amqp_is_open(consumer));
	amqp_close(other);
	amqp_close(consumer);
}

static void prefetch_holds_for_each_consumer(void **state)
{
	struct amqp *amqp = connect_real();
	struct amqp_event event;
	struct err err = ERR_INIT;
	char one[64], two[64];
	int came = 0;

	(void)state;
	make_queue(amqp, one);
	make_queue(amqp, two);
	for (int i = 0; i < 5; i++) {
		put(amqp, one, "m");
		put(amqp, two, "m");
	}
	assert_int_equal(0, amqp_consume(amqp, one, "one", 0, 1, AMQP_NO_TABLE, &err));
	assert_int_equal(0, amqp_consume(amqp, two, "two", 0, 3, AMQP_NO_TABLE, &err));
	while (came < 4) {
		event = next(amqp);
		assert_int_equal(AMQP_EVENT_DELIVERY, event.type);
		amqp_delivery_free(event.delivery);
		came++;
	}
	/* The answer to a call comes behind what was delivered before it: nothing more may be there. */
	assert_int_equal(0, amqp_declare_queue(amqp, one, AMQP_PASSIVE, AMQP_NO_TABLE, NULL, &err));
	assert_int_equal(0, amqp_next(amqp, 0, &event, &err));
	assert_int_equal(AMQP_EVENT_NONE, event.type);
	amqp_close(amqp);
}

static void tag_of_an_earlier_connection_is_refused(void **state)
{
	struct amqp *first = connect_real();
	struct amqp *second;
	struct err err = ERR_INIT;
	const uint64_t old = amqp_generation(first);

	(void)state;
	amqp_close(first);
	second = connect_real();
	assert_int_equal(-1, amqp_ack(second, old, 1, false, &err));
	assert_int_equal(ERR_CONFLICT, err.kind);
	assert_int_equal(-1, amqp_nack(second, old, 1, false, true, &err));
	assert_int_equal(ERR_CONFLICT, err.kind);
	assert_true(amqp_is_open(second));
	assert_int_equal(0, amqp_declare_queue(second, "", AMQP_EXCLUSIVE, AMQP_NO_TABLE, NULL, &err));
	amqp_close(second);
}

static void purge_and_server_named_queues(void **state)
{
	struct amqp *amqp = connect_real();
	struct amqp_queue_state queue;
	struct err err = ERR_INIT;
	uint32_t count = 0;

	(void)state;
	assert_int_equal(0, amqp_declare_queue(amqp, "", AMQP_EXCLUSIVE, AMQP_NO_TABLE, &queue, &err));
	assert_true(strlen(queue.name) > 0);
	assert_int_equal(0, amqp_confirm_publishes(amqp, &err));
	put(amqp, queue.name, "1");
	assert_int_equal(AMQP_EVENT_CONFIRMED, next(amqp).type);
	assert_int_equal(0, amqp_purge_queue(amqp, queue.name, &count, &err));
	assert_int_equal(1, count);
	amqp_close(amqp);
}

static void names_and_texts_that_are_too_long_are_refused_before_they_are_sent(void **state)
{
	struct amqp *amqp = connect_real();
	char name[300];
	struct amqp_message message = { .exchange = "", .routing_key = name };
	struct err err = ERR_INIT;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(-1, amqp_publish(amqp, &message, NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	message = (struct amqp_message){ .exchange = "", .routing_key = "k", .properties = { .message_id = slice_of(name) } };
	assert_int_equal(-1, amqp_publish(amqp, &message, NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_true(amqp_is_open(amqp));
	amqp_close(amqp);
}

static void headers_that_do_not_fit_are_refused_before_they_are_sent(void **state)
{
	struct amqp *amqp = connect_real();
	static char text[AMQP_PROPERTIES_MAX];
	struct amqp_field fields[] = { amqp_text("x", (struct slice){ text, 0 }), amqp_int("n", 1), amqp_bool("b", true), amqp_null("z") };
	struct amqp_message message = { .exchange = "", .routing_key = "unit.nobody", .properties = { .headers = AMQP_TABLE(fields), .delivery_mode = 1 } };
	const size_t bare = amqp_properties_size(&message.properties);
	struct err err = ERR_INIT;

	(void)state;
	memset(text, 'x', sizeof(text));
	fields[0].value.text.len = AMQP_PROPERTIES_MAX - bare + 1;
	assert_int_equal(-1, amqp_publish(amqp, &message, NULL, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_true(amqp_is_open(amqp));
	fields[0].value.text.len--;
	assert_int_equal(0, amqp_confirm_publishes(amqp, &err));
	assert_int_equal(0, amqp_publish(amqp, &message, NULL, &err));
	assert_int_equal(AMQP_EVENT_CONFIRMED, next(amqp).type);
	amqp_close(amqp);
}

static void wrong_account_and_wrong_host_are_told(void **state)
{
	struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = NULL;
	struct err err = ERR_INIT;
	const char *at;
	char url[200];

	(void)state;
	if (settings.amqp.url == NULL)
		skip();
	at = strchr(settings.amqp.url, '@');
	snprintf(url, sizeof(url), "amqp://feed:wrong%s", at);
	settings.amqp.url = url;
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	assert_non_null(strstr(err.message, "403"));
	assert_null(strstr(err.message, "wrong@"));
	snprintf(url, sizeof(url), "amqp://feed:feed%s/nowhere", at);
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	settings.amqp.url = (char *)"http://127.0.0.1";
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	settings.amqp.url = (char *)"amqps://127.0.0.1";
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	assert_non_null(strstr(err.message, "amqp.ca_file"));
}

static void silent_server_is_given_up(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct settings settings;
	struct amqp *amqp = NULL;
	struct err err = ERR_INIT;
	char url[64];

	(void)state;
	assert_int_equal(0, bind(fd, (struct sockaddr *)&address, len));
	assert_int_equal(0, listen(fd, 1));
	assert_int_equal(0, getsockname(fd, (struct sockaddr *)&address, &len));
	snprintf(url, sizeof(url), "amqp://u:p@127.0.0.1:%d", ntohs(address.sin_port));
	settings = settings_for(url);
	settings.amqp.connect_timeout_ms = 300;
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
	close(fd);
	assert_int_equal(-1, amqp_open(&settings, "unit test", &amqp, &err));
	assert_int_equal(ERR_UNAVAILABLE, err.kind);
}

/* ---- the publisher */

struct reports {
	_Atomic int stored, unroutable, not, unknown, unfit;
};

static void count(void *arg, enum amqp_sent sent, const char *why)
{
	struct reports *reports = arg;
	_Atomic int *counts[] = { &reports->stored, &reports->unroutable, &reports->not, &reports->unknown, &reports->unfit };

	assert_true((why == NULL) == (sent == AMQP_SENT_STORED));
	(*counts[sent])++;
}

static int all_reports(const struct reports *reports)
{
	return reports->stored + reports->unroutable + reports->not + reports->unknown + reports->unfit;
}

static void wait_reports(const struct reports *reports, int wanted)
{
	const int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

	while (all_reports(reports) < wanted && clock_mono_ms() < deadline_ms)
		usleep(1000);
	assert_int_equal(wanted, all_reports(reports));
}

static struct amqp_publisher *open_publisher(const struct settings *settings, size_t window, size_t room)
{
	const struct amqp_publisher_options options = { .purpose = "unit test", .window = window, .room = room };
	struct amqp_publisher *publisher;
	struct err err = ERR_INIT;

	assert_int_equal(0, amqp_publisher_open(settings, &options, &publisher, &err));
	return publisher;
}

static void publisher_keeps_order_and_reports_each(void **state)
{
	const struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = connect_real();
	struct amqp_publisher *publisher = open_publisher(&settings, 50, 1000);
	struct reports reports = { 0 };
	struct amqp_event event;
	struct err err = ERR_INIT;
	char queue[64], body[16];

	(void)state;
	make_queue(amqp, queue);
	for (int i = 0; i < 1000; i++) {
		const struct amqp_message message = { .exchange = "", .routing_key = i % 10 == 3 ? "no such queue" : queue, .mandatory = true, .body = { body, 4 } };

		snprintf(body, sizeof(body), "%04d", i);
		assert_int_equal(0, amqp_publisher_send(publisher, &message, PATIENCE_MS, count, &reports, &err));
	}
	wait_reports(&reports, 1000);
	assert_int_equal(900, reports.stored);
	assert_int_equal(100, reports.unroutable);
	assert_int_equal(0, amqp_publisher_ready(publisher, &err));
	assert_int_equal(0, amqp_consume(amqp, queue, "tag", AMQP_NO_ACK, 100, AMQP_NO_TABLE, &err));
	for (int i = 0; i < 1000; i++) {
		if (i % 10 == 3)
			continue;
		event = next(amqp);
		snprintf(body, sizeof(body), "%04d", i);
		assert_true(slice_is(event.delivery->body, body));
		amqp_delivery_free(event.delivery);
	}
	amqp_publisher_close(publisher, 1000);
	amqp_close(amqp);
}

static void publisher_gives_up_in_time_and_is_bounded(void **state)
{
	const struct settings settings = settings_for("amqp://u:p@127.0.0.1:1");
	const struct amqp_message message = { .exchange = "", .routing_key = "q" };
	struct amqp_publisher *publisher = open_publisher(&settings, 10, 3);
	struct reports reports = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(0, amqp_publisher_send(publisher, &message, i < 2 ? 50 : 3600 * 1000, count, &reports, &err));
	assert_int_equal(-1, amqp_publisher_send(publisher, &message, 50, count, &reports, &err));
	assert_int_equal(ERR_FULL, err.kind);
	wait_reports(&reports, 2);
	assert_int_equal(2, reports.not);
	assert_int_equal(-1, amqp_publisher_ready(publisher, &err));
	amqp_publisher_close(publisher, 0); /* reports the third */
	assert_int_equal(3, reports.not);
}

/* Its room is free again when a message is reported, not some time later. */
static void publisher_has_room_for_who_was_told(void **state)
{
	const struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = connect_real();
	struct amqp_publisher *publisher = open_publisher(&settings, 1, 1);
	struct amqp_message message = { .exchange = "", .body = slice_of("x") };
	struct reports reports = { 0 };
	struct err err = ERR_INIT;
	char queue[64];

	(void)state;
	make_queue(amqp, queue);
	message.routing_key = queue;
	for (int i = 0; i < 2000; i++) {
		const int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

		assert_int_equal(0, amqp_publisher_send(publisher, &message, PATIENCE_MS, count, &reports, &err));
		while (reports.stored == i && clock_mono_ms() < deadline_ms)
			; /* a sleep would let the publisher's thread finish */
		assert_int_equal(i + 1, reports.stored);
	}
	amqp_publisher_close(publisher, 1000);
	amqp_close(amqp);
}

/* What can't be sent by any connection is told as that, and what is behind it goes. */
static void publisher_tells_what_never_fits(void **state)
{
	const struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = connect_real();
	struct amqp_publisher *publisher = open_publisher(&settings, 10, 100);
	char *text = mem_zalloc(AMQP_PROPERTIES_MAX + 1), queue[64];
	const struct amqp_field large = amqp_text("large", (struct slice){ text, AMQP_PROPERTIES_MAX });
	struct amqp_message message = { .exchange = "", .body = slice_of("x"), .properties = { .headers = { &large, 1 } } };
	struct reports bad = { 0 }, good = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	make_queue(amqp, queue);
	message.routing_key = queue;
	assert_int_equal(0, amqp_publisher_send(publisher, &message, PATIENCE_MS, count, &bad, &err));
	message.properties.headers = AMQP_NO_TABLE;
	assert_int_equal(0, amqp_publisher_send(publisher, &message, PATIENCE_MS, count, &good, &err));
	wait_reports(&bad, 1);
	assert_int_equal(1, bad.unfit);
	wait_reports(&good, 1);
	assert_int_equal(1, good.stored);
	amqp_publisher_close(publisher, 1000);
	amqp_close(amqp);
	free(text);
}

/* Publishing to an exchange that is not there ends the channel: what else was under way goes again. */
static void publisher_comes_back(void **state)
{
	const struct settings settings = settings_for(getenv("AMQP_URL"));
	struct amqp *amqp = connect_real();
	struct amqp_publisher *publisher = open_publisher(&settings, 10, 100);
	const struct amqp_message poison = { .exchange = "unit.no such exchange", .routing_key = "q" };
	struct amqp_message message = { .exchange = "", .body = slice_of("x") };
	struct reports bad = { 0 }, good = { 0 };
	struct err err = ERR_INIT;
	char queue[64];

	(void)state;
	make_queue(amqp, queue);
	message.routing_key = queue;
	for (int i = 0; i < 5; i++) {
		if (i == 2)
			assert_int_equal(0, amqp_publisher_send(publisher, &poison, 500, count, &bad, &err));
		assert_int_equal(0, amqp_publisher_send(publisher, &message, PATIENCE_MS, count, &good, &err));
	}
	wait_reports(&bad, 1);
	assert_int_equal(1, bad.unknown);
	wait_reports(&good, 5);
	assert_int_equal(5, good.stored);
	amqp_publisher_close(publisher, 1000);
	amqp_close(amqp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_comes_as_it_was_sent),
		cmocka_unit_test(large_body_comes_whole_among_deliveries),
		cmocka_unit_test(unroutable_message_returns_and_is_confirmed),
		cmocka_unit_test(wrong_declaration_loses_the_connection_and_nothing_else),
		cmocka_unit_test(publish_to_a_missing_exchange_is_told),
		cmocka_unit_test(deleted_queue_cancels_its_consumer),
		cmocka_unit_test(prefetch_holds_for_each_consumer),
		cmocka_unit_test(tag_of_an_earlier_connection_is_refused),
		cmocka_unit_test(purge_and_server_named_queues),
		cmocka_unit_test(names_and_texts_that_are_too_long_are_refused_before_they_are_sent),
		cmocka_unit_test(headers_that_do_not_fit_are_refused_before_they_are_sent),
		cmocka_unit_test(wrong_account_and_wrong_host_are_told),
		cmocka_unit_test(silent_server_is_given_up),
		cmocka_unit_test(publisher_keeps_order_and_reports_each),
		cmocka_unit_test(publisher_gives_up_in_time_and_is_bounded),
		cmocka_unit_test(publisher_has_room_for_who_was_told),
		cmocka_unit_test(publisher_tells_what_never_fits),
		cmocka_unit_test(publisher_comes_back),
	};

	return cmocka_run_group_tests_name("amqp", tests, NULL, NULL);
}
