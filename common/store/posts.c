/* Posts, inbound rows and plans go in and come out of the tables outbound, inbound and fanout_chunk. */
#include "common/store/posts.h"

#include <limits.h>

#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/store/rows.h"

#define INBOUND_ROWS 4000 /* turned into values at a time */

/* ---- the ledger of posts */

struct found_post {
	int64_t id;
	int64_t chunks;
};

struct found_posts {
	struct found_post *posts; /* there is room for what was asked */
	size_t count;
};

static int read_found(void *arg, const struct store_value *columns, size_t count)
{
	struct found_posts *found = arg;

	(void)count;
	found->posts[found->count++] = (struct found_post){ columns[0].number, columns[1].number };
	return 0;
}

static int find_posts(struct store *store, const int64_t *ids, size_t count, struct found_posts *found, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc;

	buf_add_str(&sql, "SELECT id, chunks FROM outbound WHERE id IN (");
	rows_add_ids(&sql, ids, count);
	buf_add_str(&sql, ")");
	rc = store_query_once(store, sql.data, sql.len, read_found, found, err);
	buf_release(&sql);
	return rc;
}

int posts_existing(struct store *store, const int64_t *ids, size_t count, struct post_state *states, struct err *err)
{
	struct found_posts found = { mem_array(count, sizeof(struct found_post)), 0 };
	int rc = 0;

	for (size_t from = 0; from < count && rc == 0; from += ROWS_IN_LIST)
		rc = find_posts(
			store, ids + from, count - from < ROWS_IN_LIST ? count - from : ROWS_IN_LIST, &found, err);
	if (rc < 0)
		goto out;
	qsort(found.posts, found.count, sizeof(*found.posts), rows_compare_ids); /* the id comes first in the struct */
	for (size_t i = 0; i < count; i++) {
		const struct found_post *post =
			bsearch(&ids[i], found.posts, found.count, sizeof(*found.posts), rows_compare_ids);

		states[i] = (struct post_state){ .exists = post != NULL, .chunks = post ? post->chunks : 0 };
		if (SABOTAGED("ledger"))
			states[i] = (struct post_state){ .exists = false };
	}
out:
	free(found.posts);
	return rc;
}

static int read_state(void *arg, const struct store_value *columns, size_t count)
{
	struct post_state *state = arg;

	(void)count;
	*state = (struct post_state){ .exists = true, .chunks = columns[0].number, .left = columns[1].number };
	return 0;
}

int posts_state(struct store *store, int64_t id, struct post_state *state, struct err *err)
{
	static const char sql[] = "SELECT chunks, (SELECT COUNT(*) FROM fanout_chunk WHERE post_id = ? AND done = 0) "
				  "FROM outbound WHERE id = ?";
	struct store_value values[] = { store_int(id), store_int(id) };
	struct post_state read = { 0 };

	if (store_query(store, sql, values, 2, read_state, &read, err) < 0)
		return -1;
	*state = read;
	return 0;
}

int posts_insert(struct store *store, const struct post *posts, const int64_t *chunks, size_t count, struct err *err)
{
	enum { COLUMNS = 6 };
	struct store_value *values = mem_array(count * COLUMNS, sizeof(*values));
	char(*times)[ROWS_TIME] = mem_array(count, sizeof(*times));
	int rc;

	for (size_t i = 0; i < count; i++) {
		struct store_value *row = values + i * COLUMNS;

		row[0] = store_int(posts[i].id);
		row[1] = store_int(posts[i].from);
		row[2] = store_text(rows_time(posts[i].posted_at_ms, times[i]));
		row[3] = store_text(posts[i].subject);
		row[4] = store_text(posts[i].story);
		row[5] = store_int(chunks ? chunks[i] : 0);
	}
	rows_sort(values, COLUMNS, count);
	rc = store_insert(store, SABOTAGED("ledger") || SABOTAGED("plan") ? STORE_KEEP : STORE_PLAIN, "outbound (id, participant_id, posted_at, subject, story, chunks)",
		values, COLUMNS, count, err);
	free(times);
	free(values);
	return rc;
}

/* ---- inbound */

static int compare_inbound(const void *a, const void *b)
{
	const struct inbound *x = a, *y = b;

	if (x->participant != y->participant)
		return x->participant < y->participant ? -1 : 1;
	return (x->post > y->post) - (x->post < y->post);
}

