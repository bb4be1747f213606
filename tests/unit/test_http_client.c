/* The HTTP client against a server that behaves, and one that does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/clock.h"
#include "common/http/http_client.h"
#include "tests/unit/stub_http.h"

#define TIMEOUT_MS 300
#define CAP 1000

struct scene {
	struct stub *stub;
	struct http_client *client;
	struct buf answer;
	struct err err;
	int status;
	/* what the stub does and saw: */
	struct stub_reply reply; /* its body is text below */
	struct buf text;
	enum stub_action first; /* of the first request, when it differs */
	struct buf head, body;
	size_t connection;
};

static void answer(void *arg, const struct stub_request *request, struct stub_reply *reply)
{
	struct scene *scene = arg;

	*reply = scene->reply;
	reply->body = (struct buf)BUF_INIT;
	buf_add(&reply->body, scene->text.data, scene->text.len);
	if (request->number == 0 && scene->first != STUB_ANSWER)
		reply->action = scene->first;
	buf_reset(&scene->head);
	buf_add(&scene->head, request->head.data, request->head.len);
	buf_reset(&scene->body);
	buf_add(&scene->body, request->body.data, request->body.len);
	scene->connection = request->connection;
}

static int set_up(void **state)
{
	static struct scene scene;

	scene = (struct scene){ .answer = BUF_INIT, .text = BUF_INIT, .head = BUF_INIT, .body = BUF_INIT, .err = ERR_INIT, .reply = { .status = 200 } };
	scene.stub = stub_start(answer, &scene);
	scene.client = http_client_new(TIMEOUT_MS, CAP);
	*state = &scene;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	http_client_free(scene->client);
	stub_stop(scene->stub);
	buf_release(&scene->answer);
	buf_release(&scene->text);
	buf_release(&scene->head);
	buf_release(&scene->body);
	return 0;
}

static int ask(struct scene *scene, const char *method, const char *path, const char *type, struct slice body)
{
	char url[256];

	snprintf(url, sizeof(url), "%s%s", stub_url(scene->stub), path);
	scene->status = 0;
	return http_client_send(scene->client, method, url, type, body, &scene->status, &scene->answer, &scene->err);
}

static int get(struct scene *scene)
{
	return ask(scene, "GET", "/", NULL, SLICE_NONE);
}

static void sends_what_it_is_given(void **state)
{
	struct scene *scene = *state;
	const struct slice body = { "a\0b\r\n\r\nc", 8 };

	buf_add_str(&scene->text, "{\"ok\":true}");
	scene->reply.status = 201;
	assert_int_equal(0, http_client_header(scene->client, "Prefer", "wait=5", &scene->err));
	assert_int_equal(ask(scene, "POST", "/a/b?c=%20d", "application/x-ndjson", body), 0);
	assert_int_equal(scene->status, 201);
	assert_string_equal(scene->answer.data, "{\"ok\":true}");
	assert_int_equal(scene->body.len, body.len);
	assert_memory_equal(scene->body.data, body.data, body.len);
	assert_non_null(strstr(scene->head.data, "POST /a/b?c=%20d HTTP/1.1\r\n"));
	assert_non_null(strstr(scene->head.data, "\r\nContent-Type: application/x-ndjson\r\n"));
	assert_non_null(strstr(scene->head.data, "\r\nPrefer: wait=5\r\n"));
	assert_non_null(strstr(scene->head.data, "\r\nUser-Agent: feedmill/"));
}

static void a_header_is_one_line(void **state)
{
	static const char *const values[] = { "a\r\nX-More: 1", "a\nX-More: 1", "a\r", "\x1b[0m", "\x7f" };
	struct scene *scene = *state;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_int_equal(-1, http_client_header(scene->client, "Idempotency-Key", values[i], &scene->err));
		assert_int_equal(ERR_INVALID, scene->err.kind);
		err_clear(&scene->err);
	}
	assert_int_equal(0, http_client_header(scene->client, "Idempotency-Key", "\xc3\xa4 b", &scene->err));
	assert_int_equal(0, get(scene));
	assert_non_null(strstr(scene->head.data, "\r\nIdempotency-Key: \xc3\xa4 b\r\n"));
	assert_null(strstr(scene->head.data, "X-More"));
}

