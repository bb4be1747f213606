/* http_server: raw bytes in, answers out; framing, refusals, deadlines, answers from other threads, draining. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/http_listen.h"
#include "common/http/http_params.h"
#include "common/http/http_server.h"
#include "tests/unit/raw_http.h"

#define HELD 4096
#define GET(target) "GET " target " HTTP/1.1\r\nHost: x\r\n\r\n"

/* What the handler of these tests does, by path:
 *   /later…  two threads answer      /hold  the test answers      /big  1 MiB      /none  204      else: an echo, at once
 *   /stand   as /hold, and the loop stands still until the test says go */
struct fixture {
	struct http_options options;
	struct http_server *server;
	int port;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct http_exchange *queue[HELD]; /* for the answering threads */
	size_t queued, taken;
	struct http_exchange *held[HELD];
	size_t held_count;
	bool closing, go;
	pthread_t answerers[2];
	atomic_int released;
	char big[1 << 20];
};

static struct fixture fixture;

/* --- the handler --- */

static void echo(struct http_exchange *exchange)
{
	const struct http_request *r = http_request_of(exchange);
	struct buf out = BUF_INIT;

	buf_addf(&out, "%s %s ?%s %d [", r->method.data, r->path.data, r->query.data, r->has_body);
	buf_add(&out, r->body.data, r->body.len);
	buf_add_char(&out, ']');
	http_answer(exchange, 200, "text/plain", &out);
}

static void count_release(void *data)
{
	atomic_fetch_add((atomic_int *)data, 1);
}

static void hold(struct http_exchange *exchange)
{
	http_exchange_attach(exchange, &fixture.released, count_release);
	pthread_mutex_lock(&fixture.lock);
	fixture.held[fixture.held_count++] = exchange;
	pthread_cond_broadcast(&fixture.changed);
	pthread_mutex_unlock(&fixture.lock);
}

static void stand(struct http_exchange *exchange)
{
	hold(exchange);
	pthread_mutex_lock(&fixture.lock);
	while (!fixture.go)
		pthread_cond_wait(&fixture.changed, &fixture.lock);
	pthread_mutex_unlock(&fixture.lock);
}

static void say_go(void)
{
	pthread_mutex_lock(&fixture.lock);
	fixture.go = true;
	pthread_cond_broadcast(&fixture.changed);
	pthread_mutex_unlock(&fixture.lock);
}

static void queue_up(struct http_exchange *exchange)
{
	pthread_mutex_lock(&fixture.lock);
	fixture.queue[fixture.queued++ % HELD] = exchange;
	pthread_cond_broadcast(&fixture.changed);
	pthread_mutex_unlock(&fixture.lock);
}

static void handle(struct http_exchange *exchange, void *arg)
{
	const struct http_request *r = http_request_of(exchange);

	(void)arg;
	if (slice_is(r->path, "/later"))
		queue_up(exchange);
	else if (slice_is(r->path, "/hold"))
		hold(exchange);
	else if (slice_is(r->path, "/stand"))
		stand(exchange);
	else if (slice_is(r->path, "/big"))
		http_answer_static(exchange, 200, "text/plain", (struct slice){ fixture.big, sizeof(fixture.big) });
	else if (slice_is(r->path, "/none"))
		http_answer_static(exchange, 204, NULL, SLICE_NONE);
	else
		echo(exchange);
}

static struct http_exchange *next_queued(void)
{
	struct http_exchange *exchange = NULL;

	pthread_mutex_lock(&fixture.lock);
	while (fixture.taken == fixture.queued && !fixture.closing)
		pthread_cond_wait(&fixture.changed, &fixture.lock);
	if (fixture.taken < fixture.queued)
		exchange = fixture.queue[fixture.taken++ % HELD];
	pthread_mutex_unlock(&fixture.lock);
	return exchange;
}

static void *answerer_run(void *arg)
{
	struct http_exchange *exchange;

	while ((exchange = next_queued()) != NULL)
		echo(exchange);
	return arg;
}

/* --- the fixture --- */

static int set_up(void **state)
{
	*state = &fixture;
	memset(&fixture, 0, sizeof(fixture));
	memset(fixture.big, 'b', sizeof(fixture.big));
	pthread_mutex_init(&fixture.lock, NULL);
	pthread_cond_init(&fixture.changed, NULL);
	fixture.options = (struct http_options){
		.listen = "127.0.0.1:0",
		.inherited_fd = -1,
		.threads = 2,
		.max_connections = 100,
		.max_body = 10000,
		.max_header = 16384,
		.header_timeout_ms = 20000,
		.idle_timeout_ms = 20000,
		.body_min_rate = 1024,
		.cors_origin = "*",
		.handle = handle,
	};
	for (int i = 0; i < 2; i++)
		pthread_create(&fixture.answerers[i], NULL, answerer_run, NULL);
	return 0;
}

static int start(void)
{
	struct err err = ERR_INIT;

	assert_int_equal(0, http_server_start(&fixture.options, &fixture.server, &err));
	fixture.port = http_server_port(fixture.server);
	return fixture.port;
}

