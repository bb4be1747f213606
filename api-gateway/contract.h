/* contract: the OpenAPI 3.1 file, read at launch: it says which paths and methods there are, and what a request must look like.
 * Uses yaml, json, problem, http_server.
 *
 * A call is checked in this order: path (404), method (405 with Allow), path parameters (404), media type (415), query and header
 * parameters (400), body (400, with a JSON pointer). Understood keywords: type (one or a list), required, properties, enum, format (date, date-time,
 * uuid), pattern (POSIX extended), minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minLength, maxLength, minItems,
 * maxItems, uniqueItems, minProperties, maxProperties, items, additionalProperties, anyOf, $ref (within the file), nullable by type, and
 * the words that only describe; any other keyword in a schema refuses the launch. */
#ifndef FEEDMILL_API_GATEWAY_CONTRACT_H
#define FEEDMILL_API_GATEWAY_CONTRACT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/http/http_server.h"
#include "common/http/problem.h"

#define CONTRACT_PARAMS 4

struct contract;
struct contract_operation;

int contract_load(const char *file, struct contract **out, struct err *err); /* ERR_FATAL: names the place in the file */
void contract_free(struct contract *contract);

struct slice contract_yaml(const struct contract *contract); /* the file as it stands */
struct slice contract_json(const struct contract *contract); /* the same as JSON */

/* Operations in order of the file; NULL behind the last. */
const struct contract_operation *contract_operation_at(const struct contract *contract, size_t i);
const char *contract_operation_id(const struct contract_operation *operation);

struct contract_call {
	const struct contract_operation *operation;
	struct slice params[CONTRACT_PARAMS]; /* values in the path, in order, percent-decoded by nobody: ids only */
	size_t param_count;
	char allow[64];     /* "GET, HEAD, OPTIONS, POST": the methods of the path; "" when there is no such path */
	struct json *body;  /* parsed; caller frees. NULL when there is none */
};

/* Finds the operation of a path and method. HEAD finds GET's. false: `problem` is 404 or 405 (call->allow is set for 405, and for OPTIONS,
 * which is the caller's to answer). */
bool contract_route(const struct contract *contract, struct slice method, struct slice path, struct contract_call *call, struct problem *problem);

/* Checks all that the operation says of parameters and body; parses the body. false: `problem` says what is wrong. */
bool contract_check(struct http_exchange *exchange, struct contract_call *call, struct problem *problem);

#endif
