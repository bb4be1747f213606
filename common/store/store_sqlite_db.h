/* store_sqlite_db: one connection to a SQLite file in the embedded folder, used by one thread. Private to store_sqlite.c and
 * search_sqlite.c. Uses folder, store's errors.
 *
 * The file is in WAL mode: readers never wait, writers one for another. Each commit is on disk when it returns. The rules of
 * store.h on connecting and on failed transactions are kept here. */
#ifndef FEEDMILL_STORE_SQLITE_DB_H
#define FEEDMILL_STORE_SQLITE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/base/str.h"

#define SQLITE_STATEMENTS_MAX 64 /* kept ready a connection; our programs have about 30 */

struct sqlite_statement {
	uint64_t hash;
	char *text;
	size_t len;
	sqlite3_stmt *handle;
};

struct sqlite_db {
	const struct settings *settings;
	const char *what;       /* "database", "search": how errors begin */
	char *file;             /* its name in the folder */
	int (*connected)(struct sqlite_db *db, struct err *err); /* called on a new connection; may be NULL */
	sqlite3 *link;          /* NULL: not connected */
	bool is_broken;         /* the link is, and is left when the transaction has ended */
	bool in_transaction;
	bool is_busy;           /* a row callback runs */
	struct err failed;      /* what ended the transaction before its end */
	int wal_pages;          /* in the log after the last commit */
	int next_restart;       /* at how many pages the log is begun anew */
	int64_t patience_ms, deadline_ms; /* of waiting for others */
	int lock_fd;            /* -1: the file's lock is not held */
	size_t statement_count, victim;
	struct sqlite_statement statements[SQLITE_STATEMENTS_MAX];
};

/* Keeps settings. `file` is copied. */
void sqlite_db_init(struct sqlite_db *db, const struct settings *settings, const char *what, const char *file);
void sqlite_db_release(struct sqlite_db *db); /* rolls back, closes */

/* Makes folder and file where they are missing; *made says that the file was. */
int sqlite_db_create(struct sqlite_db *db, bool *made, struct err *err);

/* Before each call: connected, or the reason why this call can't be. */
int sqlite_db_enter(struct sqlite_db *db, struct err *err);

int sqlite_db_begin(struct sqlite_db *db, struct err *err); /* the only writer from here on */
int sqlite_db_commit(struct sqlite_db *db, struct err *err);
void sqlite_db_rollback(struct sqlite_db *db);
void sqlite_db_tidy(struct sqlite_db *db); /* after a statement that committed by itself: bounds the log */

/* Both after sqlite_db_enter(). The first is kept, and found again by its text; of the second the caller finalizes. */
int sqlite_db_prepare(struct sqlite_db *db, const char *sql, size_t len, sqlite3_stmt **out, struct err *err);
int sqlite_db_prepare_once(struct sqlite_db *db, const char *sql, size_t len, sqlite3_stmt **out, struct err *err);
int sqlite_db_run(struct sqlite_db *db, const char *sql, struct err *err); /* once, no values, no rows wanted */

/* Fills err from what sqlite3_…() just returned, and fails the transaction; returns -1. */
int sqlite_db_fail(struct sqlite_db *db, int code, struct err *err);
/* The same for a reason of ours. */
int sqlite_db_refuse(struct sqlite_db *db, enum err_kind kind, const char *why, struct err *err);
int sqlite_db_bind_text(struct sqlite_db *db, sqlite3_stmt *handle, int at, struct slice text, struct err *err); /* borrowed */

/* One process at a time, by a lock of the kernel on a file beside; ERR_CONFLICT: another did for a minute. */
int sqlite_db_lock(struct sqlite_db *db, struct err *err);
void sqlite_db_unlock(struct sqlite_db *db);

enum err_kind sqlite_db_kind(int code, bool in_commit); /* of an extended result code */

#endif