static void every_method(void **state)
{
	static const char *const methods[] = { "GET", "PUT", "HEAD", "DELETE", "POST", "GET" };
	struct scene *scene = *state;

	buf_add_str(&scene->text, "text");
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		char line[32];

		assert_int_equal(ask(scene, methods[i], "/x", NULL, SLICE_NONE), 0);
		snprintf(line, sizeof(line), "%s /x HTTP/1.1\r\n", methods[i]);
		assert_memory_equal(scene->head.data, line, strlen(line));
		assert_string_equal(scene->answer.data, strcmp(methods[i], "HEAD") == 0 ? "" : "text");
		assert_null(strcasestr(scene->head.data, "\r\nContent-Type:"));
		assert_int_equal(scene->connection, 0); /* one for all */
	}
	assert_int_equal(ask(scene, "PUT", "/x", "application/json", SLICE_NONE), 0);
	assert_non_null(strstr(scene->head.data, "\r\nContent-Length: 0\r\n"));
}

static void errors_are_answers_too(void **state)
{
	static const int statuses[] = { 204, 301, 400, 404, 413, 429, 500, 503 };
	struct scene *scene = *state;

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		scene->reply.status = statuses[i];
		assert_int_equal(get(scene), 0);
		assert_int_equal(scene->status, statuses[i]);
	}
}

static void redirects_are_not_followed(void **state)
{
	struct scene *scene = *state;

	scene->reply.status = 302;
	snprintf(scene->reply.header, sizeof(scene->reply.header), "Location: %s/elsewhere\r\n", stub_url(scene->stub));
	assert_int_equal(get(scene), 0);
	assert_int_equal(scene->status, 302);
	assert_int_equal(stub_requests(scene->stub), 1);
}

