/* What is asked of RabbitMQ goes in, its answer comes out: topology, consuming, acknowledging, publishing. */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/queue/amqp_private.h"

#define NAME_MAX_BYTES 255

static amqp_bytes_t bytes(const char *name)
{
	return amqp_cstring_bytes(name);
}

static int check_name(const char *what, const char *name, struct err *err)
{
	if (strlen(name) > NAME_MAX_BYTES)
		return err_set(err, ERR_INVALID, "the name of an AMQP %s has %zu bytes; %d fit", what, strlen(name), NAME_MAX_BYTES);
	return 0;
}

/* All that a call needs: the connection, and names that fit. */
static int begin(const struct amqp *amqp, const char *what, const char *name, const char *other, struct err *err)
{
	if (check_name(what, name, err) < 0 || check_name(what, other, err) < 0)
		return -1;
	return amqp->is_open ? 0 : amqp_say_lost(amqp, err);
}

/* ---- topology */

int amqp_declare_exchange(struct amqp *amqp, const char *name, const char *type, int flags, struct amqp_table arguments, struct err *err)
{
	struct amqp_arena arena = { NULL };

	if (begin(amqp, "exchange", name, type, err) < 0)
		return -1;
	amqp_exchange_declare(amqp->link, AMQP_CHANNEL, bytes(name), bytes(type), !!(flags & AMQP_PASSIVE), !!(flags & AMQP_DURABLE),
		!!(flags & AMQP_AUTO_DELETE), !!(flags & AMQP_INTERNAL), table_to_library(&arena, arguments));
	arena_release(&arena);
	return amqp_check_reply(amqp, "declaring exchange", name, err);
}

int amqp_declare_queue(struct amqp *amqp, const char *name, int flags, struct amqp_table arguments, struct amqp_queue_state *out, struct err *err)
{
	struct amqp_arena arena = { NULL };
	const amqp_queue_declare_ok_t *ok;

	if (begin(amqp, "queue", name, "", err) < 0)
		return -1;
	ok = amqp_queue_declare(amqp->link, AMQP_CHANNEL, bytes(name), !!(flags & AMQP_PASSIVE), !!(flags & AMQP_DURABLE), !!(flags & AMQP_EXCLUSIVE),
		!!(flags & AMQP_AUTO_DELETE), table_to_library(&arena, arguments));
	arena_release(&arena);
	if (amqp_check_reply(amqp, "declaring queue", name, err) < 0)
		return -1;
	if (out != NULL) {
		const size_t len = ok->queue.len < sizeof(out->name) ? ok->queue.len : sizeof(out->name) - 1;

		memcpy(out->name, ok->queue.bytes, len);
		out->name[len] = '\0';
		out->messages = ok->message_count;
		out->consumers = ok->consumer_count;
	}
	return 0;
}

int amqp_bind_queue(struct amqp *amqp, const char *queue, const char *exchange, const char *routing_key, struct amqp_table arguments, struct err *err)
{
	struct amqp_arena arena = { NULL };

	if (begin(amqp, "queue", queue, "", err) < 0 || begin(amqp, "exchange or routing key", exchange, routing_key, err) < 0)
		return -1;
	amqp_queue_bind(amqp->link, AMQP_CHANNEL, bytes(queue), bytes(exchange), bytes(routing_key), table_to_library(&arena, arguments));
	arena_release(&arena);
	return amqp_check_reply(amqp, "binding queue", queue, err);
}

int amqp_unbind_queue(struct amqp *amqp, const char *queue, const char *exchange, const char *routing_key, struct err *err)
{
	if (begin(amqp, "queue", queue, "", err) < 0 || begin(amqp, "exchange or routing key", exchange, routing_key, err) < 0)
		return -1;
	amqp_queue_unbind(amqp->link, AMQP_CHANNEL, bytes(queue), bytes(exchange), bytes(routing_key), amqp_empty_table);
	return amqp_check_reply(amqp, "unbinding queue", queue, err);
}

int amqp_bind_exchange(struct amqp *amqp, const char *destination, const char *source, const char *routing_key, struct amqp_table arguments,
	struct err *err)
{
	struct amqp_arena arena = { NULL };

