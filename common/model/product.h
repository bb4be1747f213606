/* product: an entry of the catalogue, and the events that tell of it. No I/O. */
#ifndef FEEDMILL_MODEL_PRODUCT_H
#define FEEDMILL_MODEL_PRODUCT_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/json.h"

#define PRODUCT_NAME_MAX 255 /* characters */
#define PRICE_TEXT 16        /* "9999999999.99" and a NUL */

struct product {
	int64_t id;
	struct slice name;
	struct slice price; /* exact decimal: digits, at most two behind the point, as price_read() leaves it */
};

/* A JSON number's digits as an exact price: 0 … 9999999999.99, at most two decimals that count ("1.50" and "1.5" are the
 * same, "15e-1" too), no sign but "-0" as 0. Normal form: no needless zeros ("1.5", "2", "0.05"). false: out of range or too fine. */
bool price_read(struct slice number, char out[PRICE_TEXT]);

int product_check(const struct product *product, const char **member, struct err *err); /* as post_check() */

void product_write(struct json_writer *w, const char *key, const struct product *product); /* {"id","name","price"} */

/* Values of product_events, exactly {"action":"created","id":N,"name":"…"} and {"action":"deleted","id":N}. */
void product_event_created(const struct product *product, struct buf *out);
void product_event_deleted(int64_t id, struct buf *out);

#endif
