/* A rig goes in; every function of the store and its tables is tried on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/store/lease.h"
#include "common/store/ledger.h"
#include "common/store/people.h"
#include "common/store/posts.h"
#include "common/store/products.h"
#include "common/store/schema.h"
#include "tests/unit/store_suite.h"

#define EMOJI "\xf0\x9f\x90\xb8" /* four bytes */
#define AWKWARD "'\"\\%_`;--\n\r\t\x1a" EMOJI "\xe2\x80\xae\xd7\xa9 <b>&amp;</b>"
#define FAR INT64_C(4503599627370496) /* 2^52: as large as ids get */

/* ---- the rig */

int suite_setup(void **state)
{
	static const char *const tables[] = { "participant", "friend", "outbound", "inbound", "product", "command",
		"fanout_chunk", "idempotency", "webhook", "webhook_delivery" };
	struct store *store;
	struct err err = ERR_INIT;
	char sql[128];

	*state = NULL;
	if (store_rig.missing)
		return 0;
	if (store_open(&store_rig.settings, &store, &err) < 0)
		goto failed;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		int len = snprintf(sql, sizeof(sql), "DELETE FROM %s", tables[i]);

		if (store_query_once(store, sql, (size_t)len, NULL, NULL, &err) < 0)
			goto failed;
	}
	if (store_run(store, "UPDATE gateway_lease SET holder = '', expires_at = 0, ids_until = 0", NULL, 0, NULL,
			&err) < 0)
		goto failed;
	*state = store;
	return 0;
failed:
	print_error("%s\n", err.message);
	return -1;
}

int suite_teardown(void **state)
{
	store_close(*state);
	*state = NULL;
	return 0;
}

struct store *suite_store(void **state)
{
	if (store_rig.missing) {
		print_message("SKIPPED: %s\n", store_rig.missing);
		skip();
	}
	return *state;
}

struct store *suite_second(void)
{
	struct store *store = NULL;

	assert_ok(store_open(&store_rig.settings, &store, &err));
	return store;
}

static int take_number(void *arg, const struct store_value *columns, size_t count)
{
	assert_int_equal(1, count);
	assert_int_equal(STORE_INT, columns[0].type);
	*(int64_t *)arg = columns[0].number;
	return 0;
}

int64_t suite_count(struct store *store, const char *sql)
{
	int64_t number = -1;

	assert_ok(store_query(store, sql, NULL, 0, take_number, &number, &err));
	return number;
}

static void add_people(struct store *store, int64_t first, size_t count)
{
	struct participant *people = mem_array(count, sizeof(*people));

	for (size_t i = 0; i < count; i++)
		people[i] =
			(struct participant){ .id = first + (int64_t)(count - 1 - i), .name = slice_of("somebody") };
	assert_ok(people_insert(store, people, count, &err));
	free(people);
}

/* ---- transactions and statements */

static void what_is_committed_stays_and_what_is_not_does_not(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();

	assert_ok(store_begin(store, &err));
	add_people(store, 1, 1);
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
	assert_int_equal(0, suite_count(other, "SELECT COUNT(*) FROM participant"));
	assert_ok(store_commit(store, &err));
	assert_int_equal(1, suite_count(other, "SELECT COUNT(*) FROM participant"));
	assert_ok(store_begin(store, &err));
	add_people(store, 2, 1);
	store_rollback(store);
	store_rollback(store);
	assert_int_equal(1, suite_count(other, "SELECT COUNT(*) FROM participant"));
	store_close(other);
}

static void closing_rolls_back(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();

	assert_ok(store_begin(other, &err));
	add_people(other, 1, 1);
	store_close(other);
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM participant"));
	store_close(NULL);
}

