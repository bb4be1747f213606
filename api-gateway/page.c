/* limit, cursor and the rows of the store go in, a JSON array and the link to the next page come out. */
#include "api-gateway/page.h"

#include <stdio.h>

#include "api-gateway/call.h"
#include "api-gateway/cursor.h"
#include "api-gateway/reply.h"
#include "common/base/settings.h"

#define LINK_HEADER_TEXT 512
/* Rows are read by so many: what lies behind a page's last byte is sent by the database in vain. A page of the usual length, and
 * the row that shows whether there is more, are one question. */
#define ROWS_AT_ONCE (PAGE_LIMIT + 1)

bool page_read(struct call *call, char list)
{
	struct page *page = &call->want.page;
	struct slice limit = http_query(call->exchange, "limit", NULL);
	struct slice cursor = http_query(call->exchange, "cursor", NULL);

	*page = (struct page){ .list = list, .limit = PAGE_LIMIT };
	if (limit.data != NULL && (!str_int64(limit, &page->limit) || page->limit < 1 || page->limit > PAGE_LIMIT_MAX)) {
		reply_problem(call, 400, "", "limit is not a whole number from 1 to %d", PAGE_LIMIT_MAX);
		return false;
	}
	if (cursor.data != NULL && !cursor_read(cursor, list, &page->from)) {
		reply_problem(call, 400, "", "cursor is not one that this list's Link header named");
		return false;
	}
	return true;
}

static void rows_open(struct rows *rows, struct call *call)
{
	*rows = (struct rows){ .call = call, .body = BUF_INIT };
	rows->w = (struct json_writer)JSON_WRITER(&rows->body);
	buf_reserve(&rows->body, 1024);
	json_open(&rows->w, NULL, '[');
}

bool rows_next(struct rows *rows, int64_t id)
{
	rows->offered++;
	rows->has_more = rows->count == (size_t)rows->call->want.page.limit || rows->body.len >= PAGE_BYTES;
	if (rows->has_more)
		return false;
	rows->count++;
	rows->last = id;
	return true;
}

static void add_link(const struct rows *rows)
{
	const struct http_request *request = http_request_of(rows->call->exchange);
	const struct page *page = &rows->call->want.page;
	char link[LINK_HEADER_TEXT], cursor[CURSOR_TEXT];

	cursor_write(page->list, rows->last, cursor);
	snprintf(link, sizeof(link), "<%.*s?limit=%lld&cursor=%s>; rel=\"next\"", (int)request->path.len, request->path.data,
		(long long)page->limit, cursor);
	http_answer_header(rows->call->exchange, "Link", link);
}

/* Until the page is full, or the list ends. */
static int rows_read(struct rows *rows, struct store *store, list_fn *list, struct err *err)
{
	const struct page *page = &rows->call->want.page;
	size_t limit, before;

	do {
		limit = (size_t)page->limit + 1 - rows->count;
		if (limit > ROWS_AT_ONCE)
			limit = ROWS_AT_ONCE;
		before = rows->offered;
		if (list(rows, store, rows->count > 0 ? rows->last : page->from, limit, err) < 0)
			return -1;
	} while (!rows->has_more && rows->offered - before == limit);
	return 0;
}

/* Each reader may be making one page more than this sees. */
static bool has_room(const struct call *call)
{
	return atomic_load_explicit(&call->gateway->answer_bytes, memory_order_relaxed) + PAGE_BYTES <=
		(size_t)call->gateway->settings->gateway.max_in_flight;
}

void page_answer(struct call *call, const struct reader *reader, list_fn *list)
{
	struct err err = ERR_INIT;
	struct rows rows;

	if (!has_room(call)) {
		reply_away(call, &(struct err){ ERR_FULL, "too many bytes of answers wait for their clients" });
		return;
	}
	rows_open(&rows, call);
	if (rows_read(&rows, reader->store, list, &err) < 0) {
		buf_release(&rows.body);
		reply_away(call, &err);
		return;
	}
	json_close(&rows.w, ']');
	if (rows.has_more)
		add_link(&rows);
	reply_json(call, &rows.body);
}
