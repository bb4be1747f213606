/* An id and a status go in, a row to be filled comes out; many rows go in, and come out in the order in which they are written. */
#include "workers/celery/result_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/queue/signer.h"
#include "workers/celery/pickle.h"

struct result_row *result_row_new(struct slice id, const char *status)
{
	struct result_row *row = mem_zalloc(sizeof(*row));

	snprintf(row->id, sizeof(row->id), "%.*s", (int)id.len, id.data);
	snprintf(row->status, sizeof(row->status), "%s", status);
	row->result = row->trace = row->name = row->args = row->kwargs = row->worker = row->queue = (struct buf)BUF_INIT;
	row->stamps = row->children = row->value = (struct buf)BUF_INIT;
	return row;
}

void result_row_free(struct result_row *row)
{
	if (row == NULL)
		return;
	buf_release(&row->result);
	buf_release(&row->value);
	buf_release(&row->trace);
	buf_release(&row->name);
	buf_release(&row->args);
	buf_release(&row->kwargs);
	buf_release(&row->worker);
	buf_release(&row->queue);
	buf_release(&row->stamps);
	buf_release(&row->children);
	free(row);
}

static void encode(const struct result_row *row, const char *format, struct buf *out)
{
	const struct slice result = { row->result.data, row->result.len };
	struct err err = ERR_INIT;
	struct json *node;

	if (row->signer != NULL) {
		signer_sign(row->signer, result, out);
		return;
	}
	if (strcmp(format, "json") == 0) {
		buf_add(out, result.data, result.len);
		return;
	}
	node = json_parse_answer(result, &err);
	if (node != NULL)
		pickle_write(out, node);
	json_free(node);
}

static void sign_the_rest(struct result_row *row)
{
	struct buf *const texts[] = { &row->args, &row->kwargs, &row->stamps, &row->children };

	for (size_t i = 0; row->signer != NULL && !row->is_signed && i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct buf text = BUF_INIT;

		if (texts[i]->len == 0)
			continue;
		signer_sign(row->signer, (struct slice){ texts[i]->data, texts[i]->len }, &text);
		buf_release(texts[i]);
		*texts[i] = text;
	}
	row->is_signed = true;
}

void result_row_encode(struct result_row *row, const char *format)
{
	if (row->value.len == 0)
		encode(row, format, &row->value);
	sign_the_rest(row);
}

void result_row_fail(struct result_row *row, const struct err *why)
{
	struct json_writer w = JSON_WRITER(&row->result);

	buf_reset(&row->result);
	buf_reset(&row->value);
	snprintf(row->status, sizeof(row->status), "FAILURE");
	json_open(&w, NULL, '{');
	json_put_string(&w, "exc_type", slice_of("BackendStoreError"));
	json_open(&w, "exc_message", '[');
	json_put_string(&w, NULL, slice_of(why->message));
	json_close(&w, ']');
	json_put_string(&w, "exc_module", slice_of("celery.exceptions"));
	json_close(&w, '}');
}

static int compare_rows(const void *a, const void *b)
{
	const struct result_row *one = *(struct result_row *const *)a, *other = *(struct result_row *const *)b;
	const int order = strcmp(one->id, other->id);

	return order != 0 ? order : one->place < other->place ? -1 : one->place > other->place;
}

void result_rows_sort(struct result_row **rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		rows[i]->place = i;
	qsort(rows, count, sizeof(*rows), compare_rows);
}
