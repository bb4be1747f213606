/* A URL goes in, a connection to RabbitMQ comes out, and what comes in by it, one event at a time.
 *
 * rabbitmq-c aborts the process when its calls come in an order that it does not expect. So nothing here but amqp_open()
 * talks before the connection is up, nothing talks after it is lost, and contents are put together here, frame by frame, and
 * not by its helpers, which wait without a deadline. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/queue/amqp_private.h"

#define USER_TIMEOUT_MS 10000 /* of bytes that the server's system does not take: publishing has no other deadline */
#define FRAME_MAX 131072
#define GOODBYE_MS 2000

static atomic_uint_fast64_t generations;

static struct timeval timeval_of(int64_t ms)
{
	return (struct timeval){ (time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000 };
}

/* ---- being lost */

int amqp_say_lost(const struct amqp *amqp, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "%s", amqp->why_lost);
}

int amqp_is_lost(struct amqp *amqp, struct err *err, const char *format, ...)
{
	va_list arguments;

	if (amqp->is_open) {
		va_start(arguments, format);
		vsnprintf(amqp->why_lost, sizeof(amqp->why_lost), format, arguments);
		va_end(arguments);
	}
	amqp->is_open = false;
	return amqp_say_lost(amqp, err);
}

/* "404 NOT_FOUND - no queue 'x' in vhost '/'" */
static void server_words(const amqp_method_t *method, char *out, size_t size)
{
	const amqp_channel_close_t *channel = method->decoded;
	const amqp_connection_close_t *connection = method->decoded;
	const bool is_channel = method->id == AMQP_CHANNEL_CLOSE_METHOD;
	const amqp_bytes_t text = is_channel ? channel->reply_text : connection->reply_text;

	snprintf(out, size, "%d %.*s", is_channel ? channel->reply_code : connection->reply_code, (int)text.len, (const char *)text.bytes);
}

static bool is_close(const amqp_method_t *method)
{
	return method->id == AMQP_CHANNEL_CLOSE_METHOD || method->id == AMQP_CONNECTION_CLOSE_METHOD;
}

int amqp_check_reply(struct amqp *amqp, const char *doing, const char *name, struct err *err)
{
	const amqp_rpc_reply_t reply = amqp_get_rpc_reply(amqp->link);
	char words[200];

	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return 0;
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && is_close(&reply.reply)) {
		server_words(&reply.reply, words, sizeof(words));
		amqp->can_say_goodbye = reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD;
		amqp_is_lost(amqp, err, "RabbitMQ, while %s %s: %s", doing, name, words);
		if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
			err->kind = ERR_INVALID;
		return -1;
	}
	amqp->can_say_goodbye = false;
	return amqp_is_lost(amqp, err, "RabbitMQ, while %s %s: %s", doing, name,
		reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? amqp_error_string2(reply.library_error) : "the connection ended");
}

/* ---- opening */

static int open_socket(struct amqp *amqp, const struct settings *settings, const struct amqp_connection_info *info, struct err *err)
{
	const struct timeval timeout = timeval_of(settings->amqp.connect_timeout_ms);
	amqp_socket_t *socket = info->ssl ? amqp_ssl_socket_new(amqp->link) : amqp_tcp_socket_new(amqp->link);
	const int user_timeout_ms = USER_TIMEOUT_MS;
	int rc;

	if (socket == NULL)
		return err_set(err, ERR_UNAVAILABLE, "can't make a socket for RabbitMQ");
	if (info->ssl) {
		amqp_ssl_socket_set_verify_peer(socket, 1);
		amqp_ssl_socket_set_verify_hostname(socket, 1);
		if (amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST) != AMQP_STATUS_OK ||
			amqp_ssl_socket_set_cacert(socket, settings->amqp.ca_file) != AMQP_STATUS_OK)
			return err_set(err, ERR_FATAL, "setting amqp.ca_file: %s can't be used", settings->amqp.ca_file);
	}
	rc = amqp_socket_open_noblock(socket, info->host, info->port, &timeout);
	if (rc <= AMQP_STATUS_SSL_ERROR && rc > _AMQP_STATUS_SSL_NEXT_VALUE) /* the library does not say which of them it was */
		return err_set(err, ERR_UNAVAILABLE, "RabbitMQ at %s:%d: %s: its certificate must be signed by a CA of amqp.ca_file (%s) and be for %s",
			info->host, info->port, amqp_error_string2(rc), settings->amqp.ca_file, info->host);
	if (rc != AMQP_STATUS_OK)
		return err_set(err, ERR_UNAVAILABLE, "RabbitMQ at %s:%d: %s", info->host, info->port, amqp_error_string2(rc));
	setsockopt(amqp_get_sockfd(amqp->link), IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
	return 0;
}

