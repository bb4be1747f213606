/* request_parts: what the files of a request have in common; nobody else includes it.
 *
 *   request          all of it: read, checked, let go
 *   request_headers  what the headers of a message say
 *   request_content  its body as a text of JSON, whatever that was packed in
 *   request_body     that text, as version 2 of the protocol or version 1 has it */
#ifndef FEEDMILL_WORKERS_CELERY_REQUEST_PARTS_H
#define FEEDMILL_WORKERS_CELERY_REQUEST_PARTS_H

#include "workers/celery/request.h"

int request_wrong(struct err *err, const char *what); /* ERR_INVALID, -1 */

/* In this order: a body is read by what the headers have said. */
int request_headers(struct request *r, const struct amqp_table *headers, struct err *err);
int request_content(struct request *r, const struct amqp_delivery *delivery, const struct signer *signer, struct err *err);
int request_body(struct request *r, const struct amqp_table *headers, struct err *err); /* headers: they win over a body of version 1 */

/* [hard, soft] in seconds, either may be null; NULL: not said. */
int request_limits(struct request *r, const struct json *list, struct err *err);

#endif
