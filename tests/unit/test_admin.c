/* admin: pages, their status by checks, other paths and methods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/metrics.h"
#include "common/http/admin.h"
#include "tests/unit/raw_http.h"

struct fixture {
	struct admin *admin;
	atomic_bool kafka, search, engine;
};

static bool ask(void *arg, struct err *why)
{
	if (atomic_load((atomic_bool *)arg))
		return true;
	err_set(why, ERR_UNAVAILABLE, "no \"broker\"");
	return false;
}

static int set_up(void **state)
{
	static struct fixture fixture;
	struct health_check checks[] = {
		{ .name = "kafka", .fatal = true, .ask = ask, .arg = &fixture.kafka },
		{ .name = "search", .ask = ask, .arg = &fixture.search },
		{ .name = "engine", .fatal = true, .live = true, .ask = ask, .arg = &fixture.engine },
	};
	struct err err = ERR_INIT;

	atomic_store(&fixture.kafka, true);
	atomic_store(&fixture.search, true);
	atomic_store(&fixture.engine, true);
	*state = &fixture;
	return admin_start("127.0.0.1:0", checks, 3, &fixture.admin, &err);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	admin_stop(fixture->admin);
	return 0;
}

static void page_is(const struct fixture *fixture, const char *request, int status, const char *body)
{
	struct raw_answer answer;

	assert_int_equal(0, raw_ask(admin_port(fixture->admin), request, &answer));
	assert_int_equal(status, answer.status);
	assert_string_equal(body, answer.body.data);
	raw_answer_release(&answer);
}

static void ready_when_all_is_well(void **state)
{
	page_is(*state, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200,
		"{\"status\":\"ready\",\"checks\":{\"kafka\":\"ok\",\"search\":\"ok\",\"engine\":\"ok\"}}");
	page_is(*state, "GET /healthz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "{\"status\":\"alive\",\"checks\":{\"engine\":\"ok\"}}");
}

static void a_fatal_check_makes_it_not_ready(void **state)
{
	struct fixture *fixture = *state;

	atomic_store(&fixture->kafka, false);
	page_is(fixture, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 503,
		"{\"status\":\"not ready\",\"checks\":{\"kafka\":\"no \\\"broker\\\"\",\"search\":\"ok\",\"engine\":\"ok\"}}");
	page_is(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, "{\"status\":\"alive\",\"checks\":{\"engine\":\"ok\"}}");
}

static void another_check_is_only_shown(void **state)
{
	struct fixture *fixture = *state;

	atomic_store(&fixture->search, false);
	page_is(fixture, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200,
		"{\"status\":\"ready\",\"checks\":{\"kafka\":\"ok\",\"search\":\"no \\\"broker\\\"\",\"engine\":\"ok\"}}");
}

static void a_live_check_makes_it_not_alive(void **state)
{
	struct fixture *fixture = *state;

	atomic_store(&fixture->engine, false);
	page_is(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 503, "{\"status\":\"not alive\",\"checks\":{\"engine\":\"no \\\"broker\\\"\"}}");
}

static void metrics_are_plain_text(void **state)
{
	const struct fixture *fixture = *state;
	struct raw_answer answer;

	metric_add(metric_counter("feedmill_test_admin_total", NULL, "a test"), 3);
	assert_int_equal(0, raw_ask(admin_port(fixture->admin), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &answer));
	assert_int_equal(200, answer.status);
	assert_true(raw_has_header(&answer, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(answer.body.data, "\nfeedmill_test_admin_total 3\n"));
	raw_answer_release(&answer);
}

static void head_is_get_without_the_body(void **state)
{
	page_is(*state, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "");
}

static void other_paths_and_methods_are_refused(void **state)
{
	const struct fixture *fixture = *state;
	struct raw_answer answer;

	page_is(fixture, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404,
		"{\"title\":\"Not Found\",\"status\":404,\"detail\":\"here are /healthz, /readyz and /metrics\"}");
	assert_int_equal(0, raw_ask(admin_port(fixture->admin), "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", &answer));
	assert_int_equal(405, answer.status);
	assert_true(raw_has_header(&answer, "Allow: GET, HEAD"));
	assert_true(raw_has_header(&answer, "Content-Type: application/problem+json"));
	raw_answer_release(&answer);
}

static void a_bad_address_is_an_error(void **state)
{
	struct err err = ERR_INIT;
	struct admin *admin = NULL;

	(void)state;
	assert_int_equal(-1, admin_start("nowhere", NULL, 0, &admin, &err));
	assert_non_null(strstr(err.message, "nowhere"));
	assert_null(admin);
	admin_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ready_when_all_is_well, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_fatal_check_makes_it_not_ready, set_up, tear_down),
		cmocka_unit_test_setup_teardown(another_check_is_only_shown, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_live_check_makes_it_not_alive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(metrics_are_plain_text, set_up, tear_down),
		cmocka_unit_test_setup_teardown(head_is_get_without_the_body, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_paths_and_methods_are_refused, set_up, tear_down),
		cmocka_unit_test(a_bad_address_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
