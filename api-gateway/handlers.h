/* handlers: the functions that answer the contract's operations, one each; see routes.c for the table. A handler is called
 * on an HTTP thread with a call that the contract has found right. It must not block, and sees to it that the call is answered. */
#ifndef FEEDMILL_API_GATEWAY_HANDLERS_H
#define FEEDMILL_API_GATEWAY_HANDLERS_H

#include "api-gateway/router.h"

/* handle_people.c */
handler_fn add_participant, get_participant, add_friend, get_friend;
/* handle_posts.c */
handler_fn add_outbound, get_outbound, get_inbound;
/* handle_search.c */
handler_fn search_outbound;
/* handle_products.c */
handler_fn get_products, add_product, delete_product;
/* handle_events.c */
handler_fn get_product_events;
/* handle_webhooks.c */
handler_fn add_webhook, get_webhooks, delete_webhook, test_webhook, enable_webhook;
/* handle_jobs.c */
handler_fn add_job, get_job, delete_job;
/* handle_commands.c */
handler_fn get_command;

#endif
