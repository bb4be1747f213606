/* A RabbitMQ queue's messages go in, each is acknowledged, their count comes out.
 *   AMQP_HOST AMQP_PORT AMQP_USER AMQP_PASSWORD AMQP_VHOST  QUEUE  MESSAGES  PREFETCH=256 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>

#include "bench/floors/floor.h"

static void want_reply(amqp_rpc_reply_t reply, const char *what)
{
	floor_want(reply.reply_type == AMQP_RESPONSE_NORMAL, what);
}

int main(int argc, char **argv)
{
	amqp_connection_state_t link = amqp_new_connection();
	long messages, seen = 0;
	double began = 0;

	floor_options(argc, argv);
	messages = floor_number("MESSAGES", 0);
	floor_want(amqp_socket_open(amqp_tcp_socket_new(link), floor_text("AMQP_HOST", "127.0.0.1"), (int)floor_number("AMQP_PORT", 5672)) == 0, "connect");
	want_reply(amqp_login(link, floor_text("AMQP_VHOST", "/"), 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, floor_text("AMQP_USER", "guest"),
			   floor_text("AMQP_PASSWORD", "guest")), "login");
	amqp_channel_open(link, 1);
	want_reply(amqp_get_rpc_reply(link), "channel");
	amqp_basic_qos(link, 1, 0, (uint16_t)floor_number("PREFETCH", 256), 0);
	want_reply(amqp_get_rpc_reply(link), "qos");
	amqp_basic_consume(link, 1, amqp_cstring_bytes(floor_text("QUEUE", NULL)), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	want_reply(amqp_get_rpc_reply(link), "consume");
	while (seen < messages) {
		amqp_envelope_t envelope;

		amqp_maybe_release_buffers(link);
		want_reply(amqp_consume_message(link, &envelope, NULL, 0), "a message");
		if (seen++ == 0)
			began = floor_now();
		floor_want(amqp_basic_ack(link, 1, envelope.delivery_tag, 0) == 0, "ack");
		amqp_destroy_envelope(&envelope);
	}
	floor_report("messages_per_s", (double)messages / (floor_now() - began));
	amqp_connection_close(link, AMQP_REPLY_SUCCESS);
	return 0;
}