static void stop(int64_t timeout_ms)
{
	http_server_stop(fixture.server, timeout_ms);
	fixture.server = NULL;
}

static int tear_down(void **state)
{
	(void)state;
	if (fixture.server != NULL)
		stop(0);
	pthread_mutex_lock(&fixture.lock);
	fixture.closing = true;
	pthread_cond_broadcast(&fixture.changed);
	pthread_mutex_unlock(&fixture.lock);
	for (int i = 0; i < 2; i++)
		pthread_join(fixture.answerers[i], NULL);
	pthread_cond_destroy(&fixture.changed);
	pthread_mutex_destroy(&fixture.lock);
	return 0;
}

static void wait_held(size_t count)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RAW_PATIENCE_S;
	pthread_mutex_lock(&fixture.lock);
	while (fixture.held_count < count)
		if (pthread_cond_timedwait(&fixture.changed, &fixture.lock, &until) != 0)
			break;
	assert_true(fixture.held_count >= count);
	pthread_mutex_unlock(&fixture.lock);
}

static void wait_connections(size_t count)
{
	int64_t until_ms = clock_mono_ms() + RAW_PATIENCE_S * 1000;

	while (http_server_connections(fixture.server) != count && clock_mono_ms() < until_ms)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(count, http_server_connections(fixture.server));
}

static void expect(struct raw *raw, int status, const char *body)
{
	struct raw_answer answer;

	assert_int_equal(0, raw_read(raw, &answer, false));
	assert_int_equal(status, answer.status);
	if (body != NULL)
		assert_string_equal(body, answer.body.data);
	raw_answer_release(&answer);
}

static void expect_end(struct raw *raw)
{
	assert_true(raw_is_at_end(raw));
	raw_close(raw);
}

static void open_to(struct raw *raw, int port)
{
	assert_int_equal(0, raw_open(raw, port));
}

/* --- requests as they may come --- */

static void a_connection_is_kept(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	for (int i = 0; i < 3; i++) {
		raw_say(&raw, GET("/a%20b?x=%41&y"));
		expect(&raw, 200, "GET /a%20b ?x=%41&y 0 []");
		raw_say(&raw, "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
		expect(&raw, 200, "POST /p ? 1 [hello]");
	}
	raw_close(&raw);
	wait_connections(0);
}

static void a_hundred_come_at_once(void **state)
{
	struct buf all = BUF_INIT;
	struct raw raw;
	char want[64];

	(void)state;
	open_to(&raw, start());
	for (int i = 0; i < 100; i++)
		buf_addf(&all, "POST /%s?n=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n%04d", i % 3 == 0 ? "later" : "now", i, i);
	assert_int_equal(0, raw_send(&raw, all.data, all.len));
	for (int i = 0; i < 100; i++) {
		snprintf(want, sizeof(want), "POST /%s ?n=%d 1 [%04d]", i % 3 == 0 ? "later" : "now", i, i);
		expect(&raw, 200, want);
	}
	raw_close(&raw);
	buf_release(&all);
}

static void chunks_are_put_together(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: t\r\n\r\n");
	expect(&raw, 200, "POST /c ? 1 [hello world]");
	raw_say(&raw, GET("/next"));
	expect(&raw, 200, "GET /next ? 0 []");
	raw_close(&raw);
}

static void a_request_comes_byte_by_byte(void **state)
{
	static const char request[] = "POST /slow?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789";
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	for (size_t i = 0; i < sizeof(request) - 1; i++)
		assert_int_equal(0, raw_send(&raw, request + i, 1));
	expect(&raw, 200, "POST /slow ?q=1 1 [0123456789012345678901234567890123456789]");
	raw_close(&raw);
}

static void a_client_is_told_to_continue(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
	expect(&raw, 100, "");
	raw_say(&raw, "ok");
	expect(&raw, 200, "POST /e ? 1 [ok]");
	raw_close(&raw);
}

static void head_gets_the_length_alone(void **state)
{
	struct raw_answer answer;
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n" GET("/x"));
	assert_int_equal(0, raw_read(&raw, &answer, true));
	assert_int_equal(200, answer.status);
	assert_true(raw_has_header(&answer, "Content-Length: 14"));
	assert_true(raw_has_header(&answer, "Content-Type: text/plain"));
	raw_answer_release(&answer);
	expect(&raw, 200, "GET /x ? 0 []");
	raw_close(&raw);
}

static void no_content_has_no_body(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, GET("/none") GET("/x"));
	expect(&raw, 204, "");
	expect(&raw, 200, "GET /x ? 0 []");
	raw_close(&raw);
}

static void old_clients_close_unless_they_say_so(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	expect(&raw, 200, "GET /old ? 0 []");
	raw_say(&raw, "GET /old HTTP/1.0\r\n\r\n");
	expect(&raw, 200, "GET /old ? 0 []");
	expect_end(&raw);
}

