/* store: one connection to the database, used by one thread. Two back ends, chosen by the setting store.type: store_mysql.c, and
 * store_sqlite.c for one machine without servers; each fills one struct store_ops, at the end of its file. What the tables hold is in people.h, posts.h, products.h,
 * ledger.h, lease.h, schema.h; they use this alone.
 *
 * store_open() connects to nothing. The first call connects, and so does the first call outside a transaction after the
 * connection was lost. Within one, a call that failed (or lost the connection) fails every call with the same error until
 * store_rollback(), so that nothing half done can be committed. Sessions are READ COMMITTED, with lock wait and
 * idle-transaction time limits from the settings, strict SQL mode, time zone UTC; where a transaction is exclusive (SQLite) it
 * waits in store_begin() for the one before it, for embedded.lock_wait_ms, and readers wait for nobody.
 * Errors: ERR_UNAVAILABLE (away, or too many connections, or read-only), ERR_CONFLICT (deadlock, lock wait, duplicate key, lost
 * transaction: roll back, do the unit again), ERR_UNKNOWN (connection lost in COMMIT), ERR_FULL (disk), ERR_INVALID (the data
 * is wrong), ERR_FATAL (no such table or column: schema). */
#ifndef FEEDMILL_STORE_STORE_H
#define FEEDMILL_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/base/str.h"

struct store;

/* Makes the database itself when it is missing (and the user may); *made says so. Its tables: schema.h. */
int store_create(const struct settings *settings, bool *made, struct err *err);
/* Adds where the database is, for people: "127.0.0.1:3306/feedmill", ".feedmill/store.db". */
void store_describe(const struct settings *settings, struct buf *out);
/* Keeps pointers into settings. */
int store_open(const struct settings *settings, struct store **out, struct err *err);
void store_close(struct store *store); /* rolls back; NULL is fine */
int store_ping(struct store *store, struct err *err);

int store_begin(struct store *store, struct err *err);
int store_commit(struct store *store, struct err *err); /* the transaction is over, whatever it returns */
void store_rollback(struct store *store); /* never fails; safe when no transaction is open */

/* ---- statements: '?' stands for a value. Texts are prepared once a connection and found again by their content */

struct store_value {
	enum { STORE_NULL, STORE_INT, STORE_TEXT, STORE_BYTES } type; /* what is read is never STORE_BYTES: it comes as text */
	int64_t number;
	struct slice text;
};

struct store_value store_int(int64_t number);
struct store_value store_text(struct slice text);
struct store_value store_bytes(struct slice bytes); /* not text: kept as it is */

/* A row; columns are borrowed for the call, and the store is busy during it. Not 0 stops the reading and becomes store_query()'s -1 (err is the callback's business). */
typedef int store_row_fn(void *arg, const struct store_value *columns, size_t count);

int store_query(struct store *store, const char *sql, const struct store_value *values, size_t count, store_row_fn *row, void *arg,
	struct err *err);
/* *changed (may be NULL): rows that the statement found, changed by it or not. */
int store_run(struct store *store, const char *sql, const struct store_value *values, size_t count, int64_t *changed, struct err *err);

/* A statement whose text was built (whole numbers and our own names alone), run once, not prepared. row NULL: no rows wanted. */
int store_query_once(struct store *store, const char *sql, size_t len, store_row_fn *row, void *arg, struct err *err);

/* Many rows with as few statements as fit. rows * columns values, row by row. `into`: "inbound (participant_id, post_id, from_id)".
 * STORE_PLAIN: a duplicate key is ERR_CONFLICT; STORE_KEEP: the row that is there stays and nothing is said. */
enum store_insert { STORE_PLAIN, STORE_KEEP };
int store_insert(struct store *store, enum store_insert how, const char *into, const struct store_value *values, size_t columns, size_t rows,
	struct err *err);

/* ---- where back ends differ in words */
const char *store_now_ms(const struct store *store);     /* an expression: the database's clock, Unix milliseconds */
const char *store_for_update(const struct store *store); /* " FOR UPDATE", or "" where a write transaction is exclusive */
const char *store_join(const struct store *store);       /* a JOIN whose left table is read first, whatever statistics say */
/* Adds what keeps the row that is there, at the end of an INSERT … SELECT. Any column of the key, with its table. */
void store_keep(const struct store *store, struct slice column, struct buf *sql);
const char *store_dialect(const struct store *store);    /* the folder under sql/ */

/* One at a time works on the database's tables, across all processes; let go by store_close() too. ERR_CONFLICT: another did for a minute. */
int store_lock(struct store *store, struct err *err);
void store_unlock(struct store *store);

const char *store_library(void); /* "libmariadb 3.3.20, sqlite 3.40.1" */

#endif
