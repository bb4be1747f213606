/* Statements go in as text with values, rows come out by callback: the store on MySQL or MariaDB.
 *
 * The only user of <mysql.h>. Reading is streamed: one row is in memory, once. Session settings are made at connect, in
 * one place. */
#include "common/store/store.h"

#include <assert.h>
#include <mysql.h>
#include <mysqld_error.h>
#include <errmsg.h>
#include <poll.h>
#include <pthread.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/store/rows.h"
#include "common/store/store_ops.h"

/* The distribution's client library is MariaDB's or MySQL's own: same functions but for these. */
#ifdef MARIADB_BASE_VERSION
typedef my_bool library_bool;
#else
typedef bool library_bool;
#endif

#define STATEMENTS_MAX 64          /* prepared ones a connection; our programs have about 30 */
#define INSERT_ROWS 2000           /* a statement of text */
#define INSERT_BYTES (1024 * 1024) /* likewise; far below the server's packet limit */
#define BLOCK_ROWS 1000            /* a prepared statement of whole numbers alone */
#define COLUMN_ROOM 256            /* bytes of a text column at first; grows to what comes */
#define LOCK_WAIT_MS (60 * 1000)
#define NUMBER_TEXT 24

struct column {
	MYSQL_BIND *bind;
	bool is_number, is_time;
	int64_t number;
	MYSQL_TIME time;
	char text[ROWS_TIME]; /* of the time */
	unsigned long len;
	library_bool is_null;
	library_bool is_cut;
};

struct statement {
	uint64_t hash;
	char *text;
	size_t len;
	MYSQL_STMT *handle;
	size_t param_count;
	size_t column_count;
	MYSQL_BIND *params;
	unsigned long *lengths; /* of the params */
	MYSQL_BIND *results;
	struct column *columns;
	struct store_value *row;
};

struct mysql_store {
	struct store base;
	const struct mysql_settings *settings;
	MYSQL *link; /* NULL: not connected */
	bool in_transaction;
	bool is_busy;      /* a row callback runs */
	struct err failed; /* what ended the transaction before its end */
	struct buf text;   /* of a built INSERT; kept for the next */
	size_t statement_count, victim;
	struct statement statements[STATEMENTS_MAX];
};

static struct mysql_store *of(struct store *store)
{
	return (struct mysql_store *)store;
}

/* ---- errors */

struct error_row {
	unsigned number;
	enum err_kind kind;
	bool is_sure; /* as an answer to COMMIT it says that nothing was committed */
};

