/* The store's parts that need no server: splitting SQL, packing friends, times, the meaning of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/store/jobs.h"
#include "common/store/posts.h"
#include "common/store/rows.h"
#include "common/store/sql_split.h"
#include "common/store/store_ops.h"

static void expect_statements(const char *text, const char *const *wanted)
{
	struct slice rest = slice_of(text), statement;
	struct err err = ERR_INIT;

	for (; *wanted; wanted++) {
		assert_int_equal(1, sql_next(&rest, &statement, &err));
		assert_int_equal(strlen(*wanted), statement.len);
		assert_memory_equal(*wanted, statement.data, statement.len);
	}
	assert_int_equal(0, sql_next(&rest, &statement, &err));
	assert_int_equal(0, sql_next(&rest, &statement, &err));
}

#define EXPECT(text, ...) expect_statements(text, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void statements_end_at_semicolons(void **state)
{
	(void)state;
	EXPECT("");
	EXPECT(" \n\t ; ;; ");
	EXPECT("a", "a");
	EXPECT("a;", "a");
	EXPECT(" a b ;\n c\n;d", "a b", "c", "d");
}

static void quotes_hide_semicolons(void **state)
{
	(void)state;
	EXPECT("x 'a;b' ; y", "x 'a;b'", "y");
	EXPECT("x 'it''s; so';y", "x 'it''s; so'", "y");
	EXPECT("''';';z", "''';'", "z");
	EXPECT("\"a;\"\"b\"; `c;``d`", "\"a;\"\"b\"", "`c;``d`");
	EXPECT("`back\\slash;`;a", "`back\\slash;`", "a");
	EXPECT("'-- no comment';a", "'-- no comment'", "a");
	EXPECT("'/*';'*/'", "'/*'", "'*/'");
}

static void comments_hide_semicolons_and_quotes(void **state)
{
	(void)state;
	EXPECT("-- it's; a comment\na; -- and another", "a");
	EXPECT("# it's; one\na", "a");
	EXPECT("/* it's; one */ a /* ; */ b;", "a /* ; */ b");
	EXPECT("a -- tail;\n, b; c", "a -- tail;\n, b", "c");
	EXPECT("/**/;/***/a", "a");
	EXPECT("1--1;2", "1--1", "2");
	EXPECT("a;--", "a");
	EXPECT("5/2;a", "5/2", "a");
}

static void what_has_no_end_is_refused(void **state)
{
	static const char *const broken[] = { "a 'b", "a \"b;c", "`", "'a''", "/* a", "a; /*", "x '\\'", "\"a\\\"b\"",
		"/*/" };

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct slice rest = slice_of(broken[i]), statement;
		struct err err = ERR_INIT;
		int rc;

		while ((rc = sql_next(&rest, &statement, &err)) > 0)
			;
		assert_int_equal(-1, rc);
		assert_int_equal(ERR_INVALID, err.kind);
	}
}

static void expect_packed(const int64_t *ids, size_t count, size_t len)
{
	struct buf packed = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t *back;
	size_t n;

	friends_pack(ids, count, &packed);
	if (len > 0)
		assert_int_equal(len, packed.len);
	assert_int_equal(0, friends_unpack((struct slice){ packed.data, packed.len }, &back, &n, &err));
	assert_int_equal(count, n);
	for (size_t i = 0; i < count; i++)
		assert_true(ids[i] == back[i]);
	free(back);
	buf_release(&packed);
}

static void friends_are_packed_as_differences(void **state)
{
	int64_t many[5000];

	(void)state;
	expect_packed(NULL, 0, 0);
	expect_packed((int64_t[]){ 1 }, 1, 1);
	expect_packed((int64_t[]){ 127, 254, 255 }, 3, 3);
	expect_packed((int64_t[]){ 128, 256 }, 2, 4);
	expect_packed((int64_t[]){ 1, ID_MAX }, 2, 9);
	expect_packed((int64_t[]){ ID_MAX }, 1, 8);
	for (int i = 0; i < 5000; i++)
		many[i] = (INT64_C(1) << 50) + (int64_t)i * i * 7919;
	expect_packed(many, 5000, 0);
}

