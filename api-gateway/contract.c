/* The OpenAPI file in, operations out; requests in, matches and problems out. */
#include "api-gateway/contract.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api-gateway/json_schema.h"
#include "api-gateway/yaml.h"
#include "common/base/mem.h"

enum { FILE_MAX = 4 << 20, SEGMENTS_MAX = 16 };

enum place { IN_PATH, IN_QUERY, IN_HEADER, PLACES };
static const char *const place_names[PLACES] = { "path", "query", "header" };

struct parameter {
	const char *name; /* in the tree */
	enum place place;
	bool is_required;
	const struct json_schema *schema;
	struct parameter *next;
};

struct contract_operation {
	const char *id;
	const char *method; /* upper case */
	const struct path *path;
	struct parameter *parameters;
	const struct json_schema *body; /* NULL: takes none */
	bool body_required;
	struct contract_operation *next;
};

struct segment {
	struct slice text; /* a literal, or a parameter's name */
	bool is_param;
};

struct path {
	const char *template;
	struct segment segments[SEGMENTS_MAX];
	size_t segment_count, literal_count;
	char allow[64];
	struct path *next;
};

struct contract {
	struct buf yaml, json;
	struct yaml *root;
	struct json_schema_set *schemas;
	struct path *paths;
	struct contract_operation *operations;
};

static const struct {
	const char *key, *method;
} methods[] = {
	{ "delete", "DELETE" }, { "get", "GET" }, { "patch", "PATCH" }, { "post", "POST" }, { "put", "PUT" },
};

/* ---- loading */

static int read_file(const char *file, struct buf *out, struct err *err)
{
	char block[16384];
	ssize_t n;
	int fd = open(file, O_RDONLY | O_CLOEXEC), rc = -1;

	if (fd < 0)
		return err_set(err, ERR_FATAL, "the contract %s can't be opened: %m (setting gateway.contract)", file);
	while ((n = read(fd, block, sizeof(block))) > 0 && out->len <= FILE_MAX)
		buf_add(out, block, (size_t)n);
	if (n < 0)
		err_set(err, ERR_FATAL, "the contract %s can't be read: %m", file);
	else if (out->len > FILE_MAX)
		err_set(err, ERR_FATAL, "the contract %s is larger than %d bytes", file, FILE_MAX);
	else
		rc = 0;
	close(fd);
	return rc;
}

static int place_error(const struct yaml *place, struct err *err, const char *what)
{
	return err_set(err, ERR_FATAL, "line %zu: %s: %s", place->line, place->key ? place->key : "item", what);
}

/* A parameter, body or response that is written elsewhere in the file. */
static const struct yaml *resolve(const struct contract *contract, const struct yaml *place)
{
	const char *ref = yaml_text(yaml_get(place, "$ref"));

	return ref ? yaml_find(contract->root, ref) : place;
}

static int add_parameter(struct contract *contract, struct contract_operation *operation, const struct yaml *place, struct err *err)
{
	const struct yaml *source = resolve(contract, place), *schema = yaml_get(source, "schema");
	const char *name = yaml_text(yaml_get(source, "name")), *in = yaml_text(yaml_get(source, "in"));
	const char *required = yaml_text(yaml_get(source, "required"));
	struct parameter *parameter;
	enum place where = IN_PATH;

	while (in && where < PLACES && strcmp(in, place_names[where]) != 0)
		where++;
	if (!name || !in || where == PLACES || !schema)
		return place_error(place, err, "a parameter needs name, in (path, query or header) and schema");
	parameter = mem_zalloc(sizeof(*parameter));
	parameter->name = name;
	parameter->place = where;
	parameter->is_required = required && strcmp(required, "true") == 0;
	parameter->next = operation->parameters;
	operation->parameters = parameter;
	parameter->schema = json_schema_compile(contract->schemas, schema, err);
	return parameter->schema ? 0 : -1;
}

static int add_body(struct contract *contract, struct contract_operation *operation, const struct yaml *place, struct err *err)
{
	const struct yaml *source = resolve(contract, place);
	const struct yaml *json = yaml_get(yaml_get(source, "content"), "application/json"), *schema = yaml_get(json, "schema");
	const char *required = yaml_text(yaml_get(source, "required"));

	if (!schema)
		return place_error(place, err, "a body needs content, application/json, schema");
	operation->body_required = required && strcmp(required, "true") == 0;
	operation->body = json_schema_compile(contract->schemas, schema, err);
	return operation->body ? 0 : -1;
}

