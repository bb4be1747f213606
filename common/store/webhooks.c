/* Webhooks and deliveries go in and come out of the tables webhook and webhook_delivery. */
#include "common/store/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"

#define SECRET_BYTES 32
#define SQL_ROOM 768
#define REASON_MAX 500

static struct store_value text(const char *s)
{
	return store_text(slice_of(s));
}

static int take_number(void *arg, const struct store_value *columns, size_t count)
{
	(void)count;
	*(int64_t *)arg = columns[0].type == STORE_NULL ? 0 : columns[0].number;
	return 0;
}

/* ---- checking what a person gives */

static bool is_plain(struct slice url)
{
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.data[i] <= ' ' || (unsigned char)url.data[i] >= 0x7f || strchr("\"<>\\^`{|}#", url.data[i]) != NULL)
			return false;
	return true;
}

/* Which address it is decides when it is called; see http_client_guard(). */
static int check_url(struct slice url, struct err *err)
{
	struct slice rest = url;
	size_t host;

	if (url.len > WEBHOOK_URL_MAX || !is_plain(url))
		return err_set(err, ERR_INVALID, "the url is longer than %d bytes, or has characters that a url has not", WEBHOOK_URL_MAX);
	if (url.len > 8 && memcmp(url.data, "https://", 8) == 0)
		rest = (struct slice){ url.data + 8, url.len - 8 };
	else if (url.len > 7 && memcmp(url.data, "http://", 7) == 0)
		rest = (struct slice){ url.data + 7, url.len - 7 };
	else
		return err_set(err, ERR_INVALID, "the url begins neither with https:// nor with http://");
	for (host = 0; host < rest.len && strchr("/?", rest.data[host]) == NULL; host++)
		if (rest.data[host] == '@')
			return err_set(err, ERR_INVALID, "the url has a user in it");
	return host > 0 ? 0 : err_set(err, ERR_INVALID, "the url names no host");
}

static bool is_type(struct slice type)
{
	return slice_is(type, "product.created") || slice_is(type, "product.deleted");
}

int webhook_check(struct slice url, struct slice events, struct err *err)
{
	struct slice rest = events;

	if (check_url(url, err) < 0)
		return -1;
	if (events.len > WEBHOOK_EVENTS_MAX)
		return err_set(err, ERR_INVALID, "too many events");
	while (rest.len > 0)
		if (!is_type(slice_cut(&rest, ',')))
			return err_set(err, ERR_INVALID, "there are the events product.created and product.deleted");
	return 0;
}

static bool wants(struct slice events, struct slice type)
{
	if (events.len == 0)
		return true;
	while (events.len > 0)
		if (slice_equal(slice_cut(&events, ','), type))
			return true;
	return false;
}

/* ---- managing */

static void make_secret(char out[WEBHOOK_SECRET_TEXT])
{
	unsigned char bytes[SECRET_BYTES];
	struct buf coded = BUF_INIT;

	rand_bytes(bytes, sizeof(bytes));
	base64_encode(&coded, bytes, sizeof(bytes));
	snprintf(out, WEBHOOK_SECRET_TEXT, "whsec_%s", coded.data);
	buf_release(&coded);
}

int webhooks_add(struct store *store, struct slice url, struct slice events, char id[UUID_TEXT], char secret[WEBHOOK_SECRET_TEXT],
	int64_t *created_ms, struct err *err)
{
	int64_t there = 0;

	if (webhook_check(url, events, err) < 0 || store_query(store, "SELECT COUNT(*) FROM webhook", NULL, 0, take_number, &there, err) < 0)
		return -1;
	if (there >= WEBHOOKS_MAX)
		return err_set(err, ERR_FULL, "there are %d webhooks already", WEBHOOKS_MAX);
	uuid_v7(id);
	make_secret(secret);
	*created_ms = clock_wall_ms();
	{
		const struct store_value values[] = { text(id), store_text(url), text(secret), store_text(events), store_int(*created_ms) };

		return store_run(store, "INSERT INTO webhook (id, url, secret, events, created_at) VALUES (?, ?, ?, ?, ?)", values, 5, NULL, err);
	}
}

struct lister {
	webhook_row_fn *row;
	void *arg;
};

static int read_webhook(void *arg, const struct store_value *columns, size_t count)
{
	const struct lister *lister = arg;

	(void)count;
	return lister->row(lister->arg, &(struct webhook){ .id = columns[0].text, .url = columns[1].text, .events = columns[2].text,
		.created_ms = columns[3].number, .disabled_ms = columns[4].number, .reason = columns[5].text, .failing_since_ms = columns[6].number,
		.tries = columns[7].number, .waiting = columns[8].number });
}

