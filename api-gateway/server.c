/* HTTP exchanges go in; each is checked against the contract and given to the handler of its operation. */
#include "api-gateway/server.h"

#include <string.h>

#include "api-gateway/call.h"
#include "api-gateway/documents.h"
#include "api-gateway/idempotency_key.h"
#include "api-gateway/once.h"
#include "api-gateway/reply.h"

#define PREFLIGHT_MAX_AGE_S "600"
/* The page may load and call this gateway alone. Swagger UI's style sheet draws with data: images. */
#define PAGE_POLICY "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " \
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/* ---- methods */

/* OPTIONS, preflight or not: what may be done here. The origin's header is on every answer, see http_server. */
static void answer_options(struct call *call, const char *allow)
{
	struct slice wanted = http_header(call->exchange, "Access-Control-Request-Headers");

	http_answer_header(call->exchange, "Allow", allow);
	http_answer_header(call->exchange, "Access-Control-Allow-Methods", allow);
	if (wanted.data != NULL)
		http_answer_header(call->exchange, "Access-Control-Allow-Headers", wanted.data);
	http_answer_header(call->exchange, "Access-Control-Max-Age", PREFLIGHT_MAX_AGE_S);
	reply_empty(call, 204);
}

/* ---- documents: what is served beside the contract's own operations */

static void answer_bytes(struct call *call, const struct document *document)
{
	struct slice known = http_header(call->exchange, "If-None-Match");

	http_answer_header(call->exchange, "ETag", document->etag);
	http_answer_header(call->exchange, "Cache-Control", "no-cache"); /* kept, but asked for again by its ETag */
	http_answer_header(call->exchange, "X-Content-Type-Options", "nosniff");
	if (document->is_page)
		http_answer_header(call->exchange, "Content-Security-Policy", PAGE_POLICY);
	if (known.data != NULL && (slice_is(known, "*") || strstr(known.data, document->etag) != NULL))
		reply_empty(call, 304);
	else
		reply_static(call, 200, document->type, document->bytes);
}

static void read_document(struct call *call, const struct document *document)
{
	if (document->location != NULL) {
		http_answer_header(call->exchange, "Location", document->location);
		reply_empty(call, 301);
	} else if (document->bytes.data == NULL) {
		reply_problem(call, 404, "", "the API page is not here: `make docs` fetches it, and setting gateway.docs names its folder; "
			"the contract itself is at /openapi.yaml");
	} else {
		answer_bytes(call, document);
	}
}

static void answer_document(struct call *call, const struct document *document)
{
	struct slice method = http_request_of(call->exchange)->method;
	const char *allow = "GET, HEAD, OPTIONS";

	if (slice_is(method, "OPTIONS")) {
		answer_options(call, allow);
	} else if (slice_is(method, "GET") || slice_is(method, "HEAD")) {
		read_document(call, document);
	} else {
		http_answer_header(call->exchange, "Allow", allow);
		reply_problem(call, 405, "", "%s can be read only", document->path);
	}
}

/* ---- no route */

static void answer_no_route(struct call *call, const struct problem *problem)
{
	const char *allow = call->contract.allow;

	if (allow[0] != '\0' && slice_is(http_request_of(call->exchange)->method, "OPTIONS")) {
		answer_options(call, allow);
		return;
	}
	if (allow[0] != '\0')
		http_answer_header(call->exchange, "Allow", allow);
	reply_with_problem(call, problem);
}

/* ---- a request that has a route */

static bool id_is_right(struct call *call)
{
	if (call->route->path_id == NO_ID || (call->contract.param_count > 0 && str_id(call->contract.params[0], &call->id)))
		return true;
	reply_problem(call, 404, "", "there is no such id: they go from 1 to 2^53-1");
	return false;
}

/* Better refused than ignored: the client would count on it. */
static bool key_is_in_vain(struct call *call)
{
	const struct http_request *request = http_request_of(call->exchange);

	if (call->route->kind == ROUTE_WRITE || slice_is(request->method, "GET") || slice_is(request->method, "HEAD") ||
		http_header_count(call->exchange, IDEMPOTENCY_KEY_HEADER) == 0)
		return false;
	reply_problem(call, 400, "", "this operation can't be repeated safely: it takes no " IDEMPOTENCY_KEY_HEADER);
	return true;
}

static void handle_routed(struct call *call)
{
	struct problem problem;

	call->route = router_find(call->gateway->router, call->contract.operation);
	if (!id_is_right(call) || key_is_in_vain(call))
		return;
	if (!contract_check(call->exchange, &call->contract, &problem)) {
		reply_with_problem(call, &problem);
		return;
	}
	if (call->route->kind == ROUTE_WRITE) {
		prefer_read(http_header(call->exchange, "Prefer"), &call->prefer);
		if (!once_read_key(call))
			return;
	}
	call->route->handle(call);
}

void server_handle(struct http_exchange *exchange, void *gateway)
{
	const struct http_request *request = http_request_of(exchange);
	struct call *call = call_new(gateway, exchange);
	const struct document *document = documents_find(call->gateway->documents, request->path);
	struct problem problem;

	if (document != NULL)
		answer_document(call, document);
	else if (contract_route(call->gateway->contract, request->method, request->path, &call->contract, &problem))
		handle_routed(call);
	else
		answer_no_route(call, &problem);
}
