/* The store on a real MySQL or MariaDB (MYSQL_HOST and its like in the environment; `source .stack/env`): the suite that every
 * back end passes, and what only a server can do: lose connections, deadlock, make wait, be silent. In a database of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/store/people.h"
#include "common/store/posts.h"
#include "common/store/schema.h"
#include "tests/unit/store_suite.h"

#define DEADLINE_MS 20000

struct store_rig store_rig;

static char database[64];

/* ---- the server's side of things */

static int64_t connection_id(struct store *store)
{
	return suite_count(store, "SELECT CONNECTION_ID()");
}

static bool is_connected(struct store *other, int64_t id)
{
	char sql[128];

	snprintf(
		sql, sizeof(sql), "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %lld", (long long)id);
	return suite_count(other, sql) > 0;
}

static void wait_until_gone(struct store *other, int64_t id)
{
	const int64_t deadline = clock_mono_ms() + DEADLINE_MS;

	while (is_connected(other, id)) {
		if (clock_mono_ms() > deadline)
			fail_msg("connection %lld is still there", (long long)id);
		poll(NULL, 0, 5);
	}
}

static void kill_connection(struct store *victim)
{
	struct store *other = suite_second();
	const int64_t id = connection_id(victim);
	char sql[64];
	int len = snprintf(sql, sizeof(sql), "KILL %lld", (long long)id);

	assert_ok(store_query_once(other, sql, (size_t)len, NULL, NULL, &err));
	wait_until_gone(other, id);
	store_close(other);
}

static void add_person(struct store *store, int64_t id)
{
	struct participant person = { .id = id, .name = slice_of("somebody") };

	assert_ok(people_insert(store, &person, 1, &err));
}

static int64_t people(struct store *store)
{
	return suite_count(store, "SELECT COUNT(*) FROM participant");
}

static void a_killed_connection_is_replaced_outside_a_transaction(void **state)
{
	struct store *store = suite_store(state);

	for (int i = 0; i < 3; i++) {
		kill_connection(store);
		add_person(store, i + 1);
		kill_connection(store);
		assert_int_equal(i + 1, people(store)); /* its prepared statement went with the connection */
		kill_connection(store);
		assert_ok(store_begin(store, &err));
		assert_ok(store_commit(store, &err));
		kill_connection(store);
		assert_ok(store_ping(store, &err));
	}
}

static void a_killed_connection_ends_the_transaction(void **state)
{
	struct store *store = suite_store(state);
	struct participant person = { .id = 2, .name = slice_of("second") };

	assert_ok(store_begin(store, &err));
	add_person(store, 1);
	kill_connection(store);
	assert_fails(ERR_UNAVAILABLE, people_insert(store, &person, 1, &err));
	assert_fails(ERR_UNAVAILABLE, people_insert(store, &person, 1, &err)); /* not on a new connection, alone */
	assert_fails(ERR_UNAVAILABLE, store_commit(store, &err));
	assert_int_equal(0, people(store));
	add_person(store, 2);
	assert_int_equal(1, people(store));
}

static void a_rollback_is_safe_on_a_killed_connection(void **state)
{
	struct store *store = suite_store(state);

	assert_ok(store_begin(store, &err));
	add_person(store, 1);
	kill_connection(store);
	store_rollback(store);
	assert_int_equal(0, people(store));
	assert_ok(store_begin(store, &err));
	kill_connection(store);
}

static void a_connection_lost_in_commit_leaves_the_outcome_unknown(void **state)
{
	struct store *store = suite_store(state);

	assert_ok(store_begin(store, &err));
	add_person(store, 1);
	kill_connection(store);
	assert_fails(ERR_UNKNOWN, store_commit(store, &err));
	assert_int_equal(0, people(store)); /* the next call is on a new connection, outside a transaction */
}

static void an_interrupted_statement_is_to_be_done_again(void **state)
{
	struct store *store = suite_store(state);

	assert_fails(ERR_CONFLICT,
		store_query_once(store, "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317", 46, NULL, NULL, &err));
	assert_ok(store_ping(store, &err));
}

struct deadlock {
	struct store *store;
	int rc;
	struct err err;
};

