/* Participants and friendships go in and come out of the tables participant and friend. */
#include "common/store/people.h"

#include <assert.h>

#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/store/rows.h"

int people_insert(struct store *store, const struct participant *rows, size_t count, struct err *err)
{
	struct store_value *values = mem_array(count * 2, sizeof(*values));
	int rc;

	for (size_t i = 0; i < count; i++) {
		values[i * 2] = store_int(rows[i].id);
		values[i * 2 + 1] = store_text(rows[i].name);
	}
	rows_sort(values, 2, count);
	rc = store_insert(store, SABOTAGED("ledger") ? STORE_KEEP : STORE_PLAIN, "participant (id, name)", values, 2, count, err);
	free(values);
	return rc;
}

struct person_reader {
	participant_row_fn *row;
	void *arg;
};

static int read_person(void *arg, const struct store_value *columns, size_t count)
{
	const struct person_reader *reader = arg;

	(void)count;
	return reader->row(reader->arg, &(struct participant){ .id = columns[0].number, .name = columns[1].text });
}

int people_get(struct store *store, int64_t id, participant_row_fn *row, void *arg, struct err *err)
{
	struct person_reader reader = { row, arg };
	struct store_value values[] = { store_int(id) };

	return store_query(
		store, "SELECT id, name FROM participant WHERE id = ?", values, 1, read_person, &reader, err);
}

/* ---- who is known */

struct id_list {
	int64_t *ids;
	size_t count; /* there is room for what was asked */
};

static int read_id(void *arg, const struct store_value *columns, size_t count)
{
	struct id_list *list = arg;

	(void)count;
	list->ids[list->count++] = columns[0].number;
	return 0;
}

static int find_people(struct store *store, const int64_t *ids, size_t count, struct id_list *found, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc;

	buf_add_str(&sql, "SELECT id FROM participant WHERE id IN (");
	rows_add_ids(&sql, ids, count);
	buf_add_str(&sql, ")");
	rc = store_query_once(store, sql.data, sql.len, read_id, found, err);
	buf_release(&sql);
	return rc;
}

int people_known(struct store *store, const int64_t *ids, size_t count, bool *known, struct err *err)
{
	struct id_list found = { mem_array(count, sizeof(int64_t)), 0 };
	int rc = 0;

	for (size_t from = 0; from < count && rc == 0; from += ROWS_IN_LIST)
		rc = find_people(
			store, ids + from, count - from < ROWS_IN_LIST ? count - from : ROWS_IN_LIST, &found, err);
	if (rc == 0) {
		qsort(found.ids, found.count, sizeof(int64_t), rows_compare_ids);
		for (size_t i = 0; i < count; i++)
			known[i] = bsearch(&ids[i], found.ids, found.count, sizeof(int64_t), rows_compare_ids) != NULL;
	}
	free(found.ids);
	return rc;
}

/* ---- friendships */

static int read_first(void *arg, const struct store_value *columns, size_t count)
{
	(void)count;
	*(int64_t *)arg = columns[0].number;
	return 0;
}

int friends_insert(struct store *store, struct friendship *friendship, struct err *err)
{
	const struct store_value from = store_int(friendship->from), to = store_int(friendship->to);
	const struct store_value made = store_int(friendship->id);
	struct store_value rows[] = { from, to, made, to, from, made };
	int64_t id = 0;

	rows_sort(rows, 3, 2);
	if (store_insert(store, STORE_KEEP, "friend (participant_id, friend_id, id)", rows, 3, 2, err) < 0)
		return -1;
	if (store_query(store, "SELECT id FROM friend WHERE participant_id = ? AND friend_id = ?", rows, 2, read_first,
			&id, err) < 0)
		return -1;
	friendship->id = id;
	return 0;
}

struct friendship_reader {
	friendship_row_fn *row;
	void *arg;
	int64_t participant;
};

static int read_friendship(void *arg, const struct store_value *columns, size_t count)
{
	const struct friendship_reader *reader = arg;

	(void)count;
	return reader->row(reader->arg,
		&(struct friendship){ .id = columns[0].number, .from = reader->participant, .to = columns[1].number });
}