#define LISTED "SELECT id, url, events, created_at, disabled_at, reason, failing_since, tries, " \
	"(SELECT COUNT(*) FROM webhook_delivery d WHERE d.webhook_id = webhook.id AND d.done_at = 0) FROM webhook "

int webhooks_list(struct store *store, webhook_row_fn *row, void *arg, struct err *err)
{
	struct lister lister = { row, arg };

	return store_query(store, LISTED "ORDER BY created_at, id", NULL, 0, read_webhook, &lister, err);
}

int webhooks_find(struct store *store, struct slice id, webhook_row_fn *row, void *arg, struct err *err)
{
	const struct store_value values[] = { store_text(id) };
	struct lister lister = { row, arg };

	return store_query(store, LISTED "WHERE id = ?", values, 1, read_webhook, &lister, err);
}

int webhooks_remove(struct store *store, struct slice id, bool *found, struct err *err)
{
	const struct store_value values[] = { store_text(id) };
	int64_t changed = 0;

	if (store_begin(store, err) < 0)
		return -1;
	if (store_run(store, "DELETE FROM webhook WHERE id = ?", values, 1, &changed, err) < 0 ||
		store_run(store, "DELETE FROM webhook_delivery WHERE webhook_id = ?", values, 1, NULL, err) < 0) {
		store_rollback(store);
		return -1;
	}
	*found = changed > 0;
	return store_commit(store, err);
}

int webhooks_test(struct store *store, struct slice id, char event[UUID_TEXT], bool *found, struct err *err)
{
	struct buf body = BUF_INIT;
	int64_t changed = 0;
	int rc;

	uuid_v7(event);
	buf_addf(&body, "{\"action\":\"test\",\"webhook\":\"%.*s\"}", (int)id.len, id.data);
	{
		const struct store_value values[] = { text(event), text(WEBHOOK_TEST), store_text((struct slice){ body.data, body.len }), store_text(id) };

		rc = store_run(store, "INSERT INTO webhook_delivery (webhook_id, event_id, type, body) SELECT id, ?, ?, ? FROM webhook "
			"WHERE id = ? AND disabled_at = 0", values, 4, &changed, err);
	}
	buf_release(&body);
	*found = changed > 0;
	return rc;
}

int webhooks_enable(struct store *store, struct slice id, bool *found, struct err *err)
{
	const struct store_value which[] = { store_text(id) };
	int64_t there = 0;

	if (store_query(store, "SELECT COUNT(*) FROM webhook WHERE id = ?", which, 1, take_number, &there, err) < 0)
		return -1;
	*found = there > 0;
	return store_run(store, "UPDATE webhook SET disabled_at = 0, tries = 0, failing_since = 0, next_try = 0, reason = '' WHERE id = ?", which, 1,
		NULL, err);
}

int webhooks_is_done(struct store *store, struct slice id, const char *event, bool *done, struct err *err)
{
	const struct store_value values[] = { store_text(id), text(event) };
	int64_t done_ms = 0;

	if (store_query(store, "SELECT done_at FROM webhook_delivery WHERE webhook_id = ? AND event_id = ?", values, 2, take_number, &done_ms, err) < 0)
		return -1;
	*done = done_ms > 0;
	return 0;
}

/* ---- enqueueing */

struct subscriber {
	char id[UUID_TEXT];
	char events[WEBHOOK_EVENTS_MAX + 1];
};

struct subscribers {
	struct subscriber *list;
	size_t count;
};

static void copy_text(struct slice from, char *out, size_t room)
{
	snprintf(out, room, "%.*s", (int)from.len, from.data != NULL ? from.data : "");
}

static int read_subscriber(void *arg, const struct store_value *columns, size_t count)
{
	struct subscribers *all = arg;
	struct subscriber *subscriber;

	(void)count;
	all->list = mem_grow(all->list, all->count + 1, sizeof(*all->list));
	subscriber = &all->list[all->count++];
	copy_text(columns[0].text, subscriber->id, sizeof(subscriber->id));
	copy_text(columns[1].text, subscriber->events, sizeof(subscriber->events));
	return 0;
}