static int rename_person(struct store *store, int64_t id, struct err *err)
{
	struct store_value value = store_int(id);

	return store_run(store, "UPDATE participant SET name = CONCAT(name, 'x') WHERE id = ?", &value, 1, NULL, err);
}

static void *rename_second(void *arg)
{
	struct deadlock *side = arg;

	side->rc = rename_person(side->store, 2, &side->err);
	return NULL;
}

static void of_two_that_lock_each_other_one_conflicts(void **state)
{
	struct store *store = suite_store(state);
	struct deadlock side = { .store = suite_second(), .err = ERR_INIT };
	struct err mine = ERR_INIT;
	pthread_t thread;
	int rc;

	add_person(store, 1);
	add_person(store, 2);
	assert_ok(store_begin(store, &err));
	assert_ok(store_begin(side.store, &err));
	assert_ok(rename_person(store, 2, &err));
	assert_ok(rename_person(side.store, 1, &err));
	assert_int_equal(0, pthread_create(&thread, NULL, rename_second, &side));
	rc = rename_person(store, 1, &mine);
	if (rc < 0)
		store_rollback(store); /* lets the other go on */
	pthread_join(thread, NULL);
	assert_int_equal(-1, rc + side.rc);
	assert_int_equal(ERR_CONFLICT, rc < 0 ? mine.kind : side.err.kind);
	assert_non_null(strstr(rc < 0 ? mine.message : side.err.message, "1213"));
	if (rc < 0) {
		assert_ok(store_commit(side.store, &err));
	} else {
		assert_fails(ERR_CONFLICT, store_commit(side.store, &err)); /* nothing of it may be committed */
		assert_ok(store_commit(store, &err));
	}
	assert_int_equal(2, suite_count(store, "SELECT COUNT(*) FROM participant WHERE name = 'somebodyx'"));
	store_close(side.store);
}

static void a_lock_is_waited_for_so_long(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	struct inbound row = { .participant = 1, .post = 1, .from = 1 };
	int64_t before;

	assert_ok(store_begin(store, &err));
	assert_ok(inbound_insert(store, &row, 1, &err));
	assert_ok(store_begin(other, &err));
	add_person(other, 5);
	before = clock_mono_ms();
	assert_fails(ERR_CONFLICT, inbound_insert(other, &row, 1, &err));
	assert_true(clock_mono_ms() - before >= 500 && clock_mono_ms() - before < DEADLINE_MS);
	assert_fails(ERR_CONFLICT, store_commit(other, &err)); /* the server would: it rolled back one statement */
	assert_ok(store_commit(store, &err));
	assert_int_equal(0, people(store));
	assert_ok(inbound_insert(other, &row, 1, &err));
	store_close(other);
}

static void a_taken_chunk_is_locked(void **state)
{
	struct store *store = suite_store(state);
	struct store *other = suite_second();
	struct plan_part part;

	assert_ok(plan_add(store, 1, 0, (int64_t[]){ 5 }, 1, &err));
	assert_ok(store_begin(store, &err));
	assert_ok(plan_take(store, 1, 0, &part, &err));
	free(part.friends);
	assert_ok(store_begin(other, &err));
	assert_fails(ERR_CONFLICT, plan_take(other, 1, 0, &part, &err));
	store_rollback(other);
	assert_ok(plan_done(store, 1, 0, &err));
	assert_ok(store_commit(store, &err));
	assert_ok(plan_take(other, 1, 0, &part, &err));
	assert_true(part.found && part.done);
	store_close(other);
}

static void an_idle_transaction_is_ended_by_the_server(void **state)
{
	struct settings hasty = store_rig.settings;
	struct store *store = suite_store(state), *idle = NULL;
	int64_t id;

	hasty.mysql.idle_transaction_s = 1;
	assert_ok(store_open(&hasty, &idle, &err));
	assert_ok(store_begin(idle, &err));
	add_person(idle, 1);
	id = connection_id(idle);
	wait_until_gone(store, id);
	assert_fails(ERR_UNKNOWN, store_commit(idle, &err));
	assert_int_equal(0, people(idle));
	store_close(idle);
}

/* ---- the session */

static int take_text(void *arg, const struct store_value *columns, size_t count)
{
	assert_int_equal(1, count);
	snprintf(arg, 512, "%.*s", (int)columns[0].text.len, columns[0].text.data);
	return 0;
}

