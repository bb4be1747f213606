/* page: one page of a list: what the query asks for, the rows as JSON, and the way to the next page. Uses cursor, json.
 *
 * A page ends when it has as many rows as were asked for, or PAGE_BYTES: what one client makes us hold is bounded, and so is what all
 * together do (setting gateway.max_in_flight): beyond it lists are 503. */
#ifndef FEEDMILL_API_GATEWAY_PAGE_H
#define FEEDMILL_API_GATEWAY_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/json.h"

struct call;
struct reader;
struct store;

#define PAGE_LIMIT 100      /* unless the query says otherwise */
#define PAGE_LIMIT_MAX 1000 /* whatever the contract lets through */
#define PAGE_BYTES (2 << 20) /* of JSON; the row that reaches it is the last */

/* The letters of the lists, for their cursors. */
enum { LIST_FRIENDS = 'f', LIST_OUTBOUND = 'o', LIST_INBOUND = 'i', LIST_PRODUCTS = 'p' };

struct page {
	char list;
	int64_t limit;
	int64_t from; /* the last id of the page before; 0: this is the first */
};

bool page_read(struct call *call, char list); /* into call->want.page. false: answered 400 */

struct rows {
	struct call *call;
	struct buf body;
	struct json_writer w;
	size_t count, offered; /* on the page; given to rows_next() */
	int64_t last;
	bool has_more;
};

bool rows_next(struct rows *rows, int64_t id); /* false: the page is full, this row belongs to the next */

/* Reads at most `limit` rows of the call's list behind `from`; each that rows_next() takes is written to rows->w. */
typedef int list_fn(struct rows *rows, struct store *store, int64_t from, size_t limit, struct err *err);
/* Answers the call with the page that it wants, with `Link: rel=next` where there is more; 503 when it can't be read. */
void page_answer(struct call *call, const struct reader *reader, list_fn *list);

#endif
