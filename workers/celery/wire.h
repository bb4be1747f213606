/* wire: JSON and AMQP's own values, both ways. */
#ifndef FEEDMILL_WORKERS_CELERY_WIRE_H
#define FEEDMILL_WORKERS_CELERY_WIRE_H

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/queue/amqp.h"

void wire_put(struct json_writer *w, const char *key, const struct amqp_value *value); /* times as numbers */
void wire_write(struct buf *out, const struct amqp_value *value);

/* Fields for one call: what wire_fields() makes lives until wire_release(); texts are borrowed from the JSON tree. */
struct wire {
	struct wire_block *blocks;
};
#define WIRE_INIT { NULL }
struct amqp_table wire_fields(struct wire *wire, const struct json *object);
void wire_value(struct wire *wire, const struct json *node, struct amqp_value *out);
/* The fields of one table and copies of another's, texts and all, which live as long. They go on as they came: JSON has no name twice and
 * no bytes that are no text. */
struct amqp_table wire_add(struct wire *wire, struct amqp_table to, struct amqp_table more);
void wire_release(struct wire *wire);

#endif
