/* The store in a SQLite file: the suite that every back end passes, and what is special to files: writers that wait for one
 * another while readers do not, a log that stays short, files that are missing, moved, broken or full, and a kill in mid-write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/folder.h"
#include "common/base/mem.h"
#include "common/store/people.h"
#include "common/store/posts.h"
#include "common/store/schema.h"
#include "common/store/store_sqlite_db.h"
#include "tests/unit/store_suite.h"

struct store_rig store_rig;

static void add_person(struct store *store, int64_t id)
{
	struct participant person = { .id = id, .name = slice_of("somebody") };

	assert_ok(people_insert(store, &person, 1, &err));
}

static int64_t people(struct store *store)
{
	return suite_count(store, "SELECT COUNT(*) FROM participant");
}

/* ---- one writes, all read */

static void a_writer_waits_and_a_reader_does_not(void **state)
{
	struct store *store = suite_store(state), *other = suite_second();
	int64_t before;

	add_person(store, 1);
	assert_ok(store_begin(store, &err));
	add_person(store, 2);
	before = clock_mono_ms();
	assert_int_equal(1, people(other));
	assert_ok(store_ping(other, &err));
	assert_true(clock_mono_ms() - before < store_rig.settings.embedded.lock_wait_ms);
	before = clock_mono_ms();
	assert_fails(ERR_CONFLICT, store_begin(other, &err));
	assert_true(clock_mono_ms() - before >= store_rig.settings.embedded.lock_wait_ms);
	assert_ok(store_commit(store, &err));
	assert_ok(store_begin(other, &err));
	assert_int_equal(2, people(other));
	assert_ok(store_commit(other, &err));
	store_close(other);
}

struct writer {
	pthread_t thread;
	struct settings settings;
	int64_t first;
	int failed;
};

#define WRITERS 4
#define WRITES 50

static void *write_many(void *arg)
{
	struct writer *w = arg;
	struct store *store = NULL;
	struct err err = ERR_INIT;

	if (store_open(&w->settings, &store, &err) < 0)
		w->failed++;
	for (int64_t i = 0; i < WRITES; i++) {
		const struct participant person = { .id = w->first + i, .name = slice_of("x") };

		if (store_begin(store, &err) < 0 || people_insert(store, &person, 1, &err) < 0 || store_commit(store, &err) < 0)
			w->failed++;
	}
	store_close(store);
	return NULL;
}

static void writers_take_turns(void **state)
{
	struct store *store = suite_store(state);
	struct writer writers[WRITERS] = { 0 };

	for (int i = 0; i < WRITERS; i++) {
		writers[i].settings = store_rig.settings;
		writers[i].settings.embedded.lock_wait_ms = 20000;
		writers[i].first = i * WRITES + 1;
		assert_int_equal(0, pthread_create(&writers[i].thread, NULL, write_many, &writers[i]));
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		assert_int_equal(0, writers[i].failed);
	}
	assert_int_equal(WRITERS * WRITES, people(store));
}

/* ---- the log */

static int64_t log_bytes(void)
{
	struct buf path = BUF_INIT;
	struct err err = ERR_INIT;
	struct stat st;
	int64_t bytes;

	assert_int_equal(0, folder_path(store_rig.settings.embedded.folder, "store.db-wal", &path, &err));
	bytes = stat(path.data, &st) == 0 ? (int64_t)st.st_size : 0;
	buf_release(&path);
	return bytes;
}

struct reading {
	struct store *store;
	pthread_t thread;
	int stop; /* atomic */
};

static int ignore_row(void *arg, const struct store_value *columns, size_t count)
{
	(void)columns;
	(void)count;
	return __atomic_load_n((int *)arg, __ATOMIC_RELAXED);
}

static void *read_on(void *arg)
{
	struct reading *r = arg;
	struct err err = ERR_INIT;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
		store_query(r->store, "SELECT * FROM inbound LIMIT 20000", NULL, 0, ignore_row, &r->stop, &err);
	return NULL;
}

