/* amqp against a server that answers by a script: frames as RabbitMQ never sends them, and others may. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/queue/amqp.h"

#define PATIENCE_MS 30000
#define FRAME_MAX 131072 /* as it is agreed on below */
#define METHOD(class, method) ((uint32_t)(class) << 16 | (uint32_t)(method))

enum { FRAME_METHOD = 1, FRAME_HEADER = 2, FRAME_BODY = 3 };

/* What the server sends behind its answer to basic.consume. */
struct script {
	int listener;
	int port;
	struct buf frames;
	pthread_t thread;
};

/* ---- bytes */

static void put(struct buf *out, uint64_t number, int bytes)
{
	while (bytes-- > 0)
		buf_add_char(out, (char)(number >> (bytes * 8)));
}

static void put_short(struct buf *out, const char *text)
{
	put(out, strlen(text), 1);
	buf_add_str(out, text);
}

static void put_long(struct buf *out, const char *text)
{
	put(out, strlen(text), 4);
	buf_add_str(out, text);
}

static void put_frame(struct buf *out, int type, int channel, const struct buf *payload)
{
	put(out, (uint64_t)type, 1);
	put(out, (uint64_t)channel, 2);
	put(out, payload->len, 4);
	buf_add(out, payload->data, payload->len);
	put(out, 0xce, 1);
}

static void put_method(struct buf *out, uint32_t method, const struct buf *arguments)
{
	struct buf payload = BUF_INIT;

	put(&payload, method, 4);
	buf_add(&payload, arguments->data, arguments->len);
	put_frame(out, FRAME_METHOD, method >> 16 == 10 ? 0 : 1, &payload);
	buf_release(&payload);
}

static void put_body(struct buf *out, const char *bytes, size_t len)
{
	struct buf payload = BUF_INIT;

	buf_add(&payload, bytes, len);
	put_frame(out, FRAME_BODY, 1, &payload);
	buf_release(&payload);
}

/* basic.deliver and a header that promises so many bytes. */
static void put_delivery(struct buf *out, uint64_t tag, uint64_t size)
{
	struct buf deliver = BUF_INIT, header = BUF_INIT;

	put_short(&deliver, "tag");
	put(&deliver, tag, 8);
	put(&deliver, 0, 1);
	put_short(&deliver, "");
	put_short(&deliver, "queue");
	put_method(out, METHOD(60, 60), &deliver);
	put(&header, 60, 2);
	put(&header, 0, 2);
	put(&header, size, 8);
	put(&header, 0, 2);
	put_frame(out, FRAME_HEADER, 1, &header);
	buf_release(&deliver);
	buf_release(&header);
}

/* ---- the server */

static bool read_all(int fd, void *out, size_t len)
{
	char *at = out;

	while (len > 0) {
		const ssize_t got = read(fd, at, len);

		if (got <= 0)
			return false;
		at += got;
		len -= (size_t)got;
	}
	return true;
}

static void send_all(int fd, const struct buf *bytes)
{
	size_t done = 0;

	while (done < bytes->len) {
		const ssize_t put_now = send(fd, bytes->data + done, bytes->len - done, MSG_NOSIGNAL);

		if (put_now <= 0)
			return; /* the client has hung up: as it should */
		done += (size_t)put_now;
	}
}

static void answer(const struct script *script, int fd, uint32_t method)
{
	struct buf out = BUF_INIT, more = BUF_INIT;

	switch (method) {
	case METHOD(10, 11): /* start-ok: tune */
		put(&more, 0, 2);
		put(&more, FRAME_MAX, 4);
		put(&more, 0, 2);
		put_method(&out, METHOD(10, 30), &more);
		break;
	case METHOD(10, 40): put_short(&more, ""); put_method(&out, METHOD(10, 41), &more); break;
	case METHOD(10, 50): put_method(&out, METHOD(10, 51), &more); break;
	case METHOD(20, 10): put_long(&more, ""); put_method(&out, METHOD(20, 11), &more); break;
	case METHOD(60, 10): put_method(&out, METHOD(60, 11), &more); break;
	case METHOD(60, 20):
		put_short(&more, "tag");
		put_method(&out, METHOD(60, 21), &more);
		buf_add(&out, script->frames.data, script->frames.len);
		break;
	default: break;
	}
	send_all(fd, &out);
	buf_release(&out);
	buf_release(&more);
}