/* Where a transaction is exclusive there is nothing to read: the others wait, or try again. */
static void a_transaction_reads_what_others_committed_meanwhile(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	const struct participant person = { .id = 1, .name = slice_of("somebody") };
	const bool is_exclusive = store_for_update(store)[0] == '\0';

	assert_ok(store_begin(store, &err));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM participant"));
	if (is_exclusive)
		assert_fails(ERR_CONFLICT, people_insert(other, &person, 1, &err));
	else
		assert_ok(people_insert(other, &person, 1, &err));
	assert_int_equal(is_exclusive ? 0 : 1, suite_count(store, "SELECT COUNT(*) FROM participant"));
	assert_ok(store_commit(store, &err));
	if (is_exclusive)
		assert_ok(people_insert(other, &person, 1, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
	store_close(other);
}

static void begin_and_commit_come_in_pairs(void **state)
{
	struct store *store = suite_store(state);

	assert_fails(ERR_FATAL, store_commit(store, &err));
	assert_ok(store_begin(store, &err));
	assert_fails(ERR_FATAL, store_begin(store, &err));
	add_people(store, 1, 1);
	assert_ok(store_commit(store, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
}

static void a_failed_call_fails_the_transaction(void **state)
{
	struct store *store = suite_store(state);
	struct participant again = { .id = 1, .name = slice_of("again") };
	struct participant next = { .id = 2, .name = slice_of("next") };

	add_people(store, 1, 1);
	assert_ok(store_begin(store, &err));
	assert_fails(ERR_CONFLICT, people_insert(store, &again, 1, &err));
	assert_fails(ERR_CONFLICT, people_insert(store, &next, 1, &err));
	assert_fails(ERR_CONFLICT, store_ping(store, &err));
	assert_fails(ERR_CONFLICT, store_commit(store, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
	assert_ok(store_begin(store, &err));
	assert_ok(people_insert(store, &next, 1, &err));
	assert_ok(store_commit(store, &err));
	assert_int_equal(2, suite_count(store, "SELECT COUNT(*) FROM participant"));
}

static void a_wrong_statement_is_fatal(void **state)
{
	struct store *store = suite_store(state);
	struct store_value value = store_int(1);
	static const char text[] = "SELECT id FROM nowhere";

	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM nowhere", NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM participant WHERE nothing = 1", NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "DELETE participant everything", NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_query_once(store, text, sizeof(text) - 1, NULL, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM participant WHERE id = ?", NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM participant", &value, 1, NULL, &err));
	assert_ok(store_ping(store, &err));
}

struct seen {
	struct store *store;
	size_t rows, most;
	enum err_kind nested;
};

static int stop_after(void *arg, const struct store_value *columns, size_t count)
{
	struct seen *seen = arg;

	(void)columns;
	(void)count;
	return ++seen->rows == seen->most;
}

static void a_callback_may_stop_the_reading(void **state)
{
	struct store *store = suite_store(state);
	static const char sql[] = "SELECT id, name FROM participant";
	struct err untouched = ERR_INIT;

	add_people(store, 1, 3000);
	for (int in_transaction = 0; in_transaction < 2; in_transaction++) {
		struct seen prepared = { .most = 3 }, once = { .most = 4 };

		if (in_transaction)
			assert_ok(store_begin(store, &err));
		assert_int_equal(-1, store_query(store, sql, NULL, 0, stop_after, &prepared, &untouched));
		assert_int_equal(3, prepared.rows);
		assert_int_equal(-1, store_query_once(store, sql, sizeof(sql) - 1, stop_after, &once, &untouched));
		assert_int_equal(4, once.rows);
		assert_int_equal(3000, suite_count(store, "SELECT COUNT(*) FROM participant"));
	}
	assert_int_equal(ERR_NONE, untouched.kind); /* the callback's business */
	assert_ok(store_commit(store, &err));
}

static int call_again(void *arg, const struct store_value *columns, size_t count)
{
	struct seen *seen = arg;
	struct err err = ERR_INIT;

	(void)columns;
	(void)count;
	assert_int_equal(-1, store_ping(seen->store, &err));
	seen->nested = err.kind;
	return 0;
}

static void a_callback_may_not_call_its_store(void **state)
{
	struct store *store = suite_store(state);
	struct seen seen = { .store = store };

	add_people(store, 1, 2);
	assert_ok(store_query(store, "SELECT id FROM participant", NULL, 0, call_again, &seen, &err));
	assert_int_equal(ERR_FATAL, seen.nested);
	assert_ok(store_ping(store, &err));
}

static void many_texts_of_statements_are_fine(void **state)
{
	struct store *store = suite_store(state);
	char sql[64];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 200; i++) {
			snprintf(sql, sizeof(sql), "SELECT COUNT(*) + %d FROM participant", i);
			assert_int_equal(i, suite_count(store, sql));
		}
	}
}

static void run_tells_how_many_rows_it_found(void **state)
{
	struct store *store = suite_store(state);
	struct store_value name = store_text(slice_of("somebody"));
	int64_t changed = -1;

	add_people(store, 1, 3);
	assert_ok(store_run(store, "UPDATE participant SET name = ? WHERE id < 3", &name, 1, &changed, &err));
	assert_int_equal(2, changed); /* though nothing is other than before */
	assert_ok(store_run(store, "DELETE FROM participant WHERE id = 77", NULL, 0, &changed, &err));
	assert_int_equal(0, changed);
}

static int64_t sum_inbound(struct store *store)
{
	return suite_count(store, "SELECT COUNT(*) * 1000 + COUNT(DISTINCT participant_id) FROM inbound");
}

static void inserts_of_every_size_arrive_whole(void **state)
{
	static const size_t sizes[] = { 0, 1, 2, 999, 1000, 1001, 1999, 2000, 2001, 3500, 5000 };
	struct store *store = suite_store(state);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const size_t rows = sizes[i];
		struct store_value *values = mem_array(rows * 3, sizeof(*values));

		for (size_t k = 0; k < rows; k++) {
			values[k * 3] = store_int(FAR + (int64_t)k);
			values[k * 3 + 1] = store_int((int64_t)i + 1);
			values[k * 3 + 2] = store_int(7);
		}
		assert_ok(store_run(store, "DELETE FROM inbound", NULL, 0, NULL, &err));
		assert_ok(store_insert(
			store, STORE_PLAIN, "inbound (participant_id, post_id, from_id)", values, 3, rows, &err));
		assert_int_equal(rows * 1000 + rows, sum_inbound(store));
		assert_ok(store_insert(
			store, STORE_KEEP, "inbound (participant_id, post_id, from_id)", values, 3, rows, &err));
		assert_int_equal(rows * 1000 + rows, sum_inbound(store));
		if (rows > 0)
			assert_fails(ERR_CONFLICT,
				store_insert(store, STORE_PLAIN, "inbound (participant_id, post_id, from_id)", values,
					3, rows, &err));
		free(values);
	}
}

static int is_null_row(void *arg, const struct store_value *columns, size_t count)
{
	*(bool *)arg = count == 2 && columns[0].type == STORE_NULL && columns[1].type == STORE_TEXT &&
		       columns[1].text.len == 0;
	return 0;
}

static void null_and_empty_are_two_things(void **state)
{
	struct store *store = suite_store(state);
	static const char sql[] = "SELECT NULLIF(name, ''), name FROM participant";
	struct store_value row[] = { store_int(1), store_text(SLICE_NONE) };
	struct store_value none[] = { { .type = STORE_NULL }, store_text(slice_of("x")) };
	bool prepared = false, once = false;

	assert_ok(store_insert(store, STORE_PLAIN, "participant (id, name)", row, 2, 1, &err));
	assert_ok(store_query(store, sql, NULL, 0, is_null_row, &prepared, &err));
	assert_ok(store_query_once(store, sql, sizeof(sql) - 1, is_null_row, &once, &err));
	assert_true(prepared && once);
	assert_fails(ERR_INVALID, store_insert(store, STORE_PLAIN, "participant (id, name)", none, 2, 1, &err));
	assert_fails(
		ERR_INVALID, store_run(store, "INSERT INTO participant (id, name) VALUES (?, ?)", none, 2, NULL, &err));
}

/* ---- people */

struct person {
	int64_t id;
	char name[256];
	size_t rows;
};

static int take_person(void *arg, const struct participant *participant)
{
	struct person *person = arg;

	person->id = participant->id;
	assert_true(participant->name.len < sizeof(person->name));
	memcpy(person->name, participant->name.data, participant->name.len);
	person->name[participant->name.len] = '\0';
	person->rows++;
	return 0;
}

static void a_participant_comes_back_as_it_was(void **state)
{
	struct store *store = suite_store(state);
	char longest[PARTICIPANT_NAME_MAX * 4 + 1] = "";
	struct participant people[] = { { .id = ID_MAX, .name = slice_of(AWKWARD) }, { .id = 1 } };
	struct person person = { 0 };

	for (int i = 0; i < PARTICIPANT_NAME_MAX; i++)
		memcpy(longest + (size_t)i * 4, EMOJI, 4);
	people[1].name = (struct slice){ longest, sizeof(longest) - 1 };
	assert_ok(people_insert(store, people, 2, &err));
	assert_ok(people_get(store, ID_MAX, take_person, &person, &err));
	assert_true(person.id == ID_MAX);
	assert_string_equal(AWKWARD, person.name);
	assert_ok(people_get(store, 1, take_person, &person, &err));
	assert_string_equal(longest, person.name);
	assert_int_equal(2, person.rows);
	assert_ok(people_get(store, 2, take_person, &person, &err));
	assert_int_equal(2, person.rows);
}

static void a_participant_is_inserted_once(void **state)
{
	struct store *store = suite_store(state);
	struct participant twice[] = { { .id = 8, .name = slice_of("a") }, { .id = 7, .name = slice_of("b") } };

	assert_ok(people_insert(store, NULL, 0, &err));
	add_people(store, 7, 1);
	assert_fails(ERR_CONFLICT, people_insert(store, twice, 2, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
}

static void names_that_do_not_fit_are_invalid(void **state)
{
	struct store *store = suite_store(state);
	char longer[PARTICIPANT_NAME_MAX + 1];
	struct participant bad[] = { { .id = 1, .name = { longer, sizeof(longer) } },
		{ .id = 2, .name = slice_of("\xf0\x9f\x90") } };

	memset(longer, 'x', sizeof(longer));
	assert_fails(ERR_INVALID, people_insert(store, &bad[0], 1, &err));
	assert_fails(ERR_INVALID, people_insert(store, &bad[1], 1, &err));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM participant"));
}

static void known_answers_for_any_number(void **state)
{
	enum { MANY = 5000 };
	struct store *store = suite_store(state);
	int64_t *ids = mem_array(MANY, sizeof(*ids));
	bool *known = mem_array(MANY, sizeof(*known));

	add_people(store, FAR, MANY / 2);
	for (int i = 0; i < MANY; i++)
		ids[i] = FAR + (i * 7919) % MANY;
	assert_ok(people_known(store, ids, MANY, known, &err));
	for (int i = 0; i < MANY; i++)
		assert_int_equal(ids[i] < FAR + MANY / 2, known[i]);
	assert_ok(people_known(store, ids, 0, known, &err));
	assert_ok(people_known(store, (int64_t[]){ FAR, 1, FAR }, 3, known, &err));
	assert_true(known[0] && !known[1] && known[2]);
	free(known);
	free(ids);
}

/* ---- friends */

static void add_friends(struct store *store, int64_t author, int64_t first, int64_t step, size_t count)
{
	struct store_value *rows = mem_array(count * 3, sizeof(*rows));

	for (size_t i = 0; i < count; i++) {
		rows[i * 3] = store_int(author);
		rows[i * 3 + 1] = store_int(first + (int64_t)i * step);
		rows[i * 3 + 2] = store_int(1);
	}
	assert_ok(store_insert(store, STORE_PLAIN, "friend (participant_id, friend_id, id)", rows, 3, count, &err));
	free(rows);
}

static void a_friendship_is_made_once_in_both_directions(void **state)
{
	struct store *store = suite_store(state);
	struct friendship first = { .id = 100, .from = 9, .to = 5 };
	struct friendship again = { .id = 200, .from = 9, .to = 5 };
	struct friendship reversed = { .id = 300, .from = 5, .to = 9 };

	assert_ok(friends_insert(store, &first, &err));
	assert_int_equal(100, first.id);
	assert_ok(friends_insert(store, &again, &err));
	assert_int_equal(100, again.id);
	assert_ok(store_begin(store, &err));
	assert_ok(friends_insert(store, &reversed, &err));
	assert_ok(store_commit(store, &err));
	assert_int_equal(100, reversed.id);
	assert_int_equal(5, reversed.from);
	assert_int_equal(2, suite_count(store, "SELECT COUNT(*) FROM friend"));
	assert_int_equal(100, suite_count(store, "SELECT id FROM friend WHERE participant_id = 5 AND friend_id = 9"));
	assert_int_equal(100, suite_count(store, "SELECT id FROM friend WHERE participant_id = 9 AND friend_id = 5"));
}

struct friendships {
	struct friendship list[10];
	size_t count;
};

static int take_friendship(void *arg, const struct friendship *friendship)
{
	struct friendships *all = arg;

	all->list[all->count++] = *friendship;
	return 0;
}

static void friends_are_listed_by_pages(void **state)
{
	struct store *store = suite_store(state);
	struct friendships all = { .count = 0 };
	int64_t page[4];
	size_t count = 99;

	add_friends(store, 7, FAR, 10, 5);
	add_friends(store, 8, 1, 1, 3);
	assert_ok(friends_list(store, 7, 0, 3, take_friendship, &all, &err));
	assert_ok(friends_list(store, 7, all.list[2].to, 3, take_friendship, &all, &err));
	assert_int_equal(5, all.count);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(7, all.list[i].from);
		assert_true(all.list[i].to == FAR + i * 10);
		assert_int_equal(1, all.list[i].id);
	}
	assert_ok(friends_list(store, 9, 0, 3, take_friendship, &all, &err));
	assert_int_equal(5, all.count);
	assert_ok(friends_page(store, 7, FAR + 5, page, 4, &count, &err));
	assert_int_equal(4, count);
	assert_true(page[0] == FAR + 10 && page[3] == FAR + 40);
	assert_ok(friends_page(store, 7, FAR + 40, page, 4, &count, &err));
	assert_int_equal(0, count);
}

static void expect_friends(
	struct store *store, const int64_t *authors, const size_t *wanted, size_t count, size_t limit)
{
	size_t *counts = mem_array(count, sizeof(*counts));

	assert_ok(friends_count(store, authors, count, limit, counts, &err));
	for (size_t i = 0; i < count; i++)
		assert_int_equal(wanted[i] < limit ? wanted[i] : limit, counts[i]);
	free(counts);
}

static void friends_of_many_authors_are_counted_up_to_a_limit(void **state)
{
	static const int64_t authors[] = { 5, 2, 9, 1, 7 };
	static const size_t wanted[] = { 20, 0, 3, 25000, 12000 };
	struct store *store = suite_store(state);

	for (int i = 0; i < 5; i++)
		add_friends(store, authors[i], authors[i] * 1000000, 3, wanted[i]);
	add_friends(store, 6, 6000000, 3, 10);
	expect_friends(store, authors, wanted, 5, 5001);
	expect_friends(store, authors, wanted, 5, 30000);
	expect_friends(store, authors, wanted, 5, 2);
	expect_friends(store, authors, wanted, 5, 0);
	expect_friends(store, authors, wanted, 0, 10);
	expect_friends(store, authors + 3, wanted + 3, 1, 5001);
	expect_friends(store, authors + 3, wanted + 3, 1, 25000);
	expect_friends(store, authors + 1, wanted + 1, 1, 5001);
}

static void friends_of_two_thousand_authors_are_counted(void **state)
{
	enum { AUTHORS = 2000 };
	struct store *store = suite_store(state);
	int64_t authors[AUTHORS];
	size_t wanted[AUTHORS];
	struct store_value *rows = mem_array(AUTHORS * 20 * 3, sizeof(*rows));
	size_t n = 0;

	for (size_t i = 0; i < AUTHORS; i++) {
		authors[i] = (int64_t)(i * 7) % AUTHORS + 1;
		wanted[i] = i % 20;
		for (size_t k = 0; k < wanted[i]; k++, n++) {
			rows[n * 3] = store_int(authors[i]);
			rows[n * 3 + 1] = store_int(authors[i] * 1000000 + (int64_t)k * 3);
			rows[n * 3 + 2] = store_int(1);
		}
	}
	assert_ok(store_insert(store, STORE_PLAIN, "friend (participant_id, friend_id, id)", rows, 3, n, &err));
	free(rows);
	expect_friends(store, authors, wanted, AUTHORS, 5001);
	expect_friends(store, authors, wanted, AUTHORS, 10);
}

/* ---- products */

struct catalogue {
	char text[1024]; /* "id=price " each */
};

static int take_product(void *arg, const struct product *product)
{
	struct catalogue *all = arg;
	size_t len = strlen(all->text);

	snprintf(all->text + len, sizeof(all->text) - len, "%lld=%.*s ", (long long)product->id,
		(int)product->price.len, product->price.data);
	return 0;
}

static void prices_are_exact(void **state)
{
	static const char *const prices[] = { "0", "0.05", "1.5", "2", "100", "9999999999.99", "0.1", "1234567890.12" };
	struct store *store = suite_store(state);
	struct product products[8];
	struct catalogue all = { "" }, page = { "" };

	for (int i = 0; i < 8; i++)
		products[i] =
			(struct product){ .id = 8 - i, .name = slice_of(AWKWARD), .price = slice_of(prices[7 - i]) };
	assert_ok(products_insert(store, NULL, 0, &err));
	assert_ok(products_insert(store, products, 8, &err));
	assert_ok(products_list(store, 0, 100, take_product, &all, &err));
	assert_string_equal("1=0 2=0.05 3=1.5 4=2 5=100 6=9999999999.99 7=0.1 8=1234567890.12 ", all.text);
	assert_ok(products_list(store, 2, 2, take_product, &page, &err));
	assert_string_equal("3=1.5 4=2 ", page.text);
}

static void products_that_do_not_fit_are_invalid(void **state)
{
	static const char *const prices[] = { "10000000000", "abc", "" };
	struct store *store = suite_store(state);
	struct product product = { .id = 1, .name = slice_of("x") };

	for (int i = 0; i < 3; i++) {
		product.price = slice_of(prices[i]);
		assert_fails(ERR_INVALID, products_insert(store, &product, 1, &err));
	}
	product.price = slice_of("1");
	assert_ok(products_insert(store, &product, 1, &err));
	assert_fails(ERR_CONFLICT, products_insert(store, &product, 1, &err));
}

static void a_product_is_deleted_once(void **state)
{
	struct store *store = suite_store(state);
	struct product product = { .id = 5, .name = slice_of("x"), .price = slice_of("1") };
	bool found = false;

	assert_ok(products_insert(store, &product, 1, &err));
	assert_ok(products_delete(store, 5, &found, &err));
	assert_true(found);
	assert_ok(products_delete(store, 5, &found, &err));
	assert_false(found);
}

/* ---- posts */

struct page {
	int64_t ids[64], from[64], times[64];
	char *stories[64];
	char *subjects[64];
	size_t count;
};

static int take_post(void *arg, const struct post *post)
{
	struct page *page = arg;

	assert_true(page->count < 64);
	page->ids[page->count] = post->id;
	page->from[page->count] = post->from;
	page->times[page->count] = post->posted_at_ms;
	page->subjects[page->count] = mem_dup(post->subject.data, post->subject.len);
	page->stories[page->count++] = mem_dup(post->story.data, post->story.len);
	return 0;
}

static void page_release(struct page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		free(page->subjects[i]);
		free(page->stories[i]);
	}
	page->count = 0;
}

#define POSTED INT64_C(1769860800123)

static char *repeat(const char *text, size_t times)
{
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < times; i++)
		buf_add_str(&b, text);
	return buf_detach(&b);
}

static void posts_come_back_as_they_were(void **state)
{
	struct store *store = suite_store(state);
	char *longest = repeat(EMOJI, POST_STORY_MAX), *subject = repeat(EMOJI, POST_SUBJECT_MAX);
	const char *stories[] = { "short", longest, AWKWARD, "", longest, "short again" };
	struct post posts[6];
	struct page page = { .count = 0 };

	for (int i = 0; i < 6; i++)
		posts[i] = (struct post){ .id = FAR + (i * 5) % 6,
			.from = 7,
			.posted_at_ms = POSTED + i,
			.subject = slice_of(i == 2 ? subject : AWKWARD),
			.story = slice_of(stories[i]) };
	assert_ok(posts_insert(store, posts, NULL, 6, &err));
	for (int again = 0; again < 2; again++) {
		assert_ok(outbound_list(store, 7, 0, 10, take_post, &page, &err));
		assert_int_equal(6, page.count);
		for (int i = 0; i < 6; i++) {
			size_t at = (size_t)(FAR + 5 - posts[i].id); /* newest first */

			assert_true(page.ids[at] == posts[i].id);
			assert_int_equal(7, page.from[at]);
			assert_true(page.times[at] == POSTED + i);
			assert_string_equal(stories[i], page.stories[at]);
			assert_string_equal(i == 2 ? subject : AWKWARD, page.subjects[at]);
		}
		page_release(&page);
	}
	free(longest);
	free(subject);
}

static void add_posts(struct store *store, int64_t first, int64_t from, size_t count)
{
	struct post *posts = mem_array(count, sizeof(*posts));

	for (size_t i = 0; i < count; i++)
		posts[i] = (struct post){ .id = first + (int64_t)i,
			.from = from,
			.posted_at_ms = POSTED,
			.subject = slice_of("s"),
			.story = slice_of("t") };
	assert_ok(posts_insert(store, posts, NULL, count, &err));
	free(posts);
}

static void a_post_is_inserted_once(void **state)
{
	struct store *store = suite_store(state);
	struct post post = {
		.id = 3, .from = 1, .posted_at_ms = POSTED, .subject = slice_of("s"), .story = slice_of("t")
	};

	assert_ok(posts_insert(store, NULL, NULL, 0, &err));
	add_posts(store, 1, 1, 3);
	assert_fails(ERR_CONFLICT, posts_insert(store, &post, NULL, 1, &err));
	post.id = 4;
	post.story = slice_of("\xff");
	assert_fails(ERR_INVALID, posts_insert(store, &post, NULL, 1, &err));
	post.story = slice_of("t");
	assert_int_equal(3, suite_count(store, "SELECT COUNT(*) FROM outbound"));
	post.posted_at_ms = INT64_C(253402300800000); /* the year 10000, which becomes the last moment before it */
	assert_ok(posts_insert(store, &post, NULL, 1, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM outbound WHERE id = 4 AND posted_at = '9999-12-31 23:59:59.999'"));
}

static void five_thousand_posts_at_once(void **state)
{
	enum { MANY = 5000 };
	struct store *store = suite_store(state);
	int64_t *ids = mem_array(MANY * 2, sizeof(*ids));
	struct post_state *states = mem_array(MANY * 2, sizeof(*states));

	add_posts(store, FAR, 1, MANY);
	for (int i = 0; i < MANY * 2; i++)
		ids[i] = FAR + MANY - 1 - i;
	assert_ok(posts_existing(store, ids, MANY * 2, states, &err));
	for (int i = 0; i < MANY * 2; i++)
		assert_int_equal(i < MANY, states[i].exists);
	assert_ok(posts_existing(store, ids, 0, states, &err));
	free(states);
	free(ids);
}

static void outbound_is_read_by_pages(void **state)
{
	struct store *store = suite_store(state);
	struct page page = { .count = 0 };

	add_posts(store, 10, 1, 5);
	add_posts(store, 20, 2, 5);
	assert_ok(outbound_list(store, 1, 0, 3, take_post, &page, &err));
	assert_ok(outbound_list(store, 1, page.ids[2], 3, take_post, &page, &err));
	assert_int_equal(5, page.count);
	for (int i = 0; i < 5; i++)
		assert_int_equal(14 - i, page.ids[i]);
	assert_ok(outbound_list(store, 3, 0, 3, take_post, &page, &err));
	assert_int_equal(5, page.count);
	page_release(&page);
}

static void inbound_is_read_newest_first_with_its_texts(void **state)
{
	struct store *store = suite_store(state);
	struct inbound rows[20];
	struct page page = { .count = 0 };

	add_posts(store, 10, 1, 5);
	add_posts(store, 20, 2, 5);
	for (int i = 0; i < 20; i++)
		rows[i] = (struct inbound){
			.participant = 100 + i % 2, .post = (i % 10 < 5 ? 10 : 15) + i % 10, .from = i % 10 < 5 ? 1 : 2
		};
	for (int i = 0; i < 20; i++)
		rows[i].participant = i < 10 ? 100 : 101;
	assert_ok(inbound_insert(store, rows, 20, &err));
	assert_ok(inbound_list(store, 100, 0, 7, take_post, &page, &err));
	assert_ok(inbound_list(store, 100, page.ids[6], 7, take_post, &page, &err));
	assert_int_equal(10, page.count);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(i < 5 ? 24 - i : 19 - i, page.ids[i]);
		assert_int_equal(i < 5 ? 2 : 1, page.from[i]);
		assert_true(page.times[i] == POSTED);
		assert_string_equal("t", page.stories[i]);
	}
	assert_ok(inbound_list(store, 102, 0, 7, take_post, &page, &err));
	assert_int_equal(10, page.count);
	page_release(&page);
}

static void inbound_rows_may_come_again(void **state)
{
	enum { MANY = 5000 };
	struct store *store = suite_store(state);
	struct inbound *rows = mem_array(MANY, sizeof(*rows));

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++) /* each pair twice in the batch, in no order */
			rows[i] = (struct inbound){
				.participant = FAR + (i * 7919) % 500, .post = (i / 500) % 5 + 1, .from = 7
			};
		assert_ok(inbound_insert(store, rows, MANY, &err));
		assert_int_equal(2500, suite_count(store, "SELECT COUNT(*) FROM inbound WHERE from_id = 7"));
	}
	assert_true(rows[0].participant == FAR && rows[MANY - 1].participant == FAR + 499);
	assert_ok(inbound_insert(store, rows, 0, &err));
	rows[0] = (struct inbound){ .participant = FAR, .post = 1, .from = 8 };
	assert_ok(inbound_insert(store, rows, 1, &err)); /* the row that is there stays */
	assert_int_equal(2500, suite_count(store, "SELECT COUNT(*) FROM inbound WHERE from_id = 7"));
	free(rows);
}

