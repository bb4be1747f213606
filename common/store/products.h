/* products: the catalogue in the store. Uses store, model. */
#ifndef FEEDMILL_STORE_PRODUCTS_H
#define FEEDMILL_STORE_PRODUCTS_H

#include "common/model/product.h"
#include "common/store/store.h"

typedef int product_row_fn(void *arg, const struct product *product);

int products_insert(struct store *store, const struct product *rows, size_t count, struct err *err);
int products_delete(struct store *store, int64_t id, bool *found, struct err *err);
int products_list(struct store *store, int64_t after, size_t limit, product_row_fn *row, void *arg, struct err *err); /* in id order */

#endif