/* Without these two, a deleted queue or an alarm leaves the client waiting in silence. */
static amqp_rpc_reply_t login(struct amqp *amqp, const struct settings *settings, const struct amqp_connection_info *info, const char *purpose)
{
	amqp_table_entry_t capabilities[2] = {
		{ amqp_cstring_bytes("consumer_cancel_notify"), { .kind = AMQP_FIELD_KIND_BOOLEAN, .value = { .boolean = 1 } } },
		{ amqp_cstring_bytes("connection.blocked"), { .kind = AMQP_FIELD_KIND_BOOLEAN, .value = { .boolean = 1 } } },
	};
	amqp_table_entry_t properties[3] = {
		{ amqp_cstring_bytes("capabilities"), { .kind = AMQP_FIELD_KIND_TABLE, .value = { .table = { 2, capabilities } } } },
		{ amqp_cstring_bytes("product"), { .kind = AMQP_FIELD_KIND_UTF8, .value = { .bytes = amqp_cstring_bytes("Feedmill") } } },
		{ amqp_cstring_bytes("connection_name"), { .kind = AMQP_FIELD_KIND_UTF8, .value = { .bytes = amqp_cstring_bytes(purpose) } } },
	};
	const amqp_table_t table = { 3, properties };

	return amqp_login_with_properties(amqp->link, info->vhost, 0, FRAME_MAX, (int)settings->amqp.heartbeat_s, &table, AMQP_SASL_METHOD_PLAIN,
		info->user, info->password);
}