static void every_friend_gets_a_row_of_each_post(void **state)
{
	enum { MANY = 2000 };
	struct store *store = suite_store(state);
	int64_t *posts = mem_array(MANY, sizeof(*posts));

	add_friends(store, 1, FAR, 1, 3);
	add_friends(store, 2, FAR + 2, 1, 2);
	add_friends(store, 4, FAR, 1, 7); /* has no post */
	add_posts(store, 1, 1, MANY / 2);
	add_posts(store, MANY / 2 + 1, 2, MANY / 2 - 1);
	add_posts(store, MANY, 3, 1); /* has no friend */
	for (int i = 0; i < MANY; i++)
		posts[i] = i + 1;
	for (int round = 0; round < 2; round++) { /* rows that are there stay */
		assert_ok(inbound_insert_friends(store, posts, MANY, &err));
		assert_int_equal(MANY / 2 * 3 + (MANY / 2 - 1) * 2, suite_count(store, "SELECT COUNT(*) FROM inbound"));
	}
	assert_int_equal(MANY / 2, suite_count(store, "SELECT COUNT(*) FROM inbound i JOIN outbound o ON o.id = i.post_id "
		"WHERE i.participant_id = 4503599627370496 AND i.from_id = 1 AND o.participant_id = 1"));
	assert_ok(inbound_insert_friends(store, posts, 0, &err));
	free(posts);
}