static int add_parameters(struct contract *contract, struct contract_operation *operation, const struct yaml *list, struct err *err)
{
	const struct yaml *place;

	for (place = list ? list->first : NULL; place; place = place->next)
		if (add_parameter(contract, operation, place, err) < 0)
			return -1;
	return 0;
}

static int check_path_params(const struct contract_operation *operation, const struct yaml *source, struct err *err)
{
	const struct path *path = operation->path;
	size_t i;

	for (i = 0; i < path->segment_count; i++) {
		const struct parameter *parameter = operation->parameters;

		while (path->segments[i].is_param && parameter && !(parameter->place == IN_PATH && slice_is(path->segments[i].text, parameter->name)))
			parameter = parameter->next;
		if (path->segments[i].is_param && !parameter)
			return place_error(source, err, "a parameter of the path is not described");
	}
	return 0;
}

static int add_operation(struct contract *contract, const struct path *path, const char *method, const struct yaml *item, const struct yaml *source,
	struct err *err)
{
	const struct yaml *body = yaml_get(source, "requestBody");
	struct contract_operation *operation = mem_zalloc(sizeof(*operation)), **tail = &contract->operations;

	while (*tail)
		tail = &(*tail)->next;
	*tail = operation;
	operation->id = yaml_text(yaml_get(source, "operationId"));
	operation->method = method;
	operation->path = path;
	if (!operation->id)
		return place_error(source, err, "an operation needs an operationId");
	if (add_parameters(contract, operation, yaml_get(item, "parameters"), err) < 0 ||
		add_parameters(contract, operation, yaml_get(source, "parameters"), err) < 0)
		return -1;
	if (body && add_body(contract, operation, body, err) < 0)
		return -1;
	return check_path_params(operation, source, err);
}

static int parse_template(struct path *path, const struct yaml *item, struct err *err)
{
	struct slice rest = slice_of(path->template);
	size_t params = 0;

	if (rest.len < 2 || rest.data[0] != '/')
		return place_error(item, err, "a path must start with '/'");
	rest.data++;
	rest.len--;
	while (rest.len > 0) {
		struct segment *segment = &path->segments[path->segment_count];

		if (path->segment_count++ == SEGMENTS_MAX)
			return place_error(item, err, "too many parts");
		segment->text = slice_cut(&rest, '/');
		segment->is_param = segment->text.len > 2 && segment->text.data[0] == '{' && segment->text.data[segment->text.len - 1] == '}';
		if (segment->is_param) {
			segment->text.data++;
			segment->text.len -= 2;
			params++;
		}
	}
	path->literal_count = path->segment_count - params;
	return params <= CONTRACT_PARAMS ? 0 : place_error(item, err, "too many parameters");
}

/* "GET, HEAD, OPTIONS, POST": what 405 and a preflight say. */
static void write_allow(struct path *path, const struct yaml *item)
{
	struct buf allow = BUF_INIT;
	size_t i;

	for (i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		if (yaml_get(item, methods[i].key))
			buf_addf(&allow, "%s%s, ", methods[i].method, strcmp(methods[i].key, "get") == 0 ? ", HEAD" : "");
	}
	buf_add_str(&allow, "OPTIONS");
	snprintf(path->allow, sizeof(path->allow), "%s", allow.data);
	buf_release(&allow);
}

static int add_path(struct contract *contract, const struct yaml *item, struct err *err)
{
	struct path *path = mem_zalloc(sizeof(*path)), **before = &contract->paths;
	size_t i;

	path->template = item->key;
	path->next = contract->paths;
	contract->paths = path;
	if (parse_template(path, item, err) < 0)
		return -1;
	contract->paths = path->next; /* put it where it belongs: the more literal parts, the earlier it is tried */
	while (*before && (*before)->literal_count >= path->literal_count)
		before = &(*before)->next;
	path->next = *before;
	*before = path;
	write_allow(path, item);
	for (i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		const struct yaml *source = yaml_get(item, methods[i].key);

		if (source && add_operation(contract, path, methods[i].method, item, source, err) < 0)
			return -1;
	}
	return 0;
}

