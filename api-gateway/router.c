/* The contract's operations and the table of routes go in; the route of an operation comes out. */
#include "api-gateway/router.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct pair {
	const struct contract_operation *operation;
	const struct route *route;
};

struct router {
	size_t count;
	struct pair pairs[];
};

static const struct route *route_named(const struct route *routes, size_t count, const char *operation)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(routes[i].operation, operation) == 0)
			return &routes[i];
	return NULL;
}

/* Every route is reached by one operation. */
static int check_reached(const struct router *router, const struct route *routes, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		size_t operations = 0;

		for (size_t k = 0; k < router->count; k++)
			operations += router->pairs[k].route == &routes[i];
		if (operations != 1)
			return err_set(err, ERR_FATAL, "operation %s of the routes table (routes.c) stands %zu times in the contract",
				routes[i].operation, operations);
	}
	return 0;
}

static int pair_up(struct router *router, const struct contract *contract, const struct route *routes, size_t count, struct err *err)
{
	const struct contract_operation *operation;

	for (size_t i = 0; (operation = contract_operation_at(contract, i)) != NULL; i++) {
		const char *id = contract_operation_id(operation);
		const struct route *route = route_named(routes, count, id);

		if (route == NULL)
			return err_set(err, ERR_FATAL, "operation %s of the contract is not in the routes table (routes.c)", id);
		router->pairs[router->count++] = (struct pair){ operation, route };
	}
	return check_reached(router, routes, count, err);
}

int router_new(const struct contract *contract, const struct route *routes, size_t count, struct router **out, struct err *err)
{
	struct router *router;
	size_t operations = 0;

	while (contract_operation_at(contract, operations) != NULL)
		operations++;
	router = mem_zalloc(sizeof(*router) + operations * sizeof(router->pairs[0]));
	if (pair_up(router, contract, routes, count, err) < 0) {
		router_free(router);
		return -1;
	}
	*out = router;
	return 0;
}

const struct route *router_find(const struct router *router, const struct contract_operation *operation)
{
	for (size_t i = 0; i < router->count; i++)
		if (router->pairs[i].operation == operation)
			return router->pairs[i].route;
	assert(!"an operation of another contract");
	return NULL;
}

void router_free(struct router *router)
{
	free(router);
}