static void no_proxy_from_the_environment(void **state)
{
	struct scene *scene = *state;
	char dead[64];

	stub_dead_url(dead);
	setenv("http_proxy", dead, 1);
	setenv("ALL_PROXY", dead, 1);
	assert_int_equal(get(scene), 0);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

/* No "Expect: 100-continue", for which a server that does not know it makes libcurl wait a second. */
static void large_bodies_go_at_once(void **state)
{
	struct scene *scene = *state;
	struct buf body = BUF_INIT;

	while (body.len < 3 * 1024 * 1024)
		buf_add_str(&body, "0123456789abcdef");
	assert_int_equal(ask(scene, "POST", "/", "text/plain", (struct slice){ body.data, body.len }), 0);
	assert_null(strcasestr(scene->head.data, "\r\nExpect:"));
	assert_int_equal(scene->body.len, body.len);
	assert_memory_equal(scene->body.data, body.data, body.len);
	buf_release(&body);
}

/* The server closes after its answer without having said so: the next request finds the connection dead, and goes again. */
static void dead_connections_are_replaced(void **state)
{
	struct scene *scene = *state;

	buf_add_str(&scene->text, "x");
	scene->first = STUB_CLOSE;
	assert_int_equal(ask(scene, "POST", "/", "text/plain", slice_of("1")), 0);
	assert_int_equal(ask(scene, "POST", "/", "text/plain", slice_of("2")), 0);
	assert_int_equal(scene->connection, 1);
	assert_string_equal(scene->body.data, "2");
}

static void answers_are_capped(void **state)
{
	static const enum stub_action actions[] = { STUB_ANSWER, STUB_CHUNKS };
	struct scene *scene = *state;

	for (size_t i = 0; i < 2; i++) {
		scene->reply.action = actions[i];
		buf_reset(&scene->text);
		while (scene->text.len < CAP)
			buf_add_char(&scene->text, 'x');
		assert_int_equal(get(scene), 0);
		assert_int_equal(scene->answer.len, CAP);
		buf_add_char(&scene->text, 'x');
		assert_int_equal(get(scene), -1);
		assert_int_equal(scene->err.kind, ERR_UNKNOWN);
		assert_non_null(strstr(scene->err.message, "larger than 1000 bytes"));
	}
	buf_reset(&scene->text);
	assert_int_equal(get(scene), 0); /* the client is as good as before */
}

static void a_slow_answer_has_a_deadline(void **state)
{
	struct scene *scene = *state;
	int64_t start = clock_mono_ms();
	int64_t took;

	scene->first = STUB_SILENCE;
	assert_int_equal(get(scene), -1);
	took = clock_mono_ms() - start;
	assert_in_range(took, TIMEOUT_MS - 50, 20 * TIMEOUT_MS);
	assert_int_equal(scene->err.kind, ERR_UNKNOWN);
	assert_int_equal(get(scene), 0);
}

/* To libcurl a limit of 0 is none. */
static void who_has_no_time_left_does_not_wait(void **state)
{
	struct scene *scene = *state;

	http_client_free(scene->client);
	scene->client = http_client_new(0, CAP);
	scene->first = STUB_SILENCE;
	alarm(30); /* ends the test, if it waits */
	assert_int_equal(get(scene), -1);
	alarm(0);
}

static void half_an_answer_is_none(void **state)
{
	struct scene *scene = *state;

	buf_add_str(&scene->text, "{\"whole\":true}");
	scene->first = STUB_HALF;
	assert_int_equal(get(scene), -1);
	assert_int_equal(scene->err.kind, ERR_UNKNOWN);
	assert_int_equal(get(scene), 0);
	assert_string_equal(scene->answer.data, "{\"whole\":true}");
}

static void a_reset_is_unknown(void **state)
{
	struct scene *scene = *state;

	scene->first = STUB_RESET;
	assert_int_equal(ask(scene, "POST", "/", "text/plain", slice_of("1")), -1);
	assert_int_equal(scene->err.kind, ERR_UNKNOWN);
}

static int send_to(struct scene *scene, const char *url)
{
	return http_client_send(scene->client, "GET", url, NULL, SLICE_NONE, &scene->status, &scene->answer, &scene->err);
}

static void nobody_there_is_unavailable(void **state)
{
	struct scene *scene = *state;
	char dead[64];

	stub_dead_url(dead);
	assert_int_equal(send_to(scene, dead), -1);
	assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(scene->err.message, "127.0.0.1:"));
	assert_int_equal(get(scene), 0);
}

static void only_http(void **state)
{
	static const char *const urls[] = { "file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "", "http://", "http://[::1", "dict://127.0.0.1/" };
	struct scene *scene = *state;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		err_clear(&scene->err);
		if (send_to(scene, urls[i]) != -1)
			fail_msg("taken: %s", urls[i]);
		assert_int_equal(scene->err.kind, ERR_UNAVAILABLE);
	}
}

static void passwords_stay_out_of_messages(void **state)
{
	struct scene *scene = *state;
	char dead[64];
	char url[128];

	stub_dead_url(dead);
	snprintf(url, sizeof(url), "http://user:secret@x@%s/path?secret", dead + strlen("http://"));
	assert_int_equal(send_to(scene, url), -1);
	assert_null(strstr(scene->err.message, "secret"));
	assert_non_null(strstr(scene->err.message, "127.0.0.1"));
}

#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCENE(sends_what_it_is_given),
		IN_SCENE(a_header_is_one_line),
		IN_SCENE(every_method),
		IN_SCENE(errors_are_answers_too),
		IN_SCENE(redirects_are_not_followed),
		IN_SCENE(no_proxy_from_the_environment),
		IN_SCENE(large_bodies_go_at_once),
		IN_SCENE(dead_connections_are_replaced),
		IN_SCENE(answers_are_capped),
		IN_SCENE(a_slow_answer_has_a_deadline),
		IN_SCENE(who_has_no_time_left_does_not_wait),
		IN_SCENE(half_an_answer_is_none),
		IN_SCENE(a_reset_is_unknown),
		IN_SCENE(nobody_there_is_unavailable),
		IN_SCENE(only_http),
		IN_SCENE(passwords_stay_out_of_messages),
	};

	http_client_global_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