int inbound_insert(struct store *store, struct inbound *rows, size_t count, struct err *err)
{
	const size_t room = count < INBOUND_ROWS ? count : INBOUND_ROWS;
	struct store_value *values = mem_array(room * 3, sizeof(*values));
	int rc = 0;

	qsort(rows, count, sizeof(*rows), compare_inbound);
	for (size_t from = 0; from < count && rc == 0; from += room) {
		size_t n = count - from < room ? count - from : room;

		for (size_t i = 0; i < n; i++) {
			values[i * 3] = store_int(rows[from + i].participant);
			values[i * 3 + 1] = store_int(rows[from + i].post);
			values[i * 3 + 2] = store_int(rows[from + i].from);
		}
		rc = store_insert(store, STORE_KEEP, "inbound (participant_id, post_id, from_id)", values, 3, n, err);
	}
	free(values);
	return rc;
}

static int insert_friends(struct store *store, const int64_t *posts, size_t count, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc;

	buf_addf(&sql, "INSERT INTO inbound (participant_id, post_id, from_id) SELECT f.friend_id, o.id, o.participant_id "
		"FROM outbound o %s friend f ON f.participant_id = o.participant_id WHERE o.id IN (", store_join(store));
	rows_add_ids(&sql, posts, count);
	buf_add_char(&sql, ')');
	store_keep(store, slice_of("inbound.post_id"), &sql);
	if (FAULT_FAILS("store.fanning"))
		rc = err_set(err, ERR_CONFLICT, "fault: deadlock");
	else
		rc = store_query_once(store, sql.data, sql.len, NULL, NULL, err);
	buf_release(&sql);
	return rc;
}

int inbound_insert_friends(struct store *store, const int64_t *posts, size_t count, struct err *err)
{
	int rc = 0;

	for (size_t from = 0; from < count && rc == 0; from += ROWS_IN_LIST)
		rc = insert_friends(store, posts + from, count - from < ROWS_IN_LIST ? count - from : ROWS_IN_LIST, err);
	return rc;
}

/* ---- lists */

struct post_reader {
	post_row_fn *row;
	void *arg;
	struct err *err;
};

static int read_post(void *arg, const struct store_value *columns, size_t count)
{
	const struct post_reader *reader = arg;
	struct post post = {
		.id = columns[0].number, .from = columns[1].number, .subject = columns[3].text, .story = columns[4].text
	};

	(void)count;
	if (!rows_time_read(columns[2].text, &post.posted_at_ms))
		return err_set(
			reader->err, ERR_INVALID, "post %lld: its time in the table is not one", (long long)post.id);
	return reader->row(reader->arg, &post);
}

static int list_posts(struct store *store, const char *sql, int64_t participant, int64_t before, size_t limit,
	post_row_fn *row, void *arg, struct err *err)
{
	struct post_reader reader = { row, arg, err };
	struct store_value values[] = { store_int(participant), store_int(before > 0 ? before : INT64_MAX),
		store_int((int64_t)limit) };

	return store_query(store, sql, values, 3, read_post, &reader, err);
}

int outbound_list(struct store *store, int64_t participant, int64_t before, size_t limit, post_row_fn *row, void *arg,
	struct err *err)
{
	return list_posts(store,
		"SELECT id, participant_id, posted_at, subject, story FROM outbound "
		"WHERE participant_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
		participant, before, limit, row, arg, err);
}

int inbound_list(struct store *store, int64_t participant, int64_t before, size_t limit, post_row_fn *row, void *arg,
	struct err *err)
{
	return list_posts(store,
		"SELECT i.post_id, i.from_id, o.posted_at, o.subject, o.story "
		"FROM inbound i JOIN outbound o ON o.id = i.post_id "
		"WHERE i.participant_id = ? AND i.post_id < ? ORDER BY i.post_id DESC LIMIT ?",
		participant, before, limit, row, arg, err);
}

/* ---- packed lists of friends */

void friends_pack(const int64_t *ids, size_t count, struct buf *out)
{
	int64_t last = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t step = (uint64_t)(ids[i] - last);

		for (; step > 127; step >>= 7)
			buf_add_char(out, (char)(step | 128));
		buf_add_char(out, (char)step);
		last = ids[i];
	}
}

