/* A message goes in; its body as a text of JSON comes out, whatever that was packed in. */
#include "workers/celery/msgpack.h"
#include "workers/celery/request_parts.h"
#include "workers/celery/unpack.h"

static struct slice header_text(const struct amqp_delivery *d, const char *name)
{
	const struct amqp_value *value = amqp_table_value(&d->properties.headers, name);

	return value != NULL && value->type == AMQP_VALUE_TEXT ? value->text : SLICE_NONE;
}

static int check_content(struct slice content_type, struct slice encoding, struct err *err)
{
	static const char *const encodings[] = { "utf-8", "utf8", "us-ascii", "base64", "binary" };
	struct slice rest = content_type, type = slice_trim(slice_cut(&rest, ';'));

	if (type.len > 0 && !slice_is_nocase(type, "application/json") && !msgpack_is(type))
		return err_set(err, ERR_INVALID, "content type \"%.*s\" is refused: application/json and " MSGPACK_TYPE " are read",
			(int)(type.len < 80 ? type.len : 80), type.data);
	if (encoding.len == 0)
		return 0;
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
		if (slice_is_nocase(encoding, encodings[i]))
			return 0;
	return err_set(err, ERR_INVALID, "content encoding \"%.*s\" is not known here", (int)(encoding.len < 80 ? encoding.len : 80), encoding.data);
}

/* With a signer as Celery with accept_content = ["auth"]: also what says no type may be signed. */
static int check_message(const struct amqp_properties *p, const struct signer *signer, struct err *err)
{
	const bool is_signed = slice_is_nocase(p->content_type, SIGNER_CONTENT_TYPE);

	if (signer == NULL && is_signed)
		return request_wrong(err, "content type \"" SIGNER_CONTENT_TYPE "\" is refused: the message is signed, and setting job.security_key is empty");
	if (signer == NULL)
		return check_content(p->content_type, p->content_encoding, err);
	if (is_signed || p->content_type.len == 0)
		return 0;
	return err_set(err, ERR_INVALID, "content type \"%.*s\" is refused: with job.security_key signed messages alone are run",
		(int)(p->content_type.len < 80 ? p->content_type.len : 80), p->content_type.data);
}

/* The body as its serializer has written it. Base64 is undone before the compression, which the sender applied first. */
static int unwrap(struct request *r, const struct amqp_delivery *d, struct err *err)
{
	const struct slice compression = header_text(d, "compression");
	const bool is_base64 = slice_is_nocase(d->properties.content_encoding, "base64") || slice_is_nocase(header_text(d, "body_encoding"), "base64");
	struct buf plain = BUF_INIT;
	int rc = -1;

	r->body = d->body;
	if (is_base64) {
		if (unpack_base64(r->body, &r->body_memory, err) < 0)
			goto out;
		r->body = (struct slice){ r->body_memory.data, r->body_memory.len };
	}
	if (compression.len > 0) {
		if (unpack_compressed(compression, r->body, REQUEST_BODY_MAX, &plain, err) < 0)
			goto out;
		buf_release(&r->body_memory);
		r->body_memory = plain;
		plain = (struct buf)BUF_INIT;
		r->body = (struct slice){ r->body_memory.data, r->body_memory.len };
	}
	rc = 0;
out:
	buf_release(&plain);
	return rc;
}

/* A few packed bytes can be millions of values: they are counted before they are read. */
static int check_values(struct slice json, struct err *err)
{
	size_t count = 1;
	bool is_in_text = false;

	for (size_t i = 0; i < json.len; i++) {
		const char c = json.data[i];

		if (c == '"')
			is_in_text = !is_in_text;
		else if (is_in_text)
			i += c == '\\';
		else
			count += c == ',' || c == '[' || c == '{';
	}
	if (count > REQUEST_VALUES_MAX)
		return err_set(err, ERR_INVALID, "the body has more than %d values of JSON", REQUEST_VALUES_MAX);
	return 0;
}

/* What comes after this reads JSON alone; a copy of the message goes on as it came. */
static int read_msgpack(struct request *r, struct err *err)
{
	struct buf json = BUF_INIT;

	if (msgpack_to_json(r->body, REQUEST_VALUES_MAX, REQUEST_BODY_MAX, &json, err) < 0) {
		buf_release(&json);
		return -1;
	}
	r->packed = r->body;
	r->packed_memory = r->body_memory;
	r->body_memory = json;
	r->body = (struct slice){ json.data, json.len };
	return 0;
}

/* The body is a signed text, and becomes what is in it; type: of that. */
static int open_seal(struct request *r, const struct signer *signer, struct slice *type, struct err *err)
{
	struct signed_body inner;

	r->sealed = r->body;
	r->sealed_memory = r->body_memory;
	r->body_memory = (struct buf)BUF_INIT;
	if (signer_verify(signer, r->sealed, &r->body_memory, &inner, err) < 0 || check_content(inner.content_type, inner.content_encoding, err) < 0)
		return -1;
	r->body = inner.body;
	*type = inner.content_type;
	return 0;
}

int request_content(struct request *r, const struct amqp_delivery *delivery, const struct signer *signer, struct err *err)
{
	struct slice type = delivery->properties.content_type;

	if (check_message(&delivery->properties, signer, err) < 0 || unwrap(r, delivery, err) < 0)
		return -1;
	if (signer != NULL && open_seal(r, signer, &type, err) < 0)
		return -1;
	r->is_msgpack = msgpack_is(type);
	if (r->is_msgpack && read_msgpack(r, err) < 0)
		return -1;
	return check_values(r->body, err);
}