/* ---- plans */

static void take_chunk(struct store *store, int64_t number, bool want_found, bool want_done, size_t want_count)
{
	struct plan_part part;

	assert_ok(plan_take(store, 1, number, &part, &err));
	assert_int_equal(want_found, part.found);
	assert_int_equal(want_done, part.done);
	assert_int_equal(want_found ? 2 : 0, part.author);
	assert_int_equal(want_count, part.count);
	for (size_t i = 0; i < part.count; i++)
		assert_true(part.friends[i] == FAR + number * 100000 + (int64_t)i * 17);
	free(part.friends);
}

static void a_plan_is_worked_off_chunk_by_chunk(void **state)
{
	struct store *store = suite_store(state);
	struct post post = {
		.id = 1, .from = 2, .posted_at_ms = POSTED, .subject = slice_of("s"), .story = slice_of("t")
	};
	struct post_state found = { 0 };
	int64_t friends[5000], *open = NULL;
	size_t count = 99;

	assert_ok(store_begin(store, &err));
	assert_ok(posts_insert(store, &post, (int64_t[]){ 3 }, 1, &err));
	for (int64_t n = 2; n >= 0; n--) {
		for (int i = 0; i < 5000; i++)
			friends[i] = FAR + n * 100000 + i * 17;
		assert_ok(plan_add(store, 1, n, friends, 5000, &err));
	}
	assert_ok(store_commit(store, &err));
	assert_true(
		suite_count(store, "SELECT last_friend - first_friend FROM fanout_chunk WHERE post_id = 1 AND n = 2") ==
		4999 * 17);
	assert_ok(posts_state(store, 1, &found, &err));
	assert_true(found.exists && found.chunks == 3 && found.left == 3);
	assert_ok(posts_existing(store, &post.id, 1, &found, &err));
	assert_true(found.exists && found.chunks == 3);

	assert_ok(store_begin(store, &err));
	take_chunk(store, 1, true, false, 5000);
	assert_ok(plan_done(store, 1, 1, &err));
	assert_ok(store_commit(store, &err));
	take_chunk(store, 1, true, true, 0);
	take_chunk(store, 2, true, false, 5000);
	take_chunk(store, 3, false, false, 0);
	assert_ok(posts_state(store, 1, &found, &err));
	assert_int_equal(2, found.left);
	assert_ok(plan_open_chunks(store, 1, &open, &count, &err));
	assert_int_equal(2, count);
	assert_true(open[0] == 0 && open[1] == 2);
	free(open);
	assert_ok(plan_open_chunks(store, 77, &open, &count, &err));
	assert_int_equal(0, count);
	free(open);
	assert_fails(ERR_CONFLICT, plan_add(store, 1, 0, friends, 1, &err));
	assert_ok(posts_state(store, 77, &found, &err));
	assert_false(found.exists);
}

