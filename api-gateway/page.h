/* page: one page of a list: what the query asks for, the rows as JSON, and the way to the next page. Uses cursor, json. */
#ifndef FEEDMILL_API_GATEWAY_PAGE_H
#define FEEDMILL_API_GATEWAY_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/json.h"

struct call;

#define PAGE_LIMIT 100      /* unless the query says otherwise */
#define PAGE_LIMIT_MAX 1000 /* whatever the contract lets through */

/* The letters of the lists, for their cursors. */
enum { LIST_FRIENDS = 'f', LIST_OUTBOUND = 'o', LIST_INBOUND = 'i', LIST_PRODUCTS = 'p' };

struct page {
	char list;
	int64_t limit;
	int64_t from; /* the last id of the page before; 0: this is the first */
};

bool page_read(struct call *call, char list); /* into call->want.page. false: answered 400 */

/* Filled row by row: ask the store for page->limit + 1 of them, so that it shows whether there are more. */
struct rows {
	const struct page *page;
	struct buf body;
	struct json_writer w;
	size_t count;
	int64_t last;
	bool has_more;
};

void rows_open(struct rows *rows, const struct page *page);
bool rows_next(struct rows *rows, int64_t id); /* false: the page is full, this row belongs to the next */
/* The list, with `Link: rel=next` where there is more; or, when rc is -1, 503. Releases rows. */
void rows_answer(struct rows *rows, struct call *call, int rc, const struct err *err);

#endif