static void packed_numbers_start_with_their_low_bits(void **state)
{
	struct buf packed = BUF_INIT;

	(void)state;
	friends_pack((int64_t[]){ 300, 301 }, 2, &packed);
	assert_int_equal(3, packed.len);
	assert_memory_equal("\xac\x02\x01", packed.data, 3);
	buf_release(&packed);
}

static void broken_packed_lists_are_refused(void **state)
{
	static const struct slice broken[] = {
		{ "\x80", 1 },                                          /* cut off */
		{ "\x01\xff", 2 },                                      /* likewise, behind a friend */
		{ "\x00", 1 },                                          /* no id */
		{ "\x05\x00", 2 },                                      /* the same friend twice */
		{ "\xff\xff\xff\xff\xff\xff\xff\x1f", 8 },              /* beyond 2^53 - 1 */
		{ "\xff\xff\xff\xff\xff\xff\xff\x0f\x01", 9 },          /* likewise, by one */
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, /* beyond 64 bits */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct err err = ERR_INIT;
		int64_t *ids = NULL;
		size_t count;

		assert_int_equal(-1, friends_unpack(broken[i], &ids, &count, &err));
		assert_int_equal(ERR_INVALID, err.kind);
		assert_null(ids);
	}
}

static void times_are_kept_to_the_millisecond(void **state)
{
	static const int64_t times[] = { 0, 1, 999, INT64_C(1706745599999), INT64_C(1769860800123),
		INT64_C(253402300799999) };
	char text[ROWS_TIME];

	(void)state;
	assert_string_equal("2026-01-31 12:00:00.123", rows_time(INT64_C(1769860800123), text).data);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		int64_t back;

		assert_true(rows_time_read(rows_time(times[i], text), &back));
		assert_true(times[i] == back);
	}
}

static void broken_times_are_refused(void **state)
{
	static const char *const broken[] = { "", "2026", "0000-00-00 00:00:00.000", "2026-13-01 00:00:00.000",
		"2026-01-31 12:00:00.123 and more" };
	int64_t unused;

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		assert_false(rows_time_read(slice_of(broken[i]), &unused));
}

static void rows_are_sorted_by_their_first_value(void **state)
{
	struct store_value numbers[] = { store_int(3), store_int(30), store_int(-1), store_int(10), store_int(2),
		store_int(20) };
	struct store_value texts[] = { store_text(slice_of("b")), store_text(slice_of("ab")),
		store_text(slice_of("a")) };

	(void)state;
	rows_sort(numbers, 2, 3);
	assert_int_equal(-1, numbers[0].number);
	assert_int_equal(10, numbers[1].number);
	assert_int_equal(30, numbers[5].number);
	rows_sort(texts, 1, 3);
	assert_true(slice_is(texts[0].text, "a"));
	assert_true(slice_is(texts[1].text, "ab"));
	assert_true(slice_is(texts[2].text, "b"));
}

