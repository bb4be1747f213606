/* documents: what is served beside the contract's operations, from memory: /openapi.yaml and /openapi.json, and the API page
 * at /docs. Uses contract.
 *
 * The page is Swagger UI (`make docs` fetches it) with an index of our own (docs/). Its files are a fixed list, read at launch:
 * no path of a request ever reaches the file system. */
#ifndef FEEDMILL_API_GATEWAY_DOCUMENTS_H
#define FEEDMILL_API_GATEWAY_DOCUMENTS_H

#include <stdbool.h>

#include "api-gateway/contract.h"
#include "common/base/err.h"

struct document {
	const char *path;
	const char *type;   /* media type */
	struct slice bytes; /* SLICE_NONE: a part of the page, which is not there */
	char etag[20];      /* of the bytes, in quotes */
	const char *location; /* NULL, or where it is instead */
	bool is_page;       /* belongs to the page: has its Content-Security-Policy */
};

struct documents;

/* Borrows the contract. folder: where the page's files are; "": no page, its paths are unknown. */
struct documents *documents_new(const struct contract *contract, const char *folder);
void documents_free(struct documents *documents); /* NULL is fine */

/* false: the page was asked for and a file of it can't be read. */
bool documents_complete(const struct documents *documents, struct err *why);
const struct document *documents_find(const struct documents *documents, struct slice path); /* NULL: none has this path */

#endif