static int check_double_ids(const struct contract *contract, struct err *err)
{
	const struct contract_operation *one, *other;

	for (one = contract->operations; one; one = one->next)
		for (other = one->next; other; other = other->next)
			if (strcmp(one->id, other->id) == 0)
				return err_set(err, ERR_FATAL, "operationId %s is there twice", one->id);
	return 0;
}

int contract_load(const char *file, struct contract **out, struct err *err)
{
	struct contract *contract = mem_zalloc(sizeof(*contract));
	struct json_writer w = JSON_WRITER(&contract->json);
	const struct yaml *item;
	int rc = -1;

	contract->yaml = contract->json = (struct buf)BUF_INIT;
	if (read_file(file, &contract->yaml, err) < 0)
		goto out;
	contract->root = yaml_tree_parse((struct slice){ contract->yaml.data, contract->yaml.len }, err);
	if (!contract->root)
		goto place;
	contract->schemas = json_schema_set_new(contract->root);
	item = yaml_get(contract->root, "paths");
	if (!item || !item->first) {
		err_set(err, ERR_FATAL, "no paths");
		goto place;
	}
	for (item = item->first; item; item = item->next)
		if (add_path(contract, item, err) < 0)
			goto place;
	if (check_double_ids(contract, err) < 0)
		goto place;
	yaml_write_json(contract->root, &w, NULL);
	*out = contract;
	contract = NULL;
	rc = 0;
	goto out;
place:
	err_wrap(err, "contract %s: ", file);
	err->kind = ERR_FATAL;
out:
	contract_free(contract);
	return rc;
}

void contract_free(struct contract *contract)
{
	if (!contract)
		return;
	while (contract->operations) {
		struct contract_operation *operation = contract->operations;

		contract->operations = operation->next;
		while (operation->parameters) {
			struct parameter *parameter = operation->parameters;

			operation->parameters = parameter->next;
			free(parameter);
		}
		free(operation);
	}
	while (contract->paths) {
		struct path *path = contract->paths;

		contract->paths = path->next;
		free(path);
	}
	json_schema_set_free(contract->schemas);
	yaml_tree_free(contract->root);
	buf_release(&contract->yaml);
	buf_release(&contract->json);
	free(contract);
}

struct slice contract_yaml(const struct contract *contract)
{
	return (struct slice){ contract->yaml.data, contract->yaml.len };
}

struct slice contract_json(const struct contract *contract)
{
	return (struct slice){ contract->json.data, contract->json.len };
}

const struct contract_operation *contract_operation_at(const struct contract *contract, size_t i)
{
	const struct contract_operation *operation = contract->operations;

	while (operation && i-- > 0)
		operation = operation->next;
	return operation;
}

const char *contract_operation_id(const struct contract_operation *operation)
{
	return operation->id;
}

/* ---- routing */

static bool path_matches(const struct path *path, struct slice rest, struct contract_call *call)
{
	size_t i;

	call->param_count = 0;
	for (i = 0; i < path->segment_count; i++) {
		bool is_last = i + 1 == path->segment_count;
		const char *end = memchr(rest.data, '/', rest.len);
		struct slice part = { rest.data, end ? (size_t)(end - rest.data) : rest.len };

		if (is_last == (end != NULL) || part.len == 0)
			return false;
		if (path->segments[i].is_param)
			call->params[call->param_count++] = part;
		else if (!slice_equal(part, path->segments[i].text))
			return false;
		if (end)
			rest = (struct slice){ end + 1, rest.len - part.len - 1 };
	}
	return true;
}

static const struct contract_operation *operation_of(const struct contract *contract, const struct path *path, struct slice method)
{
	const struct contract_operation *operation = contract->operations;

	if (slice_is(method, "HEAD"))
		method = slice_of("GET");
	while (operation && !(operation->path == path && slice_is(method, operation->method)))
		operation = operation->next;
	return operation;
}

bool contract_route(const struct contract *contract, struct slice method, struct slice path, struct contract_call *call, struct problem *problem)
{
	const struct path *candidate;
	struct slice rest = { path.data + 1, path.len - 1 };

	memset(call, 0, sizeof(*call));
	for (candidate = path.len > 1 && path.data[0] == '/' ? contract->paths : NULL; candidate; candidate = candidate->next)
		if (path_matches(candidate, rest, call))
			break;
	if (!candidate) {
		problem_set(problem, 404, "", "there is no %.*s here; GET /openapi.yaml lists what there is", (int)(path.len < 200 ? path.len : 200), path.data);
		return false;
	}
	snprintf(call->allow, sizeof(call->allow), "%s", candidate->allow);
	call->operation = operation_of(contract, candidate, method);
	if (!call->operation)
		problem_set(problem, 405, "", "%s takes %s", candidate->template, candidate->allow);
	return call->operation != NULL;
}