/* ---- the ledger of commands */

static void commands_are_found_with_their_outcome(void **state)
{
	struct store *store = suite_store(state);
	struct ledger_row rows[3] = { 0 }, asked[6] = { 0 };

	for (int i = 0; i < 3; i++) {
		uuid_v7(rows[i].id);
		rows[i].type = i == 1 ? COMMAND_PRODUCT_DELETE : COMMAND_FRIEND_CREATE;
		rows[i].entity = FAR + i;
		rows[i].is_done = i != 1;
		rows[i].body = (struct buf)BUF_INIT;
		buf_add_str(&rows[i].body, i == 2 ? "{\"x\":\"" AWKWARD "\"}" : "{}");
	}
	assert_ok(ledger_insert(store, rows, 3, &err));
	assert_ok(ledger_insert(store, rows, 0, &err));
	memcpy(asked[0].id, rows[2].id, UUID_TEXT);
	uuid_v7(asked[1].id);
	memcpy(asked[2].id, rows[1].id, UUID_TEXT);
	memcpy(asked[3].id, rows[2].id, UUID_TEXT); /* the same once more */
	memcpy(asked[4].id, rows[0].id, UUID_TEXT);
	for (int i = 0; asked[4].id[i]; i++)
		if (asked[4].id[i] >= 'a' && asked[4].id[i] <= 'f')
			asked[4].id[i] = (char)(asked[4].id[i] - 32);
	asked[5].found = true;
	uuid_v7(asked[5].id);
	for (int again = 0; again < 2; again++) {
		assert_ok(ledger_find(store, asked, 6, &err));
		assert_true(asked[0].found && asked[2].found && asked[3].found && asked[4].found);
		assert_false(asked[1].found || asked[5].found);
		assert_string_equal(rows[2].body.data, asked[0].body.data);
		assert_string_equal(rows[2].body.data, asked[3].body.data);
		assert_int_equal(COMMAND_PRODUCT_DELETE, asked[2].type);
		assert_true(!asked[2].is_done && asked[0].is_done && asked[2].entity == FAR + 1);
	}
	assert_fails(ERR_CONFLICT, ledger_insert(store, rows + 1, 1, &err));
	for (int i = 0; i < 6; i++)
		ledger_row_release(&asked[i]);
	for (int i = 0; i < 3; i++)
		ledger_row_release(&rows[i]);
}

