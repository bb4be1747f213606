/* The id of a job goes in, how it is comes out of the table that Celery's database back end has. */
#include "common/store/jobs.h"

#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/unpickle.h"

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

static bool read_result(struct slice value, struct buf *out)
{
	struct err ignored = ERR_INIT;

	if (value.len > 0 && value.data[0] == PICKLE_PROTO)
		return unpickle(value, out, &ignored) == 0;
	return read_json(value, out);
}

static int read_row(void *arg, const struct store_value *columns, size_t count)
{
	struct job_state *state = arg;

	(void)count;
	state->found = true;
	if (columns[0].type == STORE_TEXT)
		snprintf(state->status, sizeof(state->status), "%.*s", (int)columns[0].text.len, columns[0].text.data);
	if (columns[1].type == STORE_TEXT) {
		state->is_readable = read_result(columns[1].text, &state->result);
	} else {
		state->is_readable = true;
		buf_add_str(&state->result, "null");
	}
	return 0;
}

int job_state_read(struct store *store, struct slice id, struct job_state *out, struct err *err)
{
	const struct store_value values[] = { store_text(id) };
	struct err why = ERR_INIT;

	if (store_query(store, "SELECT status, result FROM celery_taskmeta WHERE task_id = ?", values, 1, read_row, out, &why) == 0)
		return 0;
	if (why.kind == ERR_FATAL)
		return 0;
	*err = why;
	return -1;
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