/* One number, low seven bits first; false: cut off, or beyond any id. */
static bool unpack_number(struct slice *rest, uint64_t *out)
{
	uint64_t number = 0;

	for (unsigned shift = 0; shift < 56 && rest->len > 0; shift += 7) {
		unsigned char byte = (unsigned char)rest->data[0];

		rest->data++;
		rest->len--;
		number |= (uint64_t)(byte & 127) << shift;
		if (byte < 128) {
			*out = number;
			return true;
		}
	}
	return false;
}

int friends_unpack(struct slice packed, int64_t **ids, size_t *count, struct err *err)
{
	int64_t *list = mem_array(packed.len, sizeof(*list)); /* a friend takes a byte at least */
	int64_t last = 0;
	size_t n = 0;

	while (packed.len > 0) {
		uint64_t step;

		if (!unpack_number(&packed, &step) || step == 0 || step > (uint64_t)(ID_MAX - last)) {
			free(list);
			return err_set(err, ERR_INVALID, "a packed list of friends is broken behind friend %zu", n);
		}
		last += (int64_t)step;
		list[n++] = last;
	}
	*ids = list;
	*count = n;
	return 0;
}

/* ---- plans */

int plan_add(struct store *store, int64_t post, int64_t number, const int64_t *friends, size_t count, struct err *err)
{
	struct buf packed = BUF_INIT;
	struct store_value row[5] = { store_int(post), store_int(number) };
	int rc;

	if (SABOTAGED("plan") && store_run(store, "DELETE FROM fanout_chunk WHERE post_id = ? AND n = ?", row, 2, NULL, err) < 0)
		return -1;
	friends_pack(friends, count, &packed);
	row[2] = store_int(count > 0 ? friends[0] : 0);
	row[3] = store_int(count > 0 ? friends[count - 1] : 0);
	row[4] = store_bytes((struct slice){ packed.data, packed.len });
	rc = store_run(store,
		"INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends) VALUES (?, ?, ?, ?, ?)", row,
		5, NULL, err);
	buf_release(&packed);
	return rc;
}

struct number_list {
	int64_t *numbers;
	size_t count, room;
};

static int read_number(void *arg, const struct store_value *columns, size_t count)
{
	struct number_list *list = arg;

	(void)count;
	if (list->count == list->room) {
		list->room = list->room > 0 ? list->room * 2 : 16;
		list->numbers = mem_grow(list->numbers, list->room, sizeof(*list->numbers));
	}
	list->numbers[list->count++] = columns[0].number;
	return 0;
}

int plan_open_chunks(struct store *store, int64_t post, int64_t **numbers, size_t *count, struct err *err)
{
	struct number_list list = { 0 };
	struct store_value values[] = { store_int(post) };

	if (store_query(store, "SELECT n FROM fanout_chunk WHERE post_id = ? AND done = 0 ORDER BY n", values, 1,
			read_number, &list, err) < 0) {
		free(list.numbers);
		return -1;
	}
	*numbers = list.numbers;
	*count = list.count;
	return 0;
}

struct part_reader {
	struct plan_part *part;
	struct err *err;
};

static int read_part(void *arg, const struct store_value *columns, size_t count)
{
	const struct part_reader *reader = arg;
	struct plan_part *part = reader->part;

	(void)count;
	part->found = true;
	part->done = columns[0].number != 0;
	part->author = columns[1].number;
	return part->done ? 0 : friends_unpack(columns[2].text, &part->friends, &part->count, reader->err);
}

int plan_take(struct store *store, int64_t post, int64_t number, struct plan_part *part, struct err *err)
{
	struct part_reader reader = { part, err };
	struct store_value values[] = { store_int(post), store_int(number) };
	char sql[192];

	*part = (struct plan_part){ .found = false };
	snprintf(sql, sizeof(sql),
		"SELECT done, (SELECT participant_id FROM outbound WHERE id = post_id), friends FROM fanout_chunk "
		"WHERE post_id = ? AND n = ?%s",
		store_for_update(store));
	if (store_query(store, sql, values, 2, read_part, &reader, err) == 0)
		return 0;
	free(part->friends);
	part->friends = NULL;
	return -1;
}

/* The list is of no use any more: a million friends would stay for ever with each of their author's posts. */
int plan_done(struct store *store, int64_t post, int64_t number, struct err *err)
{
	struct store_value values[] = { store_int(post), store_int(number) };

	return store_run(store, "UPDATE fanout_chunk SET done = 1, friends = x'' WHERE post_id = ? AND n = ?", values, 2,
		NULL, err);
}
