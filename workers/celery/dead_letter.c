/* A delivery that nobody here can do goes in, its dead letter comes out: as it came, and why. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "workers/celery/finish.h"
#include "workers/celery/node.h"

#define SHORT_HEADERS 64
#define SHORT_BYTES 256
#define DEAD_SPARE 4096 /* for what the broker adds */
#define REASONS 3

/* is_short: they take a frame nearly alone, what is large is left out. */
static void add_headers(struct post *post, const struct node *node, const struct amqp_delivery *delivery, const char *why, bool is_short)
{
	const struct amqp_table *headers = &delivery->properties.headers;
	const size_t most = is_short && headers->count > SHORT_HEADERS ? SHORT_HEADERS : headers->count;
	struct amqp_field *fields = mem_array(most + REASONS, sizeof(*fields));
	size_t count = 0;
	char queue[256];

	for (size_t i = 0; i < most; i++) {
		const struct amqp_value *value = &headers->fields[i].value;

		if (strncmp(headers->fields[i].name, "x-feed-", 7) == 0)
			continue;
		if (!is_short || (value->items.count == 0 && value->text.len <= SHORT_BYTES))
			fields[count++] = headers->fields[i];
	}
	snprintf(queue, sizeof(queue), "%.*s", (int)delivery->routing_key.len, delivery->routing_key.data);
	fields[count++] = amqp_text("x-feed-reason", slice_of(why));
	fields[count++] = amqp_text("x-feed-node", slice_of(node->name));
	fields[count++] = amqp_text("x-feed-queue", slice_of(queue));
	post_add_headers(post, (struct amqp_table){ fields, count });
	free(fields);
}

static struct post *make(const struct node *node, const struct amqp_delivery *delivery, const char *why, bool is_short)
{
	const struct amqp_properties *p = &delivery->properties;
	const char *queue = node->settings->job.dead_letter_queue;
	struct post *post;

	if (queue[0] == '\0')
		return NULL;
	post = post_new(slice_of(""), slice_of(queue));
	add_headers(post, node, delivery, why, is_short);
	post->message.properties.content_type = post_keep(post, p->content_type);
	post->message.properties.content_encoding = post_keep(post, p->content_encoding);
	post->message.properties.correlation_id = post_keep(post, p->correlation_id.len <= 255 ? p->correlation_id : SLICE_NONE);
	post->message.properties.reply_to = post_keep(post, p->reply_to.len <= 255 ? p->reply_to : SLICE_NONE);
	post->message.properties.delivery_mode = 2;
	post->message.mandatory = true;
	post->is_lasting = true;
	buf_add(&post->body, delivery->body.data, delivery->body.len);
	return post;
}

struct post *dead_letter(const struct node *node, const struct amqp_delivery *delivery, const char *why)
{
	struct post *post = make(node, delivery, why, false);

	if (post == NULL || amqp_properties_size(&post->message.properties) + DEAD_SPARE <= AMQP_PROPERTIES_MAX)
		return post;
	post_free(post);
	return make(node, delivery, why, true);
}