/* One row a line. */
/* clang-format off */
static const struct error_row error_table[] = {
	/* do the whole unit again */
	{ ER_LOCK_WAIT_TIMEOUT, ERR_CONFLICT, true },
	{ ER_LOCK_DEADLOCK, ERR_CONFLICT, true },
	{ ER_CHECKREAD, ERR_CONFLICT, true }, /* 1020: snapshot isolation, MariaDB 11.6 on */
	{ ER_DUP_ENTRY, ERR_CONFLICT, true },
	{ ER_DUP_ENTRY_WITH_KEY_NAME, ERR_CONFLICT, true },
	{ 3101, ERR_CONFLICT, true }, /* rolled back by group replication */
	{ ER_LOCK_TABLE_FULL, ERR_CONFLICT, true },  /* 1206: fewer records at once may pass */
	{ ER_TRANS_CACHE_FULL, ERR_CONFLICT, true }, /* 1197: likewise */
	{ ER_QUERY_INTERRUPTED, ERR_CONFLICT, false },
	/* the server is away, full of clients, going down, or not the primary any more */
	{ ER_OPTION_PREVENTS_STATEMENT, ERR_UNAVAILABLE, true },           /* 1290: --read-only */
	{ ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ERR_UNAVAILABLE, true }, /* 1792 */
	{ ER_READ_ONLY_MODE, ERR_UNAVAILABLE, true },                      /* 1836 */
	{ ER_CON_COUNT_ERROR, ERR_UNAVAILABLE, false },
	{ ER_OUT_OF_RESOURCES, ERR_UNAVAILABLE, false },
	{ ER_OUTOFMEMORY, ERR_UNAVAILABLE, false },
	{ ER_OUT_OF_SORTMEMORY, ERR_UNAVAILABLE, false },
	{ ER_HANDSHAKE_ERROR, ERR_UNAVAILABLE, false },
	{ ER_ACCESS_DENIED_ERROR, ERR_UNAVAILABLE, false }, /* a password is being changed: posts go on meanwhile */
	{ 1698, ERR_UNAVAILABLE, false },                   /* likewise, without a password */
	{ ER_SERVER_SHUTDOWN, ERR_UNAVAILABLE, false },
	{ ER_HOST_IS_BLOCKED, ERR_UNAVAILABLE, false },
	{ ER_HOST_NOT_PRIVILEGED, ERR_UNAVAILABLE, false },
	{ ER_ABORTING_CONNECTION, ERR_UNAVAILABLE, false },
	{ ER_NET_READ_ERROR, ERR_UNAVAILABLE, false },
	{ ER_NET_READ_INTERRUPTED, ERR_UNAVAILABLE, false },
	{ ER_NET_ERROR_ON_WRITE, ERR_UNAVAILABLE, false },
	{ ER_NET_WRITE_INTERRUPTED, ERR_UNAVAILABLE, false },
	{ ER_ERROR_DURING_COMMIT, ERR_UNAVAILABLE, false },
	{ ER_NEW_ABORTING_CONNECTION, ERR_UNAVAILABLE, false },
	{ ER_TOO_MANY_USER_CONNECTIONS, ERR_UNAVAILABLE, false },
	{ ER_MAX_PREPARED_STMT_COUNT_REACHED, ERR_UNAVAILABLE, false },
	{ ER_USER_LIMIT_REACHED, ERR_UNAVAILABLE, false },
	{ ER_UNKNOWN_STMT_HANDLER, ERR_UNAVAILABLE, false },
	{ ER_NEED_REPREPARE, ERR_UNAVAILABLE, false },
	{ 1927, ERR_UNAVAILABLE, false }, /* MariaDB: connection was killed */
	{ 1969, ERR_UNAVAILABLE, false }, /* MariaDB: max_statement_time */
	{ 3024, ERR_UNAVAILABLE, false }, /* MySQL: max_execution_time */
	{ 3032, ERR_UNAVAILABLE, false }, /* MySQL: offline mode */
	{ 4031, ERR_UNAVAILABLE, false }, /* MySQL: idle for too long */
	/* disk */
	{ ER_DISK_FULL, ERR_FULL, true },
	{ ER_RECORD_FILE_FULL, ERR_FULL, true },
	{ ER_ERROR_ON_WRITE, ERR_FULL, true },
	/* the program and the tables do not fit, or the user may not */
	{ ER_PARSE_ERROR, ERR_FATAL, false },
	{ ER_NO_SUCH_TABLE, ERR_FATAL, false },
	{ ER_BAD_FIELD_ERROR, ERR_FATAL, false },
	{ ER_BAD_DB_ERROR, ERR_FATAL, false },
	{ ER_NO_DB_ERROR, ERR_FATAL, false },
	{ ER_DBACCESS_DENIED_ERROR, ERR_FATAL, false },
	{ ER_TABLEACCESS_DENIED_ERROR, ERR_FATAL, false },
	{ ER_COLUMNACCESS_DENIED_ERROR, ERR_FATAL, false },
	{ ER_SPECIFIC_ACCESS_DENIED_ERROR, ERR_FATAL, false },
	{ ER_WRONG_VALUE_COUNT_ON_ROW, ERR_FATAL, false },
	{ ER_NO_DEFAULT_FOR_FIELD, ERR_FATAL, false },
	{ ER_NET_PACKET_TOO_LARGE, ERR_FATAL, false }, /* max_allowed_packet is below a megabyte */
	{ CR_NET_PACKET_TOO_LARGE, ERR_FATAL, false },
	/* the data */
	{ ER_BAD_NULL_ERROR, ERR_INVALID, false },
	{ ER_WARN_DATA_OUT_OF_RANGE, ERR_INVALID, false },
	{ WARN_DATA_TRUNCATED, ERR_INVALID, false },
	{ ER_TRUNCATED_WRONG_VALUE, ERR_INVALID, false },
	{ ER_INVALID_CHARACTER_STRING, ERR_INVALID, false },
	{ ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, ERR_INVALID, false },
	{ ER_ILLEGAL_VALUE_FOR_TYPE, ERR_INVALID, false },
	{ ER_DATA_TOO_LONG, ERR_INVALID, false },
	{ ER_ROW_IS_REFERENCED_2, ERR_INVALID, false },
	{ ER_NO_REFERENCED_ROW_2, ERR_INVALID, false },
	{ ER_DATA_OUT_OF_RANGE, ERR_INVALID, false },
	{ 3140, ERR_INVALID, false }, /* MySQL: not JSON */
	{ 3819, ERR_INVALID, false }, /* MySQL: CHECK */
	{ 4025, ERR_INVALID, false }, /* MariaDB: CHECK, not JSON */
};
/* clang-format on */

/* What the standard's classes say of an error that is not in the table. */
static enum err_kind kind_of_state(const char *state)
{
	static const struct {
		const char *class;
		enum err_kind kind;
	} classes[] = { { "22", ERR_INVALID }, { "23", ERR_INVALID }, { "40", ERR_CONFLICT }, { "42", ERR_FATAL },
		{ "45", ERR_INVALID } /* SIGNAL: a trigger refuses the row */ };

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (strncmp(state, classes[i].class, 2) == 0)
			return classes[i].kind;
	return ERR_UNAVAILABLE;
}

/* Errors of the client library: the connection is broken, and what it stood in is not known. */
static bool is_client_error(unsigned error)
{
	return error >= CR_MIN_ERROR && error < 3000;
}

enum err_kind store_mysql_kind(unsigned error, const char *sqlstate, bool in_commit)
{
	for (size_t i = 0; i < sizeof(error_table) / sizeof(error_table[0]); i++)
		if (error_table[i].number == error)
			return in_commit && !error_table[i].is_sure ? ERR_UNKNOWN : error_table[i].kind;
	if (in_commit)
		return ERR_UNKNOWN;
	return is_client_error(error) ? ERR_UNAVAILABLE : kind_of_state(sqlstate);
}

/* ---- the connection */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static pthread_key_t library_key;

static void library_leave(void *unused)
{
	(void)unused;
	mysql_thread_end();
}