/* Two readers without a gap between them: there is always one that reads what the log has. */
static void the_log_stays_short_while_others_read(void **state)
{
	enum { ROUNDS = 120, ROWS = 2000, APART = 1000 };
	struct store *store = suite_store(state);
	struct reading readers[2] = { { .stop = 0 }, { .stop = 0 } };
	struct inbound *rows = mem_array(ROWS, sizeof(*rows));
	int64_t longest = 0;

	for (int i = 0; i < 2; i++) {
		readers[i].store = suite_second();
		assert_int_equal(0, pthread_create(&readers[i].thread, NULL, read_on, &readers[i]));
	}
	for (int64_t round = 0; round < ROUNDS; round++) { /* in all a quarter of a million rows, half a gigabyte of log */
		for (int64_t i = 0; i < ROWS; i++)
			rows[i] = (struct inbound){ .participant = i * APART, .post = round + 1, .from = 1 };
		assert_ok(inbound_insert(store, rows, ROWS, &err));
		longest = log_bytes() > longest ? log_bytes() : longest;
	}
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&readers[i].stop, 1, __ATOMIC_RELAXED);
		pthread_join(readers[i].thread, NULL);
		store_close(readers[i].store);
	}
	free(rows);
	assert_int_equal(ROUNDS * ROWS, suite_count(store, "SELECT COUNT(*) FROM inbound"));
	assert_in_range(longest, 1, 64 << 20);
}

/* ---- the session, and how lists are read */

static int take_text(void *arg, const struct store_value *columns, size_t count)
{
	const struct store_value *last = &columns[count - 1];

	buf_add(arg, last->text.data, last->text.len);
	buf_add_char(arg, '\n');
	return 0;
}

static void expect_text(struct store *store, const char *sql, const char *wanted)
{
	struct buf text = BUF_INIT;

	assert_ok(store_query_once(store, sql, strlen(sql), take_text, &text, &err));
	if (strcmp(text.data, wanted) != 0)
		fail_msg("%s: %s, not %s", sql, text.data, wanted);
	buf_release(&text);
}

static void the_session_is_as_it_must_be(void **state)
{
	struct store *store = suite_store(state);
	struct buf where = BUF_INIT;
	int64_t now, wall;
	char sql[128];

	expect_text(store, "PRAGMA journal_mode", "wal\n");
	assert_int_equal(2, suite_count(store, "PRAGMA synchronous")); /* FULL: each commit is on disk */
	assert_int_equal(0, suite_count(store, "PRAGMA foreign_keys"));
	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM participant WHERE \"nothing\" = 'x'", NULL, 0, NULL, &err));
	snprintf(sql, sizeof(sql), "SELECT %s", store_now_ms(store));
	now = suite_count(store, sql);
	wall = clock_wall_ms();
	assert_true(now > wall - 1000 && now <= wall);
	assert_non_null(strstr(store_library(), "sqlite 3."));
	store_describe(&store_rig.settings, &where);
	assert_string_equal(":memory:/store.db", where.data);
	buf_release(&where);
}

static void lists_are_read_along_their_keys(void **state)
{
	static const char *const samples[][2] = {
		{ "EXPLAIN QUERY PLAN SELECT i.post_id, o.story FROM inbound i JOIN outbound o ON o.id = i.post_id "
		  "WHERE i.participant_id = 1 AND i.post_id < 9 ORDER BY i.post_id DESC LIMIT 3",
			"SEARCH i USING PRIMARY KEY (participant_id=? AND post_id<?)\nSEARCH o USING INTEGER PRIMARY KEY (rowid=?)\n" },
		{ "EXPLAIN QUERY PLAN SELECT id, story FROM outbound WHERE participant_id = 1 AND id < 9 ORDER BY id DESC LIMIT 3",
			"SEARCH outbound USING INDEX outbound_participant (participant_id=? AND id<?)\n" },
		{ "EXPLAIN QUERY PLAN SELECT participant_id, friend_id FROM friend WHERE participant_id IN (3, 1, 2) "
		  "ORDER BY participant_id, friend_id LIMIT 9",
			"SEARCH friend USING PRIMARY KEY (participant_id=?)\n" },
	};
	struct store *store = suite_store(state);

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		expect_text(store, samples[i][0], samples[i][1]);
}

