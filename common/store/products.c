/* Products go in and come out of the table product. */
#include "common/store/products.h"

#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/store/rows.h"

int products_insert(struct store *store, const struct product *rows, size_t count, struct err *err)
{
	struct store_value *values = mem_array(count * 3, sizeof(*values));
	int rc;

	for (size_t i = 0; i < count; i++) {
		values[i * 3] = store_int(rows[i].id);
		values[i * 3 + 1] = store_text(rows[i].name);
		values[i * 3 + 2] = store_text(rows[i].price);
	}
	rows_sort(values, 3, count);
	rc = store_insert(store, SABOTAGED("ledger") ? STORE_KEEP : STORE_PLAIN, "product (id, name, price)", values, 3, count, err);
	free(values);
	return rc;
}

int products_delete(struct store *store, int64_t id, bool *found, struct err *err)
{
	struct store_value values[] = { store_int(id) };
	int64_t changed = 0;

	if (store_run(store, "DELETE FROM product WHERE id = ?", values, 1, &changed, err) < 0)
		return -1;
	*found = changed > 0;
	return 0;
}

struct product_reader {
	product_row_fn *row;
	void *arg;
	struct err *err;
};

/* The database pads prices ("1.50"); ours have no needless zeros ("1.5"). */
static int read_product(void *arg, const struct store_value *columns, size_t count)
{
	const struct product_reader *reader = arg;
	char price[PRICE_TEXT];

	(void)count;
	if (!price_read(columns[2].text, price))
		return err_set(reader->err, ERR_INVALID, "product %lld: its price in the table is not one",
			(long long)columns[0].number);
	return reader->row(reader->arg,
		&(struct product){ .id = columns[0].number, .name = columns[1].text, .price = slice_of(price) });
}

int products_list(struct store *store, int64_t after, size_t limit, product_row_fn *row, void *arg, struct err *err)
{
	struct product_reader reader = { row, arg, err };
	struct store_value values[] = { store_int(after), store_int((int64_t)limit) };

	return store_query(store, "SELECT id, name, price FROM product WHERE id > ? ORDER BY id LIMIT ?", values, 2,
		read_product, &reader, err);
}
