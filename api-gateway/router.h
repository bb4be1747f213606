/* router: from an operation of the contract to the function that answers it. Uses contract.
 * The table (routes.c) and the contract must name the same operations: the gateway does not start with a route that nobody
 * can reach, or an operation that nobody answers. */
#ifndef FEEDMILL_API_GATEWAY_ROUTER_H
#define FEEDMILL_API_GATEWAY_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "api-gateway/contract.h"
#include "common/base/err.h"

struct call;
typedef void handler_fn(struct call *call); /* must not block; see call.h */

enum route_kind {
	ROUTE_READ,   /* answered from store or search */
	ROUTE_WRITE,  /* puts a record on the queue: the headers Prefer and Idempotency-Key are read */
};

/* The path's first parameter, when it is an id: what is none is 404. */
enum path_id {
	NO_ID,
	AN_ID,
	OF_PARTICIPANT, /* who asks, as long as nobody is authenticated */
};

struct route {
	const char *operation; /* operationId */
	handler_fn *handle;
	enum route_kind kind;
	enum path_id path_id;
};

extern const struct route route_table[];
extern const size_t route_count;

struct router;

/* Keeps both pointers. -1: ERR_FATAL, naming the operation. */
int router_new(const struct contract *contract, const struct route *routes, size_t count, struct router **out, struct err *err);
const struct route *router_find(const struct router *router, const struct contract_operation *operation);
void router_free(struct router *router); /* NULL is fine */

#endif