	if (begin(amqp, "exchange", destination, source, err) < 0 || begin(amqp, "routing key", routing_key, "", err) < 0)
		return -1;
	amqp_exchange_bind(amqp->link, AMQP_CHANNEL, bytes(destination), bytes(source), bytes(routing_key), table_to_library(&arena, arguments));
	arena_release(&arena);
	return amqp_check_reply(amqp, "binding exchange", destination, err);
}

int amqp_delete_queue(struct amqp *amqp, const char *name, struct err *err)
{
	if (begin(amqp, "queue", name, "", err) < 0)
		return -1;
	amqp_queue_delete(amqp->link, AMQP_CHANNEL, bytes(name), 0, 0);
	return amqp_check_reply(amqp, "deleting queue", name, err);
}

int amqp_purge_queue(struct amqp *amqp, const char *name, uint32_t *count, struct err *err)
{
	const amqp_queue_purge_ok_t *ok;

	if (begin(amqp, "queue", name, "", err) < 0)
		return -1;
	ok = amqp_queue_purge(amqp->link, AMQP_CHANNEL, bytes(name));
	if (amqp_check_reply(amqp, "purging queue", name, err) < 0)
		return -1;
	*count = ok->message_count;
	return 0;
}

/* ---- consuming */

/* Prefetch holds for the consumers made after it on this channel, each for itself. */
int amqp_consume(struct amqp *amqp, const char *queue, const char *tag, int flags, int prefetch, struct amqp_table arguments, struct err *err)
{
	struct amqp_arena arena = { NULL };

	if (begin(amqp, "queue or consumer", queue, tag, err) < 0)
		return -1;
	amqp_basic_qos(amqp->link, AMQP_CHANNEL, 0, (uint16_t)prefetch, 0);
	if (amqp_check_reply(amqp, "setting the prefetch of", queue, err) < 0)
		return -1;
	amqp_basic_consume(amqp->link, AMQP_CHANNEL, bytes(queue), bytes(tag), 0, !!(flags & AMQP_NO_ACK), !!(flags & AMQP_ONLY_ME),
		table_to_library(&arena, arguments));
	arena_release(&arena);
	return amqp_check_reply(amqp, "consuming", queue, err);
}

int amqp_cancel(struct amqp *amqp, const char *tag, struct err *err)
{
	if (begin(amqp, "consumer", tag, "", err) < 0)
		return -1;
	amqp_basic_cancel(amqp->link, AMQP_CHANNEL, bytes(tag));
	return amqp_check_reply(amqp, "cancelling", tag, err);
}

/* The answer names the message, its content follows behind what else was under way. */
static int wait_content(struct amqp *amqp, struct err *err)
{
	const int64_t deadline_ms = clock_mono_ms() + amqp->answer_timeout_ms;
	const struct parcel *wanted = amqp->got;

	while (amqp->got != wanted || !wanted->has_header) {
		const int64_t left_ms = deadline_ms - clock_mono_ms();

		if (left_ms <= 0)
			return amqp_is_lost(amqp, err, "RabbitMQ: a message did not come in time");
		if (amqp_pump(amqp, left_ms, err) < 0)
			return -1;
	}
	return 0;
}

int amqp_get(struct amqp *amqp, const char *queue, bool no_ack, struct amqp_delivery **out, struct err *err)
{
	const amqp_basic_get_ok_t *ok;
	amqp_rpc_reply_t reply;
	struct parcel *parcel;

	if (begin(amqp, "queue", queue, "", err) < 0)
		return -1;
	reply = amqp_basic_get(amqp->link, AMQP_CHANNEL, bytes(queue), no_ack);
	if (amqp_check_reply(amqp, "getting from", queue, err) < 0)
		return -1;
	*out = NULL;
	if (reply.reply.id != AMQP_BASIC_GET_OK_METHOD)
		return 0;
	ok = reply.reply.decoded;
	parcel = mem_zalloc(sizeof(*parcel));
	parcel->kind = PARCEL_GOT;
	parcel->delivery.generation = amqp->generation;
	parcel->delivery.exchange = arena_copy(&parcel->arena, ok->exchange);
	parcel->delivery.routing_key = arena_copy(&parcel->arena, ok->routing_key);
	parcel->delivery.tag = ok->delivery_tag;
	parcel->delivery.redelivered = ok->redelivered != 0;
	parcel->delivery.left = ok->message_count;
	amqp->got = parcel;
	if (wait_content(amqp, err) < 0)
		return -1;
	amqp->got = NULL;
	*out = &parcel->delivery;
	return 0;
}

