/* THE TABLE: what the gateway can do. An operation's path, parameters and body stand in the contract
 * (config/api/feedmill.openapi.yaml) under the same name. */
#include "api-gateway/handlers.h"

const struct route route_table[] = {
	/* operationId        answered by        kind         id in the path */
	{ "add_participant", add_participant, ROUTE_WRITE, NO_ID },
	{ "get_participant", get_participant, ROUTE_READ, OF_PARTICIPANT },
	{ "add_friend", add_friend, ROUTE_WRITE, OF_PARTICIPANT },
	{ "get_friend", get_friend, ROUTE_READ, OF_PARTICIPANT },
	{ "add_outbound", add_outbound, ROUTE_WRITE, OF_PARTICIPANT },
	{ "get_outbound", get_outbound, ROUTE_READ, OF_PARTICIPANT },
	{ "get_inbound", get_inbound, ROUTE_READ, OF_PARTICIPANT },
	{ "search_outbound", search_outbound, ROUTE_READ, NO_ID },
	{ "get_products", get_products, ROUTE_READ, NO_ID },
	{ "add_product", add_product, ROUTE_WRITE, NO_ID },
	{ "delete_product", delete_product, ROUTE_WRITE, AN_ID },
	{ "get_product_events", get_product_events, ROUTE_READ, NO_ID },
	{ "get_webhooks", get_webhooks, ROUTE_READ, NO_ID },
	{ "add_webhook", add_webhook, ROUTE_READ, NO_ID },
	{ "delete_webhook", delete_webhook, ROUTE_READ, NO_ID },
	{ "test_webhook", test_webhook, ROUTE_READ, NO_ID },
	{ "enable_webhook", enable_webhook, ROUTE_READ, NO_ID },
	{ "add_job", add_job, ROUTE_WRITE, NO_ID },
	{ "get_job", get_job, ROUTE_READ, NO_ID },
	{ "delete_job", delete_job, ROUTE_WRITE, NO_ID },
	{ "get_command", get_command, ROUTE_READ, NO_ID },
};

const size_t route_count = sizeof(route_table) / sizeof(route_table[0]);