static void expect_text(struct store *store, const char *sql, const char *wanted)
{
	char text[512] = "";

	assert_ok(store_query(store, sql, NULL, 0, take_text, text, &err));
	if (strstr(text, wanted) == NULL)
		fail_msg("%s: %s, without %s", sql, text, wanted);
}

static void the_session_is_as_it_must_be(void **state)
{
	struct store *store = suite_store(state);
	int64_t now, wall;

	expect_text(store, "SELECT @@session.sql_mode", "STRICT_ALL_TABLES");
	expect_text(store, "SELECT @@session.time_zone", "+00:00");
	expect_text(store, "SELECT @@session.character_set_client", "utf8mb4");
	expect_text(store, "SELECT @@session.character_set_connection", "utf8mb4");
	expect_text(store, "SELECT @@session.character_set_results", "utf8mb4");
	assert_int_equal(
		store_rig.settings.mysql.lock_wait_s, suite_count(store, "SELECT @@session.innodb_lock_wait_timeout"));
	assert_int_equal(1, suite_count(store, "SELECT @@session.autocommit"));
	assert_ok(store_begin(store, &err));
	add_person(store, 1);
	expect_text(store,
		"SELECT trx_isolation_level FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = "
		"CONNECTION_ID()",
		"READ COMMITTED");
	store_rollback(store);
	{
		char sql[128];

		snprintf(sql, sizeof(sql), "SELECT %s", store_now_ms(store));
		now = suite_count(store, sql);
		wall = clock_wall_ms();
		assert_true(now > wall - 60000 && now < wall + 60000);
	}
	assert_non_null(strstr(store_library(), "lib"));
}

/* What the session has read along keys, and sorted, so far. */
struct work {
	int64_t reads, sorted;
};

static int take_work(void *arg, const struct store_value *columns, size_t count)
{
	struct work *work = arg;
	int64_t number;

	assert_int_equal(2, count);
	assert_true(str_int64(columns[1].text, &number));
	*(slice_is(columns[0].text, "Sort_rows") ? &work->sorted : &work->reads) += number;
	return 0;
}

static struct work work_so_far(struct store *store)
{
	static const char sql[] = "SHOW SESSION STATUS WHERE Variable_name IN ('Handler_read_first', "
				  "'Handler_read_key', 'Handler_read_last', "
				  "'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd', 'Sort_rows')";
	struct work work = { 0, 0 };

	assert_ok(store_query_once(store, sql, sizeof(sql) - 1, take_work, &work, &err));
	return work;
}

static int count_post(void *arg, const struct post *post)
{
	(void)post;
	++*(int *)arg;
	return 0;
}

typedef int list_fn(struct store *store, int64_t participant, int64_t before, size_t limit, post_row_fn *row, void *arg,
	struct err *err);

static void expect_cheap(struct store *store, list_fn *list, int64_t participant, int64_t rows)
{
	struct work before, after;
	int seen = 0;

	before = work_so_far(store);
	assert_ok(list(store, participant, 0, 50, count_post, &seen, &err));
	after = work_so_far(store);
	assert_int_equal(50, seen);
	assert_int_equal(0, after.sorted - before.sorted);
	assert_in_range(after.reads - before.reads, 50, rows + 20); /* 20: what asking costs */
}

static void lists_are_read_along_their_keys(void **state)
{
	enum { POSTS = 2000 };
	struct store *store = suite_store(state);
	struct post *posts = mem_array(POSTS, sizeof(*posts));
	struct inbound *rows = mem_array(POSTS * 10, sizeof(*rows));

	for (int i = 0; i < POSTS; i++)
		posts[i] = (struct post){ .id = i + 1,
			.from = i % 20,
			.posted_at_ms = 1,
			.subject = slice_of("s"),
			.story = slice_of("some words of a story") };
	for (int i = 0; i < POSTS * 10; i++)
		rows[i] = (struct inbound){ .participant = i % 100, .post = i / 10 + 1, .from = i / 10 % 20 };
	assert_ok(posts_insert(store, posts, NULL, POSTS, &err));
	assert_ok(inbound_insert(store, rows, POSTS * 10, &err));
	expect_cheap(store, inbound_list, 7, 100); /* a row and its text each */
	expect_cheap(store, outbound_list, 7, 100);
	assert_ok(store_query_once(store, "ANALYZE TABLE inbound, outbound", 31, NULL, NULL, &err));
	expect_cheap(store, inbound_list, 7, 100);
	expect_cheap(store, outbound_list, 7, 100);
	free(rows);
	free(posts);
}

