/* What is known of a task goes in, its message of protocol 2 comes out. */
#include "workers/celery/outgoing.h"

#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/rand.h"

void outgoing_uuid4(char out[37])
{
	unsigned char b[16];

	rand_bytes(b, sizeof(b));
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
		b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void outgoing_time(int64_t wall_ms, char out[40])
{
	char text[CLOCK_TEXT];

	clock_rfc3339(wall_ms, text); /* 2026-01-31T12:00:00.123Z */
	snprintf(out, 40, "%.23s000+00:00", text);
}

void outgoing_delay_key(int64_t delay_s, const char *queue, struct buf *out)
{
	if (delay_s > OUTGOING_DELAY_MAX_S)
		delay_s = OUTGOING_DELAY_MAX_S;
	for (int bit = OUTGOING_DELAY_LEVELS - 1; bit >= 0; bit--)
		buf_add_str(out, (delay_s >> bit & 1) != 0 ? "1." : "0.");
	buf_add_str(out, queue);
}

static void put_text(struct json_writer *w, const char *key, struct slice text)
{
	if (text.len > 0)
		json_put_string(w, key, text);
	else
		json_put_raw(w, key, slice_of("null"));
}

static void put_json(struct json_writer *w, const char *key, struct slice json)
{
	json_put_raw(w, key, json.len > 0 ? json : slice_of("null"));
}

static void put_limits(struct json_writer *w, double hard_s, double soft_s)
{
	char text[40];

	json_open(w, "timelimit", '[');
	for (int i = 0; i < 2; i++) {
		const double seconds = i == 0 ? hard_s : soft_s;

		snprintf(text, sizeof(text), "%.15g", seconds);
		json_put_raw(w, NULL, slice_of(seconds > 0 ? text : "null"));
	}
	json_close(w, ']');
}

/* The members of a JSON object, into the object that is being written. */
static void put_members(struct json_writer *w, struct slice object)
{
	if (object.len <= 2)
		return;
	if (w->comma)
		buf_add_char(w->out, ',');
	buf_add(w->out, object.data + 1, object.len - 2);
	w->comma = true;
}

static void write_headers(struct buf *out, const struct outgoing_task *t)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "lang", slice_of("c"));
	json_put_string(&w, "task", t->task);
	json_put_string(&w, "id", t->id);
	put_text(&w, "shadow", t->shadow);
	put_text(&w, "eta", t->eta);
	put_text(&w, "expires", t->expires);
	put_text(&w, "group", t->group);
	if (t->has_group_index)
		json_put_int(&w, "group_index", t->group_index);
	else
		json_put_raw(&w, "group_index", slice_of("null"));
	json_put_int(&w, "retries", t->retries);
	put_limits(&w, t->hard_s, t->soft_s);
	json_put_string(&w, "root_id", t->root_id.len > 0 ? t->root_id : t->id);
	put_text(&w, "parent_id", t->parent_id);
	json_put_string(&w, "argsrepr", t->argsrepr);
	json_put_string(&w, "kwargsrepr", t->kwargsrepr);
	json_put_string(&w, "origin", t->origin);
	json_put_bool(&w, "ignore_result", t->ignore_result);
	json_put_int(&w, "replaced_task_nesting", t->nesting);
	put_json(&w, "stamped_headers", t->stamped_headers);
	json_put_raw(&w, "stamps", t->stamps.len > 0 ? t->stamps : slice_of("{}"));
	if (t->deliveries > 0)
		json_put_int(&w, "x-feed-deliveries", t->deliveries);
	if (t->is_repeat)
		json_put_bool(&w, "x-feed-again", true);
	if (t->is_received)
		json_put_bool(&w, "x-feed-received", true);
	put_members(&w, t->custom);
	json_close(&w, '}');
}