/* The rows of webhooks are locked, so that none is removed between its being seen and its deliveries being written. */
int webhooks_enqueue(struct store *store, const struct webhook_event *events, size_t count, struct err *err)
{
	struct subscribers all = { NULL, 0 };
	struct store_value *values = NULL;
	char sql[SQL_ROOM];
	size_t rows = 0;
	int rc = -1;

	snprintf(sql, sizeof(sql), "SELECT id, events FROM webhook WHERE disabled_at = 0 ORDER BY id%s", store_for_update(store));
	if (store_query(store, sql, NULL, 0, read_subscriber, &all, err) < 0)
		goto out;
	values = mem_array(all.count * count * 4 + 1, sizeof(*values));
	for (size_t s = 0; s < all.count; s++)
		for (size_t e = 0; e < count; e++) {
			if (!wants(slice_of(all.list[s].events), events[e].type))
				continue;
			values[rows * 4] = text(all.list[s].id);
			values[rows * 4 + 1] = store_text(events[e].id);
			values[rows * 4 + 2] = store_text(events[e].type);
			values[rows * 4 + 3] = store_text(events[e].body);
			rows++;
		}
	rc = rows == 0 ? 0 : store_insert(store, STORE_KEEP, "webhook_delivery (webhook_id, event_id, type, body)", values, 4, rows, err);
out:
	free(values);
	free(all.list);
	return rc;
}

/* ---- delivering */

struct candidates {
	char ids[16][UUID_TEXT];
	size_t count;
};

static int read_candidate(void *arg, const struct store_value *columns, size_t count)
{
	struct candidates *candidates = arg;

	(void)count;
	if (candidates->count < 16)
		copy_text(columns[0].text, candidates->ids[candidates->count++], UUID_TEXT);
	return 0;
}

/* Free are those that were let go (no holder), and those whose holder's time is over. lease_until of one that was let go is when that
 * was, 0 at first: so the one that was served longest ago comes first. */
int webhooks_claim(struct store *store, const char *holder, int64_t lease_ms, char id[UUID_TEXT], bool *found, struct err *err)
{
	const char *now = store_now_ms(store);
	struct candidates candidates = { .count = 0 };
	char sql[SQL_ROOM];

	*found = false;
	snprintf(sql, sizeof(sql), "SELECT id FROM webhook w WHERE disabled_at = 0 AND next_try <= %s AND (lease_holder = '' OR lease_until <= %s) AND EXISTS "
		"(SELECT 1 FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.done_at = 0) ORDER BY lease_until, next_try LIMIT 16", now, now);
	if (store_query(store, sql, NULL, 0, read_candidate, &candidates, err) < 0)
		return -1;
	snprintf(sql, sizeof(sql), "UPDATE webhook SET lease_holder = ?, lease_until = %s + ? "
		"WHERE id = ? AND disabled_at = 0 AND next_try <= %s AND (lease_holder = '' OR lease_until <= %s)", now, now, now);
	for (size_t c = 0; c < candidates.count && !*found; c++) {
		const struct store_value values[] = { text(holder), store_int(lease_ms), text(candidates.ids[c]) };
		int64_t changed = 0;

		if (store_run(store, sql, values, 3, &changed, err) < 0)
			return -1;
		*found = changed > 0;
		snprintf(id, UUID_TEXT, "%s", candidates.ids[c]);
	}
	return 0;
}

static int read_delivery(void *arg, const struct store_value *columns, size_t count)
{
	struct webhook_delivery *out = arg;
	struct buf *texts[] = { &out->event, &out->type, &out->body, &out->url, &out->secret };

	(void)count;
	out->n = columns[0].number;
	for (size_t i = 0; i < 5; i++) {
		buf_reset(texts[i]);
		buf_add(texts[i], columns[1 + i].text.data, columns[1 + i].text.len);
	}
	out->tries = columns[6].number;
	out->failing_ms = columns[7].number;
	return 0;
}

int webhooks_next(struct store *store, const char *holder, int64_t lease_ms, const char *id, struct webhook_delivery *out, bool *found,
	struct err *err)
{
	const struct store_value lease[] = { store_int(lease_ms), text(id), text(holder) };
	const struct store_value which[] = { text(id) };
	const char *now = store_now_ms(store);
	char sql[SQL_ROOM];
	int64_t changed = 0;

	*found = false;
	out->n = 0;
	snprintf(sql, sizeof(sql), "UPDATE webhook SET lease_until = %s + ? WHERE id = ? AND lease_holder = ? AND disabled_at = 0", now);
	if (store_run(store, sql, lease, 3, &changed, err) < 0)
		return -1;
	if (changed == 0)
		return 0;
	snprintf(sql, sizeof(sql), "SELECT n, event_id, type, body, url, secret, tries, CASE WHEN failing_since = 0 THEN 0 ELSE %s - failing_since END "
		"FROM webhook_delivery JOIN webhook ON webhook.id = webhook_id WHERE webhook_id = ? AND done_at = 0 ORDER BY n LIMIT 1", now);
	if (store_query(store, sql, which, 1, read_delivery, out, err) < 0)
		return -1;
	*found = out->n != 0;
	return 0;
}

