/* json_schema: the part of JSON Schema (2020-12, as OpenAPI 3.1 uses it) that contracts may use, compiled once and checked against
 * values. Uses yaml, json, problem. Keywords: see contract.h; one row each in json_schema.c's table. */
#ifndef FEEDMILL_API_GATEWAY_JSON_SCHEMA_H
#define FEEDMILL_API_GATEWAY_JSON_SCHEMA_H

#include <stdbool.h>

#include "api-gateway/yaml.h"
#include "common/base/err.h"
#include "common/base/json.h"

struct json_schema_set; /* every schema of one contract: each place in the file is compiled once, so that $ref may recurse */
struct json_schema;

struct json_schema_set *json_schema_set_new(const struct yaml *root); /* root is borrowed as long as the set lives */
void json_schema_set_free(struct json_schema_set *set);

/* NULL, ERR_FATAL with the line: an unknown keyword, a $ref to nowhere, a pattern that is none. */
const struct json_schema *json_schema_compile(struct json_schema_set *set, const struct yaml *place, struct err *err);

/* What a value must be and is not: words ("must be at least 1 character long") and the way to it, a JSON pointer. */
struct json_schema_fault {
	char pointer[200];
	char what[200];
};

bool json_schema_check(const struct json_schema *schema, const struct json *value, struct json_schema_fault *fault);

/* The same for the text of a parameter: read as a number or a boolean where the schema wants one, else as a string. */
bool json_schema_check_text(const struct json_schema *schema, struct slice text, struct json_schema_fault *fault);

#endif
