/* Texts go in, a message that owns them comes out. */
#include "workers/celery/post.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "workers/celery/msgpack.h"

struct post_text {
	struct post_text *next;
	char text[];
};

struct slice post_keep(struct post *post, struct slice text)
{
	struct post_text *copy;

	if (text.len == 0)
		return slice_of("");
	copy = mem_alloc(sizeof(*copy) + text.len + 1);
	memcpy(copy->text, text.data, text.len);
	copy->text[text.len] = '\0';
	copy->next = post->texts;
	post->texts = copy;
	return (struct slice){ copy->text, text.len };
}

struct post *post_new(struct slice exchange, struct slice routing_key)
{
	struct post *post = mem_zalloc(sizeof(*post));

	post->body = post->packed = post->sealed = (struct buf)BUF_INIT;
	post->message.exchange = post_keep(post, exchange).data;
	post->message.routing_key = post_keep(post, routing_key).data;
	post->message.properties.delivery_mode = 1;
	return post;
}

void post_headers(struct post *post, struct slice json)
{
	struct err err = ERR_INIT;

	json_free(post->headers);
	wire_release(&post->wire);
	post->message.properties.headers = AMQP_NO_TABLE;
	post->headers = json_parse_answer(json, &err);
	post->is_broken = post->headers == NULL;
	if (post->is_broken)
		return;
	post->message.properties.headers = wire_fields(&post->wire, post->headers);
	post->message.properties.has_headers = true;
}

void post_add_headers(struct post *post, struct amqp_table more)
{
	struct amqp_properties *p = &post->message.properties;

	p->headers = wire_add(&post->wire, p->headers, more);
	p->has_headers = true;
}

void post_json(struct post *post)
{
	post->message.properties.content_type = slice_of("application/json");
	post->message.properties.content_encoding = slice_of("utf-8");
	post->is_json = true;
}

static struct slice sealed_body(struct post *post, const struct signer *signer, struct slice json)
{
	if (post->sealed.len == 0)
		signer_sign(signer, json, &post->sealed);
	post->message.properties.content_type = slice_of(SIGNER_CONTENT_TYPE);
	return (struct slice){ post->sealed.data, post->sealed.len };
}

struct slice post_body(struct post *post, const struct signer *signer)
{
	const struct slice json = { post->body.data, post->body.len };

	if (signer != NULL && post->is_json && !post->is_plain)
		return sealed_body(post, signer, json);
	if (post->is_packing && post->packed.len == 0)
		post->is_packing = msgpack_from_json(json, &post->packed);
	if (!post->is_packing)
		return json;
	post->message.properties.content_type = slice_of(MSGPACK_TYPE);
	post->message.properties.content_encoding = slice_of(MSGPACK_ENCODING);
	return (struct slice){ post->packed.data, post->packed.len };
}

void post_free(struct post *post)
{
	if (post == NULL)
		return;
	while (post->texts != NULL) {
		struct post_text *text = post->texts;

		post->texts = text->next;
		free(text);
	}
	json_free(post->headers);
	wire_release(&post->wire);
	buf_release(&post->body);
	buf_release(&post->packed);
	buf_release(&post->sealed);
	free(post);
}
