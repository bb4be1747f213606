/* Attempts with a key go in; which of them goes on, and under which ids, comes out: the table idempotency. */
#include "common/store/idempotency.h"

#define TRIES 5 /* a row may vanish, or change hands, between two looks at it */
#define SQL_ROOM 512

static struct store_value text(const char *s)
{
	return store_text(slice_of(s));
}

/* ---- the first */

/* ERR_CONFLICT: there is a row (or a deadlock; it is looked at next). */
static int insert(struct store *store, const struct idempotency *request, int64_t hold_ms, int64_t keep_ms, struct err *err)
{
	const struct store_value values[] = { text(request->client), text(request->key), text(request->hash), text(request->command),
		store_int(request->entity), store_int(request->made_at_ms), text(request->owner), store_int(hold_ms),
		store_int(keep_ms > hold_ms ? keep_ms : hold_ms) };
	char sql[SQL_ROOM];

	snprintf(sql, sizeof(sql),
		"INSERT INTO idempotency (client, `key`, body_hash, command_id, entity_id, made_at, owner, deadline, expires) "
		"VALUES (?, ?, ?, ?, ?, ?, ?, %s + ?, %s + ?)",
		store_now_ms(store), store_now_ms(store));
	return store_run(store, sql, values, sizeof(values) / sizeof(values[0]), NULL, err);
}

/* ---- what is there */

struct found {
	struct idempotency *into; /* takes ids and answer, when it is the same request */
	bool exists, is_same, is_answered, is_held, is_expired;
	char owner[UUID_TEXT];
};

static void take_text(struct slice from, char *out, size_t room)
{
	size_t len = from.len < room ? from.len : room - 1;

	memcpy(out, from.data, len);
	out[len] = '\0';
}

static int read_row(void *arg, const struct store_value *columns, size_t count)
{
	struct found *found = arg;
	struct idempotency *into = found->into;

	(void)count;
	found->exists = true;
	found->is_same = slice_is(columns[0].text, into->hash);
	take_text(columns[4].text, found->owner, sizeof(found->owner));
	found->is_held = columns[5].number > 0;
	found->is_expired = columns[6].number <= 0;
	found->is_answered = columns[7].type != STORE_NULL;
	if (!found->is_same || found->is_expired)
		return 0;
	take_text(columns[1].text, into->command, sizeof(into->command));
	into->entity = columns[2].number;
	into->made_at_ms = columns[3].number;
	into->status = (int)columns[7].number;
	buf_reset(&into->body);
	if (found->is_answered)
		buf_add(&into->body, columns[8].text.data, columns[8].text.len);
	return 0;
}

static int look(struct store *store, struct idempotency *request, struct found *found, struct err *err)
{
	const struct store_value values[] = { text(request->client), text(request->key) };
	char sql[SQL_ROOM];

	*found = (struct found){ .into = request };
	snprintf(sql, sizeof(sql),
		"SELECT body_hash, command_id, entity_id, made_at, owner, deadline - %s, expires - %s, outcome, body "
		"FROM idempotency WHERE client = ? AND `key` = ?",
		store_now_ms(store), store_now_ms(store));
	return store_query(store, sql, values, 2, read_row, found, err);
}

/* ---- taking over */

/* What had expired makes room for a first one, unless another did so before. */
static int drop_expired(struct store *store, const struct idempotency *request, struct err *err)
{
	const struct store_value values[] = { text(request->client), text(request->key) };
	char sql[SQL_ROOM];

	snprintf(sql, sizeof(sql), "DELETE FROM idempotency WHERE client = ? AND `key` = ? AND expires <= %s", store_now_ms(store));
	return store_run(store, sql, values, 2, NULL, err);
}

/* Of several that want to, one does: the one that still finds the owner it saw. */
static int take_over(struct store *store, const struct idempotency *request, const char *owner, int64_t hold_ms, bool *took, struct err *err)
{
	const struct store_value values[] = { text(request->owner), store_int(hold_ms), store_int(hold_ms), store_int(hold_ms),
		text(request->client), text(request->key), text(owner) };
	const char *now = store_now_ms(store);
	int64_t changed = 0;
	char sql[2 * SQL_ROOM];

	snprintf(sql, sizeof(sql),
		"UPDATE idempotency SET owner = ?, deadline = %s + ?, expires = CASE WHEN expires > %s + ? THEN expires ELSE %s + ? END "
		"WHERE client = ? AND `key` = ? AND owner = ? AND outcome IS NULL AND deadline <= %s",
		now, now, now, now);
	if (store_run(store, sql, values, sizeof(values) / sizeof(values[0]), &changed, err) < 0)
		return -1;
	*took = changed == 1;
	return 0;
}

