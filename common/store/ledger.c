/* Command ids go in, what came of them comes out; and outcomes go in: the table command. */
#include "common/store/ledger.h"

#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/store/rows.h"

void ledger_row_release(struct ledger_row *row)
{
	if (row->body.data)
		buf_release(&row->body);
}

/* As the column has them. */
static const char outcome_done[] = "done", outcome_failed[] = "failed", outcome_rejected[] = "rejected";
static const char type_unknown[] = "unknown"; /* of a rejected command */

static int compare_ids(const void *a, const void *b)
{
	return strcasecmp((*(struct ledger_row *const *)a)->id, (*(struct ledger_row *const *)b)->id);
}

static bool read_type(struct slice name, enum command_type *out)
{
	for (int type = 0; type < COMMAND_TYPE_COUNT; type++) {
		if (slice_is(name, command_type_name((enum command_type)type))) {
			*out = (enum command_type)type;
			return true;
		}
	}
	*out = COMMAND_TYPE_COUNT;
	return slice_is(name, type_unknown);
}

struct ledger_reader {
	struct ledger_row **rows; /* by id; the same id may come twice */
	size_t count;
	struct err *err;
};

static size_t first_of(const struct ledger_reader *reader, const char *id)
{
	size_t low = 0, high = reader->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strcasecmp(reader->rows[middle]->id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void fill(struct ledger_row *row, enum command_type type, const struct store_value *columns)
{
	row->found = !SABOTAGED("ledger");
	row->type = type;
	row->entity = columns[2].number;
	row->is_done = slice_is(columns[3].text, outcome_done);
	row->is_rejected = slice_is(columns[3].text, outcome_rejected);
	if (!row->body.data)
		row->body = (struct buf)BUF_INIT;
	buf_reset(&row->body);
	buf_add(&row->body, columns[4].text.data, columns[4].text.len);
}

static int read_ledger(void *arg, const struct store_value *columns, size_t count)
{
	const struct ledger_reader *reader = arg;
	enum command_type type;
	char id[UUID_TEXT];

	(void)count;
	if (columns[0].text.len != UUID_TEXT - 1 || !read_type(columns[1].text, &type))
		return err_set(reader->err, ERR_INVALID,
			"a row of the command ledger has a type that this program does not know");
	memcpy(id, columns[0].text.data, UUID_TEXT - 1);
	id[UUID_TEXT - 1] = '\0';
	for (size_t i = first_of(reader, id); i < reader->count && strcasecmp(reader->rows[i]->id, id) == 0; i++)
		fill(reader->rows[i], type, columns);
	return 0;
}

/* The table compares bytes: ids are lower case there. */
static void lower_id(const char *id, char out[UUID_TEXT])
{
	size_t i;

	for (i = 0; i < UUID_TEXT - 1 && id[i] != '\0'; i++)
		out[i] = id[i] >= 'A' && id[i] <= 'F' ? (char)(id[i] + ('a' - 'A')) : id[i];
	out[i] = '\0';
}

/* Ids stand in the text of the statement: nothing but a well-formed one gets there. */
static int add_id(struct buf *sql, const char *id, struct err *err)
{
	char lower[UUID_TEXT];
	int64_t unused;

	if (!uuid_is_v7(slice_of(id), &unused))
		return err_set(err, ERR_INVALID, "not the id of a command in the ledger");
	lower_id(id, lower);
	buf_addf(sql, "'%s'", lower);
	return 0;
}

static int find_rows(
	struct store *store, const struct ledger_row *rows, size_t count, struct ledger_reader *reader, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc = 0;

	buf_add_str(&sql, "SELECT id, type, entity_id, outcome, body FROM command WHERE id IN (");
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (i > 0)
			buf_add_char(&sql, ',');
		rc = add_id(&sql, rows[i].id, err);
	}
	buf_add_char(&sql, ')');
	if (rc == 0)
		rc = store_query_once(store, sql.data, sql.len, read_ledger, reader, err);
	buf_release(&sql);
	return rc;
}

int ledger_find(struct store *store, struct ledger_row *rows, size_t count, struct err *err)
{
	struct ledger_reader reader = { mem_array(count, sizeof(struct ledger_row *)), count, err };
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		rows[i].found = false;
		reader.rows[i] = &rows[i];
	}
	qsort(reader.rows, count, sizeof(*reader.rows), compare_ids);
	for (size_t from = 0; from < count && rc == 0; from += ROWS_IN_LIST)
		rc = find_rows(
			store, rows + from, count - from < ROWS_IN_LIST ? count - from : ROWS_IN_LIST, &reader, err);
	free(reader.rows);
	return rc;
}

int ledger_forget(struct store *store, const char *id, struct err *err)
{
	struct store_value value;
	char lower[UUID_TEXT];

	lower_id(id, lower);
	value = store_text(slice_of(lower));
	return store_run(store, "DELETE FROM command WHERE id = ? AND outcome = 'rejected'", &value, 1, NULL, err);
}

int ledger_insert(struct store *store, const struct ledger_row *rows, size_t count, struct err *err)
{
	enum { COLUMNS = 5 };
	struct store_value *values = mem_array(count * COLUMNS, sizeof(*values));
	char(*ids)[UUID_TEXT] = mem_array(count, sizeof(*ids));
	int rc;

	for (size_t i = 0; i < count; i++) {
		struct store_value *row = values + i * COLUMNS;

		lower_id(rows[i].id, ids[i]);
		row[0] = store_text(slice_of(ids[i]));
		row[1] = store_text(slice_of(rows[i].type < COMMAND_TYPE_COUNT ? command_type_name(rows[i].type) : type_unknown));
		row[2] = store_int(rows[i].entity);
		row[3] = store_text(slice_of(rows[i].is_done ? outcome_done : rows[i].is_rejected ? outcome_rejected : outcome_failed));
		row[4] = store_text((struct slice){ rows[i].body.data, rows[i].body.len });
	}
	rows_sort(values, COLUMNS, count);
	rc = store_insert(
		store, SABOTAGED("ledger") ? STORE_KEEP : STORE_PLAIN, "command (id, type, entity_id, outcome, body)", values, COLUMNS, count, err);
	free(ids);
	free(values);
	return rc;
}
