/* Requests about participants and friendships go in; commands, and answers from the store, come out. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/known.h"
#include "api-gateway/once.h"
#include "api-gateway/publish.h"
#include "api-gateway/reply.h"
#include "common/store/people.h"

/* ---- participants */

static void send_participant(struct call *call)
{
	struct command command = { .type = COMMAND_PARTICIPANT_CREATE };

	command.data.participant = (struct participant){ .id = call->entity, .name = json_string(call_field(call, "name")) };
	call->newcomer = call->entity;
	publish_command(call, &command);
}

void add_participant(struct call *call)
{
	once_begin(call, send_participant);
}

static int write_participant(void *arg, const struct participant *participant)
{
	struct json_writer w = JSON_WRITER(arg);

	participant_write(&w, NULL, participant);
	return 0;
}

static void read_participant(struct call *call, const struct reader *reader)
{
	struct buf body = BUF_INIT;
	struct err err = ERR_INIT;

	if (people_get(reader->store, call->id, write_participant, &body, &err) < 0) {
		reply_away(call, &err);
	} else if (body.len == 0) {
		reply_problem(call, 404, "", "there is no participant %lld", (long long)call->id);
	} else {
		known_add(call->gateway->known, call->id);
		reply_json(call, &body);
	}
	buf_release(&body);
}

void get_participant(struct call *call)
{
	call_read(call, READ_STORE, read_participant);
}

/* ---- friendships */

static void send_friendship(struct call *call)
{
	struct command command = { .type = COMMAND_FRIEND_CREATE, .data.friendship = call->want.friendship };

	command.data.friendship.id = call->entity;
	publish_command(call, &command);
}

/* At least one of the two is not in the cache. */
static void read_both(struct call *call, const struct reader *reader)
{
	const int64_t ids[2] = { call->want.friendship.from, call->want.friendship.to };
	bool known[2] = { false, false };
	struct err err = ERR_INIT;

	if (people_known(reader->store, ids, 2, known, &err) < 0) {
		reply_away(call, &err);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (known[i])
			known_add(call->gateway->known, ids[i]);
	if (known[0] && known[1])
		once_begin(call, send_friendship);
	else
		reply_problem(call, 404, "", "there is no participant %lld", (long long)ids[known[0] ? 1 : 0]);
}

void add_friend(struct call *call)
{
	struct friendship *friendship = &call->want.friendship;
	const struct known *known = call->gateway->known;

	if (!call_from_is_path(call))
		return;
	friendship->from = call->id;
	if (!link_parse(json_string(call_field(call, "to")), &friendship->to)) /* the contract's pattern took it: no id is that high */
		reply_problem(call, 404, "/to", "there is no such participant: ids go from 1 to 2^53-1");
	else if (friendship->to == friendship->from)
		reply_problem(call, 400, "/to", "nobody is a friend of oneself");
	else if (known_has(known, friendship->from) && known_has(known, friendship->to))
		once_begin(call, send_friendship);
	else
		call_read(call, READ_STORE, read_both);
}

static int write_friend(void *arg, const struct friendship *friendship)
{
	struct rows *rows = arg;

	if (rows_next(rows, friendship->to))
		friendship_write(&rows->w, NULL, friendship);
	return 0;
}

static int list_friends(struct rows *rows, struct store *store, int64_t from, size_t limit, struct err *err)
{
	return friends_list(store, rows->call->id, from, limit, write_friend, rows, err);
}

static void read_friends(struct call *call, const struct reader *reader)
{
	page_answer(call, reader, list_friends);
}

void get_friend(struct call *call)
{
	if (page_read(call, LIST_FRIENDS))
		call_read(call, READ_STORE, read_friends);
}