static void ids_that_are_none_are_invalid(void **state)
{
	static const char *const bad[] = { "", "x", "' OR '1'='1", "018f0000-0000-4000-8000-000000000000",
		"018f0000-0000-7000-8000-00000000000'" };
	struct store *store = suite_store(state);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ledger_row row = { 0 };

		memcpy(row.id, bad[i], strlen(bad[i]));
		assert_fails(ERR_INVALID, ledger_find(store, &row, 1, &err));
	}
	assert_ok(ledger_find(store, NULL, 0, &err));
}

static void two_thousand_commands_at_once(void **state)
{
	enum { MANY = 2000 };
	struct store *store = suite_store(state);
	struct ledger_row *rows = mem_array(MANY, sizeof(*rows));

	for (int i = 0; i < MANY; i++) {
		uuid_v7(rows[i].id);
		rows[i].entity = i;
		rows[i].body = (struct buf)BUF_INIT;
	}
	assert_ok(ledger_insert(store, rows, MANY / 2, &err));
	assert_ok(ledger_find(store, rows, MANY, &err));
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(i < MANY / 2, rows[i].found);
		assert_int_equal(i, rows[i].entity);
		ledger_row_release(&rows[i]);
	}
	free(rows);
}

/* ---- gateway numbers */

static void age_lease(struct store *store, int number, int64_t expires_at)
{
	struct store_value values[] = { store_int(expires_at), store_int(number) };

	assert_ok(store_run(store, "UPDATE gateway_lease SET expires_at = ? WHERE number = ?", values, 2, NULL, &err));
}

