/* rows: small helpers of the files that own tables: lists of ids in a statement, the order of rows, times as the tables
 * keep them. Uses store. */
#ifndef FEEDMILL_STORE_ROWS_H
#define FEEDMILL_STORE_ROWS_H

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/store/store.h"

/* How many ids go into one IN list: from 1,000 on MariaDB makes a temporary table of them, and sorts. */
#define ROWS_IN_LIST 900

void rows_add_ids(struct buf *sql, const int64_t *ids, size_t count); /* "1,2,3" */

/* Sorts rows of `columns` values by their first, a number or a text: a statement takes its locks in the order of the
 * primary key, so that two of them can't wait for each other. */
void rows_sort(struct store_value *values, size_t columns, size_t rows);

/* A UTC time as the tables keep it, for eyes and for every dialect: "2026-01-31 12:00:00.123". */
#define ROWS_TIME CLOCK_TEXT
struct slice rows_time(int64_t wall_ms, char out[ROWS_TIME]);
bool rows_time_read(struct slice text, int64_t *wall_ms);

int rows_compare_ids(const void *a, const void *b); /* of int64_t, for qsort() and bsearch() */

#endif
