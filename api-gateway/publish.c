/* A post or a command goes in, a record goes to the queue, and what becomes of it is answered.
 *
 * Four threads may meet here over one call: the one that sends, the producer's with the report, the results reader's with
 * the outcome (which may overtake the report), and the sweeper's when the time is up. The pending table decides. */
#include "api-gateway/publish.h"

#include <stdio.h>
#include <string.h>

#include "api-gateway/known.h"
#include "api-gateway/reply.h"
#include "api-gateway/results.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "common/store/ledger.h"
#include "common/store/posts.h"

#define LAST_LOOK_MS 1000 /* how long behind its time an answer may wait for the store to be asked */

static bool waits_for_result(const struct call *call)
{
	if (call->is_post || call->prefer.respond_async)
		return call->prefer.wait_s > 0;
	return call->prefer.wait_s != 0;
}

/* ---- answering; the call has been taken from the table */

static void say_applied(struct call *call, const char *preference)
{
	http_answer_header(call->exchange, "Preference-Applied", preference);
}

static void say_waited(struct call *call)
{
	char wait[PREFER_TEXT];

	if (call->prefer.wait_s < 0)
		return;
	prefer_format_wait(&call->prefer, wait);
	say_applied(call, wait);
}

/* Stored, and its effect is not waited for, or not any longer. A post is as good as done, and is answered with the entity;
 * when its fan-out was waited for in vain, the missing Preference-Applied tells so. */
static void answer_stored(struct call *call)
{
	if (call->is_post && !call->prefer.respond_async) {
		reply_json(call, &call->answer);
		return;
	}
	if (!call->is_post)
		say_waited(call);
	if (call->prefer.respond_async)
		say_applied(call, "respond-async");
	reply_accepted(call);
}

static void answer_failed(struct call *call, struct slice body)
{
	struct problem problem;

	if (problem_read(&problem, body) < 0)
		problem_set(&problem, 500, "", "command %s failed, and its reason could not be read", call->waiter.command);
	reply_with_problem(call, &problem);
}

static void answer_outcome(struct call *call, bool is_done, struct slice body)
{
	say_waited(call);
	if (!is_done) {
		answer_failed(call, body);
		return;
	}
	if (call->newcomer != 0)
		known_add(call->gateway->known, call->newcomer);
	if (!call->is_post)
		buf_add(&call->answer, body.data, body.len);
	reply_json(call, &call->answer);
}

/* ---- the result, or none in time */

void publish_outcome(void *arg, struct slice command, bool is_done, struct slice body)
{
	struct gateway *gateway = arg;
	struct waiter *waiter = pending_find(gateway->pending, command);

	FAULT_POINT("gateway.result");
	if (waiter != NULL)
		answer_outcome((struct call *)waiter, is_done, body);
}

/* A result may have been lost or late: the store knows for certain. It is asked once. */
static void look_for_command(struct call *call, struct store *store)
{
	struct ledger_row row = { .body = BUF_INIT };
	struct err err = ERR_INIT;

	memcpy(row.id, call->waiter.command, sizeof(row.id));
	if (ledger_find(store, &row, 1, &err) == 0 && row.found)
		answer_outcome(call, row.is_done, (struct slice){ row.body.data, row.body.len });
	else
		answer_stored(call);
	ledger_row_release(&row);
}

static void look_for_post(struct call *call, struct store *store)
{
	struct post_state state = { 0 };
	struct err err = ERR_INIT;
	int64_t post;

	if (uuid_is_post(slice_of(call->waiter.command), &post) && posts_state(store, post, &state, &err) == 0 && state.exists && state.left == 0)
		answer_outcome(call, true, SLICE_NONE);
	else
		answer_stored(call);
}

static void last_look(const struct reader *reader, void *arg)
{
	struct call *call = arg;

	if (reader == NULL)
		answer_stored(call);
	else if (call->is_post)
		look_for_post(call, reader->store);
	else
		look_for_command(call, reader->store);
}

/* A store that hangs must not hold answers that are true without it. */
void publish_expired(struct waiter *waiter, bool is_stored)
{
	struct call *call = (struct call *)waiter;
	int64_t wait_ms = call->gateway->settings->gateway.wait_ms;
	int64_t begin_by_ms = waiter->answer_by_ms + (wait_ms < LAST_LOOK_MS ? wait_ms : LAST_LOOK_MS);
	struct err err = ERR_INIT;

	if (!is_stored)
		reply_unknown(call, "the queue did not confirm the record in time");
	else if (readers_add(call->gateway->readers, READ_STORE, last_look, call, begin_by_ms, &err) < 0)
		answer_stored(call);
}