static void library_start(void)
{
	mysql_library_init(0, NULL, NULL);
	pthread_key_create(&library_key, library_leave);
}

/* The library wants to know each thread that uses it; a thread that ends says so by itself. */
static void library_enter(void)
{
	pthread_once(&library_once, library_start);
	if (pthread_getspecific(library_key))
		return;
	mysql_thread_init();
	pthread_setspecific(library_key, &library_key);
}

static void statement_release(struct statement *st)
{
	if (st->handle)
		mysql_stmt_close(st->handle);
	for (size_t i = 0; i < st->column_count; i++)
		if (!st->columns[i].is_number && !st->columns[i].is_time)
			free(st->results[i].buffer);
	free(st->text);
	free(st->params);
	free(st->lengths);
	free(st->results);
	free(st->columns);
	free(st->row);
	*st = (struct statement){ 0 };
}

static void disconnect(struct mysql_store *s)
{
	for (size_t i = 0; i < s->statement_count; i++)
		statement_release(&s->statements[i]);
	s->statement_count = 0;
	if (s->link)
		mysql_close(s->link);
	s->link = NULL;
}

static unsigned seconds(int64_t ms)
{
	return ms <= 1000 ? 1 : (unsigned)((ms + 999) / 1000);
}

static void set_tls(MYSQL *link, const char *ca_file)
{
#ifdef MARIADB_BASE_VERSION
	const library_bool on = 1;

	mysql_options(link, MYSQL_OPT_SSL_ENFORCE, &on);
	mysql_options(link, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &on);
#else
	const unsigned mode = SSL_MODE_VERIFY_IDENTITY;

	mysql_options(link, MYSQL_OPT_SSL_MODE, &mode);
#endif
	mysql_options(link, MYSQL_OPT_SSL_CA, ca_file);
}