static void each_column_takes_its_own_type(void **state)
{
	static const char *const bad[] = { "INSERT INTO inbound VALUES ('a', 1, 1)", "INSERT INTO participant VALUES (1, x'00')",
		"INSERT INTO product VALUES (NULL, 'x', '1')", "INSERT INTO product VALUES (1, 'x', '-1')",
		"INSERT INTO product VALUES (1, 'x', '1.')", "INSERT INTO product VALUES (1, 'x', '.5')",
		"INSERT INTO product VALUES (1, 'x', '1.005')", "INSERT INTO product VALUES (1, 'x', '1.2.3')",
		"INSERT INTO product VALUES (1, 'x', '1e3')" };
	struct store *store = suite_store(state);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_fails(ERR_INVALID, store_run(store, bad[i], NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "DELETE FROM inbound; DELETE FROM friend", NULL, 0, NULL, &err));
	assert_fails(ERR_FATAL, store_run(store, "", NULL, 0, NULL, &err));
}

/* ---- errors */

static void codes_have_their_kinds(void **state)
{
	static const struct {
		int code;
		enum err_kind kind, in_commit;
	} samples[] = {
		{ SQLITE_BUSY, ERR_CONFLICT, ERR_CONFLICT },
		{ SQLITE_BUSY_SNAPSHOT, ERR_CONFLICT, ERR_CONFLICT },
		{ SQLITE_LOCKED, ERR_CONFLICT, ERR_CONFLICT },
		{ SQLITE_CONSTRAINT_PRIMARYKEY, ERR_CONFLICT, ERR_CONFLICT },
		{ SQLITE_CONSTRAINT_ROWID, ERR_CONFLICT, ERR_CONFLICT },
		{ SQLITE_CONSTRAINT_CHECK, ERR_INVALID, ERR_INVALID },
		{ SQLITE_CONSTRAINT_NOTNULL, ERR_INVALID, ERR_INVALID },
		{ SQLITE_CONSTRAINT_DATATYPE, ERR_INVALID, ERR_INVALID },
		{ SQLITE_TOOBIG, ERR_INVALID, ERR_INVALID },
		{ SQLITE_MISMATCH, ERR_INVALID, ERR_INVALID },
		{ SQLITE_FULL, ERR_FULL, ERR_FULL },
		{ SQLITE_IOERR_FSYNC, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ SQLITE_CANTOPEN, ERR_UNAVAILABLE, ERR_UNKNOWN },
		{ SQLITE_READONLY_DBMOVED, ERR_UNAVAILABLE, ERR_UNAVAILABLE },
		{ SQLITE_ERROR, ERR_FATAL, ERR_UNKNOWN },
		{ SQLITE_NOTADB, ERR_FATAL, ERR_UNKNOWN },
		{ SQLITE_CORRUPT, ERR_FATAL, ERR_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		if (sqlite_db_kind(samples[i].code, false) != samples[i].kind || sqlite_db_kind(samples[i].code, true) != samples[i].in_commit)
			fail_msg("code %d", samples[i].code);
	}
}

static void a_full_disk_undoes_the_transaction(void **state)
{
	struct store *store = suite_store(state);
	struct inbound *rows = mem_array(20000, sizeof(*rows));
	char sql[64];

	add_person(store, 1);
	for (int64_t i = 0; i < 20000; i++)
		rows[i] = (struct inbound){ .participant = i, .post = 1, .from = 1 };
	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %lld", (long long)suite_count(store, "PRAGMA page_count") + 5);
	suite_count(store, sql);
	assert_ok(store_begin(store, &err));
	add_person(store, 2);
	{
		struct err err = ERR_INIT;
		int tries = 0;

		while (inbound_insert(store, rows, 20000, &err) == 0) { /* what earlier tests left free is used first */
			for (int i = 0; i < 20000; i++)
				rows[i].post++;
			assert_true(++tries < 1000);
		}
		assert_int_equal(ERR_FULL, err.kind);
	}
	assert_fails(ERR_FULL, people_insert(store, &(struct participant){ .id = 3, .name = slice_of("x") }, 1, &err));
	assert_fails(ERR_FULL, store_commit(store, &err));
	assert_int_equal(1, people(store));
	suite_count(store, "PRAGMA max_page_count = 1073741823");
	assert_ok(inbound_insert(store, rows, 20000, &err));
	free(rows);
}

/* ---- files */

static char folder[] = "/tmp/feedmill-store-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	memcpy(strrchr(folder, '-'), "-XXXXXX", 7);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = { "store.db", "store.db-wal", "store.db-shm", "store.db.lock", "away.db" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

static struct settings settings_of_folder(void)
{
	struct settings settings = store_rig.settings;

	settings.embedded.folder = folder;
	return settings;
}

static void expect_no_call(const struct settings *settings, enum err_kind kind, const char *word)
{
	struct store *store = NULL;
	struct err why = ERR_INIT;

	assert_ok(store_open(settings, &store, &err)); /* connects to nothing */
	assert_int_equal(-1, store_ping(store, &why));
	if (why.kind != kind || strstr(why.message, word) == NULL)
		fail_msg("%s: %s", err_kind_name(why.kind), why.message);
	assert_int_equal(-1, store_begin(store, &why));
	store_rollback(store);
	assert_fails(ERR_FATAL, store_commit(store, &err));
	store_close(store);
}

static void what_is_missing_names_the_remedy(void **state)
{
	struct settings settings = settings_of_folder();
	struct store *store = NULL;
	struct err why = ERR_INIT;
	char missing[64];
	bool made = false;

	(void)state;
	snprintf(missing, sizeof(missing), "%s/none", folder);
	settings.embedded.folder = missing;
	expect_no_call(&settings, ERR_FATAL, "feedctl migrate");
	settings.embedded.folder = folder;
	expect_no_call(&settings, ERR_FATAL, "feedctl migrate");
	assert_ok(store_create(&settings, &made, &err));
	assert_true(made);
	assert_ok(store_create(&settings, &made, &err));
	assert_false(made);
	assert_ok(store_open(&settings, &store, &err));
	assert_int_equal(-1, schema_check(store, &why));
	assert_int_equal(ERR_FATAL, why.kind);
	assert_non_null(strstr(why.message, "feedctl migrate"));
	assert_fails(ERR_FATAL, people_insert(store, &(struct participant){ .id = 3, .name = slice_of("x") }, 1, &err));
	store_close(store);
}

static void a_file_of_another_kind_is_fatal(void **state)
{
	struct settings settings = settings_of_folder();
	char path[128];
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/store.db", folder);
	file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < 200; i++)
		fputs("this is a text and nothing else\n", file);
	assert_int_equal(0, fclose(file));
	expect_no_call(&settings, ERR_FATAL, "not a database");
}