/* ---- servers that are not as they should be */

static void expect_open_fails(const struct settings *settings, enum err_kind kind, const char *word)
{
	struct store *store = NULL;
	struct err why = ERR_INIT;
	int64_t before = clock_mono_ms();

	assert_ok(store_open(settings, &store, &err)); /* connects to nothing */
	assert_int_equal(-1, store_ping(store, &why));
	if (why.kind != kind || strstr(why.message, word) == NULL)
		fail_msg("%s: %s", err_kind_name(why.kind), why.message);
	assert_int_equal(-1, store_begin(store, &why));
	store_rollback(store);
	assert_fails(ERR_FATAL, store_commit(store, &err));
	store_close(store);
	assert_true(clock_mono_ms() - before < DEADLINE_MS);
}

static int listen_on_loopback(int64_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(0, bind(fd, (struct sockaddr *)&address, sizeof(address)));
	assert_int_equal(0, listen(fd, 4));
	assert_int_equal(0, getsockname(fd, (struct sockaddr *)&address, &len));
	*port = ntohs(address.sin_port);
	return fd;
}

static void a_server_that_is_away_or_silent_is_unavailable(void **state)
{
	struct settings settings = store_rig.settings;
	int fd;

	suite_store(state);
	settings.mysql.connect_timeout_ms = 1000;
	fd = listen_on_loopback(&settings.mysql.port);
	expect_open_fails(&settings, ERR_UNAVAILABLE, "127.0.0.1"); /* takes the connection and never says a word */
	close(fd);
	expect_open_fails(&settings, ERR_UNAVAILABLE, "127.0.0.1");
}

static void a_server_that_falls_silent_is_unavailable(void **state)
{
	struct settings settings = store_rig.settings;
	struct store *store = NULL;
	int64_t before;

	suite_store(state);
	settings.mysql.read_timeout_ms = 1000;
	assert_ok(store_open(&settings, &store, &err));
	assert_ok(store_begin(store, &err));
	before = clock_mono_ms();
	assert_fails(ERR_UNAVAILABLE, store_query_once(store, "SELECT SLEEP(6)", 15, NULL, NULL, &err));
	assert_true(clock_mono_ms() - before < 5000);
	store_rollback(store);
	assert_ok(store_ping(store, &err));
	store_close(store);
}

static void a_wrong_password_or_database_is_named(void **state)
{
	struct settings settings = store_rig.settings;

	suite_store(state);
	settings.mysql.password = (char *)"wrong";
	expect_open_fails(&settings, ERR_UNAVAILABLE, "1045");
	settings.mysql.password = store_rig.settings.mysql.password;
	settings.mysql.database = (char *)"feedmill_test_not_there";
	expect_open_fails(&settings, ERR_FATAL, "feedctl migrate");
}

static void with_a_ca_nothing_goes_in_the_clear(void **state)
{
	struct settings settings = store_rig.settings;
	char path[] = "/tmp/feedmill_ca_XXXXXX";
	int fd;

	suite_store(state);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	settings.mysql.ca_file = path; /* a file that proves nobody, against a server that may not even have TLS */
	expect_open_fails(&settings, ERR_UNAVAILABLE, "database 127.0.0.1");
	unlink(path);
}

