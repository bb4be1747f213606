/* Requests about webhooks go in, and are answered from the store, on a reader's thread.
 *
 * They are written straight to the store, not by a command: a command's outcome can be read again at /commands/{id}, and a secret
 * must not be. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/reply.h"
#include "common/base/clock.h"
#include "common/store/webhooks.h"

static void put_time(struct json_writer *w, const char *key, int64_t wall_ms)
{
	char time[CLOCK_TEXT];

	if (wall_ms == 0)
		return;
	clock_rfc3339(wall_ms, time);
	json_put_string(w, key, slice_of(time));
}

/* "a,b" as ["a","b"] */
static void put_events(struct json_writer *w, struct slice events)
{
	json_open(w, "events", '[');
	while (events.len > 0)
		json_put_string(w, NULL, slice_cut(&events, ','));
	json_close(w, ']');
}

/* ---- adding */

static void collect_events(const struct json *list, struct buf *out)
{
	for (const struct json *event = list != NULL ? json_first(list) : NULL; event != NULL; event = json_next(event)) {
		if (out->len > 0)
			buf_add_char(out, ',');
		buf_add(out, json_string(event).data, json_string(event).len);
	}
}

static void answer_refused(struct call *call, const struct err *err)
{
	if (err->kind == ERR_INVALID)
		reply_problem(call, 400, "/url", "%s", err->message);
	else
		reply_away(call, err);
}

static void write_added(struct call *call, const struct reader *reader)
{
	const struct slice url = json_string(call_field(call, "url"));
	struct buf events = BUF_INIT, body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	char id[UUID_TEXT], secret[WEBHOOK_SECRET_TEXT];
	struct err err = ERR_INIT;
	int64_t created_ms;

	collect_events(call_field(call, "events"), &events);
	if (webhooks_add(reader->store, url, (struct slice){ events.data, events.len }, id, secret, &created_ms, &err) < 0) {
		answer_refused(call, &err);
		goto out;
	}
	json_open(&w, NULL, '{');
	json_put_string(&w, "id", slice_of(id));
	json_put_string(&w, "url", url);
	put_events(&w, (struct slice){ events.data, events.len });
	json_put_string(&w, "secret", slice_of(secret));
	put_time(&w, "created_at", created_ms);
	json_close(&w, '}');
	reply_json(call, &body);
out:
	buf_release(&events);
	buf_release(&body);
}

void add_webhook(struct call *call)
{
	call_read(call, READ_STORE, write_added);
}

/* ---- listing */

static int write_webhook(void *arg, const struct webhook *webhook)
{
	struct json_writer *w = arg;

	json_open(w, NULL, '{');
	json_put_string(w, "id", webhook->id);
	json_put_string(w, "url", webhook->url);
	put_events(w, webhook->events);
	json_put_string(w, "status", slice_of(webhook->disabled_ms > 0 ? "disabled" : webhook->tries > 0 ? "failing" : "active"));
	json_put_int(w, "waiting", webhook->waiting);
	put_time(w, "created_at", webhook->created_ms);
	put_time(w, "failing_since", webhook->failing_since_ms);
	put_time(w, "disabled_at", webhook->disabled_ms);
	if (webhook->reason.len > 0)
		json_put_string(w, "reason", webhook->reason);
	json_close(w, '}');
	return 0;
}

static void read_webhooks(struct call *call, const struct reader *reader)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	struct err err = ERR_INIT;

	json_open(&w, NULL, '[');
	if (webhooks_list(reader->store, write_webhook, &w, &err) < 0) {
		reply_away(call, &err);
	} else {
		json_close(&w, ']');
		reply_json(call, &body);
	}
	buf_release(&body);
}

void get_webhooks(struct call *call)
{
	call_read(call, READ_STORE, read_webhooks);
}

/* ---- one of them */

static void answer_word(struct call *call, const char *key, const char *value)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);

	json_open(&w, NULL, '{');
	json_put_string(&w, key, slice_of(value));
	json_close(&w, '}');
	reply_json(call, &body);
	buf_release(&body);
}

/* What the store has made of it: rc, and whether the webhook was there. */
static void answer_one(struct call *call, int rc, const struct err *err, bool found, const char *missing, const char *key, const char *value)
{
	if (rc < 0)
		reply_away(call, err);
	else if (!found)
		reply_problem(call, 404, "", "%s", missing);
	else
		answer_word(call, key, value);
}

static void write_removed(struct call *call, const struct reader *reader)
{
	struct err err = ERR_INIT;
	bool found = false;
	const int rc = webhooks_remove(reader->store, call->contract.params[0], &found, &err);

	answer_one(call, rc, &err, found, "there is no such webhook", "status", "deleted");
}

void delete_webhook(struct call *call)
{
	call_read(call, READ_STORE, write_removed);
}

static void write_test(struct call *call, const struct reader *reader)
{
	char event[UUID_TEXT];
	struct err err = ERR_INIT;
	bool found = false;
	const int rc = webhooks_test(reader->store, call->contract.params[0], event, &found, &err);

	answer_one(call, rc, &err, found, "there is no such webhook, or it is disabled", "event", event);
}

void test_webhook(struct call *call)
{
	call_read(call, READ_STORE, write_test);
}

static void write_enabled(struct call *call, const struct reader *reader)
{
	struct err err = ERR_INIT;
	bool found = false;
	const int rc = webhooks_enable(reader->store, call->contract.params[0], &found, &err);

	answer_one(call, rc, &err, found, "there is no such webhook", "status", "active");
}

void enable_webhook(struct call *call)
{
	call_read(call, READ_STORE, write_enabled);
}