static void a_file_that_was_taken_away_is_not_written_to(void **state)
{
	struct settings settings = settings_of_folder();
	struct store *store = NULL;
	char path[128], away[128];
	bool made;

	(void)state;
	assert_ok(store_create(&settings, &made, &err));
	assert_ok(store_open(&settings, &store, &err));
	assert_ok(schema_migrate(store, store_rig.folder, NULL, NULL, &err));
	add_person(store, 1);
	snprintf(path, sizeof(path), "%s/store.db", folder);
	snprintf(away, sizeof(away), "%s/away.db", folder);
	assert_int_equal(0, rename(path, away));
	assert_fails(ERR_FATAL, people_insert(store, &(struct participant){ .id = 3, .name = slice_of("x") }, 1, &err));
	assert_int_equal(0, rename(away, path));
	assert_int_equal(1, people(store)); /* by itself, once it is back */
	store_close(store);
}

struct migrator {
	pthread_t thread;
	struct settings settings;
	int applied, rc;
	struct err err;
};

static void count_applied(void *arg, int version, const char *name)
{
	(void)version;
	(void)name;
	++*(int *)arg;
}

static void *migrate(void *arg)
{
	struct migrator *m = arg;
	struct store *store = NULL;
	bool made;

	m->rc = -1;
	if (store_create(&m->settings, &made, &m->err) == 0 && store_open(&m->settings, &store, &m->err) == 0 &&
		schema_migrate(store, store_rig.folder, count_applied, &m->applied, &m->err) == 0)
		m->rc = 0;
	store_close(store);
	return NULL;
}