static void drop_database(const char *name)
{
	struct store *store = suite_second();
	char sql[128];
	int len = snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS `%s`", name);

	assert_ok(store_query_once(store, sql, (size_t)len, NULL, NULL, &err));
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
	char name[80];
	struct migrator migrators[4] = { 0 };
	int applied = 0;

	suite_store(state);
	snprintf(name, sizeof(name), "%s_`new", database);
	for (int i = 0; i < 4; i++) {
		migrators[i].settings = store_rig.settings;
		migrators[i].settings.mysql.database = name;
		assert_int_equal(0, pthread_create(&migrators[i].thread, NULL, migrate, &migrators[i]));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(migrators[i].thread, NULL);
	snprintf(name, sizeof(name), "%s_``new", database);
	drop_database(name);
	for (int i = 0; i < 4; i++) {
		if (migrators[i].rc != 0)
			fail_msg("%s", migrators[i].err.message);
		applied += migrators[i].applied;
	}
	assert_int_equal(SCHEMA_VERSION, applied);
}

static void tables_that_are_missing_are_fatal(void **state)
{
	struct settings settings = store_rig.settings;
	struct store *store = NULL;
	struct err why = ERR_INIT;
	char name[80];
	bool made = false;
	int rc;

	suite_store(state);
	snprintf(name, sizeof(name), "%s_bare", database);
	settings.mysql.database = name;
	assert_ok(store_create(&settings, &made, &err));
	assert_true(made);
	assert_ok(store_create(&settings, &made, &err));
	assert_false(made);
	assert_ok(store_open(&settings, &store, &err));
	rc = schema_check(store, &why);
	store_close(store);
	drop_database(name);
	assert_int_equal(-1, rc);
	assert_int_equal(ERR_FATAL, why.kind);
	assert_non_null(strstr(why.message, "feedctl migrate"));
}

/* ---- the rig */

static char *from_environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return mem_strdup(value ? value : otherwise);
}

static int rig_open(void)
{
	struct mysql_settings *mysql = &store_rig.settings.mysql;
	struct store *store = NULL;
	struct err err = ERR_INIT;
	bool made = false;
	int rc = -1;

	if (!getenv("MYSQL_HOST")) {
		store_rig.missing = "MYSQL_HOST is not set: no MySQL or MariaDB to test on (`./dev up --no-programs`, "
					"then `source .stack/env`)";
		return 0;
	}
	store_rig.settings.store.type = (char *)"mysql";
	mysql->host = from_environment("MYSQL_HOST", "");
	mysql->port = (int64_t)strtol(getenv("MYSQL_PORT") ? getenv("MYSQL_PORT") : "3306", NULL, 10);
	mysql->user = from_environment("MYSQL_USER", "feed");
	mysql->password = from_environment("MYSQL_PASSWORD", "");
	snprintf(database, sizeof(database), "feedmill_test_store_%ld", (long)getpid());
	mysql->database = database;
	mysql->connect_timeout_ms = 5000;
	mysql->read_timeout_ms = 30000;
	mysql->lock_wait_s = 1;
	mysql->idle_transaction_s = 20;
	store_rig.folder = getenv("FEEDMILL_SQL") ? getenv("FEEDMILL_SQL") : "sql";
	if (store_create(&store_rig.settings, &made, &err) == 0 && store_open(&store_rig.settings, &store, &err) == 0)
		rc = schema_migrate(store, store_rig.folder, NULL, NULL, &err);
	if (rc < 0)
		print_error("%s\n", err.message);
	store_close(store);
	return rc;
}

static void rig_close(void)
{
	if (!store_rig.missing)
		drop_database(database);
	free(store_rig.settings.mysql.host);
	free(store_rig.settings.mysql.user);
	free(store_rig.settings.mysql.password);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, suite_setup, suite_teardown)
	const struct CMUnitTest tests[] = {
		T(a_killed_connection_is_replaced_outside_a_transaction),
		T(a_killed_connection_ends_the_transaction),
		T(a_rollback_is_safe_on_a_killed_connection),
		T(a_connection_lost_in_commit_leaves_the_outcome_unknown),
		T(an_interrupted_statement_is_to_be_done_again),
		T(of_two_that_lock_each_other_one_conflicts),
		T(a_lock_is_waited_for_so_long),
		T(a_taken_chunk_is_locked),
		T(an_idle_transaction_is_ended_by_the_server),
		T(the_session_is_as_it_must_be),
		T(lists_are_read_along_their_keys),
		T(a_server_that_is_away_or_silent_is_unavailable),
		T(a_server_that_falls_silent_is_unavailable),
		T(a_wrong_password_or_database_is_named),
		T(with_a_ca_nothing_goes_in_the_clear),
		T(four_may_migrate_at_once),
		T(tables_that_are_missing_are_fatal),
	};
#undef T
	int failed;

	if (rig_open() < 0)
		return 1;
	failed = store_suite_run();
	failed += cmocka_run_group_tests_name("store on a server", tests, NULL, NULL);
	rig_close();
	return failed;
}
