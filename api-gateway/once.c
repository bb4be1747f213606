/* A request that is to be written goes in; it comes out with its ids, once for all that are sent with the same key. */
#include "api-gateway/once.h"

#include <stdio.h>
#include <stdlib.h>

#include "api-gateway/idempotency_key.h"
#include "api-gateway/lease_keeper.h"
#include "api-gateway/meters.h"
#include "api-gateway/reply.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/idempotency.h"

#define KEEP_BEGIN_MS 1000 /* how long an answer may wait for a reader to keep it */

struct once {
	struct idempotency row;
	handler_fn *send;
	bool is_held; /* the row is this call's to end */
	bool in_doubt;
	int status; /* the answer, while it is being kept */
	const char *type;
	struct buf body;
};

/* ---- the key */

bool once_read_key(struct call *call)
{
	struct slice header = http_header(call->exchange, IDEMPOTENCY_KEY_HEADER);
	struct once *once;

	if (header.data == NULL)
		return true;
	once = call->once = mem_zalloc(sizeof(*once));
	once->row.body = once->body = (struct buf)BUF_INIT;
	if (http_header_count(call->exchange, IDEMPOTENCY_KEY_HEADER) > 1 || !idempotency_key_read(header, once->row.key)) {
		reply_problem(call, 400, "", "%s is one string of 1 to 255 visible ASCII characters, \"in quotes\"", IDEMPOTENCY_KEY_HEADER);
		return false;
	}
	/* Nobody is authenticated yet: a key belongs to the participant of the path, or to all. */
	if (call->route->path_id == OF_PARTICIPANT)
		snprintf(once->row.client, sizeof(once->row.client), "participant/%lld", (long long)call->id);
	else
		snprintf(once->row.client, sizeof(once->row.client), "anonymous");
	return true;
}

void once_free(struct once *once)
{
	if (once == NULL)
		return;
	buf_release(&once->row.body);
	buf_release(&once->body);
	free(once);
}

bool once_in_doubt(const struct call *call)
{
	return call->once != NULL && call->once->in_doubt;
}

/* What tells requests apart: a key goes with one of them. */
static void hash_request(const struct http_request *request, char out[SHA256_TEXT])
{
	struct sha256 sha;

	sha256_init(&sha);
	sha256_add(&sha, request->method.data, request->method.len);
	sha256_add(&sha, " ", 1);
	sha256_add(&sha, request->path.data, request->path.len);
	sha256_add(&sha, "\n", 1);
	sha256_add(&sha, request->body.data, request->body.len);
	sha256_finish_text(&sha, out);
}

/* ---- reserving, on a reader's thread */

/* Until then the attempt has been answered, or its gateway is dead or in trouble. Should it go on all the same, the same is
 * done twice, and has one effect. */
static int64_t hold_ms(const struct call *call)
{
	int64_t wait_ms = call->gateway->settings->gateway.wait_ms;
	int64_t longest_ms = call->prefer.wait_s * 1000 > wait_ms ? call->prefer.wait_s * 1000 : wait_ms;

	return longest_ms + wait_ms;
}

static void take_ids(struct call *call)
{
	const struct idempotency *row = &call->once->row;

	call->entity = row->entity;
	call->made_at_ms = row->made_at_ms;
	memcpy(call->waiter.command, row->command, sizeof(row->command));
}

/* A reservation that took so long would leave no time to wait for the report. */
static void go_on(struct call *call)
{
	FAULT_POINT("gateway.reserved");
	take_ids(call);
	call->once->is_held = true;
	if (clock_mono_ms() < call->started_us / 1000 + call->gateway->settings->gateway.wait_ms)
		call->once->send(call);
	else
		reply_away(call, &(struct err){ ERR_FULL, "the key was not reserved in time" });
}

static void go_on_again(struct call *call)
{
	call->once->in_doubt = true;
	go_on(call);
}