static void serve(const struct script *script, int fd)
{
	struct buf out = BUF_INIT, hello = BUF_INIT;
	static char payload[FRAME_MAX];
	unsigned char head[8];

	put(&hello, 9, 2); /* version 0.9: a byte each */
	put_long(&hello, ""); /* properties: none */
	put_long(&hello, "PLAIN");
	put_long(&hello, "en_US");
	put_method(&out, METHOD(10, 10), &hello);
	if (read_all(fd, head, 8))
		send_all(fd, &out);
	while (read_all(fd, head, 7)) {
		const size_t size = (size_t)head[3] << 24 | (size_t)head[4] << 16 | (size_t)head[5] << 8 | head[6];

		if (size >= sizeof(payload) || !read_all(fd, payload, size + 1))
			break;
		if (head[0] == FRAME_METHOD && size >= 4)
			answer(script, fd, METHOD((unsigned char)payload[1], (unsigned char)payload[3]));
	}
	buf_release(&out);
	buf_release(&hello);
}

static void *run(void *arg)
{
	const struct script *script = arg;
	const int fd = accept(script->listener, NULL, NULL);

	if (fd >= 0) {
		serve(script, fd);
		close(fd);
	}
	return NULL;
}

static void start(struct script *script)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	script->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(0, bind(script->listener, (struct sockaddr *)&address, len));
	assert_int_equal(0, listen(script->listener, 1));
	assert_int_equal(0, getsockname(script->listener, (struct sockaddr *)&address, &len));
	script->port = ntohs(address.sin_port);
	assert_int_equal(0, pthread_create(&script->thread, NULL, run, script));
}

/* ---- the client */

static struct amqp *consume(struct script *script)
{
	struct settings settings = { 0 };
	struct amqp *amqp = NULL;
	struct err err = ERR_INIT;
	char url[64];

	start(script);
	snprintf(url, sizeof(url), "amqp://u:p@127.0.0.1:%d", script->port);
	settings.amqp.url = url;
	settings.amqp.ca_file = (char *)"";
	settings.amqp.heartbeat_s = 0;
	settings.amqp.connect_timeout_ms = settings.amqp.answer_timeout_ms = PATIENCE_MS;
	if (amqp_open(&settings, "unit test", &amqp, &err) < 0 || amqp_consume(amqp, "queue", "tag", 0, 10, AMQP_NO_TABLE, &err) < 0)
		fail_msg("%s", err.message);
	return amqp;
}

static void end(struct script *script, struct amqp *amqp)
{
	amqp_close(amqp);
	pthread_join(script->thread, NULL);
	close(script->listener);
	buf_release(&script->frames);
}

