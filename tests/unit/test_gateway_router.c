/* router: the published contract and THE TABLE agree; a table that does not agree is refused, naming the operation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "api-gateway/router.h"

#define CONTRACT "config/api/feedmill.openapi.yaml"

static void never_called(struct call *call)
{
	(void)call;
	abort();
}

static const char small[] = "openapi: 3.1.0\n"
	"info: { title: T, version: '1' }\n"
	"paths:\n"
	"  /a:\n"
	"    get:\n"
	"      operationId: get_a\n"
	"      responses: { '200': { description: yes } }\n"
	"  /b:\n"
	"    get:\n"
	"      operationId: get_b\n"
	"      responses: { '200': { description: yes } }\n";

static int load(const char *text, struct contract **out, struct err *err)
{
	char file[] = "/tmp/test_gateway_router.XXXXXX";
	int fd = mkstemp(file);
	int rc;

	assert_true(fd >= 0);
	assert_int_equal((ssize_t)strlen(text), write(fd, text, strlen(text)));
	close(fd);
	rc = contract_load(file, out, err);
	unlink(file);
	return rc;
}

static void contract_and_table_agree(void **state)
{
	struct contract *contract = NULL;
	struct router *router = NULL;
	struct err err = ERR_INIT;
	const struct contract_operation *operation;
	size_t i;

	(void)state;
	if (contract_load(CONTRACT, &contract, &err) < 0 || router_new(contract, route_table, route_count, &router, &err) < 0)
		fail_msg("%s", err.message);
	for (i = 0; (operation = contract_operation_at(contract, i)) != NULL; i++)
		assert_string_equal(contract_operation_id(operation), router_find(router, operation)->operation);
	assert_int_equal(route_count, i);
	router_free(router);
	contract_free(contract);
}

static void each_operation_finds_its_route(void **state)
{
	static const struct route routes[] = { { "get_b", never_called, ROUTE_READ, false }, { "get_a", never_called, ROUTE_READ, false } };
	struct contract *contract = NULL;
	struct router *router = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, load(small, &contract, &err));
	assert_int_equal(0, router_new(contract, routes, 2, &router, &err));
	assert_ptr_equal(&routes[1], router_find(router, contract_operation_at(contract, 0)));
	assert_ptr_equal(&routes[0], router_find(router, contract_operation_at(contract, 1)));
	router_free(router);
	contract_free(contract);
}

static void refused(const struct route *routes, size_t count, const char *named)
{
	struct contract *contract = NULL;
	struct router *router = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(0, load(small, &contract, &err));
	assert_int_equal(-1, router_new(contract, routes, count, &router, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	assert_non_null(strstr(err.message, named));
	assert_null(router);
	contract_free(contract);
}

static void an_operation_that_nobody_answers_is_refused(void **state)
{
	static const struct route routes[] = { { "get_a", never_called, ROUTE_READ, false } };

	(void)state;
	refused(routes, 1, "get_b");
}

static void a_route_that_nobody_reaches_is_refused(void **state)
{
	static const struct route routes[] = { { "get_a", never_called, ROUTE_READ, false }, { "get_b", never_called, ROUTE_READ, false },
		{ "get_c", never_called, ROUTE_READ, false } };

	(void)state;
	refused(routes, 3, "get_c");
}

static void a_route_that_stands_twice_is_refused(void **state)
{
	static const struct route routes[] = { { "get_a", never_called, ROUTE_READ, false }, { "get_b", never_called, ROUTE_READ, false },
		{ "get_b", never_called, ROUTE_READ, false } };

	(void)state;
	refused(routes, 3, "get_b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contract_and_table_agree),
		cmocka_unit_test(each_operation_finds_its_route),
		cmocka_unit_test(an_operation_that_nobody_answers_is_refused),
		cmocka_unit_test(a_route_that_nobody_reaches_is_refused),
		cmocka_unit_test(a_route_that_stands_twice_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
