/* cursor: there and back, and every broken one refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "api-gateway/cursor.h"

static void there_and_back(void **state)
{
	static const int64_t ids[] = { 1, 9, 10, 123456789, ID_MAX - 1, ID_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		char text[CURSOR_TEXT];
		int64_t id = 0;

		cursor_write('f', ids[i], text);
		assert_true(cursor_read(slice_of(text), 'f', &id));
		assert_true(id == ids[i]);
	}
}

static void it_belongs_to_one_list(void **state)
{
	char text[CURSOR_TEXT];
	int64_t id = -5;

	(void)state;
	cursor_write('f', 77, text);
	assert_false(cursor_read(slice_of(text), 'o', &id));
	assert_int_equal(-5, id);
}

static void it_fits_a_url_as_it_is(void **state)
{
	char text[CURSOR_TEXT];

	(void)state;
	cursor_write('o', ID_MAX, text);
	assert_int_equal(strlen(text), strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"));
}

static void any_change_breaks_it(void **state)
{
	char good[CURSOR_TEXT];
	size_t len;

	(void)state;
	cursor_write('i', 1000, good);
	len = strlen(good);
	for (size_t i = 0; i < len; i++) {
		for (int c = 1; c < 256; c++) {
			char text[CURSOR_TEXT];
			int64_t id = 0;

			memcpy(text, good, sizeof(text));
			text[i] = (char)c;
			if (cursor_read(slice_of(text), 'i', &id) && text[i] != good[i])
				assert_true(id != 1000); /* other digits are another place; no two words are the same place */
		}
	}
}

static void broken_ones_are_refused(void **state)
{
	static const char *const broken[] = { "", "a", "====", "MWY", "MWYw", "MWYx ", "MWYx=", "MWYx==", "!!", "MWYtMQ", "MmYx", "MWYwMQ",
		"MWY5MDA3MTk5MjU0NzQwOTky", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
	int64_t id;

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (cursor_read(slice_of(broken[i]), 'f', &id))
			fail_msg("%s was taken", broken[i]);
	assert_false(cursor_read((struct slice){ "MWYx\0", 5 }, 'f', &id));
	assert_true(cursor_read(slice_of("MWYx"), 'f', &id)); /* "1f1": the one that the broken ones are made of */
	assert_int_equal(1, id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(it_belongs_to_one_list),
		cmocka_unit_test(it_fits_a_url_as_it_is),
		cmocka_unit_test(any_change_breaks_it),
		cmocka_unit_test(broken_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
