/* A command id goes in; whether it is pending, done or failed comes out of the ledger, or, for a post, of its own rows. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/reply.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/store/ledger.h"
#include "common/store/posts.h"

/* An id without a trace in the database may be on its way as long as the topics keep it; its time is our gateways' clock. */
#define ON_ITS_WAY_MS (INT64_C(7) * 24 * 3600 * 1000)
#define CLOCK_SKEW_MS (INT64_C(3600) * 1000)

static bool may_be_on_its_way(int64_t made_ms)
{
	int64_t age_ms = clock_wall_ms() - made_ms;

	return age_ms <= ON_ITS_WAY_MS && age_ms >= -CLOCK_SKEW_MS;
}

/* The id as it is stored: lower case. */
static void command_id(const struct call *call, char out[UUID_TEXT])
{
	struct slice text = call->contract.params[0];

	for (size_t i = 0; i < UUID_TEXT - 1; i++)
		out[i] = (char)(text.data[i] >= 'A' && text.data[i] <= 'F' ? text.data[i] - 'A' + 'a' : text.data[i]);
	out[UUID_TEXT - 1] = '\0';
}

/* {"id","status"[,key: value]} */
static void answer_status(struct call *call, const char *status, const char *key, struct slice value)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	char id[UUID_TEXT];

	command_id(call, id);
	json_open(&w, NULL, '{');
	json_put_string(&w, "id", slice_of(id));
	json_put_string(&w, "status", slice_of(status));
	if (key != NULL)
		json_put_raw(&w, key, value);
	json_close(&w, '}');
	reply_json(call, &body);
}

static void answer_no_trace(struct call *call, int64_t made_ms)
{
	if (may_be_on_its_way(made_ms))
		answer_status(call, "pending", NULL, SLICE_NONE);
	else
		reply_problem(call, 404, "", "there is no such command, or it is too long ago");
}

/* ---- posts */

static void answer_post_done(struct call *call)
{
	struct buf result = BUF_INIT;
	struct json_writer w = JSON_WRITER(&result);

	json_open(&w, NULL, '{');
	json_put_int(&w, "id", call->want.post);
	json_close(&w, '}');
	answer_status(call, "done", "result", (struct slice){ result.data, result.len });
	buf_release(&result);
}

static void read_post(struct call *call, const struct reader *reader)
{
	struct post_state state = { 0 };
	struct err err = ERR_INIT;

	if (posts_state(reader->store, call->want.post, &state, &err) < 0)
		reply_away(call, &err);
	else if (!state.exists)
		answer_no_trace(call, id_time_ms(call->want.post));
	else if (state.left > 0)
		answer_status(call, "pending", NULL, SLICE_NONE);
	else
		answer_post_done(call);
}

/* ---- commands */

static void read_command(struct call *call, const struct reader *reader)
{
	struct ledger_row row = { .body = BUF_INIT };
	struct err err = ERR_INIT;
	int64_t made_ms = 0;

	command_id(call, row.id);
	uuid_is_v7(slice_of(row.id), &made_ms);
	if (ledger_find(reader->store, &row, 1, &err) < 0)
		reply_away(call, &err);
	else if (!row.found)
		answer_no_trace(call, made_ms);
	else
		answer_status(call, row.is_done ? "done" : "failed", row.is_done ? "result" : "problem",
			(struct slice){ row.body.data, row.body.len });
	ledger_row_release(&row);
}

void get_command(struct call *call)
{
	struct slice id = call->contract.params[0];
	int64_t made_ms;

	if (uuid_is_post(id, &call->want.post))
		call_read(call, READ_STORE, read_post);
	else if (uuid_is_v7(id, &made_ms))
		call_read(call, READ_STORE, read_command);
	else
		reply_problem(call, 404, "", "there is no such command");
}
