/* A file of the embedded folder goes in; a connection to it that is safe, bounded and named in its errors comes out. */
#include "common/store/store_sqlite_db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/folder.h"
#include "common/base/mem.h"

#define LOCK_WAIT_MS (60 * 1000)
#define LOCK_LOOK_MS 20
#define READER_WAIT_MS 200 /* how long a log that must end waits for those who still read it */
#define CHECKPOINT_PAGES 2048 /* 8 MiB: the log's pages go into the file */
#define RESTART_PAGES 4096    /* 16 MiB: and readers are waited for, so that the log begins anew; likewise each so many more */
#define BUSY_STEP_US 200
#define BUSY_STEPS_MAX 5

/* ---- errors */

struct code_row {
	int code; /* extended, or primary for all of its kind */
	enum err_kind kind;
	bool is_sure; /* as an answer to COMMIT it says that nothing was committed */
};

/* The first that fits counts. */
static const struct code_row code_table[] = {
	{ SQLITE_CONSTRAINT_PRIMARYKEY, ERR_CONFLICT, true },
	{ SQLITE_CONSTRAINT_UNIQUE, ERR_CONFLICT, true },
	{ SQLITE_CONSTRAINT_ROWID, ERR_CONFLICT, true },
	{ SQLITE_CONSTRAINT, ERR_INVALID, true }, /* NOT NULL, CHECK, the type of a column */
	{ SQLITE_BUSY, ERR_CONFLICT, true },
	{ SQLITE_LOCKED, ERR_CONFLICT, true },
	{ SQLITE_SCHEMA, ERR_CONFLICT, false }, /* tables were changed again and again while this was prepared */
	{ SQLITE_ABORT, ERR_CONFLICT, false },
	{ SQLITE_INTERRUPT, ERR_CONFLICT, false },
	{ SQLITE_FULL, ERR_FULL, true },
	{ SQLITE_TOOBIG, ERR_INVALID, true },
	{ SQLITE_MISMATCH, ERR_INVALID, true },
	{ SQLITE_READONLY, ERR_UNAVAILABLE, true },
	{ SQLITE_IOERR, ERR_UNAVAILABLE, false },
	{ SQLITE_CANTOPEN, ERR_UNAVAILABLE, false },
	{ SQLITE_PROTOCOL, ERR_UNAVAILABLE, false },
	{ SQLITE_NOMEM, ERR_UNAVAILABLE, false },
};

/* All else is a statement, a table or a file that does not fit this program. */
enum err_kind sqlite_db_kind(int code, bool in_commit)
{
	for (size_t i = 0; i < sizeof(code_table) / sizeof(code_table[0]); i++)
		if (code_table[i].code == code || code_table[i].code == (code & 0xff))
			return in_commit && !code_table[i].is_sure ? ERR_UNKNOWN : code_table[i].kind;
	return in_commit ? ERR_UNKNOWN : ERR_FATAL;
}

/* The connection is of no use after these: what its memory says and what the file says may differ. */
static bool is_lost(int code)
{
	static const int lost[] = { SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_CANTOPEN, SQLITE_PROTOCOL };

	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++)
		if (lost[i] == (code & 0xff))
			return true;
	return false;
}

static int set_error(const struct sqlite_db *db, enum err_kind kind, int code, const char *when, struct err *err)
{
	const char *text = db->link ? sqlite3_errmsg(db->link) : sqlite3_errstr(code);

	return err_set(err, kind, "%s%s: %s (error %d)%s", db->what, when, text, code,
		strncmp(text, "no such table", 13) == 0 ? "; run `feedctl migrate`" : "");
}

static void disconnect(struct sqlite_db *db)
{
	for (size_t i = 0; i < db->statement_count; i++) {
		sqlite3_finalize(db->statements[i].handle);
		free(db->statements[i].text);
	}
	db->statement_count = 0;
	sqlite3_close_v2(db->link);
	db->link = NULL;
	db->is_broken = false;
}

int sqlite_db_fail(struct sqlite_db *db, int code, struct err *err)
{
	set_error(db, sqlite_db_kind(code, false), code, "", err);
	if (db->in_transaction)
		db->failed = *err;
	db->is_broken = db->is_broken || is_lost(code);
	return -1;
}