static void a_whole_uri_is_a_path(void **state)
{
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, GET("http://h:80/a/b?c=d") GET("HTTPS://h/e") GET("http://h") GET("http://h?q"));
	expect(&raw, 200, "GET /a/b ?c=d 0 []");
	expect(&raw, 200, "GET /e ? 0 []");
	expect(&raw, 200, "GET / ? 0 []");
	expect(&raw, 200, "GET / ?q 0 []");
	raw_say(&raw, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\nfoo /x HTTP/1.1\r\nHost: x\r\n\r\n");
	expect(&raw, 200, "OPTIONS * ? 0 []");
	expect(&raw, 200, "foo /x ? 0 []");
	raw_close(&raw);
}

static void a_body_may_be_as_long_as_allowed(void **state)
{
	struct raw_answer answer;
	char *body = mem_alloc(10000);
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	memset(body, 'x', 10000);
	raw_say(&raw, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n");
	raw_send(&raw, body, 10000);
	assert_int_equal(0, raw_read(&raw, &answer, false));
	assert_int_equal(200, answer.status);
	assert_int_equal(strlen("POST /x ? 1 []") + 10000, answer.body.len);
	raw_answer_release(&answer);
	raw_close(&raw);
	free(body);
}

static void a_long_answer_arrives_whole(void **state)
{
	struct raw_answer answer;
	int port;

	(void)state;
	port = start();
	assert_int_equal(0, raw_ask(port, GET("/big"), &answer));
	assert_int_equal(sizeof(fixture.big), answer.body.len);
	assert_memory_equal(fixture.big, answer.body.data, sizeof(fixture.big));
	raw_answer_release(&answer);
}

/* --- refusals --- */

static const struct {
	int status;
	const char *request;
	bool is_bare; /* the library's own answer: no problem document, and 0.9.75 writes some of its headers twice */
} refused[] = {
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", false },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", false },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", false },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nabc", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\nabc", false },
	{ 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\nabc", true },
	{ 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\nabc", false },
	{ 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\nabc", false },
	{ 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\nExpect: 100-continue\r\n\r\n", false },
	{ 413, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", true },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", true },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: user@x\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\n\r\n", false },
	{ 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", false },
	{ 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false },
	{ 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", false },
	{ 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false },
	{ 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\nabc", false },
	{ 400, "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nX Y: a\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nX\x80: a\r\n\r\n", false },
	{ 400, "GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", false },
	{ 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding : chunked\r\n\r\nabc", false },
	{ 417, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\nContent-Length: 2\r\n\r\n", false },
	{ 400, "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", false },
	{ 400, "GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n", false },
	{ 400, "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", false },
	{ 400, "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", false },
	{ 505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n", true },
	{ 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true },
};

static void bad_framing_is_refused_and_closes(void **state)
{
	int port = start();

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct raw_answer answer;
		struct raw raw;

		open_to(&raw, port);
		raw_say(&raw, refused[i].request);
		if (raw_read(&raw, &answer, false) < 0 || answer.status != refused[i].status)
			fail_msg("want %d, got %d for:\n%s", refused[i].status, answer.status, refused[i].request);
		assert_true(raw_has_header(&answer, "Connection: close"));
		assert_int_equal(!refused[i].is_bare, raw_has_header(&answer, "Content-Type: application/problem+json"));
		raw_answer_release(&answer);
		if (refused[i].is_bare)
			buf_reset(&raw.in);
		expect_end(&raw);
		assert_int_equal(0, raw_ask(port, GET("/after"), &answer));
		assert_string_equal("GET /after ? 0 []", answer.body.data);
		raw_answer_release(&answer);
	}
	wait_connections(0);
}

static void refusals_are_problem_documents(void **state)
{
	struct raw_answer answer;

	(void)state;
	assert_int_equal(0, raw_ask(start(), "GET / HTTP/1.1\r\n\r\n", &answer));
	assert_string_equal("{\"title\":\"Bad Request\",\"status\":400,\"detail\":\"no Host\"}", answer.body.data);
	assert_true(raw_has_header(&answer, "Content-Type: application/problem+json"));
	assert_true(raw_has_header(&answer, "Access-Control-Allow-Origin: *"));
	raw_answer_release(&answer);
}

static void chunks_over_the_limit_are_refused(void **state)
{
	struct raw_answer answer;
	char *chunk = mem_alloc(4096);
	struct raw raw;

	(void)state;
	memset(chunk, 'x', 4096);
	open_to(&raw, start());
	raw_say(&raw, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 200; i++) /* far more than the limit: the answer must not be lost to a reset */
		if (raw_say(&raw, "1000\r\n") < 0 || raw_send(&raw, chunk, 4096) < 0 || raw_say(&raw, "\r\n") < 0)
			break;
	assert_int_equal(0, raw_read(&raw, &answer, false));
	assert_int_equal(413, answer.status);
	assert_true(raw_has_header(&answer, "Connection: close"));
	assert_true(raw_has_header(&answer, "Access-Control-Allow-Origin: *"));
	assert_non_null(strstr(answer.body.data, "\"status\":413"));
	raw_answer_release(&answer);
	expect_end(&raw);
	free(chunk);
}

/* The client sends all of it before it looks: the answer must be there still. */
static void a_refused_client_may_go_on_sending(void **state)
{
	char *bytes = mem_zalloc(1 << 20);
	struct raw raw;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n");
	for (int i = 0; i < 4; i++)
		assert_int_equal(0, raw_send(&raw, bytes, 1 << 20));
	expect(&raw, 413, NULL);
	expect_end(&raw);
	free(bytes);
}

static void wait_bytes(const char *what, size_t (*count)(void), size_t least, size_t most)
{
	int64_t until_ms = clock_mono_ms() + RAW_PATIENCE_S * 1000;

	while ((count() < least || count() > most) && clock_mono_ms() < until_ms)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (count() < least || count() > most)
		fail_msg("%s: %zu, not %zu to %zu", what, count(), least, most);
}

static size_t body_bytes(void)
{
	return http_server_body_bytes(fixture.server);
}

static void expect_too_busy(struct raw *raw)
{
	struct raw_answer answer;

	assert_int_equal(0, raw_read(raw, &answer, false));
	assert_int_equal(503, answer.status);
	assert_true(raw_has_header(&answer, "Retry-After: 1"));
	assert_true(raw_has_header(&answer, "Connection: close"));
	assert_non_null(strstr(answer.body.data, "nothing was stored"));
	raw_answer_release(&answer);
	expect_end(raw);
}

static void bodies_at_once_are_bounded(void **state)
{
	struct raw first, second, third;

	(void)state;
	fixture.options.max_bodies = 1000;
	open_to(&first, start());
	raw_say(&first, "POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n");
	wait_bytes("bodies", body_bytes, 900, 900);
	open_to(&second, fixture.port);
	raw_say(&second, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n"); /* answered before any of it comes */
	expect_too_busy(&second);
	open_to(&second, fixture.port);
	raw_say(&second, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n12345678901234567890123456789012345678901234567890\r\n"
			 "35\r\n12345678901234567890123456789012345678901234567890abc\r\n"); /* answered on the way */
	expect_too_busy(&second);
	wait_bytes("bodies", body_bytes, 900, 900);
	open_to(&third, fixture.port);
	raw_say(&third, "POST /fits HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" GET("/none"));
	expect(&third, 200, "POST /fits ? 1 [hello]");
	expect(&third, 204, "");
	for (int i = 0; i < 9; i++)
		raw_say(&first, "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789");
	expect(&first, 200, NULL);
	wait_bytes("bodies", body_bytes, 0, 0);
	raw_say(&first, "POST /again HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
	wait_bytes("bodies", body_bytes, 5, 5);
	raw_close(&first); /* in the middle of a body */
	wait_bytes("bodies", body_bytes, 0, 0);
	raw_close(&third);
}

static _Atomic size_t counted;

static size_t answer_bytes(void)
{
	return atomic_load(&counted);
}

static void answers_that_are_not_taken_are_counted(void **state)
{
	enum { LENGTH = 24 << 20 }; /* more than sockets take */
	char *bytes = mem_zalloc(LENGTH);
	struct raw raw;

	(void)state;
	fixture.options.max_body = LENGTH;
	fixture.options.answer_bytes = &counted;
	open_to(&raw, start());
	raw_say(&raw, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 25165824\r\n\r\n");
	assert_int_equal(0, raw_send(&raw, bytes, LENGTH));
	wait_bytes("answers", answer_bytes, LENGTH, LENGTH + 100);
	expect(&raw, 200, NULL);
	wait_bytes("answers", answer_bytes, 0, 0);
	raw_say(&raw, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 25165824\r\n\r\n");
	assert_int_equal(0, raw_send(&raw, bytes, LENGTH));
	wait_bytes("answers", answer_bytes, LENGTH, LENGTH + 100);
	raw_abort(&raw);
	wait_bytes("answers", answer_bytes, 0, 0);
	free(bytes);
}

static void large_heads_are_refused(void **state)
{
	struct raw_answer answer;
	struct buf request = BUF_INIT;
	int port = start();

	(void)state;
	buf_add_str(&request, "GET /");
	for (int i = 0; i < 9000; i++)
		buf_add_char(&request, 'x');
	buf_add_str(&request, " HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(0, raw_ask(port, request.data, &answer));
	assert_int_equal(414, answer.status);
	raw_answer_release(&answer);
	for (int count = 100; count <= 101; count++) {
		buf_reset(&request);
		buf_add_str(&request, "GET / HTTP/1.1\r\nHost: x\r\n");
		for (int i = 1; i < count; i++)
			buf_addf(&request, "X-%d: %0120d\r\n", i, i);
		buf_add_str(&request, "\r\n");
		assert_int_equal(0, raw_ask(port, request.data, &answer));
		assert_int_equal(count <= 100 ? 200 : 431, answer.status);
		raw_answer_release(&answer);
	}
	for (int size = 17000; size <= 60000; size += 43000) {
		buf_reset(&request);
		buf_addf(&request, "GET / HTTP/1.1\r\nHost: x\r\nX: %0*d\r\n\r\n", size, 1);
		assert_int_equal(0, raw_ask(port, request.data, &answer));
		assert_int_equal(431, answer.status);
		raw_answer_release(&answer);
	}
	buf_release(&request);
}

static void strange_bytes_do_no_harm(void **state)
{
	static const char tls_hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
	static const char nul[] = "GET /\0x HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n";
	struct raw_answer answer;
	struct raw raw;
	int port = start();

	(void)state;
	open_to(&raw, port);
	raw_send(&raw, tls_hello, sizeof(tls_hello) - 1);
	raw_read(&raw, &answer, false); /* an error or nothing */
	assert_int_not_equal(200, answer.status);
	raw_answer_release(&answer);
	raw_close(&raw);
	open_to(&raw, port);
	raw_send(&raw, nul, sizeof(nul) - 1);
	raw_read(&raw, &answer, false);
	raw_answer_release(&answer);
	raw_close(&raw);
	assert_int_equal(0, raw_ask(port, GET("/after"), &answer));
	assert_int_equal(200, answer.status);
	raw_answer_release(&answer);
	wait_connections(0);
}

static void another_origin_is_named_and_varies(void **state)
{
	struct raw_answer answer;

	(void)state;
	fixture.options.cors_origin = "https://a.example";
	assert_int_equal(0, raw_ask(start(), GET("/"), &answer));
	assert_true(raw_has_header(&answer, "Access-Control-Allow-Origin: https://a.example"));
	assert_true(raw_has_header(&answer, "Vary: Origin"));
	raw_answer_release(&answer);
	stop(0);
	fixture.options.cors_origin = "";
	assert_int_equal(0, raw_ask(start(), GET("/"), &answer));
	assert_null(strstr(answer.head.data, "Access-Control"));
	raw_answer_release(&answer);
}

/* --- what the handler sees --- */

static void headers_are_found_in_any_case(void **state)
{
	struct http_exchange *exchange;
	struct raw_answer answer;
	struct raw raw;
	struct buf none = BUF_INIT;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, "GET /hold HTTP/1.1\r\nHost: x\r\nX-One:  a b \r\nX-One: c\r\nX-Empty:\r\n\r\n");
	wait_held(1);
	exchange = fixture.held[0];
	assert_true(slice_is(http_header(exchange, "x-ONE"), "a b"));
	assert_null(http_header(exchange, "X-Two").data);
	assert_int_equal(0, http_header(exchange, "X-Empty").len);
	assert_non_null(http_header(exchange, "X-Empty").data);
	assert_ptr_equal(&fixture.released, http_exchange_data(exchange));
	assert_int_equal(0, atomic_load(&fixture.released));
	http_answer_header(exchange, "Location", "/commands/1");
	http_answer_header(exchange, "Link", "</x>; rel=\"next\"");
	http_answer(exchange, 202, NULL, &none);
	assert_int_equal(1, atomic_load(&fixture.released));
	assert_int_equal(0, raw_read(&raw, &answer, false));
	assert_int_equal(202, answer.status);
	assert_true(raw_has_header(&answer, "Location: /commands/1"));
	assert_true(raw_has_header(&answer, "Link: </x>; rel=\"next\""));
	assert_true(raw_has_header(&answer, "Content-Length: 0"));
	raw_answer_release(&answer);
	raw_say(&raw, GET("/"));
	assert_int_equal(0, raw_read(&raw, &answer, false));
	assert_null(strstr(answer.head.data, "Location: "));
	raw_answer_release(&answer);
	raw_close(&raw);
}

static void parameters_are_decoded(void **state)
{
	static const struct {
		const char *query, *value; /* of "k"; NULL: not there */
		bool broken;
	} cases[] = {
		{ "", NULL, false }, { "k", "", false }, { "k=", "", false }, { "k=v", "v", false }, { "a=1&k=v&b=2", "v", false },
		{ "k=1&k=2", "1", false }, { "&&k=v&&", "v", false }, { "k=a+b%20c", "a b c", false }, { "k=%2B%26%3d=", "+&==", false },
		{ "%6b=v", "v", false }, { "K=v", NULL, false }, { "k=caf\xc3\xa9", "caf\xc3\xa9", false }, { "k=%F0%9F%98%80", "\xf0\x9f\x98\x80", false },
		{ "k=%", "", true }, { "k=%4", "", true }, { "k=%zz", "", true }, { "k=%00", "", true }, { "k=\xff", "", true },
		{ "k=%c0%80", "", true }, { "k=%ed%a0%80", "", true }, { "k=ok&b=%zz", "ok", false }, { "%zz=1&k=v", "v", false },
		{ "kk=1", NULL, false }, { "k=a?b/c", "a?b/c", false }, { "=v", NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_params params = { .text = BUF_INIT };
		const struct http_param *param;

		http_params_read(&params, slice_of(cases[i].query));
		param = http_params_find(&params, "k");
		if ((param == NULL) != (cases[i].value == NULL))
			fail_msg("query \"%s\"", cases[i].query);
		if (param != NULL) {
			assert_string_equal(cases[i].value, param->value.data);
			assert_int_equal(strlen(cases[i].value), param->value.len);
			assert_int_equal(cases[i].broken, param->broken);
		}
		http_params_release(&params);
	}
}

static void parameters_belong_to_their_request(void **state)
{
	struct buf none = BUF_INIT;
	struct raw raw;
	bool broken = false;

	(void)state;
	open_to(&raw, start());
	raw_say(&raw, GET("/hold?keywords=a+%C3%A9"));
	wait_held(1);
	assert_true(slice_is(http_query(fixture.held[0], "keywords", &broken), "a \xc3\xa9"));
	assert_null(http_query(fixture.held[0], "limit", &broken).data);
	assert_false(broken);
	http_answer(fixture.held[0], 200, NULL, &none);
	expect(&raw, 200, "");
	raw_say(&raw, GET("/hold?limit=%zz"));
	wait_held(2);
	assert_null(http_query(fixture.held[1], "keywords", &broken).data);
	assert_false(broken);
	assert_non_null(http_query(fixture.held[1], "limit", &broken).data);
	assert_true(broken);
	http_answer(fixture.held[1], 200, NULL, &none);
	expect(&raw, 200, "");
	raw_close(&raw);
}

/* --- answers from elsewhere --- */

#define CLIENTS 8
#define REQUESTS 500

static int answered_right(struct raw *raw, int client, int i)
{
	struct raw_answer answer;
	char text[256], want[64];
	int right;

	snprintf(text, sizeof(text), "POST /later?c=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n%06d", client, i);
	snprintf(want, sizeof(want), "POST /later ?c=%d 1 [%06d]", client, i);
	if (raw_say(raw, text) < 0 || raw_read(raw, &answer, false) < 0)
		return 0;
	right = answer.status == 200 && strcmp(answer.body.data, want) == 0;
	raw_answer_release(&answer);
	return right;
}

static void *client_run(void *arg)
{
	static atomic_int numbers;
	int client = atomic_fetch_add(&numbers, 1);
	atomic_int *right = arg;
	struct raw raw;

	if (raw_open(&raw, fixture.port) < 0)
		return NULL;
	for (int i = 0; i < REQUESTS; i++)
		atomic_fetch_add(right, answered_right(&raw, client, i));
	raw_close(&raw);
	return NULL;
}

static void thousands_are_answered_by_other_threads(void **state)
{
	pthread_t clients[CLIENTS];
	atomic_int right = 0;

	(void)state;
	start();
	for (int i = 0; i < CLIENTS; i++)
		pthread_create(&clients[i], NULL, client_run, &right);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i], NULL);
	assert_int_equal(CLIENTS * REQUESTS, atomic_load(&right));
	wait_connections(0);
}

/* As many as libmicrohttpd takes from the kernel in one go, and it waits for more before it does anything. */
static void a_full_hand_of_events_is_handled_at_once(void **state)
{
	enum { HAND = 128 };
	static struct raw raws[HAND];
	struct raw standing;

	(void)state;
	fixture.options.threads = 1;
	fixture.options.max_connections = HAND + 1;
	start();
	open_to(&standing, fixture.port);
	for (int i = 0; i < HAND; i++) {
		open_to(&raws[i], fixture.port);
		raw_say(&raws[i], GET("/first"));
		expect(&raws[i], 200, "GET /first ? 0 []");
	}
	raw_say(&standing, GET("/stand"));
	wait_held(1);
	for (int i = 0; i < HAND; i++)
		raw_say(&raws[i], GET("/together"));
	say_go();
	for (int i = 0; i < HAND; i++) {
		expect(&raws[i], 200, "GET /together ? 0 []");
		raw_close(&raws[i]);
	}
	echo(fixture.held[0]);
	expect(&standing, 200, "GET /stand ? 0 []");
	raw_close(&standing);
}

static void clients_that_left_are_answered_into_the_void(void **state)
{
	struct raw raw[20];
	int port = start();

	(void)state;
	for (int i = 0; i < 20; i++) {
		open_to(&raw[i], port);
		raw_say(&raw[i], GET("/hold"));
	}
	wait_held(20);
	for (int i = 0; i < 20; i++)
		if (i % 2 == 0)
			raw_abort(&raw[i]);
		else
			raw_close(&raw[i]);
	for (int i = 0; i < 20; i++)
		echo(fixture.held[i]);
	wait_connections(0);
	assert_int_equal(20, atomic_load(&fixture.released));
}

/* --- deadlines --- */

static int64_t ms_until_end(struct raw *raw)
{
	int64_t began_ms = clock_mono_ms();

	expect_end(raw);
	return clock_mono_ms() - began_ms;
}

static void slow_headers_are_shut(void **state)
{
	struct raw silent, slow;
	int64_t began_ms;
	int port;

	(void)state;
	fixture.options.header_timeout_ms = 200;
	port = start();
	open_to(&silent, port);
	open_to(&slow, port);
	raw_say(&slow, "GET / HTTP/1.1\r\nHost:");
	began_ms = clock_mono_ms();
	expect(&slow, 408, "{\"title\":\"Request Timeout\",\"status\":408,\"detail\":\"the request was not whole in time\"}");
	assert_true(clock_mono_ms() - began_ms >= 100);
	expect_end(&slow);
	expect_end(&silent);
	wait_connections(0);
}

static void idle_connections_are_shut(void **state)
{
	struct raw raw;

	(void)state;
	fixture.options.idle_timeout_ms = 200;
	open_to(&raw, start());
	raw_say(&raw, GET("/"));
	expect(&raw, 200, NULL);
	assert_true(ms_until_end(&raw) >= 100);
	wait_connections(0);
}

/* 200 ms of grace, then 1,000 bytes a second: 300 bytes buy 300 ms. */
static void slow_bodies_are_shut(void **state)
{
	char bytes[300];
	struct raw raw;
	int64_t began_ms;

	(void)state;
	fixture.options.header_timeout_ms = 200;
	fixture.options.body_min_rate = 1000;
	open_to(&raw, start());
	memset(bytes, 'x', sizeof(bytes));
	raw_say(&raw, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n");
	raw_send(&raw, bytes, sizeof(bytes));
	began_ms = clock_mono_ms();
	expect(&raw, 408, NULL);
	assert_true(clock_mono_ms() - began_ms >= 400);
	expect_end(&raw);
	wait_connections(0);
}

static void clients_that_do_not_read_are_shut(void **state)
{
	struct raw raw;

	(void)state;
	fixture.options.idle_timeout_ms = 100;
	fixture.options.body_min_rate = 1 << 20; /* a second and 100 ms for 1 MiB */
	open_to(&raw, start());
	for (int i = 0; i < 40; i++) /* more than socket buffers hold */
		raw_say(&raw, GET("/big"));
	wait_connections(1);
	wait_connections(0);
	raw_close(&raw);
}

static void a_request_that_waits_has_no_deadline(void **state)
{
	struct raw raw, slow;
	int port;

	(void)state;
	fixture.options.header_timeout_ms = 100;
	fixture.options.idle_timeout_ms = 100;
	port = start();
	open_to(&raw, port);
	raw_say(&raw, GET("/hold"));
	wait_held(1);
	open_to(&slow, port); /* younger, and shut: the deadline of the other would have passed long before */
	expect_end(&slow);
	echo(fixture.held[0]);
	expect(&raw, 200, "GET /hold ? 0 []");
	raw_close(&raw);
}

/* --- limits, draining, stopping --- */

static void more_connections_wait(void **state)
{
	struct raw first, second, third;
	int port;

	(void)state;
	fixture.options.max_connections = 2;
	port = start();
	open_to(&first, port);
	open_to(&second, port);
	raw_say(&first, GET("/1"));
	raw_say(&second, GET("/2"));
	expect(&first, 200, NULL);
	expect(&second, 200, NULL);
	open_to(&third, port); /* the kernel takes it, we do not */
	raw_say(&third, GET("/3"));
	raw_say(&first, GET("/1"));
	expect(&first, 200, NULL);
	assert_int_equal(2, http_server_connections(fixture.server));
	raw_close(&first);
	expect(&third, 200, "GET /3 ? 0 []");
	raw_close(&second);
	raw_close(&third);
	wait_connections(0);
}

static void draining_says_close_and_takes_no_more(void **state)
{
	struct raw busy, quiet, late;
	struct raw_answer answer;
	int port = start();

	(void)state;
	open_to(&busy, port);
	open_to(&quiet, port);
	raw_say(&quiet, GET("/"));
	expect(&quiet, 200, NULL);
	raw_say(&busy, GET("/hold"));
	wait_held(1);
	http_server_drain(fixture.server);
	echo(fixture.held[0]);
	assert_int_equal(0, raw_read(&busy, &answer, false));
	assert_true(raw_has_header(&answer, "Connection: close"));
	raw_answer_release(&answer);
	expect_end(&busy);
	expect_end(&quiet);
	wait_connections(0);
	assert_int_equal(-1, raw_open(&late, port));
}

static void *stop_run(void *arg)
{
	stop(RAW_PATIENCE_S * 1000);
	return arg;
}

static void stop_waits_for_answers(void **state)
{
	struct raw raw[10];
	pthread_t stopper;
	int port = start();

	(void)state;
	for (int i = 0; i < 10; i++) {
		open_to(&raw[i], port);
		raw_say(&raw[i], GET("/hold"));
	}
	wait_held(10);
	pthread_create(&stopper, NULL, stop_run, NULL);
	for (int i = 0; i < 10; i++)
		echo(fixture.held[i]);
	for (int i = 0; i < 10; i++) {
		expect(&raw[i], 200, "GET /hold ? 0 []");
		expect_end(&raw[i]);
	}
	pthread_join(stopper, NULL);
}

static void stop_leaves_what_is_not_answered_in_time(void **state)
{
	struct raw raw[10];
	int port = start();

	(void)state;
	for (int i = 0; i < 10; i++) {
		open_to(&raw[i], port);
		raw_say(&raw[i], GET("/hold?k=v"));
	}
	wait_held(10);
	stop(50);
	for (int i = 0; i < 10; i++)
		expect_end(&raw[i]);
	for (int i = 0; i < 10; i++) { /* the answers come when the server is gone */
		assert_null(http_header(fixture.held[i], "Host").data);
		assert_true(slice_is(http_query(fixture.held[i], "k", NULL), "v"));
		http_answer_header(fixture.held[i], "X", "y");
		echo(fixture.held[i]);
	}
	assert_int_equal(10, atomic_load(&fixture.released));
}

/* Answers race with the end of the server's patience. */
static void stop_under_load(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		pthread_t clients[4];
		atomic_int right = 0;

		start();
		for (int i = 0; i < 4; i++) {
			struct raw raw;

			open_to(&raw, fixture.port);
			raw_say(&raw, GET("/later") GET("/later") GET("/later") GET("/later"));
			raw_close(&raw);
		}
		for (int i = 0; i < 4; i++)
			pthread_create(&clients[i], NULL, client_run, &right);
		while (atomic_load(&right) < 20 + round)
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		http_server_stop(fixture.server, round % 3);
		for (int i = 0; i < 4; i++)
			pthread_join(clients[i], NULL);
	}
	fixture.server = NULL;
}

static void an_inherited_socket_outlives_us(void **state)
{
	struct err err = ERR_INIT;
	struct raw_answer answer;
	struct raw between;
	int fd = http_listen("127.0.0.1:0", &err);

	(void)state;
	assert_true(fd >= 0);
	fixture.options.inherited_fd = fd;
	fixture.options.listen = NULL;
	assert_int_equal(0, raw_ask(start(), GET("/1"), &answer));
	assert_int_equal(200, answer.status);
	raw_answer_release(&answer);
	stop(1000);
	open_to(&between, http_listen_port(fd)); /* nobody accepts now */
	raw_say(&between, GET("/2"));
	start();
	expect(&between, 200, "GET /2 ? 0 []");
	raw_close(&between);
	stop(1000);
	close(fd);
}

static void addresses_are_understood(void **state)
{
	static const char *const bad[] = { "", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
		"[::1]80", "256.0.0.1:0", "127.0.0.1:080" };
	static const char *const good[] = { "127.0.0.1:0", "localhost:0", ":0", "*:0", "0.0.0.0:0" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(-1, http_listen(bad[i], &err));
		assert_non_null(strstr(err.message, bad[i]));
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err err = ERR_INIT;
		int fd = http_listen(good[i], &err);

		assert_true(fd >= 0);
		assert_true(http_listen_port(fd) > 0);
		close(fd);
	}
}

static void what_is_not_a_listening_socket_is_refused(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	fixture.options.inherited_fd = STDERR_FILENO;
	assert_int_equal(-1, http_server_start(&fixture.options, &fixture.server, &err));
	assert_null(fixture.server);
	assert_non_null(strstr(err.message, "not a listening socket"));
}

static void ipv6_is_served_where_there_is_any(void **state)
{
	struct err err = ERR_INIT;
	struct raw_answer answer;
	int fd = http_listen("[::]:0", &err);

	(void)state;
	if (fd < 0)
		skip();
	fixture.options.inherited_fd = fd;
	assert_int_equal(0, raw_ask(start(), GET("/"), &answer)); /* by IPv4: "[::]" is for both */
	assert_int_equal(200, answer.status);
	raw_answer_release(&answer);
	stop(0);
	close(fd);
}

static void the_library_is_named(void **state)
{
	(void)state;
	assert_int_equal(0, strncmp("libmicrohttpd ", http_server_library(), 14));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_connection_is_kept),
		TEST(a_hundred_come_at_once),
		TEST(chunks_are_put_together),
		TEST(a_request_comes_byte_by_byte),
		TEST(a_client_is_told_to_continue),
		TEST(head_gets_the_length_alone),
		TEST(no_content_has_no_body),
		TEST(old_clients_close_unless_they_say_so),
		TEST(a_whole_uri_is_a_path),
		TEST(a_body_may_be_as_long_as_allowed),
		TEST(a_long_answer_arrives_whole),
		TEST(bad_framing_is_refused_and_closes),
		TEST(refusals_are_problem_documents),
		TEST(chunks_over_the_limit_are_refused),
		TEST(bodies_at_once_are_bounded),
		TEST(answers_that_are_not_taken_are_counted),
		TEST(a_refused_client_may_go_on_sending),
		TEST(large_heads_are_refused),
		TEST(strange_bytes_do_no_harm),
		TEST(another_origin_is_named_and_varies),
		TEST(headers_are_found_in_any_case),
		TEST(parameters_are_decoded),
		TEST(parameters_belong_to_their_request),
		TEST(thousands_are_answered_by_other_threads),
		TEST(a_full_hand_of_events_is_handled_at_once),
		TEST(clients_that_left_are_answered_into_the_void),
		TEST(slow_headers_are_shut),
		TEST(idle_connections_are_shut),
		TEST(slow_bodies_are_shut),
		TEST(clients_that_do_not_read_are_shut),
		TEST(a_request_that_waits_has_no_deadline),
		TEST(more_connections_wait),
		TEST(draining_says_close_and_takes_no_more),
		TEST(stop_waits_for_answers),
		TEST(stop_leaves_what_is_not_answered_in_time),
		TEST(stop_under_load),
		TEST(an_inherited_socket_outlives_us),
		TEST(addresses_are_understood),
		TEST(what_is_not_a_listening_socket_is_refused),
		TEST(ipv6_is_served_where_there_is_any),
		TEST(the_library_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
