/* The exchange of the mailboxes goes in, whether any other node listens there comes out. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "workers/celery/control.h"

#define PATIENCE_MS 1000

/* A request for no node at all: a mandatory message comes back when there is no mailbox that it could go to. */
static int ask(struct amqp *amqp, const struct signer *signer, struct err *err)
{
	static const char text[] = "{\"method\":\"ping\",\"arguments\":{},\"destination\":[\"\"],\"pattern\":null,\"matcher\":null}";
	struct post *post = post_new(slice_of("celery.pidbox"), slice_of(""));
	int rc;

	post_json(post);
	post->message.mandatory = true;
	buf_add_str(&post->body, text);
	post->message.body = post_body(post, signer);
	rc = amqp_confirm_publishes(amqp, err) == 0 ? amqp_publish(amqp, &post->message, NULL, err) : -1;
	post_free(post);
	return rc;
}

/* On a connection of its own: one that publishes is not read while the broker is short of memory. */
bool control_is_alone(struct node *node)
{
	const int64_t until = clock_mono_ms() + PATIENCE_MS;
	struct amqp_event event = { .type = AMQP_EVENT_NONE };
	struct amqp *amqp = NULL;
	struct err err = ERR_INIT;
	bool is_alone = false;
	int rc;

	rc = amqp_open(node->settings, "job mingle", &amqp, &err);
	if (rc == 0)
		rc = ask(amqp, node->signer, &err);
	while (rc == 0 && event.type != AMQP_EVENT_CONFIRMED && clock_mono_ms() < until) {
		rc = amqp_next(amqp, until - clock_mono_ms(), &event, &err);
		if (rc == 0 && event.type == AMQP_EVENT_RETURNED) {
			is_alone = true;
			amqp_delivery_free(event.delivery);
		}
	}
	amqp_close(amqp);
	log_debug("looked for other nodes", log_str("found", rc < 0 ? "nobody knows" : is_alone ? "none" : "some"), log_err(&err));
	return is_alone;
}