static void takes(struct amqp *amqp, uint64_t tag, const char *body)
{
	struct amqp_event event = { .type = AMQP_EVENT_NONE };
	struct err err = ERR_INIT;

	if (amqp_next(amqp, PATIENCE_MS, &event, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(AMQP_EVENT_DELIVERY, event.type);
	assert_int_equal(tag, event.delivery->tag);
	assert_int_equal(strlen(body), event.delivery->body_size);
	assert_true(slice_is(event.delivery->body, body));
	amqp_delivery_free(event.delivery);
}

/* The connection is lost with these words, for good; nothing of the message comes out. */
static void is_lost(struct amqp *amqp, const char *words)
{
	struct amqp_event event;
	struct err err = ERR_INIT;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(-1, amqp_next(amqp, PATIENCE_MS, &event, &err));
		assert_int_equal(ERR_UNAVAILABLE, err.kind);
		if (strstr(err.message, words) == NULL)
			fail_msg("expected \"%s\" in \"%s\"", words, err.message);
		assert_false(amqp_is_open(amqp));
		err_clear(&err);
	}
}

/* ---- tests */

static void frames_without_a_byte_are_part_of_a_message(void **state)
{
	struct script script = { .frames = BUF_INIT };
	struct amqp *amqp;

	(void)state;
	put_delivery(&script.frames, 1, 5);
	put_body(&script.frames, "", 0);
	put_body(&script.frames, "he", 2);
	put_body(&script.frames, "", 0);
	put_body(&script.frames, "", 0);
	put_body(&script.frames, "llo", 3);
	put_delivery(&script.frames, 2, 0);
	put_delivery(&script.frames, 3, 1);
	put_body(&script.frames, "x", 1);
	amqp = consume(&script);
	takes(amqp, 1, "hello");
	takes(amqp, 2, "");
	takes(amqp, 3, "x");
	end(&script, amqp);
}

static void a_frame_that_fills_what_was_agreed_on_is_read(void **state)
{
	struct script script = { .frames = BUF_INIT };
	char *text = calloc(1, FRAME_MAX);
	struct amqp *amqp;

	(void)state;
	memset(text, 'x', FRAME_MAX - 8);
	put_delivery(&script.frames, 1, FRAME_MAX - 8);
	put_body(&script.frames, text, FRAME_MAX - 8);
	amqp = consume(&script);
	takes(amqp, 1, text);
	end(&script, amqp);
	free(text);
}

static void a_frame_that_is_larger_ends_the_connection(void **state)
{
	static const uint32_t sizes[] = { FRAME_MAX - 7, FRAME_MAX + 1, 0x7fffffff, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct script script = { .frames = BUF_INIT };
		struct amqp *amqp;

		put_delivery(&script.frames, 1, FRAME_MAX * 2);
		put(&script.frames, FRAME_BODY, 1);
		put(&script.frames, 1, 2);
		put(&script.frames, sizes[i], 4);
		for (int n = 0; n < 1000; n++)
			buf_add_char(&script.frames, 'x');
		amqp = consume(&script);
		is_lost(amqp, "RabbitMQ: ");
		end(&script, amqp);
	}
}

static void more_bytes_than_were_promised_end_the_connection(void **state)
{
	struct script script = { .frames = BUF_INIT };
	struct amqp *amqp;

	(void)state;
	put_delivery(&script.frames, 1, 2);
	put_body(&script.frames, "abc", 3);
	amqp = consume(&script);
	is_lost(amqp, "more of a message than it has");
	end(&script, amqp);
}

static void a_body_without_a_message_ends_the_connection(void **state)
{
	struct script script = { .frames = BUF_INIT };
	struct amqp *amqp;

	(void)state;
	put_delivery(&script.frames, 1, 0);
	put_body(&script.frames, "", 0);
	amqp = consume(&script);
	takes(amqp, 1, "");
	is_lost(amqp, "more of a message than it has");
	end(&script, amqp);
}

static void a_message_inside_of_another_ends_the_connection(void **state)
{
	struct script script = { .frames = BUF_INIT };
	struct amqp *amqp;

	(void)state;
	put_delivery(&script.frames, 1, 10);
	put_body(&script.frames, "abc", 3);
	put_delivery(&script.frames, 2, 1);
	amqp = consume(&script);
	is_lost(amqp, "inside of another");
	end(&script, amqp);
}

static void a_frame_without_its_end_ends_the_connection(void **state)
{
	struct script script = { .frames = BUF_INIT };
	struct amqp *amqp;

	(void)state;
	put_delivery(&script.frames, 1, 3);
	put_body(&script.frames, "abc", 3);
	script.frames.data[script.frames.len - 1] = 'x';
	amqp = consume(&script);
	is_lost(amqp, "RabbitMQ: ");
	end(&script, amqp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_without_a_byte_are_part_of_a_message),
		cmocka_unit_test(a_frame_that_fills_what_was_agreed_on_is_read),
		cmocka_unit_test(a_frame_that_is_larger_ends_the_connection),
		cmocka_unit_test(more_bytes_than_were_promised_end_the_connection),
		cmocka_unit_test(a_body_without_a_message_ends_the_connection),
		cmocka_unit_test(a_message_inside_of_another_ends_the_connection),
		cmocka_unit_test(a_frame_without_its_end_ends_the_connection),
	};

	return cmocka_run_group_tests_name("amqp frames", tests, NULL, NULL);
}
