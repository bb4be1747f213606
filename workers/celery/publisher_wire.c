/* Messages that wait go in, and out to RabbitMQ; its confirms and returns come back, and end them. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "workers/celery/arguments.h"
#include "workers/celery/publisher_parts.h"

#define WINDOW 1000         /* messages that may wait for their confirm */
#define NACK_MS 100         /* a message that RabbitMQ could not keep waits at least so long */

void publisher_disconnect(struct publisher *p, const struct err *why)
{
	const bool was_refused = p->amqp != NULL && why != NULL && amqp_was_refused(p->amqp);

	if (why != NULL && !p->was_told)
		log_warn("publishing connection lost", log_err(why));
	p->was_told = why != NULL;
	amqp_close(p->amqp);
	p->amqp = NULL;
	atomic_store(&p->is_connected, false);
	atomic_store(&p->is_blocked, false);
	if (was_refused)
		publisher_blame(p, why->message);
	publisher_forget_fleeting(p, &p->open);
	publisher_forget_fleeting(p, &p->waiting);
	if (!was_refused && p->suspects > 0)
		p->suspects += p->open.count;
	post_list_prepend(&p->waiting, &p->open);
	p->retry_at = clock_mono_ms() + backoff_next_ms(&p->backoff);
}

void publisher_connect(struct publisher *p)
{
	struct err err = ERR_INIT;

	if (clock_mono_ms() < p->retry_at)
		return;
	if (amqp_open(p->settings, "job publisher", &p->amqp, &err) < 0 || amqp_confirm_publishes(p->amqp, &err) < 0) {
		publisher_disconnect(p, &err);
		return;
	}
	backoff_reset(&p->backoff);
	p->was_told = false;
	p->sent = 0;
	atomic_store(&p->is_connected, true);
}

/* A mandatory message is known by its id. */
static void on_returned(struct publisher *p, const struct amqp_delivery *delivery)
{
	struct post *post = p->open.first;

	while (post != NULL && !(post->message.mandatory && slice_equal(post->message.properties.message_id, delivery->properties.message_id)))
		post = post->next;
	if (post != NULL)
		post->was_returned = true;
}

/* The queue that a message named was not there: as Celery does, it is made, and the message goes again, once. It is made as whoever
 * consumes it would make it, since nobody can declare it otherwise then. */
static int declare_for(struct publisher *p, struct post *post, struct err *err)
{
	struct arguments arguments;

	post->was_declared = true;
	post->was_returned = false;
	arguments_of(p->settings, post->message.routing_key, &arguments);
	return amqp_declare_queue(p->amqp, post->message.routing_key, AMQP_DURABLE, arguments.table, NULL, err);
}

static int confirm_one(struct publisher *p, struct post *post, bool is_ack, struct err *err)
{
	if (!is_ack) { /* the broker could not keep it: again, later */
		if (p->nacked.first == NULL) {
			p->nacked_at = clock_mono_ms() + backoff_next_ms(&p->nack_backoff) / 2 + NACK_MS;
			log_debug("RabbitMQ can't keep a message now", log_str("routing_key", post->message.routing_key));
		}
		post->was_nacked = true;
		post_list_add(&p->nacked, post);
		return 0;
	}
	if (post->was_nacked)
		backoff_reset(&p->nack_backoff);
	if (!post->was_returned) {
		publisher_done(p, post, true);
		return 0;
	}
	if (post->was_declared || post->message.exchange[0] != '\0') {
		log_warn("a message that no queue takes", log_str("exchange", post->message.exchange), log_str("routing_key", post->message.routing_key));
		publisher_done(p, post, false);
		return 0;
	}
	post_list_add(&p->waiting, post);
	return declare_for(p, post, err);
}

static int on_confirmed(struct publisher *p, const struct amqp_event *event, struct err *err)
{
	struct post_list left;
	struct post *post;
	int rc = 0;

	post_list_init(&left);
	while (rc == 0 && (post = p->open.first) != NULL && post->number <= event->sequence) {
		post = post_list_take(&p->open);
		if (event->multiple || post->number == event->sequence)
			rc = confirm_one(p, post, event->is_ack, err);
		else
			post_list_add(&left, post);
	}
	post_list_prepend(&p->open, &left);
	return rc;
}

int publisher_read(struct publisher *p, struct err *err)
{
	struct amqp_event event;

	do {
		int rc = 0;

		if (amqp_next(p->amqp, 0, &event, err) < 0)
			return -1;
		if (event.type == AMQP_EVENT_CONFIRMED)
			rc = on_confirmed(p, &event, err);
		else if (event.type == AMQP_EVENT_RETURNED)
			on_returned(p, event.delivery);
		else if (event.type == AMQP_EVENT_BLOCKED)
			log_warn("RabbitMQ takes no messages for now", log_str("why", event.text));
		if (event.type == AMQP_EVENT_RETURNED || event.type == AMQP_EVENT_DELIVERY)
			amqp_delivery_free(event.delivery);
		if (rc < 0)
			return -1;
	} while (event.type != AMQP_EVENT_NONE);
	atomic_store(&p->is_blocked, amqp_is_blocked(p->amqp));
	return 0;
}

/* One that is sent again has the id that it had. */
static void give_id(struct publisher *p, struct post *post)
{
	char id[64];

	if (!post->message.mandatory || post->message.properties.message_id.len > 0)
		return;
	snprintf(id, sizeof(id), "%s.%llu", p->name, (unsigned long long)++p->named);
	post->message.properties.message_id = post_keep(post, slice_of(id));
}

static int send_one(struct publisher *p, struct post *post, struct err *err)
{
	give_id(p, post);
	post->message.body = post_body(post, p->signer);
	if (post->is_broken)
		return err_set(err, ERR_INVALID, "its headers can't be written");
	if (post->is_next && post->message.body.len > AMQP_BODY_MAX)
		return err_set(err, ERR_INVALID, "the body has %zu bytes; %u are read", post->message.body.len, AMQP_BODY_MAX);
	if (publisher_is_missing(p, post->message.exchange))
		return err_set(err, ERR_INVALID, "there is no exchange of that name");
	return amqp_publish(p->amqp, &post->message, &post->number, err);
}

int publisher_send_waiting(struct publisher *p, struct err *err)
{
	struct post *post;

	while (p->open.count < (p->suspects > 0 ? 1 : WINDOW) && p->waiting.first != NULL && !amqp_is_blocked(p->amqp)) {
		struct err why = ERR_INIT;

		post = post_list_take(&p->waiting);
		if (send_one(p, post, &why) == 0) {
			p->sent = post->number;
			post_list_add(&p->open, post);
			p->suspects -= p->suspects > 0;
			continue;
		}
		if (why.kind == ERR_INVALID && amqp_is_open(p->amqp)) {
			p->suspects -= p->suspects > 0;
			publisher_refuse(p, post, why.message);
			continue;
		}
		post_list_push(&p->waiting, post);
		*err = why;
		return why.kind == ERR_FULL ? 0 : -1;
	}
	return 0;
}