static void errors_have_a_kind(void **state)
{
	static const struct {
		unsigned error;
		enum err_kind kind, in_commit;
	} wanted[] = {
		{ 1205, ERR_CONFLICT, ERR_CONFLICT },
		{ 1213, ERR_CONFLICT, ERR_CONFLICT },
		{ 1020, ERR_CONFLICT, ERR_CONFLICT },
		{ 1062, ERR_CONFLICT, ERR_CONFLICT },
		{ 1317, ERR_CONFLICT, ERR_UNKNOWN },
		{ 1040, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 1053, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 1180, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 1203, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 1290, ERR_UNAVAILABLE, ERR_UNAVAILABLE },
		{ 1792, ERR_UNAVAILABLE, ERR_UNAVAILABLE },
		{ 1927, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 2002, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 2003, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 2006, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 2013, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 2026, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 4031, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ 1114, ERR_FULL, ERR_FULL },
		{ 1021, ERR_FULL, ERR_FULL },
		{ 1064, ERR_FATAL, ERR_UNKNOWN },
		{ 1146, ERR_FATAL, ERR_UNKNOWN },
		{ 1054, ERR_FATAL, ERR_UNKNOWN },
		{ 1049, ERR_FATAL, ERR_UNKNOWN },
		{ 1264, ERR_INVALID, ERR_UNKNOWN },
		{ 1366, ERR_INVALID, ERR_UNKNOWN },
		{ 1406, ERR_INVALID, ERR_UNKNOWN },
		{ 1452, ERR_INVALID, ERR_UNKNOWN },
		{ 3140, ERR_INVALID, ERR_UNKNOWN },
		{ 4025, ERR_INVALID, ERR_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		assert_int_equal(wanted[i].kind, store_mysql_kind(wanted[i].error, "HY000", false));
		assert_int_equal(wanted[i].in_commit, store_mysql_kind(wanted[i].error, "HY000", true));
	}
}

static void unknown_errors_go_by_their_class(void **state)
{
	(void)state;
	assert_int_equal(ERR_INVALID, store_mysql_kind(9999, "22001", false));
	assert_int_equal(ERR_INVALID, store_mysql_kind(9999, "23000", false));
	assert_int_equal(ERR_CONFLICT, store_mysql_kind(9999, "40001", false));
	assert_int_equal(ERR_FATAL, store_mysql_kind(9999, "42S02", false));
	assert_int_equal(ERR_INVALID, store_mysql_kind(9999, "45000", false)); /* a trigger refuses the row */
	assert_int_equal(ERR_CONFLICT, store_mysql_kind(1206, "HY000", false)); /* too many locks: fewer rows may pass */
	assert_int_equal(ERR_CONFLICT, store_mysql_kind(1197, "HY000", false));
	assert_int_equal(ERR_UNAVAILABLE, store_mysql_kind(9999, "HY000", false));
	assert_int_equal(ERR_UNAVAILABLE, store_mysql_kind(9999, "08S01", false));
	assert_int_equal(ERR_UNKNOWN, store_mysql_kind(9999, "22001", true));
	assert_int_equal(
		ERR_UNAVAILABLE, store_mysql_kind(2999, "42000", false)); /* the client's own: the link is broken */
}

static void names_of_tables_are_quoted(void **state)
{
	static const struct {
		const char *table, *named, *beside, *where;
	} rows[] = {
		{ "order", "`order`", "`ids`", "table_schema = DATABASE() AND table_name = 'order'" },
		{ "other.t_1", "`other`.`t_1`", "`other`.`ids`", "table_schema = 'other' AND table_name = 't_1'" },
	};
	struct buf sql = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		job_table_add(&sql, rows[i].table);
		assert_string_equal(rows[i].named, sql.data);
		buf_reset(&sql);
		job_table_beside(&sql, rows[i].table, "ids");
		assert_string_equal(rows[i].beside, sql.data);
		buf_reset(&sql);
		job_table_where(&sql, rows[i].table);
		assert_string_equal(rows[i].where, sql.data);
		buf_reset(&sql);
	}
	buf_release(&sql);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statements_end_at_semicolons),
		cmocka_unit_test(quotes_hide_semicolons),
		cmocka_unit_test(comments_hide_semicolons_and_quotes),
		cmocka_unit_test(what_has_no_end_is_refused),
		cmocka_unit_test(friends_are_packed_as_differences),
		cmocka_unit_test(packed_numbers_start_with_their_low_bits),
		cmocka_unit_test(broken_packed_lists_are_refused),
		cmocka_unit_test(times_are_kept_to_the_millisecond),
		cmocka_unit_test(broken_times_are_refused),
		cmocka_unit_test(rows_are_sorted_by_their_first_value),
		cmocka_unit_test(errors_have_a_kind),
		cmocka_unit_test(unknown_errors_go_by_their_class),
		cmocka_unit_test(names_of_tables_are_quoted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