int sqlite_db_refuse(struct sqlite_db *db, enum err_kind kind, const char *why, struct err *err)
{
	err_set(err, kind, "%s: %s", db->what, why);
	if (db->in_transaction)
		db->failed = *err;
	return -1;
}

/* ---- the connection */

/* Another has what this one needs. Nothing tells when it lets go, so this looks again, soon. */
static int wait_turn(void *arg, int tries)
{
	struct sqlite_db *db = arg;
	const long steps = tries < BUSY_STEPS_MAX ? tries + 1 : BUSY_STEPS_MAX;
	const struct timespec pause = { .tv_nsec = steps * BUSY_STEP_US * 1000 };

	if (tries == 0)
		db->deadline_ms = clock_mono_ms() + db->patience_ms;
	if (clock_mono_ms() >= db->deadline_ms)
		return 0;
	nanosleep(&pause, NULL);
	return 1;
}

static int note_wal(void *arg, sqlite3 *link, const char *name, int pages)
{
	(void)link;
	(void)name;
	((struct sqlite_db *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

/* Foreign keys are off as in the other dialect; the library's build decides the other defaults, so all is said. */
static const char session[] = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; "
			      "PRAGMA secure_delete = OFF; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096; "
			      "PRAGMA mmap_size = 67108864; PRAGMA journal_size_limit = 67108864";

static int open_file(struct sqlite_db *db, const char *path, int flags, struct err *err)
{
	int code = sqlite3_open_v2(path, &db->link, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | flags, NULL);

	if (code != SQLITE_OK)
		goto failed;
	sqlite3_busy_handler(db->link, wait_turn, db);
	sqlite3_wal_hook(db->link, note_wal, db);
	sqlite3_db_config(db->link, SQLITE_DBCONFIG_DQS_DML, 0, NULL); /* "x" is a name, never a text */
	sqlite3_db_config(db->link, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
	code = sqlite3_exec(db->link, session, NULL, NULL, NULL);
	if (code != SQLITE_OK)
		goto failed;
	db->wal_pages = 0;
	db->next_restart = RESTART_PAGES;
	if (!db->connected || db->connected(db, err) == 0)
		return 0;
	disconnect(db);
	return -1;
failed:
	set_error(db, sqlite_db_kind(code, false), code, "", err);
	err_wrap(err, "%s", path);
	disconnect(db);
	return -1;
}

static int connect_now(struct sqlite_db *db, struct err *err)
{
	struct buf path = BUF_INIT;
	int rc = -1;

	if (folder_path(db->settings->embedded.folder, db->file, &path, err) < 0)
		goto out;
	if (access(path.data, F_OK) < 0 && errno == ENOENT)
		err_set(err, ERR_FATAL, "%s: the file %s is missing: run `feedctl migrate`", db->what, path.data);
	else
		rc = open_file(db, path.data, 0, err);
out:
	buf_release(&path);
	return rc;
}

/* Somebody has taken the file away: what is written to it now would be gone. */
static bool has_moved(sqlite3 *link)
{
	int moved = 0;

	return sqlite3_file_control(link, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

int sqlite_db_enter(struct sqlite_db *db, struct err *err)
{
	if (db->is_busy)
		return err_set(err, ERR_FATAL, "%s: called from within a row of its own", db->what);
	if (db->in_transaction && db->failed.kind != ERR_NONE) {
		*err = db->failed;
		return -1;
	}
	if (db->in_transaction)
		return 0;
	if (db->link && (db->is_broken || has_moved(db->link)))
		disconnect(db);
	return db->link ? 0 : connect_now(db, err);
}

void sqlite_db_init(struct sqlite_db *db, const struct settings *settings, const char *what, const char *file)
{
	*db = (struct sqlite_db){ .settings = settings, .what = what, .file = mem_strdup(file), .lock_fd = -1 };
	db->patience_ms = settings->embedded.lock_wait_ms;
}

void sqlite_db_release(struct sqlite_db *db)
{
	sqlite_db_rollback(db);
	sqlite_db_unlock(db);
	disconnect(db);
	free(db->file);
}

/* ---- making it */

/* A new file's name is in its folder only when the folder is on disk too. */
static int sync_folder(const struct sqlite_db *db, struct err *err)
{
	struct buf path = BUF_INIT;
	int fd = -1, rc = -1;

	if (folder_path(db->settings->embedded.folder, ".", &path, err) < 0)
		goto out;
	fd = open(path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd >= 0 && fsync(fd) == 0 ? 0 : err_set(err, ERR_UNAVAILABLE, "%s: %s", path.data, strerror(errno));
out:
	if (fd >= 0)
		close(fd);
	buf_release(&path);
	return rc;
}

/* Under the lock: of two that change a file's journal mode, one fails at once. */
static int create_locked(struct sqlite_db *db, bool *made, struct err *err)
{
	struct buf path = BUF_INIT;
	int rc = -1;

	if (folder_path(db->settings->embedded.folder, db->file, &path, err) < 0)
		goto out;
	*made = access(path.data, F_OK) < 0;
	disconnect(db);
	if (open_file(db, path.data, SQLITE_OPEN_CREATE, err) < 0)
		goto out;
	if (sqlite_db_run(db, "PRAGMA journal_mode = WAL", err) == 0)
		rc = sync_folder(db, err);
out:
	buf_release(&path);
	return rc;
}

int sqlite_db_create(struct sqlite_db *db, bool *made, struct err *err)
{
	bool new_folder;
	int rc;

	if (folder_make(db->settings->embedded.folder, &new_folder, err) < 0 || sqlite_db_lock(db, err) < 0)
		return -1;
	rc = create_locked(db, made, err);
	sqlite_db_unlock(db);
	return rc;
}

int sqlite_db_lock(struct sqlite_db *db, struct err *err)
{
	const int64_t deadline = clock_mono_ms() + LOCK_WAIT_MS;
	struct buf path = BUF_INIT;
	int rc = -1;

	if (folder_path(db->settings->embedded.folder, db->file, &path, err) < 0)
		goto out;
	buf_add_str(&path, ".lock"); /* not the file itself: closing that would drop the library's own locks on it */
	if (db->lock_fd < 0)
		db->lock_fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (db->lock_fd < 0) {
		err_set(err, errno == ENOSPC ? ERR_FULL : ERR_UNAVAILABLE, "%s: %s", path.data, strerror(errno));
		goto out;
	}
	while ((rc = flock(db->lock_fd, LOCK_EX | LOCK_NB)) < 0 && clock_mono_ms() < deadline)
		poll(NULL, 0, LOCK_LOOK_MS);
	if (rc < 0) {
		sqlite_db_unlock(db);
		err_set(err, ERR_CONFLICT, "%s: another process has held %s for a minute", db->what, path.data);
	}
out:
	buf_release(&path);
	return rc;
}

void sqlite_db_unlock(struct sqlite_db *db)
{
	if (db->lock_fd >= 0)
		close(db->lock_fd);
	db->lock_fd = -1;
}

/* ---- the log
 *
 * It begins anew when all of it is in the file and nobody reads it any more. Readers that follow one another without a gap
 * would never let that be, so a long log waits for those who are on it: whoever comes later reads the file. */
void sqlite_db_tidy(struct sqlite_db *db)
{
	int mode = SQLITE_CHECKPOINT_PASSIVE, left = 0, code;

	if (!db->link || db->in_transaction || db->wal_pages < CHECKPOINT_PAGES)
		return;
	if (db->wal_pages >= db->next_restart)
		mode = SQLITE_CHECKPOINT_RESTART;
	db->patience_ms = READER_WAIT_MS;
	code = sqlite3_wal_checkpoint_v2(db->link, "main", mode, &left, NULL);
	db->patience_ms = db->settings->embedded.lock_wait_ms;
	if (mode == SQLITE_CHECKPOINT_RESTART)
		db->next_restart = code == SQLITE_OK ? RESTART_PAGES : db->wal_pages + RESTART_PAGES / 4;
	db->wal_pages = 0; /* told again with the next commit; a checkpoint that failed is tried again then */
}

/* ---- transactions */

int sqlite_db_begin(struct sqlite_db *db, struct err *err)
{
	if (db->in_transaction)
		return err_set(err, ERR_FATAL, "%s: a transaction within a transaction", db->what);
	if (sqlite_db_enter(db, err) < 0 || sqlite_db_run(db, "BEGIN IMMEDIATE", err) < 0)
		return -1;
	db->in_transaction = true;
	return 0;
}

void sqlite_db_rollback(struct sqlite_db *db)
{
	assert(!db->is_busy);
	if (!db->in_transaction)
		return;
	db->in_transaction = false;
	err_clear(&db->failed);
	if (db->link && !sqlite3_get_autocommit(db->link) && sqlite3_exec(db->link, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
		disconnect(db);
}

int sqlite_db_commit(struct sqlite_db *db, struct err *err)
{
	int code;

	assert(!db->is_busy);
	if (!db->in_transaction)
		return err_set(err, ERR_FATAL, "%s: a commit without a transaction", db->what);
	if (sqlite_db_enter(db, err) < 0)
		goto back;
	code = sqlite3_exec(db->link, "COMMIT", NULL, NULL, NULL);
	if (code == SQLITE_OK) {
		db->in_transaction = false;
		sqlite_db_tidy(db);
		return 0;
	}
	set_error(db, sqlite_db_kind(code, true), code, ", in COMMIT", err);
	db->is_broken = is_lost(code);
back:
	sqlite_db_rollback(db);
	return -1;
}

/* ---- statements */

static uint64_t hash_of(const char *text, size_t len)
{
	uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	return hash;
}

static bool is_blank(const char *text, const char *end)
{
	while (text < end && strchr(" \t\r\n;", *text))
		text++;
	return text >= end;
}

static int prepare(struct sqlite_db *db, const char *sql, size_t len, unsigned flags, sqlite3_stmt **out, struct err *err)
{
	const char *rest;
	int code = sqlite3_prepare_v3(db->link, sql, (int)len, flags, out, &rest);

	if (code != SQLITE_OK)
		return sqlite_db_fail(db, code, err);
	if (*out && is_blank(rest, sql + len))
		return 0;
	sqlite3_finalize(*out);
	return sqlite_db_refuse(db, ERR_FATAL, "not one statement", err);
}

int sqlite_db_prepare_once(struct sqlite_db *db, const char *sql, size_t len, sqlite3_stmt **out, struct err *err)
{
	return prepare(db, sql, len, 0, out, err);
}

/* A free place, or that of the statement whose turn it is. */
static struct sqlite_statement *statement_place(struct sqlite_db *db)
{
	struct sqlite_statement *st;

	if (db->statement_count < SQLITE_STATEMENTS_MAX)
		return &db->statements[db->statement_count++];
	st = &db->statements[db->victim++ % SQLITE_STATEMENTS_MAX];
	sqlite3_finalize(st->handle);
	free(st->text);
	return st;
}

int sqlite_db_prepare(struct sqlite_db *db, const char *sql, size_t len, sqlite3_stmt **out, struct err *err)
{
	const uint64_t hash = hash_of(sql, len);
	sqlite3_stmt *handle;

	for (size_t i = 0; i < db->statement_count; i++) {
		const struct sqlite_statement *st = &db->statements[i];

		if (st->hash == hash && st->len == len && memcmp(st->text, sql, len) == 0) {
			*out = st->handle;
			return 0;
		}
	}
	if (prepare(db, sql, len, SQLITE_PREPARE_PERSISTENT, &handle, err) < 0)
		return -1;
	*statement_place(db) = (struct sqlite_statement){ hash, mem_dup(sql, len), len, handle };
	*out = handle;
	return 0;
}

int sqlite_db_run(struct sqlite_db *db, const char *sql, struct err *err)
{
	int code = sqlite3_exec(db->link, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : sqlite_db_fail(db, code, err);
}

/* The library takes any bytes for text. */
int sqlite_db_bind_text(struct sqlite_db *db, sqlite3_stmt *handle, int at, struct slice text, struct err *err)
{
	int code;

	if (!str_utf8_valid(text))
		return sqlite_db_refuse(db, ERR_INVALID, "a text is not UTF-8", err);
	code = sqlite3_bind_text64(handle, at, text.data ? text.data : "", text.len, SQLITE_STATIC, SQLITE_UTF8);
	return code == SQLITE_OK ? 0 : sqlite_db_fail(db, code, err);
}
