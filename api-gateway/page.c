/* limit, cursor and the rows of the store go in, a JSON array and the link to the next page come out. */
#include "api-gateway/page.h"

#include <stdio.h>

#include "api-gateway/call.h"
#include "api-gateway/cursor.h"
#include "api-gateway/reply.h"

#define LINK_HEADER_TEXT 512

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

void rows_open(struct rows *rows, const struct page *page)
{
	*rows = (struct rows){ .page = page, .body = BUF_INIT };
	rows->w = (struct json_writer)JSON_WRITER(&rows->body);
	buf_reserve(&rows->body, 1024);
	json_open(&rows->w, NULL, '[');
}

bool rows_next(struct rows *rows, int64_t id)
{
	rows->has_more = rows->count == (size_t)rows->page->limit;
	if (rows->has_more)
		return false;
	rows->count++;
	rows->last = id;
	return true;
}

static void add_link(const struct rows *rows, struct call *call)
{
	const struct http_request *request = http_request_of(call->exchange);
	char link[LINK_HEADER_TEXT], cursor[CURSOR_TEXT];

	cursor_write(rows->page->list, rows->last, cursor);
	snprintf(link, sizeof(link), "<%.*s?limit=%lld&cursor=%s>; rel=\"next\"", (int)request->path.len, request->path.data,
		(long long)rows->page->limit, cursor);
	http_answer_header(call->exchange, "Link", link);
}

void rows_answer(struct rows *rows, struct call *call, int rc, const struct err *err)
{
	if (rc < 0) {
		buf_release(&rows->body);
		reply_away(call, err);
		return;
	}
	json_close(&rows->w, ']');
	if (rows->has_more)
		add_link(rows, call);
	reply_json(call, &rows->body);
}
