/* Posts go in and to the queue; what participants have posted, and got from friends, comes out of the store. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/known.h"
#include "api-gateway/once.h"
#include "api-gateway/publish.h"
#include "api-gateway/reply.h"
#include "common/base/clock.h"
#include "common/model/participant.h"
#include "common/store/people.h"
#include "common/store/posts.h"

/* ---- posting */

/* `occurred` is the client's own and comes back as it was sent; without it, it is today. */
static void write_answer(const struct call *call, const struct post *post, struct buf *out)
{
	struct slice occurred = json_string(call_field(call, "occurred"));
	struct json_writer w = JSON_WRITER(out);
	char today[CLOCK_TEXT];

	if (occurred.data == NULL) {
		clock_date(post->posted_at_ms, today);
		occurred = slice_of(today);
	}
	buf_reserve(out, post->subject.len + post->story.len + 256);
	json_open(&w, NULL, '{');
	json_put_int(&w, "id", post->id);
	json_put_link(&w, "from", post->from);
	json_put_string(&w, "occurred", occurred);
	json_put_string(&w, "subject", post->subject);
	json_put_string(&w, "story", post->story);
	json_close(&w, '}');
}

/* By an author who exists: nothing but Kafka is needed from here on. */
static void send_post(struct call *call)
{
	struct post post = { .id = call->entity, .from = call->id, .posted_at_ms = call->made_at_ms };
	struct buf answer = BUF_INIT;

	post.subject = json_string(call_field(call, "subject"));
	post.story = json_string(call_field(call, "story"));
	write_answer(call, &post, &answer);
	publish_post(call, &post, &answer);
}

static void read_author(struct call *call, const struct reader *reader)
{
	struct err err = ERR_INIT;
	bool is_known = false;

	if (people_known(reader->store, &call->id, 1, &is_known, &err) < 0) {
		reply_away(call, &err);
	} else if (!is_known) {
		reply_problem(call, 404, "", "there is no participant %lld", (long long)call->id);
	} else {
		known_add(call->gateway->known, call->id);
		once_begin(call, send_post);
	}
}

static bool occurred_is_time(struct call *call)
{
	const struct json *occurred = call_field(call, "occurred");
	struct slice text = json_string(occurred);
	int64_t ms;

	if (occurred == NULL || clock_is_date(text) || clock_parse_rfc3339(text, &ms))
		return true;
	reply_problem(call, 400, "/occurred", "occurred is neither a date nor a date-time of RFC 3339");
	return false;
}

void add_outbound(struct call *call)
{
	if (!call_from_is_path(call) || !occurred_is_time(call))
		return;
	call->is_post = true;
	if (known_has(call->gateway->known, call->id))
		once_begin(call, send_post);
	else
		call_read(call, READ_STORE, read_author);
}

/* ---- reading */

static int write_outbound(void *arg, const struct post *post)
{
	struct rows *rows = arg;

	if (rows_next(rows, post->id))
		post_write_outbound(&rows->w, post);
	return 0;
}

static int list_outbound(struct rows *rows, struct store *store, int64_t from, size_t limit, struct err *err)
{
	return outbound_list(store, rows->call->id, from, limit, write_outbound, rows, err);
}

static void read_outbound(struct call *call, const struct reader *reader)
{
	page_answer(call, reader, list_outbound);
}

void get_outbound(struct call *call)
{
	if (page_read(call, LIST_OUTBOUND))
		call_read(call, READ_STORE, read_outbound);
}

static int write_inbound(void *arg, const struct post *post)
{
	struct rows *rows = arg;

	if (rows_next(rows, post->id))
		post_write_inbound(&rows->w, post, rows->call->id);
	return 0;
}

static int list_inbound(struct rows *rows, struct store *store, int64_t from, size_t limit, struct err *err)
{
	return inbound_list(store, rows->call->id, from, limit, write_inbound, rows, err);
}

static void read_inbound(struct call *call, const struct reader *reader)
{
	page_answer(call, reader, list_inbound);
}

void get_inbound(struct call *call)
{
	if (page_read(call, LIST_INBOUND))
		call_read(call, READ_STORE, read_inbound);
}
