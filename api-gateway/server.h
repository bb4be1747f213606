/* server: what becomes of each HTTP request: contract, preflight, documents, handler. Uses contract, router, http_server. */
#ifndef FEEDMILL_API_GATEWAY_SERVER_H
#define FEEDMILL_API_GATEWAY_SERVER_H

#include "common/http/http_server.h"

void server_handle(struct http_exchange *exchange, void *gateway); /* http_options.handle */

#endif
