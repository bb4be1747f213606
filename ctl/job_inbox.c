/* A queue of this process's own is made, and messages that come to it go out, read as JSON. */
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/stop.h"
#include "ctl/job.h"

#define LOOK_MS 200 /* for a signal */
#define CONSUMER "feedctl"

static int bind(struct job_inbox *inbox, const char *exchange, const char *key, struct err *err)
{
	if (exchange == NULL)
		return 0;
	if (amqp_declare_exchange(inbox->amqp, exchange, "direct", 0, AMQP_NO_TABLE, err) < 0)
		return -1;
	return amqp_bind_queue(inbox->amqp, inbox->queue, exchange, key, AMQP_NO_TABLE, err);
}

int job_inbox_open(const struct settings *settings, const char *exchange, const char *key, struct job_inbox *out, struct err *err)
{
	const struct amqp_field arguments[] = { amqp_int("x-expires", 60000) }; /* should this process die and the connection hang */

	snprintf(out->queue, sizeof(out->queue), "%s%s%s", key, exchange != NULL ? "." : "", exchange != NULL ? exchange : "");
	if (amqp_open(settings, "feedctl job", &out->amqp, err) < 0)
		return -1;
	if (amqp_declare_queue(out->amqp, out->queue, AMQP_EXCLUSIVE | AMQP_AUTO_DELETE, AMQP_TABLE(arguments), NULL, err) < 0 ||
		bind(out, exchange, key, err) < 0)
		return -1;
	return amqp_consume(out->amqp, out->queue, CONSUMER, AMQP_NO_ACK, 100, AMQP_NO_TABLE, err);
}

void job_inbox_close(struct job_inbox *inbox)
{
	amqp_close(inbox->amqp);
}

/* NULL: it is no JSON, or not signed as it should be, and was told. */
static struct json *read_delivery(const struct signer *signer, const struct amqp_delivery *delivery)
{
	struct err why = ERR_INIT;
	struct slice type = delivery->properties.content_type, text = delivery->body;
	struct buf room = BUF_INIT;
	struct json *json = NULL;

	if (signer_read(signer, &type, &text, &room, &why) == 0)
		json = json_parse_answer(text, &why);
	if (json == NULL)
		fprintf(stderr, "feedctl job: an answer that can't be read: %s\n", why.message);
	buf_release(&room);
	return json;
}

int job_inbox_next(struct job_inbox *inbox, int64_t until_ms, struct json **out, struct err *err)
{
	while (!stop_requested()) {
		const int64_t left_ms = until_ms - clock_mono_ms();
		struct amqp_event event = { .type = AMQP_EVENT_NONE };

		if (left_ms <= 0)
			return 0;
		if (amqp_next(inbox->amqp, left_ms < LOOK_MS ? left_ms : LOOK_MS, &event, err) < 0)
			return -1;
		*out = event.type == AMQP_EVENT_DELIVERY ? read_delivery(inbox->signer, event.delivery) : NULL;
		amqp_delivery_free(event.delivery);
		if (event.type == AMQP_EVENT_RETURNED)
			return err_set(err, ERR_CONFLICT, "no job worker listens");
		if (*out != NULL)
			return 1;
	}
	return 0;
}
