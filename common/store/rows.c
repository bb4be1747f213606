/* Ids, rows and times go in; lists, rows in order and column texts come out. */
#include "common/store/rows.h"

#define TIME_LEN 23 /* without the Z */

void rows_add_ids(struct buf *sql, const int64_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buf_add_char(sql, ',');
		buf_add_int(sql, ids[i]);
	}
}

int rows_compare_ids(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int compare_values(const void *a, const void *b)
{
	const struct store_value *x = a, *y = b;
	size_t shorter;
	int order;

	if (x->type != STORE_TEXT || y->type != STORE_TEXT)
		return rows_compare_ids(&x->number, &y->number);
	shorter = x->text.len < y->text.len ? x->text.len : y->text.len;
	order = memcmp(x->text.data, y->text.data, shorter);
	return order != 0 ? order : (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

void rows_sort(struct store_value *values, size_t columns, size_t rows)
{
	qsort(values, rows, columns * sizeof(*values), compare_values);
}

struct slice rows_time(int64_t wall_ms, char out[ROWS_TIME])
{
	clock_rfc3339(wall_ms, out);
	if (strlen(out) == TIME_LEN + 1) { /* else a year of five digits: the database refuses it as it is */
		out[10] = ' ';
		out[TIME_LEN] = '\0';
	}
	return slice_of(out);
}

bool rows_time_read(struct slice text, int64_t *wall_ms)
{
	char copy[ROWS_TIME + 1];

	if (text.len < TIME_LEN - 4 || text.len >= ROWS_TIME)
		return false;
	memcpy(copy, text.data, text.len);
	copy[10] = 'T';
	copy[text.len] = 'Z';
	return clock_parse_rfc3339((struct slice){ copy, text.len + 1 }, wall_ms);
}