static void a_lease_is_taken_renewed_and_released(void **state)
{
	struct store *store = suite_store(state);
	struct lease a, b;
	int64_t before = clock_mono_ms(), wall = clock_wall_ms(), until;
	char sql[120];
	int number;

	lease_init(&a);
	lease_init(&b);
	assert_string_not_equal(a.holder, b.holder);
	assert_int_equal(-1, a.number);
	assert_ok(lease_take(store, &a, &err));
	assert_ok(lease_take(store, &b, &err));
	assert_true(a.number >= 0 && a.number < 64 && b.number >= 0 && b.number < 64 && a.number != b.number);
	assert_true(a.deadline_mono_ms >= before + LEASE_MS && a.deadline_mono_ms <= clock_mono_ms() + LEASE_MS);
	assert_int_equal(0, a.ids_from_ms);
	assert_true(a.ids_until_ms >= wall + LEASE_IDS_AHEAD_MS - 1000 &&
			a.ids_until_ms <= clock_wall_ms() + LEASE_IDS_AHEAD_MS + 1000);
	number = a.number;
	until = a.ids_until_ms;
	for (int i = 0; i < 3; i++) {
		assert_ok(lease_take(store, &a, &err));
		assert_int_equal(number, a.number);
		assert_true(a.ids_until_ms >= until && a.ids_from_ms == 0);
	}
	until = a.ids_until_ms;
	lease_release(store, &a, until - 1000); /* ids were given up to there: the next holder starts behind them, not behind the whole range */
	assert_int_equal(-1, a.number);
	snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM gateway_lease WHERE number = %d AND ids_until = %lld", number, (long long)until - 1000);
	assert_int_equal(1, suite_count(store, sql));
	lease_release(store, &a, 0);
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM gateway_lease WHERE expires_at > 0"));
}

static void the_next_holder_starts_behind_the_last(void **state)
{
	struct store *store = suite_store(state);
	struct lease leases[64], next;
	int64_t until;

	for (int i = 0; i < 64; i++) {
		lease_init(&leases[i]);
		assert_ok(lease_take(store, &leases[i], &err));
		for (int k = 0; k < i; k++)
			assert_int_not_equal(leases[k].number, leases[i].number);
	}
	lease_init(&next);
	assert_fails(ERR_FULL, lease_take(store, &next, &err));
	assert_int_equal(-1, next.number);
	until = leases[20].ids_until_ms;
	age_lease(store, leases[20].number, 1);
	assert_ok(lease_take(store, &next, &err));
	assert_int_equal(leases[20].number, next.number);
	assert_true(next.ids_from_ms == until);
	assert_true(next.ids_until_ms >= until + LEASE_IDS_AHEAD_MS);
	assert_fails(ERR_FULL, lease_take(store, &leases[20], &err)); /* lost, and no other is free */
	assert_int_equal(-1, leases[20].number);
	age_lease(store, leases[3].number, 1);
	assert_ok(lease_take(store, &leases[20], &err));
	assert_int_equal(leases[3].number, leases[20].number);
	assert_true(leases[20].ids_from_ms == leases[3].ids_until_ms);
}

static void a_holder_that_was_late_keeps_a_number_nobody_took(void **state)
{
	struct store *store = suite_store(state);
	struct lease a;
	int number;

	lease_init(&a);
	assert_ok(lease_take(store, &a, &err));
	number = a.number;
	age_lease(store, number, 1);
	assert_ok(lease_take(store, &a, &err));
	assert_int_equal(number, a.number);
	a.number = -1; /* the answer to COMMIT was lost: it does not know that it has one */
	assert_ok(lease_take(store, &a, &err));
	assert_int_equal(number, a.number);
	assert_true(a.ids_from_ms > 0);
}

static void ids_until_never_falls(void **state)
{
	struct store *store = suite_store(state);
	struct lease a;
	int64_t ahead = clock_wall_ms() + 3 * LEASE_IDS_AHEAD_MS;
	struct store_value values[] = { store_int(ahead), store_int(0) };

	lease_init(&a);
	assert_ok(lease_take(store, &a, &err));
	values[1] = store_int(a.number);
	assert_ok(store_run(store, "UPDATE gateway_lease SET ids_until = ? WHERE number = ?", values, 2, NULL,
		&err)); /* the clock stood later then */
	assert_ok(lease_take(store, &a, &err));
	assert_true(a.ids_until_ms == ahead);
}

struct taker {
	pthread_t thread;
	struct lease leases[8];
	int failed;
};

static void *take_eight(void *arg)
{
	struct taker *taker = arg;
	struct store *store = NULL;
	struct err err = ERR_INIT;

	if (store_open(&store_rig.settings, &store, &err) < 0)
		return NULL;
	for (int i = 0; i < 8; i++) {
		lease_init(&taker->leases[i]);
		while (lease_take(store, &taker->leases[i], &err) < 0) {
			if (err.kind != ERR_CONFLICT) {
				taker->failed++;
				break;
			}
		}
	}
	store_close(store);
	return NULL;
}

static void takers_at_once_get_numbers_of_their_own(void **state)
{
	enum { TAKERS = 8 };
	struct taker takers[TAKERS] = { 0 };
	bool taken[64] = { false };

	suite_store(state);
	for (int i = 0; i < TAKERS; i++)
		assert_int_equal(0, pthread_create(&takers[i].thread, NULL, take_eight, &takers[i]));
	for (int i = 0; i < TAKERS; i++)
		pthread_join(takers[i].thread, NULL);
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(0, takers[i].failed);
		for (int k = 0; k < 8; k++) {
			int number = takers[i].leases[k].number;

			assert_in_range(number, 0, 63);
			assert_false(taken[number]);
			taken[number] = true;
		}
	}
}

/* ---- migrations */

static void count_applied(void *arg, int version, const char *name)
{
	assert_true(version > 0 && name != NULL);
	++*(int *)arg;
}