static void answer_again(struct call *call)
{
	take_ids(call);
	reply_again(call, call->once->row.status, &call->once->row.body);
}

static void answer_busy(struct call *call)
{
	reply_busy(call, "a request with this Idempotency-Key is under way");
}

static void answer_other(struct call *call)
{
	reply_problem(call, 422, "", "this Idempotency-Key was used for another request: method, path and body must be the same");
}

static handler_fn *const after[] = {
	[RESERVED_FIRST] = go_on,
	[RESERVED_AGAIN] = go_on_again,
	[RESERVED_ANSWERED] = answer_again,
	[RESERVED_BUSY] = answer_busy,
	[RESERVED_OTHER] = answer_other,
};

static void reserve(struct call *call, const struct reader *reader)
{
	struct idempotency *row = &call->once->row;
	enum reserved found;
	struct err err = ERR_INIT;

	memcpy(row->command, call->waiter.command, sizeof(row->command));
	row->entity = call->entity;
	row->made_at_ms = call->made_at_ms;
	hash_request(http_request_of(call->exchange), row->hash);
	if (idempotency_reserve(reader->store, row, hold_ms(call), call->gateway->settings->gateway.key_keep_s * 1000, &found, &err) < 0) {
		reply_away(call, &err);
		return;
	}
	meters_key(found);
	after[found](call);
}

/* ---- beginning */

static bool make_ids(struct call *call)
{
	struct err err = ERR_INIT;

	if (call->entity == 0 && !call->is_job && lease_keeper_id(call->gateway->lease, call->id_fits, call->gateway, &call->entity, &err) < 0) {
		reply_away(call, &err);
		return false;
	}
	call->made_at_ms = clock_wall_ms();
	if (call->is_post)
		uuid_of_post(call->entity, call->waiter.command);
	else
		uuid_v7(call->waiter.command);
	return true;
}

void once_begin(struct call *call, handler_fn *send)
{
	if (!make_ids(call))
		return;
	if (call->once == NULL) {
		send(call);
		return;
	}
	call->once->send = send;
	call_read(call, READ_STORE, reserve);
}

/* ---- ending */

static int end(const struct call *call, struct store *store, struct err *err)
{
	const struct once *once = call->once;
	bool is_stored = call->is_sent && once->status != 503;

	if (!is_stored && !once->in_doubt)
		return idempotency_forget(store, &once->row, err);
	if (!is_stored || once->status == 504)
		return idempotency_let_go(store, &once->row, err);
	return idempotency_answer(store, &once->row, once->status, (struct slice){ once->body.data, once->body.len }, err);
}

static void not_kept(const struct call *call, const struct err *err)
{
	meters_key(KEY_NOT_KEPT);
	if (reply_may_log())
		log_warn("answer not kept for its key", log_str("command", call->waiter.command), log_int("status", call->once->status), log_err(err));
}

static void keep(const struct reader *reader, void *arg)
{
	struct call *call = arg;
	struct once *once = call->once;
	struct err err = { ERR_FULL, "no reader was free in time" };

	FAULT_POINT("gateway.keeping");
	if (reader == NULL || end(call, reader->store, &err) < 0)
		not_kept(call, &err);
	FAULT_POINT("gateway.kept");
	reply_kept(call, once->status, once->type, &once->body);
}

bool once_keeps(struct call *call, int status, const char *type, struct buf *body)
{
	struct once *once = call->once;
	struct err err = ERR_INIT;

	if (once == NULL || !once->is_held)
		return false;
	once->is_held = false;
	once->status = status;
	once->type = type;
	once->body = *body;
	*body = (struct buf)BUF_INIT; /* it may be the call's own, which is gone as soon as a reader has it */
	if (readers_add(call->gateway->readers, READ_ANSWER, keep, call, clock_mono_ms() + KEEP_BEGIN_MS, &err) == 0)
		return true;
	not_kept(call, &err);
	*body = once->body;
	once->body = (struct buf)BUF_INIT;
	return false;
}
