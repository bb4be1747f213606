/* A delivery goes in, a request comes out, or the reason why there is none. */
#include "workers/celery/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "workers/celery/request_parts.h"

#define YEARS_MAX_MS (INT64_C(100) * 366 * 86400 * 1000)

int request_wrong(struct err *err, const char *what)
{
	return err_set(err, ERR_INVALID, "%s", what);
}

bool request_time(struct slice text, int64_t *out)
{
	char zoned[64];

	if (clock_parse_rfc3339(text, out))
		return true;
	if (text.len >= sizeof(zoned) - 1)
		return false;
	snprintf(zoned, sizeof(zoned), "%.*sZ", (int)text.len, text.data);
	return clock_parse_rfc3339(slice_of(zoned), out);
}

static int read_time(struct slice text, int64_t *out, struct err *err, const char *what)
{
	if (text.len == 0 || request_time(text, out))
		return 0;
	return err_set(err, ERR_INVALID, "%s is no time: %.*s", what, (int)(text.len < 60 ? text.len : 60), text.data);
}

static int check(struct request *r, struct err *err)
{
	if (r->task.len == 0)
		return request_wrong(err, "there is no task name");
	if (r->id.len == 0)
		return request_wrong(err, "there is no task id");
	if (str_has_control(r->id)) /* handlers send it on in headers of HTTP and mail */
		return request_wrong(err, "there are control characters in the task id");
	if (r->id.len > REQUEST_ID_MAX)
		return err_set(err, ERR_INVALID, "the task id is longer than %d bytes", REQUEST_ID_MAX);
	if (r->retries > REQUEST_RETRIES_MAX)
		return request_wrong(err, "retries is out of range");
	if (read_time(r->eta, &r->eta_ms, err, "eta") < 0 || read_time(r->expires, &r->expires_ms, err, "expires") < 0)
		return -1;
	if (r->eta_ms > clock_wall_ms() + YEARS_MAX_MS)
		return request_wrong(err, "eta is more than a hundred years away");
	if (r->root_id.len == 0)
		r->root_id = r->id;
	return 0;
}

static int fill(struct request *r, const struct amqp_delivery *d, const struct signer *signer, struct err *err)
{
	const struct amqp_properties *p = &d->properties;

	r->redelivered = d->redelivered;
	r->priority = p->has_priority ? p->priority : REQUEST_NO_PRIORITY;
	r->reply_to = p->reply_to.len <= REQUEST_NAME_MAX ? p->reply_to : SLICE_NONE;
	r->correlation_id = p->correlation_id;
	r->exchange = d->exchange;
	r->routing_key = d->routing_key;
	if (d->body_size > AMQP_BODY_MAX)
		return err_set(err, ERR_INVALID, "the body has %llu bytes; %u are read", (unsigned long long)d->body_size, AMQP_BODY_MAX);
	if (request_headers(r, &p->headers, err) < 0)
		return -1;
	r->deliveries = r->counted + r->counted_by_broker;
	if (request_content(r, d, signer, err) < 0 || request_body(r, &p->headers, err) < 0)
		return -1;
	return check(r, err);
}

struct request *request_bare(struct amqp_delivery *delivery)
{
	struct request *r = mem_zalloc(sizeof(*r));

	r->stamps_memory = r->stamped_memory = r->body_memory = r->packed_memory = r->sealed_memory = r->texts_memory = (struct buf)BUF_INIT;
	r->delivery = delivery;
	return r;
}

struct request *request_read_signed(struct amqp_delivery *delivery, const struct signer *signer, struct err *err)
{
	struct request *r = request_bare(NULL);

	if (fill(r, delivery, signer, err) < 0) {
		request_free(r);
		return NULL;
	}
	r->delivery = delivery;
	return r;
}

struct request *request_read(struct amqp_delivery *delivery, struct err *err)
{
	return request_read_signed(delivery, NULL, err);
}

void request_free(struct request *r)
{
	if (r == NULL)
		return;
	json_free(r->tree);
	free(r->custom_fields);
	buf_release(&r->stamps_memory);
	buf_release(&r->stamped_memory);
	buf_release(&r->body_memory);
	buf_release(&r->packed_memory);
	buf_release(&r->sealed_memory);
	buf_release(&r->texts_memory);
	amqp_delivery_free(r->delivery);
	free(r);
}
