/* Rows of results in the order in which they are written, with a qsort() that keeps no order of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "workers/celery/result_row.h"

static void swap(char *a, char *b, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		const char kept = a[i];

		a[i] = b[i];
		b[i] = kept;
	}
}

/* Instead of the C library's, which is stable up to some size: of two that are equal the later comes first. */
void qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	char *all = base;

	for (size_t i = 1; i < count; i++)
		for (size_t j = i; j > 0 && compare(all + (j - 1) * size, all + j * size) >= 0; j--)
			swap(all + (j - 1) * size, all + j * size, size);
}

static void the_later_row_of_an_id_stays_the_later(void **state)
{
	static const struct {
		const char *id, *status;
	} came[] = { { "b", "STARTED" }, { "a", "STARTED" }, { "b", "RETRY" }, { "a", "FAILURE" }, { "b", "FAILURE" } };
	static const char *const sorted[] = { "a STARTED", "a FAILURE", "b STARTED", "b RETRY", "b FAILURE" };
	struct result_row *rows[5];
	char text[300];

	(void)state;
	for (size_t i = 0; i < 5; i++)
		rows[i] = result_row_new(slice_of(came[i].id), came[i].status);
	result_rows_sort(rows, 5);
	for (size_t i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), "%s %s", rows[i]->id, rows[i]->status);
		assert_string_equal(sorted[i], text);
		result_row_free(rows[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_later_row_of_an_id_stays_the_later) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