/* The library waits for ever, reads local files for any server that asks, and does not verify, unless told. */
static void set_options(MYSQL *link, const struct mysql_settings *settings)
{
	const unsigned connect_s = seconds(settings->connect_timeout_ms), read_s = seconds(settings->read_timeout_ms);
	const unsigned off = 0, tcp = MYSQL_PROTOCOL_TCP;

	mysql_options(link, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
	mysql_options(link, MYSQL_OPT_READ_TIMEOUT, &read_s);
	mysql_options(link, MYSQL_OPT_WRITE_TIMEOUT, &read_s);
	mysql_options(link, MYSQL_OPT_LOCAL_INFILE, &off);
	mysql_options(link, MYSQL_OPT_PROTOCOL, &tcp);          /* "localhost" too */
	mysql_options(link, MYSQL_SET_CHARSET_NAME, "utf8mb4"); /* not SET NAMES: escaping must know it */
#ifdef MARIADB_BASE_VERSION
	const library_bool no = 0;

	mysql_options(link, MYSQL_OPT_RECONNECT, &no); /* it would lose the transaction without a word */
#else
	const bool yes = true;

	mysql_options(link, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &yes); /* passwords without TLS */
#endif
	if (settings->ca_file && settings->ca_file[0])
		set_tls(link, settings->ca_file);
}

static int connect_error(const struct mysql_settings *settings, MYSQL *link, struct err *err)
{
	enum err_kind kind = store_mysql_kind(mysql_errno(link), mysql_sqlstate(link), false);

	return err_set(err, kind, "database %s:%d: %s (error %u)%s", settings->host, (int)settings->port,
		mysql_error(link), mysql_errno(link),
		mysql_errno(link) == ER_BAD_DB_ERROR ? "; run `feedctl migrate`" : "");
}

static MYSQL *dial(const struct mysql_settings *settings, const char *database, struct err *err)
{
	MYSQL *link;

	library_enter();
	link = mysql_init(NULL);
	if (!link) {
		err_set(err, ERR_UNAVAILABLE, "the database client library has no memory");
		return NULL;
	}
	set_options(link, settings);
	/* FOUND_ROWS: an UPDATE tells how many rows it found, as every other database does. */
	if (mysql_real_connect(link, settings->host, settings->user, settings->password, database,
			(unsigned)settings->port, NULL, CLIENT_FOUND_ROWS))
		return link;
	connect_error(settings, link, err);
	mysql_close(link);
	return NULL;
}

/* An idle transaction holds its locks: the server ends it before another worker gets the same records. MySQL has no such
 * setting, so there the whole connection may not be idle that long; the next call connects again. */
static int set_idle_limit(MYSQL *link, int64_t limit_s)
{
	char sql[96];

	snprintf(sql, sizeof(sql), "SET SESSION idle_transaction_timeout = %lld", (long long)limit_s);
	if (mysql_query(link, sql) == 0)
		return 0;
	if (mysql_errno(link) != ER_UNKNOWN_SYSTEM_VARIABLE)
		return -1;
	snprintf(sql, sizeof(sql), "SET SESSION wait_timeout = %lld", (long long)(limit_s > 0 ? limit_s : 1));
	return mysql_query(link, sql) == 0 ? 0 : -1;
}

static int set_session(MYSQL *link, const struct mysql_settings *settings, struct err *err)
{
	char sql[384];

	snprintf(sql, sizeof(sql),
		"SET SESSION autocommit = 1, time_zone = '+00:00', "
		"innodb_lock_wait_timeout = %lld, lock_wait_timeout = %lld, sql_mode = 'STRICT_ALL_TABLES,"
		"NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
		(long long)settings->lock_wait_s, (long long)settings->lock_wait_s);
	if (mysql_query(link, sql) == 0 &&
		mysql_query(link, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED") == 0 &&
		set_idle_limit(link, settings->idle_transaction_s) == 0)
		return 0;
	return connect_error(settings, link, err);
}

static int connect_now(struct mysql_store *s, struct err *err)
{
	MYSQL *link = dial(s->settings, s->settings->database, err);

	if (!link)
		return -1;
	if (set_session(link, s->settings, err) < 0) {
		mysql_close(link);
		return -1;
	}
	s->link = link;
	return 0;
}

/* An idle connection has nothing to read: if there is something, it is the server's goodbye. */
static bool is_alive(MYSQL *link)
{
#ifdef MARIADB_BASE_VERSION
	struct pollfd fd = { .fd = mysql_get_socket(link), .events = POLLIN };
#else
	struct pollfd fd = { .fd = link->net.fd, .events = POLLIN };
#endif

	return poll(&fd, 1, 0) == 0 || mysql_ping(link) == 0;
}

/* Before each call: connected, or the reason why this call can't be. */
static int enter(struct mysql_store *s, struct err *err)
{
	if (s->is_busy)
		return err_set(err, ERR_FATAL, "the store was called from within a row of its own");
	library_enter();
	if (s->in_transaction) {
		if (s->failed.kind == ERR_NONE)
			return 0;
		*err = s->failed;
		return -1;
	}
	if (s->link && !is_alive(s->link))
		disconnect(s);
	return s->link ? 0 : connect_now(s, err);
}

/* The connection is of no use after these: broken, or to a server that is not the primary (the next one may be). */
static bool is_lost(unsigned error)
{
	static const unsigned lost[] = { ER_SERVER_SHUTDOWN, ER_NET_PACKET_TOO_LARGE, ER_ABORTING_CONNECTION,
		ER_NEW_ABORTING_CONNECTION, ER_UNKNOWN_STMT_HANDLER, ER_OPTION_PREVENTS_STATEMENT,
		ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE, 1927, 3032, 4031 };

	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++)
		if (lost[i] == error)
			return true;
	return is_client_error(error);
}

static int fail(struct mysql_store *s, unsigned error, const char *state, const char *message, struct err *err)
{
	err_set(err, store_mysql_kind(error, state, false), "database: %s (error %u)", message, error);
	if (s->in_transaction)
		s->failed = *err;
	if (is_lost(error))
		disconnect(s);
	return -1;
}

static int fail_link(struct mysql_store *s, struct err *err)
{
	return fail(s, mysql_errno(s->link), mysql_sqlstate(s->link), mysql_error(s->link), err);
}

static int fail_statement(struct mysql_store *s, const struct statement *st, struct err *err)
{
	return fail(
		s, mysql_stmt_errno(st->handle), mysql_stmt_sqlstate(st->handle), mysql_stmt_error(st->handle), err);
}

/* ---- transactions */

static int mysql_store_begin(struct store *store, struct err *err)
{
	struct mysql_store *s = of(store);

	if (s->in_transaction)
		return err_set(err, ERR_FATAL, "a transaction within a transaction");
	if (enter(s, err) < 0)
		return -1;
	if (mysql_query(s->link, "START TRANSACTION") != 0)
		return fail_link(s, err);
	s->in_transaction = true;
	return 0;
}

static void mysql_store_rollback(struct store *store)
{
	struct mysql_store *s = of(store);

	assert(!s->is_busy); /* with rows unread, the connection can say nothing else */
	if (!s->in_transaction)
		return;
	s->in_transaction = false;
	err_clear(&s->failed);
	library_enter();
	if (s->link && mysql_query(s->link, "ROLLBACK") != 0)
		disconnect(s);
}

static int mysql_store_commit(struct store *store, struct err *err)
{
	struct mysql_store *s = of(store);
	enum err_kind kind;

	assert(!s->is_busy);
	if (!s->in_transaction)
		return err_set(err, ERR_FATAL, "a commit without a transaction");
	if (enter(s, err) < 0)
		goto back;
	if (mysql_query(s->link, "COMMIT") == 0) {
		s->in_transaction = false;
		return 0;
	}
	kind = store_mysql_kind(mysql_errno(s->link), mysql_sqlstate(s->link), true);
	err_set(err, kind, "database, in COMMIT: %s (error %u)", mysql_error(s->link), mysql_errno(s->link));
	if (kind == ERR_UNKNOWN || is_lost(mysql_errno(s->link)))
		disconnect(s);
back:
	mysql_store_rollback(store);
	return -1;
}

/* ---- prepared statements */

static uint64_t hash_of(const char *text, size_t len)
{
	uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	return hash;
}

static bool is_number_type(enum enum_field_types type)
{
	return type == MYSQL_TYPE_TINY || type == MYSQL_TYPE_SHORT || type == MYSQL_TYPE_INT24 ||
	       type == MYSQL_TYPE_LONG || type == MYSQL_TYPE_LONGLONG;
}

static void column_bind(struct column *column, MYSQL_BIND *bind, enum enum_field_types type)
{
	column->is_number = is_number_type(type);
	column->is_time = type == MYSQL_TYPE_DATETIME;
	column->bind = bind;
	bind->length = &column->len;
	bind->is_null = &column->is_null;
	bind->error = &column->is_cut;
	if (column->is_number) {
		bind->buffer_type = MYSQL_TYPE_LONGLONG;
		bind->buffer = &column->number;
	} else if (column->is_time) {
		bind->buffer_type = MYSQL_TYPE_DATETIME;
		bind->buffer = &column->time;
	} else {
		bind->buffer_type = MYSQL_TYPE_STRING;
		bind->buffer = mem_alloc(COLUMN_ROOM);
		bind->buffer_length = COLUMN_ROOM;
	}
}

static void statement_shape(struct statement *st)
{
	MYSQL_RES *meta = mysql_stmt_result_metadata(st->handle);

	st->param_count = mysql_stmt_param_count(st->handle);
	st->params = mem_array(st->param_count, sizeof(*st->params));
	st->lengths = mem_array(st->param_count, sizeof(*st->lengths));
	if (!meta)
		return;
	st->column_count = mysql_num_fields(meta);
	st->results = mem_array(st->column_count, sizeof(*st->results));
	st->columns = mem_array(st->column_count, sizeof(*st->columns));
	st->row = mem_array(st->column_count, sizeof(*st->row));
	for (size_t i = 0; i < st->column_count; i++)
		column_bind(&st->columns[i], &st->results[i], mysql_fetch_field_direct(meta, (unsigned)i)->type);
	mysql_free_result(meta);
}

/* A free place, or that of the statement whose turn it is. */
static struct statement *statement_place(struct mysql_store *s)
{
	struct statement *st;

	if (s->statement_count < STATEMENTS_MAX)
		return &s->statements[s->statement_count++];
	st = &s->statements[s->victim++ % STATEMENTS_MAX];
	statement_release(st);
	return st;
}

static struct statement *statement_prepare(
	struct mysql_store *s, const char *sql, size_t len, uint64_t hash, struct err *err)
{
	MYSQL_STMT *handle = mysql_stmt_init(s->link);
	struct statement *st;

	if (!handle) {
		fail_link(s, err);
		return NULL;
	}
	if (mysql_stmt_prepare(handle, sql, len) != 0) {
		struct statement failed = { .handle = handle };

		fail_statement(s, &failed, err);
		mysql_stmt_close(handle);
		return NULL;
	}
	st = statement_place(s);
	*st = (struct statement){ .hash = hash, .text = mem_dup(sql, len), .len = len, .handle = handle };
	statement_shape(st);
	return st;
}

static struct statement *statement_for(struct mysql_store *s, const char *sql, size_t len, struct err *err)
{
	const uint64_t hash = hash_of(sql, len);

	for (size_t i = 0; i < s->statement_count; i++) {
		struct statement *st = &s->statements[i];

		if (st->hash == hash && st->len == len && memcmp(st->text, sql, len) == 0)
			return st;
	}
	return statement_prepare(s, sql, len, hash, err);
}

static void bind_value(MYSQL_BIND *bind, unsigned long *len, const struct store_value *value)
{
	static const enum enum_field_types types[] = { [STORE_NULL] = MYSQL_TYPE_NULL,
		[STORE_INT] = MYSQL_TYPE_LONGLONG,
		[STORE_TEXT] = MYSQL_TYPE_STRING,
		[STORE_BYTES] = MYSQL_TYPE_BLOB };

	*bind = (MYSQL_BIND){ .buffer_type = types[value->type], .length = len };
	*len = value->text.len;
	if (value->type == STORE_INT)
		bind->buffer = (void *)&value->number;
	else
		bind->buffer = (void *)(value->text.data ? value->text.data : "");
	bind->buffer_length = *len;
}

static struct statement *execute(struct mysql_store *s, const char *sql, size_t len, const struct store_value *values,
	size_t count, struct err *err)
{
	struct statement *st = statement_for(s, sql, len, err);

	if (!st)
		return NULL;
	if (st->param_count != count) {
		err_set(err, ERR_FATAL, "%zu values for a statement with %zu: %.100s", count, st->param_count, sql);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		bind_value(&st->params[i], &st->lengths[i], &values[i]);
	if ((count > 0 && mysql_stmt_bind_param(st->handle, st->params) != 0) || mysql_stmt_execute(st->handle) != 0) {
		fail_statement(s, st, err);
		return NULL;
	}
	return st;
}

/* 2026-01-31 12:00:00.123: with milliseconds, as all our columns have them. */
static struct slice time_text(struct column *column)
{
	const MYSQL_TIME *time = &column->time;
	char *at = column->text;

	at = str_put_digits(at, (int)time->year, 4, '-');
	at = str_put_digits(at, (int)time->month, 2, '-');
	at = str_put_digits(at, (int)time->day, 2, ' ');
	at = str_put_digits(at, (int)time->hour, 2, ':');
	at = str_put_digits(at, (int)time->minute, 2, ':');
	at = str_put_digits(at, (int)time->second, 2, '.');
	at = str_put_digits(at, (int)(time->second_part / 1000), 3, '\0');
	return (struct slice){ column->text, (size_t)(at - 1 - column->text) };
}

/* A text that is longer than its column's buffer: the buffer grows, for the rows that follow too. */
static int column_grow(struct statement *st, size_t i)
{
	MYSQL_BIND *bind = &st->results[i];

	free(bind->buffer);
	bind->buffer_length = st->columns[i].len + st->columns[i].len / 4;
	bind->buffer = mem_alloc(bind->buffer_length);
	return mysql_stmt_fetch_column(st->handle, bind, (unsigned)i, 0);
}

static int row_take(struct statement *st)
{
	bool grown = false;

	for (size_t i = 0; i < st->column_count; i++) {
		struct column *column = &st->columns[i];

		if (column->is_null) {
			st->row[i] = (struct store_value){ .type = STORE_NULL };
		} else if (column->is_number) {
			st->row[i] = store_int(column->number);
		} else if (column->is_time) {
			st->row[i] = store_text(time_text(column));
		} else {
			if (column->len > st->results[i].buffer_length) {
				if (column_grow(st, i) != 0)
					return -1;
				grown = true;
			}
			st->row[i] = store_text((struct slice){ st->results[i].buffer, column->len });
		}
	}
	return grown && mysql_stmt_bind_result(st->handle, st->results) != 0 ? -1 : 0;
}

/* Gives every row to the callback; what is left when it stops is thrown away. */
static int read_rows(struct mysql_store *s, struct statement *st, store_row_fn *row, void *arg, struct err *err)
{
	int rc, stopped = 0;

	if (mysql_stmt_bind_result(st->handle, st->results) != 0)
		return fail_statement(s, st, err);
	while ((rc = mysql_stmt_fetch(st->handle)) == 0 || rc == MYSQL_DATA_TRUNCATED) {
		if (row_take(st) < 0)
			return fail_statement(s, st, err);
		s->is_busy = true;
		stopped = row(arg, st->row, st->column_count);
		s->is_busy = false;
		if (stopped)
			break;
	}
	if (rc != MYSQL_NO_DATA && !stopped)
		return fail_statement(s, st, err);
	if (mysql_stmt_free_result(st->handle) != 0)
		return fail(s, CR_SERVER_LOST, "HY000", "the connection was lost among unread rows", err);
	return stopped ? -1 : 0;
}

static int mysql_store_query(struct store *store, const char *sql, const struct store_value *values, size_t count,
	store_row_fn *row, void *arg, struct err *err)
{
	struct mysql_store *s = of(store);
	struct statement *st;

	if (enter(s, err) < 0)
		return -1;
	st = execute(s, sql, strlen(sql), values, count, err);
	if (!st)
		return -1;
	if (st->column_count == 0)
		return err_set(err, ERR_FATAL, "a query without columns: %.100s", sql);
	return read_rows(s, st, row, arg, err);
}

static int run_prepared(struct mysql_store *s, const char *sql, size_t len, const struct store_value *values,
	size_t count, int64_t *changed, struct err *err)
{
	struct statement *st = execute(s, sql, len, values, count, err);

	if (!st)
		return -1;
	if (st->column_count > 0)
		mysql_stmt_free_result(st->handle);
	else if (changed)
		*changed = (int64_t)mysql_stmt_affected_rows(st->handle);
	return 0;
}

static int mysql_store_run(struct store *store, const char *sql, const struct store_value *values, size_t count,
	int64_t *changed, struct err *err)
{
	struct mysql_store *s = of(store);

	return enter(s, err) < 0 ? -1 : run_prepared(s, sql, strlen(sql), values, count, changed, err);
}

/* ---- statements of text */

/* A column as it comes in text. */
static struct store_value text_value(const char *data, size_t len, enum enum_field_types type)
{
	int64_t number;

	if (!data)
		return (struct store_value){ .type = STORE_NULL };
	if (is_number_type(type) && str_int64((struct slice){ data, len }, &number))
		return store_int(number);
	return store_text((struct slice){ data, len });
}

/* Returns what the callback returned when it stopped. */
static int read_text_rows(struct mysql_store *s, MYSQL_RES *result, store_row_fn *row, void *arg)
{
	const size_t count = mysql_num_fields(result);
	const MYSQL_FIELD *fields = mysql_fetch_fields(result);
	struct store_value *columns = mem_array(count, sizeof(*columns));
	int stopped = 0;
	MYSQL_ROW data;

	while (!stopped && (data = mysql_fetch_row(result))) {
		const unsigned long *lengths = mysql_fetch_lengths(result);

		if (!row)
			continue;
		for (size_t i = 0; i < count; i++)
			columns[i] = text_value(data[i], lengths[i], fields[i].type);
		s->is_busy = true;
		stopped = row(arg, columns, count);
		s->is_busy = false;
	}
	free(columns);
	return stopped;
}

static int mysql_store_query_once(
	struct store *store, const char *sql, size_t len, store_row_fn *row, void *arg, struct err *err)
{
	struct mysql_store *s = of(store);
	MYSQL_RES *result;
	int stopped = 0;

	if (enter(s, err) < 0)
		return -1;
	if (mysql_real_query(s->link, sql, len) != 0)
		return fail_link(s, err);
	result = mysql_use_result(s->link);
	if (result) {
		stopped = read_text_rows(s, result, row, arg);
		mysql_free_result(result); /* reads what is left */
	}
	if (mysql_errno(s->link) != 0)
		return fail_link(s, err);
	return stopped ? -1 : 0;
}

/* ---- many rows
 *
 * Measured on two cores shared with the server, 3 whole numbers a row, 2,000 rows a transaction (100 posts of 20 friends):
 * text 277,000 rows/s, blocks of 1,000 prepared rows 293,000; 20,000 rows a transaction: 305,000 and 334,000. Prepared
 * blocks of 100 and 10 for the rest cost more round trips than they save, so the rest goes as text. */

/* Setting a column to itself keeps the row that is there. */
static void mysql_store_keep(struct slice column, struct buf *sql)
{
	buf_addf(sql, " ON DUPLICATE KEY UPDATE %.*s = %.*s", (int)column.len, column.data, (int)column.len, column.data);
}

/* The first column of "table (column, …)". */
static struct slice first_column(const char *into)
{
	const char *open = strchr(into, '(');
	struct slice rest = slice_of(open ? open + 1 : into);
	const char *end = strpbrk(rest.data, ",)");

	if (end)
		rest.len = (size_t)(end - rest.data);
	return slice_trim(rest);
}

static void add_head(struct buf *b, const char *into)
{
	buf_reset(b);
	buf_add_str(b, "INSERT INTO ");
	buf_add_str(b, into);
	buf_add_str(b, " VALUES ");
}

static void add_tail(struct buf *b, enum store_insert how, const char *into)
{
	if (how == STORE_KEEP)
		mysql_store_keep(first_column(into), b);
}

static void add_hex(struct buf *b, struct slice bytes)
{
	static const char digits[] = "0123456789abcdef";

	buf_add_str(b, "x'");
	buf_reserve(b, bytes.len * 2 + 1);
	for (size_t i = 0; i < bytes.len; i++) {
		b->data[b->len++] = digits[(unsigned char)bytes.data[i] >> 4];
		b->data[b->len++] = digits[(unsigned char)bytes.data[i] & 15];
	}
	buf_add_char(b, '\'');
}

static void add_quoted(struct mysql_store *s, struct slice text)
{
	struct buf *b = &s->text;

	buf_reserve(b, text.len * 2 + 3);
	b->data[b->len++] = '\'';
	b->len += mysql_real_escape_string(s->link, b->data + b->len, text.data ? text.data : "", text.len);
	buf_add_char(b, '\'');
}

static void add_value(struct mysql_store *s, const struct store_value *value)
{
	if (value->type == STORE_INT)
		buf_add_int(&s->text, value->number);
	else if (value->type == STORE_TEXT)
		add_quoted(s, value->text);
	else if (value->type == STORE_BYTES)
		add_hex(&s->text, value->text);
	else
		buf_add_str(&s->text, "NULL");
}

static void add_row(struct mysql_store *s, const struct store_value *values, size_t columns)
{
	buf_add_char(&s->text, '(');
	for (size_t i = 0; i < columns; i++) {
		if (i > 0)
			buf_add_char(&s->text, ',');
		add_value(s, &values[i]);
	}
	buf_add_char(&s->text, ')');
}

/* The most that a row can take as text. */
static size_t row_size(const struct store_value *values, size_t columns)
{
	size_t size = 4;

	for (size_t i = 0; i < columns; i++)
		size += NUMBER_TEXT +
			(values[i].type == STORE_TEXT || values[i].type == STORE_BYTES ? values[i].text.len * 2 : 0);
	return size;
}

/* One statement of text from the first rows; *done of them went in. */
static int insert_text(struct mysql_store *s, enum store_insert how, const char *into, const struct store_value *values,
	size_t columns, size_t rows, size_t *done, struct err *err)
{
	size_t n = 0;

	add_head(&s->text, into);
	while (n < rows && n < INSERT_ROWS) {
		const struct store_value *row = values + n * columns;

		if (n > 0 && s->text.len + row_size(row, columns) > INSERT_BYTES)
			break;
		if (n > 0)
			buf_add_char(&s->text, ',');
		add_row(s, row, columns);
		n++;
	}
	add_tail(&s->text, how, into);
	*done = n;
	return mysql_real_query(s->link, s->text.data, s->text.len) == 0 ? 0 : fail_link(s, err);
}

static int insert_block(struct mysql_store *s, enum store_insert how, const char *into,
	const struct store_value *values, size_t columns, struct err *err)
{
	add_head(&s->text, into);
	for (size_t n = 0; n < BLOCK_ROWS; n++) {
		buf_add_str(&s->text, n > 0 ? ",(?" : "(?");
		for (size_t i = 1; i < columns; i++)
			buf_add_str(&s->text, ",?");
		buf_add_char(&s->text, ')');
	}
	add_tail(&s->text, how, into);
	return run_prepared(s, s->text.data, s->text.len, values, BLOCK_ROWS * columns, NULL, err);
}

/* Worth a prepared block: narrow rows of whole numbers. */
static bool is_block(const struct store_value *values, size_t columns, size_t rows)
{
	if (rows < BLOCK_ROWS || columns > 8)
		return false;
	for (size_t i = 0; i < BLOCK_ROWS * columns; i++)
		if (values[i].type != STORE_INT)
			return false;
	return true;
}

static int mysql_store_insert(struct store *store, enum store_insert how, const char *into,
	const struct store_value *values, size_t columns, size_t rows, struct err *err)
{
	struct mysql_store *s = of(store);

	if (enter(s, err) < 0)
		return -1;
	while (rows > 0) {
		size_t done = BLOCK_ROWS;
		int rc;

		if (is_block(values, columns, rows))
			rc = insert_block(s, how, into, values, columns, err);
		else
			rc = insert_text(s, how, into, values, columns, rows, &done, err);
		if (rc < 0)
			return -1;
		values += done * columns;
		rows -= done;
	}
	return 0;
}

/* ---- life */

static int mysql_store_open(const struct settings *settings, struct store **out, struct err *err)
{
	struct mysql_store *s = mem_zalloc(sizeof(*s));

	(void)err; /* connects later */
	s->base.ops = &store_mysql_ops;
	s->settings = &settings->mysql;
	s->text = (struct buf)BUF_INIT;
	*out = &s->base;
	return 0;
}

static void mysql_store_close(struct store *store)
{
	struct mysql_store *s = of(store);

	mysql_store_rollback(store);
	disconnect(s);
	buf_release(&s->text);
	free(s);
}

static int mysql_store_ping(struct store *store, struct err *err)
{
	struct mysql_store *s = of(store);

	if (enter(s, err) < 0)
		return -1;
	return mysql_ping(s->link) == 0 ? 0 : fail_link(s, err);
}

static void mysql_store_describe(const struct settings *settings, struct buf *out)
{
	buf_addf(out, "%s:%d/%s", settings->mysql.host, (int)settings->mysql.port, settings->mysql.database);
}

static int make_database(MYSQL *link, const struct mysql_settings *settings, struct err *err)
{
	struct buf sql = BUF_INIT;
	int rc = 0;

	buf_add_str(&sql, "CREATE DATABASE IF NOT EXISTS `");
	for (const char *c = settings->database; *c; c++) {
		if (*c == '`')
			buf_add_char(&sql, '`');
		buf_add_char(&sql, *c);
	}
	buf_add_str(&sql, "` CHARACTER SET utf8mb4");
	if (mysql_real_query(link, sql.data, sql.len) != 0) {
		connect_error(settings, link, err);
		rc = err_wrap(err, "the database %s is missing and can't be made: ", settings->database);
	}
	buf_release(&sql);
	return rc;
}

static int mysql_store_create(const struct settings *settings, bool *made, struct err *err)
{
	const struct mysql_settings *mysql = &settings->mysql;
	struct err missing = ERR_INIT;
	MYSQL *link = dial(mysql, mysql->database, &missing);
	int rc = 0;

	if (link) {
		*made = false;
		goto out;
	}
	if (missing.kind != ERR_FATAL) {
		*err = missing;
		return -1;
	}
	link = dial(mysql, NULL, err);
	if (!link)
		return -1;
	rc = make_database(link, mysql, err);
	if (rc == 0)
		*made = true;
out:
	mysql_close(link);
	return rc;
}

/* The server's named locks are for all its databases, so the name carries ours (by digest: names are short). */
#define LOCK_NAME "CONCAT('feedmill ', LEFT(SHA2(DATABASE(), 256), 40))"

static int take_flag(void *arg, const struct store_value *columns, size_t count)
{
	*(bool *)arg = count == 1 && columns[0].type == STORE_INT && columns[0].number == 1;
	return 0;
}

static int mysql_store_lock(struct store *store, struct err *err)
{
	static const char sql[] = "SELECT GET_LOCK(" LOCK_NAME ", 1)"; /* short, because a read has a time limit */
	const int64_t deadline = clock_mono_ms() + LOCK_WAIT_MS;
	bool taken = false;

	while (!taken) {
		if (mysql_store_query_once(store, sql, sizeof(sql) - 1, take_flag, &taken, err) < 0)
			return -1;
		if (!taken && clock_mono_ms() >= deadline)
			return err_set(err, ERR_CONFLICT,
				"another process has been working on the database's tables for a minute");
	}
	return 0;
}

static void mysql_store_unlock(struct store *store)
{
	static const char sql[] = "SELECT RELEASE_LOCK(" LOCK_NAME ")";
	struct err ignored = ERR_INIT;

	if (of(store)->link)
		mysql_store_query_once(store, sql, sizeof(sql) - 1, NULL, NULL, &ignored);
}

static const char *mysql_store_library(void)
{
	static char text[64];

#ifdef MARIADB_BASE_VERSION
	snprintf(text, sizeof(text), "libmariadb %s", MARIADB_PACKAGE_VERSION);
#else
	snprintf(text, sizeof(text), "libmysqlclient %s", mysql_get_client_info());
#endif
	return text;
}

const struct store_ops store_mysql_ops = {
	.dialect = "mysql",
	.now_ms = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
	.for_update = " FOR UPDATE",
	.join = "STRAIGHT_JOIN",
	.keep = mysql_store_keep,
	.library = mysql_store_library,
	.describe = mysql_store_describe,
	.create = mysql_store_create,
	.open = mysql_store_open,
	.close = mysql_store_close,
	.ping = mysql_store_ping,
	.begin = mysql_store_begin,
	.commit = mysql_store_commit,
	.rollback = mysql_store_rollback,
	.query = mysql_store_query,
	.run = mysql_store_run,
	.query_once = mysql_store_query_once,
	.insert = mysql_store_insert,
	.lock = mysql_store_lock,
	.unlock = mysql_store_unlock,
};
