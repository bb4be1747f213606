/* A gateway's wish for a number goes in; a number, its ids' range and a deadline come out of the table gateway_lease. */
#include "common/store/lease.h"

#include <assert.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/rand.h"

void lease_init(struct lease *lease)
{
	char host[32] = "";
	unsigned char noise[8];
	size_t len;

	*lease = (struct lease){ .number = -1 };
	gethostname(host, sizeof(host) - 1);
	rand_bytes(noise, sizeof(noise));
	len = (size_t)snprintf(lease->holder, sizeof(lease->holder), "%.31s:%ld:", host, (long)getpid());
	for (size_t i = 0; i < sizeof(noise) && len + 2 < sizeof(lease->holder); i++)
		len += (size_t)snprintf(lease->holder + len, sizeof(lease->holder) - len, "%02x", noise[i]);
}

static int read_pair(void *arg, const struct store_value *columns, size_t count)
{
	int64_t *pair = arg;

	for (size_t i = 0; i < count && i < 2; i++)
		pair[i] = columns[i].number;
	return 0;
}

/* Extends the row if its holder is this lease's. Ids never run short, whichever is ahead (our range, or the database's
 * clock), and ids_until never falls, not even when that clock steps back: ids up to it may have been given. */
static int extend(struct store *store, const struct lease *lease, bool *held, struct err *err)
{
	const char *now = store_now_ms(store);
	struct store_value range = store_int(lease->ids_from_ms + LEASE_IDS_AHEAD_MS);
	struct store_value values[] = { range, range, range, store_int(lease->number),
		store_text(slice_of(lease->holder)) };
	int64_t changed = 0;
	char sql[768];

	snprintf(sql, sizeof(sql),
		"UPDATE gateway_lease SET expires_at = %s + %d, ids_until = CASE WHEN %s + %d >= ids_until AND %s + %d "
		">= ? THEN %s + %d "
		"WHEN ids_until >= ? THEN ids_until ELSE ? END WHERE number = ? AND holder = ?",
		now, LEASE_MS, now, LEASE_IDS_AHEAD_MS, now, LEASE_IDS_AHEAD_MS, now, LEASE_IDS_AHEAD_MS);
	if (store_run(store, sql, values, 5, &changed, err) < 0)
		return -1;
	*held = changed == 1;
	return 0;
}

static int read_until(struct store *store, int64_t number, int64_t *ids_until, struct err *err)
{
	struct store_value values[] = { store_int(number) };

	return store_query(
		store, "SELECT ids_until FROM gateway_lease WHERE number = ?", values, 1, read_pair, ids_until, err);
}

/* Locks a number that nobody holds: ours from an answer that was lost, or the one whose ids are least ahead of the clock. */
static int find_free(struct store *store, const struct lease *lease, int64_t found[2], struct err *err)
{
	char sql[384];
	struct store_value values[] = { store_text(slice_of(lease->holder)), store_text(slice_of(lease->holder)) };

	snprintf(sql, sizeof(sql),
		"SELECT number, ids_until FROM gateway_lease WHERE holder = ? OR expires_at <= %s "
		"ORDER BY CASE WHEN holder = ? THEN 0 ELSE 1 END, ids_until, number LIMIT 1%s",
		store_now_ms(store), store_for_update(store));
	return store_query(store, sql, values, 2, read_pair, found, err);
}

static int renew(struct store *store, struct lease *lease, bool *held, struct err *err)
{
	if (extend(store, lease, held, err) < 0)
		return -1;
	return *held ? read_until(store, lease->number, &lease->ids_until_ms, err) : 0;
}

static int take_new(struct store *store, struct lease *lease, struct err *err)
{
	int64_t found[2] = { -1, 0 }; /* number, ids_until */
	struct store_value values[] = { store_text(slice_of(lease->holder)), store_int(-1) };
	bool held = false;

	if (find_free(store, lease, found, err) < 0)
		return -1;
	if (found[0] < 0)
		return err_set(err, ERR_FULL,
			"all gateway numbers are taken; one is free %d minutes after its gateway has stopped",
			LEASE_MS / 60000);
	lease->number = (int)found[0];
	lease->ids_from_ms = found[1];
	values[1] = store_int(lease->number);
	if (store_run(store, "UPDATE gateway_lease SET holder = ? WHERE number = ?", values, 2, NULL, err) < 0)
		return -1;
	if (extend(store, lease, &held, err) < 0)
		return -1;
	assert(held); /* the row is locked */
	return read_until(store, lease->number, &lease->ids_until_ms, err);
}

int lease_take(struct store *store, struct lease *lease, struct err *err)
{
	const int64_t asked = clock_mono_ms();
	struct lease next = *lease;
	bool held = false, lost = false;

	if (store_begin(store, err) < 0)
		return -1;
	if (next.number >= 0 && renew(store, &next, &held, err) < 0)
		goto back;
	lost = next.number >= 0 && !held;
	if (!held && take_new(store, &next, err) < 0)
		goto back;
	if (store_commit(store, err) < 0)
		goto back;
	next.deadline_mono_ms = asked + LEASE_MS;
	*lease = next;
	return 0;
back:
	store_rollback(store);
	if (lost)
		lease->number = -1; /* somebody else's by now, whatever came after */
	return -1;
}

void lease_release(struct store *store, struct lease *lease, int64_t ids_free_ms)
{
	struct store_value free_ms = store_int(ids_free_ms);
	struct store_value values[] = { free_ms, free_ms, store_int(lease->number), store_text(slice_of(lease->holder)) };
	struct err ignored = ERR_INIT;

	if (lease->number >= 0)
		store_run(store,
			"UPDATE gateway_lease SET expires_at = 0, holder = '', ids_until = CASE WHEN ids_until > ? THEN ? ELSE ids_until END "
			"WHERE number = ? AND holder = ?",
			values, 4, NULL, &ignored);
	lease->number = -1;
}