/* ---- acknowledging */

static int begin_ack(struct amqp *amqp, uint64_t generation, struct err *err)
{
	if (generation != amqp->generation)
		return err_set(err, ERR_CONFLICT, "a delivery of an earlier connection: RabbitMQ has it queued again");
	return amqp->is_open ? 0 : amqp_say_lost(amqp, err);
}

static int sent(struct amqp *amqp, int rc, struct err *err)
{
	if (rc == AMQP_STATUS_OK)
		return 0;
	amqp->can_say_goodbye = false;
	return amqp_is_lost(amqp, err, "RabbitMQ, while sending: %s", amqp_error_string2(rc));
}

int amqp_ack(struct amqp *amqp, uint64_t generation, uint64_t tag, bool multiple, struct err *err)
{
	if (begin_ack(amqp, generation, err) < 0)
		return -1;
	return sent(amqp, amqp_basic_ack(amqp->link, AMQP_CHANNEL, tag, multiple), err);
}

int amqp_nack(struct amqp *amqp, uint64_t generation, uint64_t tag, bool multiple, bool requeue, struct err *err)
{
	if (begin_ack(amqp, generation, err) < 0)
		return -1;
	return sent(amqp, amqp_basic_nack(amqp->link, AMQP_CHANNEL, tag, multiple, requeue), err);
}

/* ---- publishing */

int amqp_confirm_publishes(struct amqp *amqp, struct err *err)
{
	const bool had = amqp->confirms;

	if (!amqp->is_open)
		return amqp_say_lost(amqp, err);
	amqp_confirm_select(amqp->link, AMQP_CHANNEL);
	if (amqp_check_reply(amqp, "asking for", "confirms", err) < 0)
		return -1;
	amqp->confirms = true;
	if (!had)
		amqp->published = 0;
	return 0;
}

/* The library sends the method before it sees that the properties do not fit, which would end the connection. */
static int check_size(const struct amqp *amqp, const struct amqp_properties *properties, struct err *err)
{
	const int frame = amqp_get_frame_max(amqp->link);
	const size_t most = frame > 0 && frame - 20 < AMQP_PROPERTIES_MAX ? (size_t)frame - 20 : AMQP_PROPERTIES_MAX;
	const size_t size = amqp_properties_size(properties);

	if (size > most)
		return err_set(err, ERR_INVALID, "the headers of an AMQP message take %zu bytes; %zu fit", size, most);
	return 0;
}

int amqp_publish(struct amqp *amqp, const struct amqp_message *message, uint64_t *sequence, struct err *err)
{
	struct amqp_arena arena = { NULL };
	amqp_basic_properties_t properties;
	int rc = -1;

	if (begin(amqp, "exchange or routing key", message->exchange, message->routing_key, err) < 0)
		goto out;
	if (amqp->is_blocked) {
		err_set(err, ERR_FULL, "RabbitMQ takes no messages now: it is out of memory or disk");
		goto out;
	}
	if (check_size(amqp, &message->properties, err) < 0 || properties_to_library(&arena, &message->properties, &properties, err) < 0)
		goto out;
	rc = sent(amqp, amqp_basic_publish(amqp->link, AMQP_CHANNEL, bytes(message->exchange), bytes(message->routing_key), message->mandatory, 0,
		&properties, bytes_of(message->body)), err);
	if (rc == 0 && amqp->confirms)
		amqp->published++;
	if (rc == 0 && sequence != NULL)
		*sequence = amqp->confirms ? amqp->published : 0;
out:
	arena_release(&arena);
	return rc;
}