int friends_list(struct store *store, int64_t participant, int64_t after, size_t limit, friendship_row_fn *row,
	void *arg, struct err *err)
{
	struct friendship_reader reader = { row, arg, participant };
	struct store_value values[] = { store_int(participant), store_int(after), store_int((int64_t)limit) };

	return store_query(store,
		"SELECT id, friend_id FROM friend WHERE participant_id = ? AND friend_id > ? "
		"ORDER BY friend_id LIMIT ?",
		values, 3, read_friendship, &reader, err);
}

int friends_page(
	struct store *store, int64_t author, int64_t after, int64_t *ids, size_t room, size_t *count, struct err *err)
{
	struct id_list page = { ids, 0 };
	struct store_value values[] = { store_int(author), store_int(after), store_int((int64_t)room) };

	if (store_query(store,
			"SELECT friend_id FROM friend WHERE participant_id = ? AND friend_id > ? "
			"ORDER BY friend_id LIMIT ?",
			values, 3, read_id, &page, err) < 0)
		return -1;
	*count = page.count;
	return 0;
}

/* ---- how many friends many authors have
 *
 * One range scan of the primary key for all of them. What such a scan can't do is to stop after `limit` rows of one author, so
 * the whole has a limit: an author in which it ends is counted again, with those behind. */

#define FRIENDS_MORE 20000 /* rows beyond `limit` that one statement may count */

struct author {
	int64_t id;
	size_t place; /* in the caller's order */
	size_t count;
};

struct friends_reader {
	struct author *authors; /* by id */
	size_t at;              /* whose count came last */
	size_t rows;
};

static int compare_authors(const void *a, const void *b)
{
	return rows_compare_ids(&((const struct author *)a)->id, &((const struct author *)b)->id);
}

static int read_count(void *arg, const struct store_value *columns, size_t count)
{
	struct friends_reader *r = arg;

	(void)count;
	while (r->authors[r->at].id != columns[0].number) /* rows come in the order of the authors */
		r->at++;
	r->authors[r->at].count = (size_t)columns[1].number;
	r->rows += (size_t)columns[1].number;
	return 0;
}

/* Counts from author `from` on; *next is the first whose friends are not all counted. */
static int count_authors(struct store *store, struct author *authors, size_t from, size_t count, size_t limit, size_t *next, struct err *err)
{
	const size_t most = count == 1 ? limit : limit + FRIENDS_MORE;
	struct friends_reader reader = { .authors = authors, .at = from };
	struct buf sql = BUF_INIT;
	int rc;

	buf_add_str(&sql, "SELECT participant_id, COUNT(*) FROM (SELECT participant_id FROM friend WHERE participant_id IN (");
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buf_add_char(&sql, ',');
		buf_add_int(&sql, authors[from + i].id);
	}
	buf_addf(&sql, ") ORDER BY participant_id LIMIT %zu) AS counted GROUP BY participant_id ORDER BY participant_id", most);
	rc = store_query_once(store, sql.data, sql.len, read_count, &reader, err);
	buf_release(&sql);
	*next = from + count;
	if (rc == 0 && reader.rows == most) /* it ended in this one */
		*next = authors[reader.at].count < limit ? reader.at : reader.at + 1;
	return rc;
}

int friends_count(struct store *store, const int64_t *ids, size_t count, size_t limit, size_t *counts, struct err *err)
{
	struct author *authors = mem_array(count, sizeof(*authors));
	int rc = 0;

	for (size_t i = 0; i < count; i++)
		authors[i] = (struct author){ .id = ids[i], .place = i };
	qsort(authors, count, sizeof(*authors), compare_authors);
	for (size_t from = 0; from < count && limit > 0 && rc == 0;)
		rc = count_authors(store, authors, from, count - from < ROWS_IN_LIST ? count - from : ROWS_IN_LIST, limit, &from, err);
	for (size_t i = 0; i < count; i++)
		counts[authors[i].place] = authors[i].count < limit ? authors[i].count : limit;
	free(authors);
	return rc;
}