void webhook_delivery_release(struct webhook_delivery *delivery)
{
	buf_release(&delivery->url);
	buf_release(&delivery->secret);
	buf_release(&delivery->event);
	buf_release(&delivery->type);
	buf_release(&delivery->body);
}

/* The row is done whoever has the webhook now: it need not be delivered once more. */
int webhooks_delivered(struct store *store, const char *holder, const char *id, const struct webhook_delivery *delivery, struct err *err)
{
	const struct store_value row[] = { store_int(delivery->n) };
	const struct store_value which[] = { text(id), text(holder) };
	char sql[SQL_ROOM];

	snprintf(sql, sizeof(sql), "UPDATE webhook_delivery SET done_at = %s WHERE n = ?", store_now_ms(store));
	if (store_run(store, sql, row, 1, NULL, err) < 0)
		return -1;
	if (delivery->tries == 0)
		return 0;
	return store_run(store, "UPDATE webhook SET tries = 0, failing_since = 0, next_try = 0, reason = '' WHERE id = ? AND lease_holder = ?", which, 2,
		NULL, err);
}

/* Cut where a character begins. */
static struct slice reason_of(const char *reason)
{
	struct slice cut = slice_of(reason);

	if (cut.len > REASON_MAX)
		for (cut.len = REASON_MAX; cut.len > 0 && ((unsigned char)cut.data[cut.len] & 0xc0) == 0x80;)
			cut.len--;
	return cut;
}

int webhooks_failed(struct store *store, const char *holder, const char *id, const char *reason, int64_t wait_ms, struct err *err)
{
	const struct store_value values[] = { store_int(wait_ms), store_text(reason_of(reason)), text(id), text(holder) };
	const char *now = store_now_ms(store);
	char sql[SQL_ROOM];

	snprintf(sql, sizeof(sql), "UPDATE webhook SET tries = tries + 1, failing_since = CASE WHEN failing_since = 0 THEN %s ELSE failing_since END, "
		"next_try = %s + ?, reason = ?, lease_holder = '', lease_until = %s WHERE id = ? AND lease_holder = ?", now, now, now);
	return store_run(store, sql, values, 4, NULL, err);
}

int webhooks_disable(struct store *store, const char *holder, const char *id, const char *reason, bool *found, struct err *err)
{
	const struct store_value values[] = { store_text(reason_of(reason)), text(id), text(holder) };
	const char *now = store_now_ms(store);
	char sql[SQL_ROOM];
	int64_t changed = 0;

	snprintf(sql, sizeof(sql), "UPDATE webhook SET tries = tries + 1, disabled_at = %s, reason = ?, lease_holder = '', lease_until = %s "
		"WHERE id = ? AND lease_holder = ?", now, now);
	if (store_run(store, sql, values, 3, &changed, err) < 0)
		return -1;
	*found = changed > 0;
	return 0;
}

int webhooks_let_go(struct store *store, const char *holder, const char *id, struct err *err)
{
	const struct store_value values[] = { text(id), text(holder) };
	char sql[SQL_ROOM];

	snprintf(sql, sizeof(sql), "UPDATE webhook SET lease_holder = '', lease_until = %s WHERE id = ? AND lease_holder = ?", store_now_ms(store));
	return store_run(store, sql, values, 2, NULL, err);
}

/* Along the index of done_at, from its begin: this costs what it deletes, however many wait. Two statements, because MySQL deletes from no
 * table that it reads, and SQLite knows no DELETE … LIMIT. */
int webhooks_prune(struct store *store, int64_t *deleted, struct err *err)
{
	const struct store_value oldest[] = { store_int(WEBHOOK_KEEP_MS), store_int(WEBHOOK_PRUNE_ROWS) };
	struct store_value past;
	char sql[SQL_ROOM];
	int64_t last = 0;

	*deleted = 0;
	snprintf(sql, sizeof(sql), "SELECT MAX(done_at) FROM (SELECT done_at FROM webhook_delivery WHERE done_at > 0 AND done_at < %s - ? "
		"ORDER BY done_at LIMIT ?) AS oldest", store_now_ms(store));
	if (store_query(store, sql, oldest, 2, take_number, &last, err) < 0)
		return -1;
	if (last == 0)
		return 0;
	past = store_int(last);
	return store_run(store, "DELETE FROM webhook_delivery WHERE done_at > 0 AND done_at <= ?", &past, 1, deleted, err);
}