static void write_body(struct buf *out, const struct outgoing_task *t)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '[');
	json_put_raw(&w, NULL, t->args.len > 0 ? t->args : slice_of("[]"));
	json_put_raw(&w, NULL, t->kwargs.len > 0 ? t->kwargs : slice_of("{}"));
	json_open(&w, NULL, '{');
	put_json(&w, "callbacks", t->callbacks);
	put_json(&w, "errbacks", t->errbacks);
	put_json(&w, "chain", t->chain);
	put_json(&w, "chord", t->chord);
	json_close(&w, '}');
	json_close(&w, ']');
}

static struct post *address(const struct outgoing_task *t)
{
	struct buf key = BUF_INIT;
	struct post *post;

	if (t->delay_s > 0) {
		outgoing_delay_key(t->delay_s, t->queue, &key);
		post = post_new(slice_of(OUTGOING_DELAY_EXCHANGE), buf_slice(&key));
	} else if (t->exchange != NULL && t->exchange[0] != '\0') {
		post = post_new(slice_of(t->exchange), slice_of(t->routing_key != NULL ? t->routing_key : ""));
	} else {
		post = post_new(slice_of(""), slice_of(t->queue));
	}
	buf_release(&key);
	post->message.mandatory = true;
	post->is_lasting = true;
	post->is_packing = t->is_msgpack;
	post_json(post);
	post->message.properties.delivery_mode = 2;
	post->message.properties.correlation_id = post_keep(post, t->id);
	if (t->reply_to.len > 0)
		post->message.properties.reply_to = post_keep(post, t->reply_to);
	post->message.properties.has_priority = t->priority != REQUEST_NO_PRIORITY;
	post->message.properties.priority = (uint8_t)(t->priority > 0 ? t->priority : 0);
	return post;
}

struct post *outgoing_post(const struct outgoing_task *t)
{
	struct post *post = address(t);
	struct buf headers = BUF_INIT;

	write_headers(&headers, t);
	post_headers(post, buf_slice(&headers));
	buf_release(&headers);
	write_body(&post->body, t);
	return post;
}

/* As it came: what is signed keeps the name of who has signed it. */
static void add_body(struct post *post, const struct request *r)
{
	if (r->sealed.len > 0) {
		buf_add(&post->body, r->sealed.data, r->sealed.len);
		post->message.properties.content_type = slice_of(SIGNER_CONTENT_TYPE);
		post->is_json = post->is_packing = false;
	} else if (r->packed.len > 0) {
		buf_add(&post->packed, r->packed.data, r->packed.len);
	} else {
		buf_add(&post->body, r->body.data, r->body.len);
	}
}

struct post *outgoing_again(const struct request *r, const char *queue, int64_t retries, int64_t deliveries, int64_t eta_ms, int64_t delay_s)
{
	char eta[40] = "";
	struct outgoing_task t = {
		.task = r->task, .id = r->id, .root_id = r->root_id, .parent_id = r->parent_id, .group = r->group, .shadow = r->shadow,
		.origin = r->origin, .reply_to = r->reply_to, .eta = r->eta, .expires = r->expires, .argsrepr = r->argsrepr, .kwargsrepr = r->kwargsrepr,
		.stamped_headers = r->stamped_headers, .stamps = r->stamps, .retries = retries, .deliveries = deliveries,
		.group_index = r->group_index, .has_group_index = r->has_group_index, .nesting = r->nesting, .ignore_result = r->ignore_result,
		.is_repeat = r->is_repeat, .is_received = r->is_received && delay_s > 0 && retries == r->retries,
		.hard_s = (double)r->hard_ms / 1000, .soft_s = (double)r->soft_ms / 1000, .priority = r->priority, .queue = queue, .delay_s = delay_s,
		.is_msgpack = r->is_msgpack,
	};
	struct buf headers = BUF_INIT;
	struct post *post;

	if (eta_ms > 0) {
		outgoing_time(eta_ms, eta);
		t.eta = slice_of(eta);
	}
	post = address(&t);
	write_headers(&headers, &t);
	post_headers(post, buf_slice(&headers));
	post_add_headers(post, r->custom);
	buf_release(&headers);
	add_body(post, r);
	return post;
}