static void four_may_migrate_at_once(void **state)
{
	struct migrator migrators[4] = { 0 };
	int applied = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		migrators[i].settings = settings_of_folder();
		assert_int_equal(0, pthread_create(&migrators[i].thread, NULL, migrate, &migrators[i]));
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(migrators[i].thread, NULL);
		if (migrators[i].rc != 0)
			fail_msg("%s", migrators[i].err.message);
		applied += migrators[i].applied;
	}
	assert_int_equal(SCHEMA_VERSION, applied);
}

/* Commits person 1, and is killed with person 2 written and not committed. */
static void die_in_mid_write(const struct settings *settings)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;
	const struct participant one = { .id = 1, .name = slice_of("x") }, two = { .id = 2, .name = slice_of("x") };

	if (store_open(settings, &store, &err) == 0 && people_insert(store, &one, 1, &err) == 0 && store_begin(store, &err) == 0 &&
		people_insert(store, &two, 1, &err) == 0)
		kill(getpid(), SIGKILL);
	_exit(1);
}

static void a_kill_leaves_what_was_committed(void **state)
{
	struct settings settings = settings_of_folder();
	struct store *store = NULL;
	int status = 0;
	pid_t child;
	bool made;

	(void)state;
	assert_ok(store_create(&settings, &made, &err));
	assert_ok(store_open(&settings, &store, &err));
	assert_ok(schema_migrate(store, store_rig.folder, NULL, NULL, &err));
	store_close(store);
	child = fork(); /* nothing is open here */
	if (child == 0)
		die_in_mid_write(&settings);
	assert_int_equal(child, waitpid(child, &status, 0));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_ok(store_open(&settings, &store, &err));
	assert_int_equal(1, people(store));
	add_person(store, 2); /* its lock went with it */
	expect_text(store, "PRAGMA integrity_check", "ok\n");
	store_close(store);
}

/* ---- the rig */

static int rig_open(void)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;
	bool made = false;
	int rc = -1;

	store_rig.settings.store.type = (char *)"sqlite";
	store_rig.settings.embedded.folder = (char *)FOLDER_MEMORY;
	store_rig.settings.embedded.lock_wait_ms = 300;
	store_rig.folder = getenv("FEEDMILL_SQL") ? getenv("FEEDMILL_SQL") : "sql";
	if (store_create(&store_rig.settings, &made, &err) == 0 && store_open(&store_rig.settings, &store, &err) == 0)
		rc = schema_migrate(store, store_rig.folder, NULL, NULL, &err);
	if (rc < 0)
		print_error("%s\n", err.message);
	store_close(store);
	return rc;
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
#define F(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
	const struct CMUnitTest tests[] = {
		T(a_writer_waits_and_a_reader_does_not),
		T(writers_take_turns),
		T(the_log_stays_short_while_others_read),
		T(the_session_is_as_it_must_be),
		T(lists_are_read_along_their_keys),
		T(each_column_takes_its_own_type),
		cmocka_unit_test(codes_have_their_kinds),
		T(a_full_disk_undoes_the_transaction),
		F(what_is_missing_names_the_remedy),
		F(a_file_of_another_kind_is_fatal),
		F(a_file_that_was_taken_away_is_not_written_to),
		F(four_may_migrate_at_once),
		F(a_kill_leaves_what_was_committed),
	};
#undef T
#undef F
	int failed;

	if (rig_open() < 0)
		return 1;
	failed = store_suite_run();
	failed += cmocka_run_group_tests_name("store in a file", tests, NULL, NULL);
	return failed;
}
