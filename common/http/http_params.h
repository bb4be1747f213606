/* http_params: a query string taken apart: "a=1&b=x+y". Uses str.
 *
 * '+' and %20 are spaces. Of a name that comes twice the first counts. A name that can't be decoded is passed over; a value
 * that can't, or is not UTF-8, is there, broken and empty. */
#ifndef FEEDMILL_HTTP_HTTP_PARAMS_H
#define FEEDMILL_HTTP_HTTP_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/str.h"

struct http_param {
	struct slice name;
	struct slice value; /* NUL-terminated */
	bool broken;
};

struct http_params {
	struct http_param *list;
	size_t count, size;
	struct buf text; /* what list points into */
};

void http_params_release(struct http_params *params);
void http_params_read(struct http_params *params, struct slice query);
const struct http_param *http_params_find(const struct http_params *params, const char *name); /* NULL: not there */

#endif
