/* A path goes in, an open SQLite file comes out: how it is set up, what its errors mean. */
#include "common/queue/queue_sqlite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"

enum {
	OPEN_MS = 5000,      /* for the locks of another process while opening */
	BUSY_MIN_US = 100,   /* between two tries for a lock; SQLite's own steps are longer than a commit */
	BUSY_SPAN_US = 900,
};

/* Small caches: one file is open in many threads. The WAL is truncated to its limit when it starts anew. */
static const char setup[] = "PRAGMA synchronous = FULL; PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 8388608;"
			    "PRAGMA temp_store = MEMORY;";

static int on_busy(void *arg, int tries)
{
	const struct sqlq_file *file = arg;
	int64_t now_ms = clock_mono_ms();

	(void)tries;
	if (now_ms >= file->deadline_ms || (file->give_up_ms != NULL && now_ms >= atomic_load(file->give_up_ms)))
		return 0;
	nanosleep(&(struct timespec){ .tv_nsec = (long)(BUSY_MIN_US + rand_below(BUSY_SPAN_US)) * 1000 }, NULL);
	return 1;
}

/* ---- errors */

/* A file that can't grow is what passes when somebody makes room; SQLite knows only one of the reasons by name. Anything else
 * that it says is trouble of this machine. */
static enum err_kind kind_of(sqlite3 *db)
{
	int code = sqlite3_extended_errcode(db);

	return code == SQLITE_FULL || code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_SHMSIZE ? ERR_FULL : ERR_UNAVAILABLE;
}

int sqlq_err(const struct sqlq_file *file, struct err *err, const char *doing)
{
	int number = sqlite3_system_errno(file->db);
	bool is_io = (sqlite3_errcode(file->db) & 0xff) == SQLITE_IOERR;

	return err_set(err, kind_of(file->db), "%s: %s: %s%s%s", file->path, doing, sqlite3_errmsg(file->db),
		is_io && number != 0 ? ": " : "", is_io && number != 0 ? strerror(number) : "");
}

/* ---- opening */

/* A WAL that was left behind by a crash is read by whoever comes first: others wait for that here. */
static int set_up(struct sqlq_file *file, enum sqlq_use use, struct err *err)
{
	if (sqlq_exec(file, setup, err) < 0 || sqlq_exec(file, use == SQLQ_CREATE ? "PRAGMA journal_mode = WAL" : "PRAGMA user_version", err) < 0)
		return -1;
	if (use == SQLQ_READ)
		sqlite3_db_config(file->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	return use == SQLQ_READ ? sqlq_exec(file, "PRAGMA query_only = 1", err) : 0;
}

int sqlq_file_open(struct sqlq_file *file, const char *path, enum sqlq_use use, struct err *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (use == SQLQ_CREATE ? SQLITE_OPEN_CREATE : 0);
	struct stat found;
	int code;

	file->path = mem_strdup(path);
	file->deadline_ms = clock_mono_ms() + OPEN_MS;
	code = sqlite3_open_v2(path, &file->db, flags, NULL);
	if (file->db == NULL)
		abort(); /* as mem: no memory, no process */
	sqlite3_extended_result_codes(file->db, 1);
	sqlite3_busy_handler(file->db, on_busy, file);
	if (code != SQLITE_OK)
		sqlq_err(file, err, "opening");
	else if (set_up(file, use, err) == 0 && stat(path, &found) == 0) {
		file->device = found.st_dev;
		file->inode = found.st_ino;
		return 0;
	}
	sqlq_file_close(file);
	return -1;
}

void sqlq_file_close(struct sqlq_file *file)
{
	sqlite3_stmt *stmt;

	while (file->db != NULL && (stmt = sqlite3_next_stmt(file->db, NULL)) != NULL)
		sqlite3_finalize(stmt);
	file->deadline_ms = 0; /* what is left in the WAL may stay there */
	if (file->db != NULL)
		sqlite3_close(file->db);
	free(file->path);
	file->db = NULL;
	file->path = NULL;
}

bool sqlq_file_is_there(const struct sqlq_file *file)
{
	struct stat found;

	return stat(file->path, &found) == 0 && found.st_dev == file->device && found.st_ino == file->inode;
}

/* ---- statements */

sqlite3_stmt *sqlq_prepare(struct sqlq_file *file, const char *sql, struct err *err)
{
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v3(file->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
		sqlq_err(file, err, "reading the tables");
	return stmt;
}

int sqlq_exec(struct sqlq_file *file, const char *sql, struct err *err)
{
	return sqlite3_exec(file->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlq_err(file, err, sql);
}

int sqlq_step(struct sqlq_file *file, sqlite3_stmt *stmt, struct err *err)
{
	int rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : sqlq_err(file, err, "writing");

	sqlite3_reset(stmt);
	return rc;
}

int sqlq_begin(struct sqlq_file *file, struct err *err)
{
	return sqlq_exec(file, "BEGIN IMMEDIATE", err);
}

int sqlq_end(struct sqlq_file *file, int rc, struct err *err)
{
	if (rc == 0)
		rc = sqlq_exec(file, "COMMIT", err);
	if (rc < 0 && !sqlite3_get_autocommit(file->db))
		sqlite3_exec(file->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}