static int say_refused(const amqp_rpc_reply_t *reply, const struct amqp_connection_info *info, struct err *err)
{
	char words[200] = "it ended the connection (wrong account?)";

	if (reply->reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && is_close(&reply->reply))
		server_words(&reply->reply, words, sizeof(words));
	else if (reply->reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		snprintf(words, sizeof(words), "%s", amqp_error_string2(reply->library_error));
	return err_set(err, ERR_UNAVAILABLE, "RabbitMQ at %s:%d, account %s: %s", info->host, info->port, info->user, words);
}

static int connect_link(struct amqp *amqp, const struct settings *settings, const struct amqp_connection_info *info, const char *purpose,
	struct err *err)
{
	const struct timeval handshake = timeval_of(settings->amqp.connect_timeout_ms);
	const struct timeval answer = timeval_of(settings->amqp.answer_timeout_ms);
	amqp_rpc_reply_t reply;

	amqp->link = amqp_new_connection();
	if (amqp->link == NULL)
		return err_set(err, ERR_UNAVAILABLE, "rabbitmq-c has no memory for a connection");
	amqp_set_handshake_timeout(amqp->link, &handshake);
	amqp_set_rpc_timeout(amqp->link, &answer);
	if (open_socket(amqp, settings, info, err) < 0)
		return -1;
	reply = login(amqp, settings, info, purpose);
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		return say_refused(&reply, info, err);
	amqp->is_open = amqp->can_say_goodbye = true;
	amqp_channel_open(amqp->link, AMQP_CHANNEL);
	return amqp_check_reply(amqp, "opening", "a channel", err);
}

/* Cuts the copy `url` into info. The URL is not shown: it is a secret. */
static int parse_url(const struct settings *settings, char *url, struct amqp_connection_info *info, struct err *err)
{
	amqp_default_connection_info(info);
	if (amqp_parse_url(url, info) != AMQP_STATUS_OK)
		return err_set(err, ERR_FATAL, "setting amqp.url is no URL like amqp://user:password@host:5672/vhost");
	if (info->ssl && settings->amqp.ca_file[0] == '\0')
		return err_set(err, ERR_FATAL, "setting amqp.url is for TLS: amqp.ca_file must say which CA signs "
			"(Debian's: /etc/ssl/certs/ca-certificates.crt)");
	return 0;
}

int amqp_check_settings(const struct settings *settings, struct err *err)
{
	char *url = mem_strdup(settings->amqp.url);
	struct amqp_connection_info info;
	const int rc = parse_url(settings, url, &info, err);

	free(url);
	return rc;
}

int amqp_open(const struct settings *settings, const char *purpose, struct amqp **out, struct err *err)
{
	struct amqp *amqp = mem_zalloc(sizeof(*amqp));
	char *url = mem_strdup(settings->amqp.url);
	struct amqp_connection_info info;
	int rc;

	amqp->generation = atomic_fetch_add(&generations, 1) + 1;
	amqp->answer_timeout_ms = settings->amqp.answer_timeout_ms;
	rc = parse_url(settings, url, &info, err);
	if (rc == 0)
		rc = connect_link(amqp, settings, &info, purpose, err);
	if (rc == 0)
		*out = amqp;
	else
		amqp_close(amqp);
	free(url);
	return rc;
}

bool amqp_is_open(const struct amqp *amqp)
{
	return amqp->is_open;
}

bool amqp_was_refused(const struct amqp *amqp)
{
	return amqp->was_refused;
}

bool amqp_is_blocked(const struct amqp *amqp)
{
	return amqp->is_blocked;
}

int amqp_fd(const struct amqp *amqp)
{
	return amqp_get_sockfd(amqp->link);
}

uint64_t amqp_generation(const struct amqp *amqp)
{
	return amqp->generation;
}

const char *amqp_library(void)
{
	return "rabbitmq-c " AMQ_VERSION_STRING;
}

/* ---- closing */

void amqp_delivery_free(struct amqp_delivery *delivery)
{
	struct parcel *parcel = (struct parcel *)delivery;

	if (parcel == NULL)
		return;
	arena_release(&parcel->arena);
	free(parcel);
}

/* While blocked the server reads nothing, so that an answer can't come. */
void amqp_close(struct amqp *amqp)
{
	const struct timeval patience = timeval_of(GOODBYE_MS);

	if (amqp == NULL)
		return;
	if (amqp->link != NULL && amqp->can_say_goodbye && !amqp->is_blocked) {
		amqp_set_rpc_timeout(amqp->link, &patience);
		amqp_connection_close(amqp->link, AMQP_REPLY_SUCCESS);
	}
	if (amqp->link != NULL)
		amqp_destroy_connection(amqp->link);
	while (amqp->first != NULL) {
		struct amqp_ready *ready = amqp->first;

		amqp->first = ready->next;
		amqp_delivery_free(ready->event.delivery);
		free(ready);
	}
	amqp_delivery_free((struct amqp_delivery *)amqp->coming);
	amqp_delivery_free((struct amqp_delivery *)amqp->got);
	free(amqp);
}

/* ---- frames */

static struct amqp_event *push(struct amqp *amqp, enum amqp_event_type type)
{
	struct amqp_ready *ready = mem_zalloc(sizeof(*ready));

	ready->event.type = type;
	if (amqp->first == NULL)
		amqp->first = ready;
	else
		amqp->last->next = ready;
	amqp->last = ready;
	return &ready->event;
}

static void set_text(char *out, size_t size, amqp_bytes_t bytes)
{
	snprintf(out, size, "%.*s", (int)bytes.len, bytes.bytes != NULL ? (const char *)bytes.bytes : "");
}

static struct parcel *parcel_new(struct amqp *amqp, int kind, amqp_bytes_t exchange, amqp_bytes_t routing_key)
{
	struct parcel *parcel = mem_zalloc(sizeof(*parcel));

	parcel->kind = kind;
	parcel->delivery.generation = amqp->generation;
	parcel->delivery.exchange = arena_copy(&parcel->arena, exchange);
	parcel->delivery.routing_key = arena_copy(&parcel->arena, routing_key);
	return parcel;
}

static void on_deliver(struct amqp *amqp, const amqp_basic_deliver_t *deliver)
{
	struct parcel *parcel = parcel_new(amqp, PARCEL_DELIVERED, deliver->exchange, deliver->routing_key);

	parcel->delivery.consumer = arena_copy(&parcel->arena, deliver->consumer_tag);
	parcel->delivery.tag = deliver->delivery_tag;
	parcel->delivery.redelivered = deliver->redelivered != 0;
	amqp->coming = parcel;
}

static void on_return(struct amqp *amqp, const amqp_basic_return_t *returned)
{
	struct parcel *parcel = parcel_new(amqp, PARCEL_RETURNED, returned->exchange, returned->routing_key);

	parcel->code = returned->reply_code;
	parcel->text = arena_copy(&parcel->arena, returned->reply_text);
	amqp->coming = parcel;
}

static void on_confirm(struct amqp *amqp, uint64_t sequence, bool multiple, bool is_ack)
{
	struct amqp_event *event = push(amqp, AMQP_EVENT_CONFIRMED);

	event->sequence = sequence;
	event->multiple = multiple;
	event->is_ack = is_ack;
}

static void on_cancel(struct amqp *amqp, const amqp_basic_cancel_t *cancel)
{
	struct amqp_event *event = push(amqp, AMQP_EVENT_CANCELLED);

	set_text(event->consumer, sizeof(event->consumer), cancel->consumer_tag);
}

static void on_blocked(struct amqp *amqp, const amqp_connection_blocked_t *blocked)
{
	struct amqp_event *event = push(amqp, AMQP_EVENT_BLOCKED);

	amqp->is_blocked = true;
	set_text(event->text, sizeof(event->text), blocked->reason);
}

static int on_close(struct amqp *amqp, const amqp_method_t *method, struct err *err)
{
	char words[200];

	server_words(method, words, sizeof(words));
	amqp->was_refused = method->id == AMQP_CHANNEL_CLOSE_METHOD;
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
		amqp_connection_close_ok_t ok = { 0 };

		amqp_send_method(amqp->link, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
		amqp->can_say_goodbye = false;
	}
	return amqp_is_lost(amqp, err, "RabbitMQ ended the %s: %s", method->id == AMQP_CHANNEL_CLOSE_METHOD ? "channel" : "connection", words);
}

static int on_method(struct amqp *amqp, const amqp_method_t *method, struct err *err)
{
	const amqp_basic_ack_t *ack = method->decoded;
	const amqp_basic_nack_t *nack = method->decoded;

	switch (method->id) {
	case AMQP_BASIC_DELIVER_METHOD:
	case AMQP_BASIC_RETURN_METHOD:
		if (amqp->coming != NULL) {
			amqp->can_say_goodbye = false;
			return amqp_is_lost(amqp, err, "RabbitMQ began a message inside of another");
		}
		if (method->id == AMQP_BASIC_DELIVER_METHOD)
			on_deliver(amqp, method->decoded);
		else
			on_return(amqp, method->decoded);
		return 0;
	case AMQP_BASIC_ACK_METHOD: on_confirm(amqp, ack->delivery_tag, ack->multiple != 0, true); return 0;
	case AMQP_BASIC_NACK_METHOD: on_confirm(amqp, nack->delivery_tag, nack->multiple != 0, false); return 0;
	case AMQP_BASIC_CANCEL_METHOD: on_cancel(amqp, method->decoded); return 0;
	case AMQP_CONNECTION_BLOCKED_METHOD: on_blocked(amqp, method->decoded); return 0;
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		amqp->is_blocked = false;
		push(amqp, AMQP_EVENT_UNBLOCKED);
		return 0;
	case AMQP_CHANNEL_CLOSE_METHOD:
	case AMQP_CONNECTION_CLOSE_METHOD: return on_close(amqp, method, err);
	default: return 0; /* nothing of ours */
	}
}

static void finish(struct amqp *amqp)
{
	struct parcel *parcel = amqp->coming;
	struct amqp_event *event;

	amqp->coming = NULL;
	if (parcel->kind == PARCEL_GOT) {
		amqp->got = parcel;
		return;
	}
	event = push(amqp, parcel->kind == PARCEL_RETURNED ? AMQP_EVENT_RETURNED : AMQP_EVENT_DELIVERY);
	event->delivery = &parcel->delivery;
	if (parcel->kind == PARCEL_RETURNED) {
		event->code = parcel->code;
		set_text(event->text, sizeof(event->text), bytes_of(parcel->text));
	}
}

static int on_header(struct amqp *amqp, const amqp_frame_t *frame, struct err *err)
{
	struct parcel *parcel;

	if (amqp->coming == NULL) { /* the content of what amqp_get() asked for */
		amqp->coming = amqp->got;
		amqp->got = NULL;
	}
	parcel = amqp->coming;
	if (parcel == NULL || parcel->has_header) {
		amqp->can_say_goodbye = false;
		return amqp_is_lost(amqp, err, "RabbitMQ sent a message of %llu bytes that nobody waits for",
			(unsigned long long)frame->payload.properties.body_size);
	}
	parcel->has_header = true;
	properties_from_library(&parcel->arena, frame->payload.properties.decoded, &parcel->delivery.properties, &parcel->delivery.is_cut);
	parcel->size = parcel->delivery.body_size = frame->payload.properties.body_size;
	parcel->body = arena_get(&parcel->arena, parcel->size > AMQP_BODY_MAX ? 1 : (size_t)parcel->size + 1);
	parcel->delivery.body.data = parcel->body;
	if (parcel->size == 0)
		finish(amqp);
	return 0;
}

static int on_body(struct amqp *amqp, amqp_bytes_t bytes, struct err *err)
{
	struct parcel *parcel = amqp->coming;

	if (parcel == NULL || !parcel->has_header || bytes.len > parcel->size - parcel->came) {
		amqp->can_say_goodbye = false;
		return amqp_is_lost(amqp, err, "RabbitMQ sent more of a message than it has");
	}
	if (bytes.len > 0 && parcel->size <= AMQP_BODY_MAX) {
		memcpy(parcel->body + parcel->came, bytes.bytes, bytes.len);
		parcel->delivery.body.len += bytes.len;
	}
	parcel->came += bytes.len;
	if (parcel->came == parcel->size)
		finish(amqp);
	return 0;
}

int amqp_pump(struct amqp *amqp, int64_t timeout_ms, struct err *err)
{
	const struct timeval timeout = timeval_of(timeout_ms);
	amqp_frame_t frame;
	int rc = amqp_simple_wait_frame_noblock(amqp->link, &frame, &timeout);

	if (rc == AMQP_STATUS_TIMEOUT)
		return 0;
	if (rc != AMQP_STATUS_OK) {
		amqp->can_say_goodbye = false;
		return amqp_is_lost(amqp, err, "RabbitMQ: %s", amqp_error_string2(rc));
	}
	rc = 0;
	if (frame.frame_type == AMQP_FRAME_METHOD)
		rc = on_method(amqp, &frame.payload.method, err);
	else if (frame.frame_type == AMQP_FRAME_HEADER)
		rc = on_header(amqp, &frame, err);
	else if (frame.frame_type == AMQP_FRAME_BODY)
		rc = on_body(amqp, frame.payload.body_fragment, err);
	amqp_maybe_release_buffers(amqp->link); /* all is copied */
	return rc < 0 ? -1 : 1;
}

int amqp_next(struct amqp *amqp, int64_t timeout_ms, struct amqp_event *out, struct err *err)
{
	const int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	struct amqp_ready *ready;

	while (amqp->first == NULL) {
		const int64_t left_ms = deadline_ms - clock_mono_ms();
		int rc;

		if (!amqp->is_open)
			return amqp_say_lost(amqp, err);
		rc = amqp_pump(amqp, left_ms > 0 ? left_ms : 0, err);
		if (rc < 0)
			return -1;
		if (rc == 0 && clock_mono_ms() >= deadline_ms) {
			*out = (struct amqp_event){ .type = AMQP_EVENT_NONE };
			return 0;
		}
	}
	ready = amqp->first;
	amqp->first = ready->next;
	*out = ready->event;
	free(ready);
	return 0;
}
