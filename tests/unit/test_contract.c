/* The contract: YAML reading, schema keywords, routing; each with what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api-gateway/contract.h"
#include "api-gateway/json_schema.h"
#include "api-gateway/yaml.h"

#define CONTRACT "config/api/feedmill.openapi.yaml"

/* ---- YAML */

static void yaml_becomes(const char *text, const char *json)
{
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);
	struct yaml *tree = yaml_tree_parse(slice_of(text), &err);

	if (!tree)
		fail_msg("%s", err.message);
	yaml_write_json(tree, &w, NULL);
	assert_string_equal(json, out.data);
	buf_release(&out);
	yaml_tree_free(tree);
}

static void yaml_is_refused(const char *text, const char *why)
{
	struct err err = ERR_INIT;

	assert_null(yaml_tree_parse(slice_of(text), &err));
	assert_int_equal(ERR_INVALID, err.kind);
	if (!strstr(err.message, why))
		fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void yaml_becomes_json(void **state)
{
	(void)state;
	yaml_becomes("a: 1\nb: [x, 'y', true, null, ~]\nc:\n  d: 1.50\n", "{\"a\":1,\"b\":[\"x\",\"y\",true,null,null],\"c\":{\"d\":1.50}}");
	yaml_becomes("'200': \"5\"\nv: 3.1.0\nh: 0x10\nt: |\n  two\n  lines\n", "{\"200\":\"5\",\"v\":\"3.1.0\",\"h\":\"0x10\",\"t\":\"two\\nlines\\n\"}");
}

static void yaml_refuses_what_a_contract_does_not_need(void **state)
{
	char deep[401];

	(void)state;
	yaml_is_refused("a: 1\na: 2\n", "line 2: key \"a\" is there twice");
	yaml_is_refused("a: &x 1\nb: *x\n", "line 2: an alias");
	yaml_is_refused("a: [1\nb: 2\n", "line 2");
	yaml_is_refused("[1]: 2\n", "a key must be a word");
	yaml_is_refused("", "empty");
	memset(deep, '[', 200);
	memset(deep + 200, ']', 200);
	deep[400] = '\0';
	yaml_is_refused(deep, "line 1");
}

static void yaml_finds_by_pointer(void **state)
{
	struct err err = ERR_INIT;
	struct yaml *tree = yaml_tree_parse(slice_of("a:\n  b:\n    c: deep\n"), &err);

	(void)state;
	assert_string_equal("deep", yaml_text(yaml_find(tree, "#/a/b/c")));
	assert_null(yaml_find(tree, "#/a/x/c"));
	assert_null(yaml_find(tree, "other.yaml#/a"));
	yaml_tree_free(tree);
}

/* ---- schemas */

/* Compiles `schema` (YAML) and checks `value` (JSON): "" when it passes, else "POINTER WHAT". */
static const char *verdict(const char *schema_text, const char *value_text)
{
	static char words[450];
	struct err err = ERR_INIT;
	struct json_schema_fault fault;
	struct yaml *tree = yaml_tree_parse(slice_of(schema_text), &err);
	struct json_schema_set *set = tree ? json_schema_set_new(tree) : NULL;
	const struct json_schema *schema = set ? json_schema_compile(set, tree, &err) : NULL;
	struct json *value = json_parse(slice_of(value_text), &err);

	if (!schema || !value)
		fail_msg("%s", err.message);
	words[0] = '\0';
	if (!json_schema_check(schema, value, &fault))
		snprintf(words, sizeof(words), "%s %s", fault.pointer, fault.what);
	json_free(value);
	json_schema_set_free(set);
	yaml_tree_free(tree);
	return words;
}

static void schema_is_refused(const char *text, const char *why)
{
	struct err err = ERR_INIT;
	struct yaml *tree = yaml_tree_parse(slice_of(text), &err);
	struct json_schema_set *set = json_schema_set_new(tree);

	assert_null(json_schema_compile(set, tree, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	if (!strstr(err.message, why))
		fail_msg("\"%s\" does not say \"%s\"", err.message, why);
	json_schema_set_free(set);
	yaml_tree_free(tree);
}

static void schema_keywords_are_checked(void **state)
{
	static const struct {
		const char *schema, *value, *verdict;
	} rows[] = {
		{ "type: string", "\"x\"", "" },
		{ "type: string", "null", " must be a string, not null" },
		{ "type: [string, 'null']", "null", "" },
		{ "type: integer", "1.0", "" },
		{ "type: integer", "1.5", " must be an integer, not number" },
		{ "type: integer", "1e3", "" },
		{ "type: number", "3", "" },
		{ "type: object", "[]", " must be an object, not array" },
		{ "{type: object, required: [a]}", "{}", "/a is required" },
		{ "{properties: {a: {type: string}}}", "{\"a\":1}", "/a must be a string, not number" },
		{ "{properties: {a: {}}}", "{\"a\":1,\"b\":2}", "" },
		{ "{properties: {a: {}}, additionalProperties: false}", "{\"a\":1,\"b/~\":2}", "/b~1~0 is not known here" },
		{ "{additionalProperties: {type: string}}", "{\"a\":1}", "/a must be a string, not number" },
		{ "enum: [x, 1]", "\"x\"", "" },
		{ "enum: [x, 1]", "1", "" },
		{ "enum: ['1', x]", "1", " must be one of \"x\", \"1\"" },
		{ "anyOf: [{type: string}, {type: integer, minimum: 5}]", "5", "" },
		{ "anyOf: [{type: string}, {type: integer, minimum: 5}]", "\"x\"", "" },
		{ "anyOf: [{type: string}, {type: integer, minimum: 5}]", "4", " must be a string, not number, or must be at least 5" },
		{ "{properties: {a: {type: string, anyOf: [{format: date}, {format: date-time}]}}}", "{\"a\":\"2026-02-30\"}",
			"/a must be a date, or must be a date-time" },
		{ "{properties: {a: {anyOf: [{properties: {b: {type: string}}}, {type: string}]}}}", "{\"a\":{\"b\":1}}",
			"/a must be a string, not number, or must be a string, not object" },
		{ "{type: string, anyOf: [{format: date}, {format: date-time}]}", "\"2026-01-31T12:00:00Z\"", "" },
		{ "{type: string, anyOf: [{format: date}, {format: date-time}]}", "1", " must be a string, not number" },
		{ "minLength: 2", "\"é\"", " must have at least 2 characters" },
		{ "maxLength: 2", "\"é😀\"", "" },
		{ "maxLength: 2", "\"é😀x\"", " must have at most 2 characters, not 3" },
		{ "minimum: 0", "-0.1", " must be at least 0" },
		{ "minimum: 0", "-0", "" },
		{ "maximum: 9999999999.99", "9999999999.991", " must be at most 9999999999.99" },
		{ "exclusiveMinimum: 0", "0", " must be above 0" },
		{ "exclusiveMaximum: 5", "5", " must be below 5" },
		{ "multipleOf: 0.01", "0.07", "" },
		{ "multipleOf: 0.01", "9999999999.99", "" },
		{ "multipleOf: 0.01", "0.071", " must be a multiple of 0.01" },
		{ "pattern: '^a+$'", "\"aa\"", "" },
		{ "pattern: '^a+$'", "\"ab\"", " must match ^a+$" },
		{ "format: date", "\"2026-02-28\"", "" },
		{ "format: date", "\"2026-02-30\"", " must be a date" },
		{ "format: date-time", "\"2026-02-28\"", " must be a date-time" },
		{ "format: uuid", "\"0190163d-8694-739b-aea5-966c26f8ad91\"", "" },
		{ "format: uuid", "\"0190163d-8694-739b-aea5-966c26f8ad9g\"", " must be a uuid" },
		{ "items: {type: integer}", "[1,\"2\"]", "/1 must be an integer, not string" },
		{ "maxItems: 1", "[1,2]", " must have at most 1 items, not 2" },
		{ "minItems: 1", "[]", " must have at least 1 items" },
		{ "uniqueItems: true", "[1,2,1]", "/0 must not be there twice" },
		{ "minProperties: 1", "{}", " must have at least 1 members" },
		{ "maxProperties: 1", "{\"a\":1,\"b\":1}", " must have at most 1 members, not 2" },
		{ "{properties: {next: {$ref: '#'}}, required: [v]}", "{\"v\":1,\"next\":{\"next\":{}}}", "/next/next/v is required" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (strcmp(rows[i].verdict, verdict(rows[i].schema, rows[i].value)) != 0)
			fail_msg("%s on %s: \"%s\", not \"%s\"", rows[i].schema, rows[i].value, verdict(rows[i].schema, rows[i].value), rows[i].verdict);
	}
}

static void schema_keywords_that_are_not_checked_are_refused(void **state)
{
	(void)state;
	schema_is_refused("type: string\nmaxLenght: 5\n", "line 2: maxLenght: a schema keyword that this gateway does not check");
	schema_is_refused("oneOf: [{type: string}]", "does not check");
	schema_is_refused("anyOf: {type: string}", "must be a list of schemas");
	schema_is_refused("anyOf: []", "must be a list of schemas");
	schema_is_refused("anyOf: [{type: string}, {fromat: date}]", "fromat");
	schema_is_refused("type: text", "no such type");
	schema_is_refused("format: datum", "no such format");
	schema_is_refused("pattern: '('", "no extended regular expression");
	schema_is_refused("maxLength: many", "must be a number");
	schema_is_refused("$ref: '#/nowhere'", "nothing in this file");
	schema_is_refused("properties: {a: {properties: {b: {tpye: string}}}}", "tpye");
}

static void parameter_texts_are_read_by_their_schema(void **state)
{
	struct err err = ERR_INIT;
	struct json_schema_fault fault;
	struct yaml *tree = yaml_tree_parse(slice_of("{type: integer, minimum: 1, maximum: 9007199254740991}"), &err);
	struct json_schema_set *set = json_schema_set_new(tree);
	const struct json_schema *schema = json_schema_compile(set, tree, &err);
	static const char *const good[] = { "1", "9007199254740991" };
	static const char *const bad[] = { "0", "-1", "9007199254740992", "9223372036854775808", "x", "", " 1", "1 ", "01", "+1", "0x1", "1.5", "true", "null", "\"1\"" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(json_schema_check_text(schema, slice_of(good[i]), &fault));
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (json_schema_check_text(schema, slice_of(bad[i]), &fault))
			fail_msg("\"%s\" passed", bad[i]);
	json_schema_set_free(set);
	yaml_tree_free(tree);
}

/* ---- the file */

static void contract_routes_by_path_and_method(void **state)
{
	static const struct {
		const char *method, *path, *operation; /* or the status */
	} rows[] = {
		{ "POST", "/participant", "add_participant" },
		{ "GET", "/participant/7", "get_participant" },
		{ "HEAD", "/participant/7", "get_participant" },
		{ "POST", "/participant/7/friends", "add_friend" },
		{ "GET", "/participant/7/inbound", "get_inbound" },
		{ "GET", "/outbound", "search_outbound" },
		{ "DELETE", "/products/7", "delete_product" },
		{ "GET", "/participant", "405" },
		{ "PUT", "/products", "405" },
		{ "get", "/products", "405" },
		{ "GET", "/", "404" },
		{ "GET", "", "404" },
		{ "GET", "*", "404" },
		{ "GET", "/participant/", "404" },
		{ "GET", "/participant/7/", "404" },
		{ "GET", "//participant/7", "404" },
		{ "GET", "/participant//friends", "404" },
		{ "GET", "/participant/7/friends/8", "404" },
		{ "GET", "/Products", "404" },
	};
	struct err err = ERR_INIT;
	struct contract *contract = NULL;
	size_t i;

	(void)state;
	if (contract_load(CONTRACT, &contract, &err) < 0)
		fail_msg("%s", err.message);
	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct contract_call call;
		struct problem problem;
		char got[40];

		if (contract_route(contract, slice_of(rows[i].method), slice_of(rows[i].path), &call, &problem))
			snprintf(got, sizeof(got), "%s", contract_operation_id(call.operation));
		else
			snprintf(got, sizeof(got), "%d", problem.status);
		if (strcmp(rows[i].operation, got) != 0)
			fail_msg("%s %s: %s, not %s", rows[i].method, rows[i].path, got, rows[i].operation);
		if (strcmp(got, "get_inbound") == 0)
			assert_true(slice_is(call.params[0], "7"));
		if (strcmp(rows[i].path, "/products") == 0)
			assert_string_equal("GET, HEAD, POST, OPTIONS", call.allow);
	}
	contract_free(contract);
}

static void contract_is_served_as_json(void **state)
{
	struct err err = ERR_INIT;
	struct contract *contract = NULL;
	struct json *tree;

	(void)state;
	assert_int_equal(0, contract_load(CONTRACT, &contract, &err));
	tree = json_parse_answer(contract_json(contract), &err);
	if (!tree)
		fail_msg("%s", err.message);
	assert_true(slice_is(json_string(json_get(tree, "openapi")), "3.1.0"));
	json_free(tree);
	contract_free(contract);
}

static void contract_is_refused(const char *text, const char *why)
{
	char file[] = "/tmp/feedmill-contract-XXXXXX";
	struct contract *contract = NULL;
	struct err err = ERR_INIT;
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	assert_int_equal((ssize_t)strlen(text), write(fd, text, strlen(text)));
	close(fd);
	assert_int_equal(-1, contract_load(file, &contract, &err));
	unlink(file);
	assert_int_equal(ERR_FATAL, err.kind);
	if (!strstr(err.message, why) || !strstr(err.message, file))
		fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void broken_contracts_refuse_the_launch(void **state)
{
	struct contract *contract = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(-1, contract_load("/nowhere/contract.yaml", &contract, &err));
	assert_non_null(strstr(err.message, "gateway.contract"));
	contract_is_refused("a: [", "line 2");
	contract_is_refused("a: 1\n", "no paths");
	contract_is_refused("paths:\n  /a:\n    get: {summary: x}\n", "line 3: get: an operation needs an operationId");
	contract_is_refused("paths:\n  /a:\n    get: {operationId: x}\n    post: {operationId: x}\n", "x is there twice");
	contract_is_refused("paths:\n  /a/{id}:\n    get: {operationId: x}\n", "a parameter of the path is not described");
	contract_is_refused("paths:\n  a:\n    get: {operationId: x}\n", "must start with '/'");
	contract_is_refused("paths:\n  /a:\n    get:\n      operationId: x\n      parameters: [{name: q, in: cookie, schema: {}}]\n", "path, query or header");
	contract_is_refused("paths:\n  /a:\n    post:\n      operationId: x\n      requestBody: {content: {text/plain: {}}}\n", "application/json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(yaml_becomes_json),
		cmocka_unit_test(yaml_refuses_what_a_contract_does_not_need),
		cmocka_unit_test(yaml_finds_by_pointer),
		cmocka_unit_test(schema_keywords_are_checked),
		cmocka_unit_test(schema_keywords_that_are_not_checked_are_refused),
		cmocka_unit_test(parameter_texts_are_read_by_their_schema),
		cmocka_unit_test(contract_routes_by_path_and_method),
		cmocka_unit_test(contract_is_served_as_json),
		cmocka_unit_test(broken_contracts_refuse_the_launch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
