/* The id of a job goes in, how it is comes out of the table that Celery's database back end has. */
#include "common/store/jobs.h"

#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/unpickle.h"
#include "common/queue/signer.h"

#define PICKLE_PROTO '\x80' /* the first byte of every pickle since protocol 2; no JSON begins so */

static bool read_json(struct slice text, struct buf *out)
{
	struct err ignored = ERR_INIT;
	struct json *node = json_parse_answer(text, &ignored);

	if (node != NULL)
		json_write_node(out, node);
	json_free(node);
	return node != NULL;
}

static bool read_signed(const struct signer *signer, struct slice value, struct buf *out)
{
	struct err ignored = ERR_INIT;
	struct signed_body inner;
	struct buf room = BUF_INIT;
	const bool is_read = signer != NULL && signer_verify_stored(signer, value, &room, &inner, &ignored) == 0 && read_json(inner.body, out);

	buf_release(&room);
	return is_read;
}

/* Where results are signed, who can write the table alone must not have his own go on, signed by us, as an argument of what follows. No JSON
 * is base64 of five fields: otherwise a signed one is found by reading it as JSON in vain. */
static bool read_result(const struct signer *signer, struct slice value, struct buf *out)
{
	struct err ignored = ERR_INIT;

	if (signer_signs_results(signer))
		return read_signed(signer, value, out);
	if (value.len > 0 && value.data[0] == PICKLE_PROTO)
		return unpickle(value, out, &ignored) == 0;
	return read_json(value, out) || read_signed(signer, value, out);
}

static int read_row(void *arg, const struct store_value *columns, size_t count)
{
	struct job_state *state = arg;

	(void)count;
	state->found = true;
	if (columns[0].type == STORE_TEXT)
		snprintf(state->status, sizeof(state->status), "%.*s", (int)columns[0].text.len, columns[0].text.data);
	if (columns[1].type == STORE_TEXT) {
		state->is_readable = read_result(state->signer, columns[1].text, &state->result);
	} else if (!signer_signs_results(state->signer)) {
		state->is_readable = true;
		buf_add_str(&state->result, "null");
	}
	return 0;
}

int job_state_read(struct store *store, const char *table, struct slice id, struct job_state *out, struct err *err)
{
	const struct store_value values[] = { store_text(id) };
	struct buf sql = BUF_INIT;
	struct err why = ERR_INIT;
	int rc;

	buf_add_str(&sql, "SELECT status, result FROM ");
	job_table_add(&sql, table);
	buf_add_str(&sql, " WHERE task_id = ?");
	rc = store_query(store, sql.data, values, 1, read_row, out, &why);
	buf_release(&sql);
	if (rc == 0 || why.kind == ERR_FATAL)
		return 0;
	*err = why;
	return -1;
}

/* ---- its name. SQLite takes MySQL's quotes */

void job_table_beside(struct buf *sql, const char *table, const char *name)
{
	const char *dot = strchr(table, '.');

	if (dot != NULL)
		buf_addf(sql, "`%.*s`.", (int)(dot - table), table);
	buf_addf(sql, "`%s`", name);
}

static const char *own_name(const char *table)
{
	const char *dot = strchr(table, '.');

	return dot != NULL ? dot + 1 : table;
}

void job_table_add(struct buf *sql, const char *table)
{
	job_table_beside(sql, table, own_name(table));
}

void job_table_where(struct buf *sql, const char *table)
{
	const char *dot = strchr(table, '.');

	if (dot != NULL)
		buf_addf(sql, "table_schema = '%.*s'", (int)(dot - table), table);
	else
		buf_add_str(sql, "table_schema = DATABASE()");
	buf_addf(sql, " AND table_name = '%s'", own_name(table));
}

/* ---- showing it */

static const struct shown {
	const char *celery, *word;
	const char *key; /* of the result */
} shown[] = {
	{ "SUCCESS", "done", "result" },
	{ "FAILURE", "failed", "error" },
	{ "REVOKED", "revoked", NULL },
	{ "STARTED", "started", NULL },
	{ "RETRY", "retry", "error" },
};

static const struct shown *find_shown(const char *status)
{
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		if (strcmp(shown[i].celery, status) == 0)
			return &shown[i];
	return NULL;
}

const char *job_state_word(const char *status)
{
	const struct shown *found = find_shown(status);

	return found != NULL ? found->word : NULL;
}

void job_state_write(struct slice id, const struct job_state *state, struct buf *out)
{
	const struct shown *found = find_shown(state->status);
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "id", id);
	json_put_string(&w, "status", slice_of(found != NULL ? found->word : "pending"));
	if (found != NULL && found->key != NULL && state->is_readable)
		json_put_raw(&w, found->key, (struct slice){ state->result.data, state->result.len });
	json_close(&w, '}');
}