/* ---- the delivery report, on the producer's thread; the call is held for it */

static void on_stored(struct call *call)
{
	struct pending *pending = call->gateway->pending;

	if (waits_for_result(call))
		pending_stored(pending, &call->waiter);
	else if (pending_take(pending, &call->waiter))
		answer_stored(call);
}

static void on_not_stored(struct call *call, enum sent sent, const char *why)
{
	struct err err = ERR_INIT;

	if (!pending_take(call->gateway->pending, &call->waiter))
		return;
	if (sent == SENT_UNKNOWN) {
		reply_unknown(call, why);
		return;
	}
	err_set(&err, ERR_UNAVAILABLE, "the queue did not take the record: %s", why);
	reply_away(call, &err);
}

static void on_report(void *arg, enum sent sent, const char *why)
{
	struct call *call = arg;

	FAULT_POINT("gateway.reported");
	if (sent == SENT_STORED)
		on_stored(call);
	else
		on_not_stored(call, sent, why);
	call_release(call);
}

/* ---- sending */

static void set_deadlines(struct call *call)
{
	int64_t started_ms = call->started_us / 1000;
	int64_t wait_ms = call->gateway->settings->gateway.wait_ms;

	call->waiter.report_by_ms = started_ms + wait_ms;
	call->waiter.answer_by_ms = started_ms + (call->prefer.wait_s >= 0 ? call->prefer.wait_s * 1000 : wait_ms);
}

/* Waits in the table before it is sent: the answer may come before producer_send() returns. */
static void send_waiting(struct call *call, const struct record *record)
{
	struct gateway *gateway = call->gateway;
	struct err err = ERR_INIT;

	set_deadlines(call);
	call_hold(call);
	call->is_sent = true; /* before it is: from here on another thread may answer */
	if (!pending_add(gateway->pending, &call->waiter)) {
		call->is_sent = false;
		reply_away(call, &(struct err){ ERR_UNAVAILABLE, "this gateway is stopping" });
		call_release(call);
		return;
	}
	FAULT_POINT("gateway.parsed");
	if (SABOTAGED("report"))
		on_stored(call);
	if (producer_send(gateway->producer, record, on_report, call, &err) == 0) {
		FAULT_POINT("gateway.sent");
		return;
	}
	if (pending_take(gateway->pending, &call->waiter)) {
		call->is_sent = false;
		reply_away(call, &err);
	}
	call_release(call);
}

static void publish(struct call *call, const char *topic, int64_t key, const struct buf *value)
{
	char key_text[STR_INT64], reply_text[STR_INT64], trace_text[TRACE_TEXT];
	int reply = results_partition(call->gateway->results);
	struct record record = { .topic = topic, .partition = -1, .key.data = key_text, .value = { value->data, value->len } };

	record.key.len = str_put_int64(key, key_text);
	trace_format(call_trace(call), trace_text);
	record_header_add(&record, HEADER_TRACE, slice_of(trace_text));
	record_header_add(&record, HEADER_COMMAND, slice_of(call->waiter.command));
	if (waits_for_result(call) && reply >= 0) {
		str_put_int64(reply, reply_text);
		record_header_add(&record, HEADER_REPLY, slice_of(reply_text));
	}
	call_drop_body(call);
	send_waiting(call, &record);
}

/* The contract may let through what the records of this version can't hold, and workers would refuse after the 2xx. */
static void refuse(struct call *call, const char *member, const struct err *err)
{
	char pointer[64];

	snprintf(pointer, sizeof(pointer), "/%s", member);
	reply_problem(call, 400, pointer, "%s", err->message);
}

void publish_post(struct call *call, const struct post *post, struct buf *answer)
{
	struct buf value = BUF_INIT;
	struct err err = ERR_INIT;
	const char *member;

	if (post_check(post, &member, &err) < 0) {
		buf_release(answer);
		refuse(call, member, &err);
		return;
	}
	call->answer = *answer;
	*answer = (struct buf)BUF_INIT;
	buf_reserve(&value, post->subject.len + post->story.len + 256);
	post_encode(post, &value);
	publish(call, TOPIC_POSTS, post->from, &value);
	buf_release(&value);
}

void publish_command(struct call *call, struct command *command)
{
	struct buf value = BUF_INIT;
	struct err err = ERR_INIT;
	const char *member;

	if (command_data_check(command, &member, &err) < 0) {
		refuse(call, member, &err);
		return;
	}
	memcpy(command->id, call->waiter.command, sizeof(command->id));
	command_encode(command, &value);
	publish(call, TOPIC_COMMANDS, command_key(command), &value);
	buf_release(&value);
}