static void tables_that_are_there_are_left_alone(void **state)
{
	struct store *store = suite_store(state);
	int applied = 0;

	add_people(store, 1, 1);
	assert_ok(schema_migrate(store, store_rig.folder, count_applied, &applied, &err));
	assert_int_equal(0, applied);
	assert_ok(schema_check(store, &err));
	assert_int_equal(1, suite_count(store, "SELECT COUNT(*) FROM participant"));
}

static void another_version_is_fatal(void **state)
{
	struct store *store = suite_store(state);
	struct err older = ERR_INIT, newer = ERR_INIT;

	assert_ok(store_run(store,
		"INSERT INTO schema_version (version, name, applied_at) VALUES (999, 'x', CURRENT_TIMESTAMP)", NULL, 0,
		NULL, &err));
	assert_int_equal(-1, schema_check(store, &newer));
	assert_ok(store_run(store, "UPDATE schema_version SET version = version - 1000", NULL, 0, NULL, &err));
	assert_int_equal(-1, schema_check(store, &older));
	assert_ok(store_run(store, "UPDATE schema_version SET version = version + 1000", NULL, 0, NULL, &err));
	assert_ok(store_run(store, "DELETE FROM schema_version WHERE version = 999", NULL, 0, NULL, &err));
	assert_int_equal(ERR_FATAL, newer.kind);
	assert_int_equal(ERR_FATAL, older.kind);
	assert_non_null(strstr(older.message, "feedctl migrate"));
	assert_ok(schema_check(store, &err));
}

static void write_migration(const char *folder, const char *dialect, const char *name, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, dialect);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%s/%s", folder, dialect, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(0, fclose(file));
}

/* One empty file for each that the tables have. */
static void write_applied(const char *folder, const char *dialect)
{
	char name[32];

	for (int version = 1; version <= SCHEMA_VERSION; version++) {
		snprintf(name, sizeof(name), "%03d_applied.sql", version);
		write_migration(folder, dialect, name, "");
	}
}

static void remove_folder(const char *folder, const char *dialect)
{
	char path[512];
	const struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", folder, dialect);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	assert_int_equal(0, rmdir(path));
	assert_int_equal(0, rmdir(folder));
}

static void a_broken_migration_is_named(void **state)
{
	struct store *store = suite_store(state);
	const char *dialect = store_dialect(store);
	char folder[] = "/tmp/feedmill_sql_XXXXXX";
	char next[32], gap_file[32], statement[64], gap_words[64];
	struct err missing = ERR_INIT, wrong = ERR_INIT, open_quote = ERR_INIT, gap = ERR_INIT;
	int applied = 0;

	snprintf(next, sizeof(next), "%03d_more.sql", SCHEMA_VERSION + 1);
	snprintf(gap_file, sizeof(gap_file), "%03d_gap.sql", SCHEMA_VERSION + 3);
	snprintf(statement, sizeof(statement), "%s, statement 2", next);
	snprintf(gap_words, sizeof(gap_words), "%s where number %03d", gap_file, SCHEMA_VERSION + 2);
	assert_non_null(mkdtemp(folder));
	assert_int_equal(-1, schema_migrate(store, folder, NULL, NULL, &missing));
	write_applied(folder, dialect);
	write_migration(folder, dialect, next, "CREATE TABLE extra (a INT); -- fine; so far\nCREATE TABLE 'extra;' (;");
	write_migration(folder, dialect, "notes.txt", "not one");
	assert_int_equal(-1, schema_migrate(store, folder, count_applied, &applied, &wrong));
	assert_int_equal(0, suite_count(store, "SELECT COUNT(*) FROM extra"));
	write_migration(folder, dialect, next, "DROP TABLE extra; CREATE TABLE 'extra");
	assert_int_equal(-1, schema_migrate(store, folder, count_applied, &applied, &open_quote));
	write_migration(folder, dialect, gap_file, "");
	assert_int_equal(-1, schema_migrate(store, folder, count_applied, &applied, &gap));
	remove_folder(folder, dialect);
	assert_int_equal(0, applied);
	assert_non_null(strstr(missing.message, folder));
	assert_non_null(strstr(wrong.message, statement));
	assert_non_null(strstr(open_quote.message, statement));
	assert_non_null(strstr(gap.message, gap_words));
	assert_ok(schema_check(store, &err));
}

int store_suite_run(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_committed_stays_and_what_is_not_does_not),
		T(closing_rolls_back),
		T(a_transaction_reads_what_others_committed_meanwhile),
		T(begin_and_commit_come_in_pairs),
		T(a_failed_call_fails_the_transaction),
		T(a_wrong_statement_is_fatal),
		T(a_callback_may_stop_the_reading),
		T(a_callback_may_not_call_its_store),
		T(many_texts_of_statements_are_fine),
		T(run_tells_how_many_rows_it_found),
		T(inserts_of_every_size_arrive_whole),
		T(null_and_empty_are_two_things),
		T(a_participant_comes_back_as_it_was),
		T(a_participant_is_inserted_once),
		T(names_that_do_not_fit_are_invalid),
		T(known_answers_for_any_number),
		T(a_friendship_is_made_once_in_both_directions),
		T(friends_are_listed_by_pages),
		T(friends_of_many_authors_are_counted_up_to_a_limit),
		T(friends_of_two_thousand_authors_are_counted),
		T(prices_are_exact),
		T(products_that_do_not_fit_are_invalid),
		T(a_product_is_deleted_once),
		T(posts_come_back_as_they_were),
		T(a_post_is_inserted_once),
		T(five_thousand_posts_at_once),
		T(outbound_is_read_by_pages),
		T(inbound_is_read_newest_first_with_its_texts),
		T(inbound_rows_may_come_again),
		T(every_friend_gets_a_row_of_each_post),
		T(a_plan_is_worked_off_chunk_by_chunk),
		T(commands_are_found_with_their_outcome),
		T(ids_that_are_none_are_invalid),
		T(two_thousand_commands_at_once),
		T(a_lease_is_taken_renewed_and_released),
		T(the_next_holder_starts_behind_the_last),
		T(a_holder_that_was_late_keeps_a_number_nobody_took),
		T(ids_until_never_falls),
		T(takers_at_once_get_numbers_of_their_own),
		T(tables_that_are_there_are_left_alone),
		T(another_version_is_fatal),
		T(a_broken_migration_is_named),
	};
#undef T

	return cmocka_run_group_tests_name("store", tests, NULL, NULL) + idempotency_suite_run() + prune_suite_run() + webhook_suite_run() +
		result_clean_suite_run();
}