/* ---- checking */

static struct slice path_param(const struct contract_call *call, const char *name)
{
	const struct path *path = call->operation->path;
	size_t i, n = 0;

	for (i = 0; i < path->segment_count; i++) {
		if (path->segments[i].is_param && slice_is(path->segments[i].text, name))
			return call->params[n];
		n += path->segments[i].is_param;
	}
	return SLICE_NONE;
}

static bool check_path(const struct contract_call *call, struct problem *problem)
{
	const struct parameter *parameter;
	struct json_schema_fault fault;

	for (parameter = call->operation->parameters; parameter; parameter = parameter->next) {
		if (parameter->place != IN_PATH || json_schema_check_text(parameter->schema, path_param(call, parameter->name), &fault))
			continue;
		problem_set(problem, 404, "", "there is nothing by that %s: it %s", parameter->name, fault.what);
		return false;
	}
	return true;
}

static bool check_media_type(struct http_exchange *exchange, struct problem *problem)
{
	struct slice type = http_header(exchange, "Content-Type"), encoding = http_header(exchange, "Content-Encoding"), rest = type;

	if (encoding.data && !slice_is_nocase(slice_trim(encoding), "identity")) {
		problem_set(problem, 415, "", "send the body as it is, without Content-Encoding");
		return false;
	}
	if (!type.data || !slice_is_nocase(slice_trim(slice_cut(&rest, ';')), "application/json")) {
		problem_set(problem, 415, "", "send the body as JSON, with Content-Type: application/json");
		return false;
	}
	return true;
}

/* false: it is broken, or missing where it must not. */
static bool parameter_text(struct http_exchange *exchange, const struct parameter *parameter, struct slice *text, struct problem *problem)
{
	bool is_broken = false;

	*text = parameter->place == IN_QUERY ? http_query(exchange, parameter->name, &is_broken) : http_header(exchange, parameter->name);
	if (is_broken)
		problem_set(problem, 400, "", "query parameter %s has a broken %%-escape or is not UTF-8", parameter->name);
	else if (parameter->is_required && !text->data)
		problem_set(problem, 400, "", "%s parameter %s is required", place_names[parameter->place], parameter->name);
	else
		return true;
	return false;
}

static bool check_parameters(struct http_exchange *exchange, const struct contract_call *call, struct problem *problem)
{
	const struct parameter *parameter;
	struct json_schema_fault fault;
	struct slice text;

	for (parameter = call->operation->parameters; parameter; parameter = parameter->next) {
		if (parameter->place == IN_PATH)
			continue;
		if (!parameter_text(exchange, parameter, &text, problem))
			return false;
		if (text.data && !json_schema_check_text(parameter->schema, text, &fault)) {
			problem_set(problem, 400, "", "%s parameter %s %s", place_names[parameter->place], parameter->name, fault.what);
			return false;
		}
	}
	return true;
}

static bool check_body(const struct http_request *request, struct contract_call *call, struct problem *problem)
{
	struct err err = ERR_INIT;
	struct json_schema_fault fault;

	if (request->body.len == 0 && call->operation->body_required) {
		problem_set(problem, 400, "", "a JSON body is required");
		return false;
	}
	if (request->body.len == 0)
		return true;
	call->body = json_parse(request->body, &err);
	if (!call->body) {
		problem_set(problem, 400, "", "the body is not JSON as it should be: %s", err.message);
		return false;
	}
	if (json_schema_check(call->operation->body, call->body, &fault))
		return true;
	problem_set(problem, 400, fault.pointer, "%s %s", fault.pointer[0] ? fault.pointer : "the body", fault.what);
	json_free(call->body);
	call->body = NULL;
	return false;
}

bool contract_check(struct http_exchange *exchange, struct contract_call *call, struct problem *problem)
{
	const struct http_request *request = http_request_of(exchange);

	if (!check_path(call, problem))
		return false;
	if (call->operation->body && request->has_body && !check_media_type(exchange, problem))
		return false;
	if (!check_parameters(exchange, call, problem))
		return false;
	return !call->operation->body || check_body(request, call, problem);
}