/* ---- reserving */

/* 1: *reserved says what was found; 0: it changed under our hands, try again. */
static int try_to_reserve(struct store *store, struct idempotency *request, int64_t hold_ms, int64_t keep_ms, enum reserved *reserved,
	struct err *err)
{
	struct err why = ERR_INIT;
	struct found found;
	bool took = false;

	*reserved = RESERVED_FIRST;
	if (insert(store, request, hold_ms, keep_ms, &why) == 0)
		return 1;
	if (why.kind != ERR_CONFLICT) {
		*err = why;
		return -1;
	}
	if (look(store, request, &found, err) < 0)
		return -1;
	if (!found.exists)
		return 0;
	if (strcmp(found.owner, request->owner) == 0) /* ours, sent twice over a connection that broke */
		return 1;
	if (found.is_expired)
		return drop_expired(store, request, err);
	*reserved = !found.is_same ? RESERVED_OTHER : found.is_answered ? RESERVED_ANSWERED : found.is_held ? RESERVED_BUSY : RESERVED_AGAIN;
	if (*reserved != RESERVED_AGAIN)
		return 1;
	if (take_over(store, request, found.owner, hold_ms, &took, err) < 0)
		return -1;
	return took;
}

int idempotency_reserve(struct store *store, struct idempotency *request, int64_t hold_ms, int64_t keep_ms, enum reserved *found,
	struct err *err)
{
	const struct idempotency asked = *request;

	uuid_v7(request->owner);
	for (int i = 0; i < TRIES; i++) {
		int rc = try_to_reserve(store, request, hold_ms, keep_ms, found, err);

		if (rc != 0)
			return rc < 0 ? -1 : 0;
		/* Ids that were read belong to a row that may be gone. */
		memcpy(request->command, asked.command, sizeof(request->command));
		request->entity = asked.entity;
		request->made_at_ms = asked.made_at_ms;
	}
	*found = RESERVED_BUSY; /* so many others want it that one of them has it */
	return 0;
}

/* ---- the end of an attempt */

int idempotency_answer(struct store *store, const struct idempotency *request, int status, struct slice body, struct err *err)
{
	const struct store_value values[] = { store_int(status), store_text(body), text(request->client), text(request->key),
		text(request->command) };

	return store_run(store,
		"UPDATE idempotency SET outcome = ?, body = ? WHERE client = ? AND `key` = ? AND command_id = ? AND outcome IS NULL", values, 5,
		NULL, err);
}

int idempotency_let_go(struct store *store, const struct idempotency *request, struct err *err)
{
	const struct store_value values[] = { text(request->client), text(request->key), text(request->owner) };

	return store_run(store, "UPDATE idempotency SET deadline = 0 WHERE client = ? AND `key` = ? AND owner = ? AND outcome IS NULL",
		values, 3, NULL, err);
}

int idempotency_forget(struct store *store, const struct idempotency *request, struct err *err)
{
	const struct store_value values[] = { text(request->client), text(request->key), text(request->owner) };

	return store_run(store, "DELETE FROM idempotency WHERE client = ? AND `key` = ? AND owner = ? AND outcome IS NULL", values, 3,
		NULL, err);
}

/* ---- what nobody asks for any more */

static int read_last(void *arg, const struct store_value *columns, size_t count)
{
	(void)count;
	if (columns[0].type == STORE_INT)
		*(int64_t *)arg = columns[0].number;
	return 0;
}

/* Two statements, because MySQL deletes from no table that it reads, and SQLite knows no DELETE … LIMIT. */
int idempotency_prune(struct store *store, size_t limit, int64_t *deleted, struct err *err)
{
	struct store_value room = store_int((int64_t)limit), last = store_int(0);
	char sql[SQL_ROOM];

	*deleted = 0;
	snprintf(sql, sizeof(sql),
		"SELECT MAX(expires) FROM (SELECT expires FROM idempotency WHERE expires <= %s ORDER BY expires LIMIT ?) AS oldest",
		store_now_ms(store));
	if (store_query(store, sql, &room, 1, read_last, &last.number, err) < 0)
		return -1;
	if (last.number == 0)
		return 0;
	return store_run(store, "DELETE FROM idempotency WHERE expires <= ?", &last, 1, deleted, err);
}
