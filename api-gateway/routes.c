/* THE TABLE: what the gateway can do. An operation's path, parameters and body stand in the contract
 * (config/api/feedmill.openapi.yaml) under the same name. */
#include "api-gateway/handlers.h"

const struct route route_table[] = {
	/* operationId        answered by        kind         takes an id */
	{ "add_participant", add_participant, ROUTE_WRITE, false },
	{ "get_participant", get_participant, ROUTE_READ, true },
	{ "add_friend", add_friend, ROUTE_WRITE, true },
	{ "get_friend", get_friend, ROUTE_READ, true },
	{ "add_outbound", add_outbound, ROUTE_WRITE, true },
	{ "get_outbound", get_outbound, ROUTE_READ, true },
	{ "get_inbound", get_inbound, ROUTE_READ, true },
	{ "search_outbound", search_outbound, ROUTE_READ, false },
	{ "get_products", get_products, ROUTE_READ, false },
	{ "add_product", add_product, ROUTE_WRITE, false },
	{ "delete_product", delete_product, ROUTE_WRITE, true },
	{ "get_command", get_command, ROUTE_READ, false },
};

const size_t route_count = sizeof(route_table) / sizeof(route_table[0]);
