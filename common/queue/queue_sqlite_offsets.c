/* A group and places in a topic go in; the group's file says that it goes on there. */
#include "common/queue/queue_sqlite.h"

#include "common/base/clock.h"

static const char group_tables[] = "CREATE TABLE IF NOT EXISTS offset (topic TEXT NOT NULL, partition INTEGER NOT NULL,"
				   " next INTEGER NOT NULL, begun INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (topic, partition)) WITHOUT ROWID";

static bool has_begun(struct sqlq_file *file)
{
	sqlite3_stmt *stmt = NULL;
	bool found = sqlite3_prepare_v2(file->db, "SELECT begun FROM offset", -1, &stmt, NULL) == SQLITE_OK;

	sqlite3_finalize(stmt);
	return found;
}

/* Files of version 1 had no numbers of begun work. */
static int make_tables(struct sqlq_file *file, struct err *err)
{
	if (sqlq_exec(file, group_tables, err) < 0)
		return -1;
	if (!has_begun(file) && sqlq_exec(file, "ALTER TABLE offset ADD COLUMN begun INTEGER NOT NULL DEFAULT 0", err) < 0)
		return -1;
	return sqlq_exec(file, "PRAGMA user_version = 2", err);
}

int sqlq_offsets_open(const struct sqlq *queue, const char *group, struct sqlq_file *out, struct err *err)
{
	char path[SQLQ_PATH_MAX];

	sqlq_path(queue, group, ".group", path);
	if (sqlq_file_open(out, path, SQLQ_CREATE, err) < 0)
		return -1;
	if (sqlq_begin(out, err) == 0 && sqlq_end(out, make_tables(out, err), err) == 0)
		return 0;
	sqlq_file_close(out);
	return -1;
}

static int save_all(struct sqlq_file *file, const char *topic, const struct queue_place *places, size_t count, struct err *err)
{
	sqlite3_stmt *save = sqlq_prepare(file, SQLQ_SAVE_OFFSET, err);
	int rc = save != NULL ? 0 : -1;

	for (size_t i = 0; i < count && rc == 0; i++) {
		sqlite3_bind_text(save, 1, topic, -1, SQLITE_STATIC);
		sqlite3_bind_int(save, 2, places[i].partition);
		sqlite3_bind_int64(save, 3, places[i].offset);
		sqlite3_bind_int64(save, 4, 0);
		rc = sqlq_step(file, save, err);
	}
	return rc;
}

/* Members hold their positions in memory, and would write theirs over ours: while we write nobody may be one. */
int sqlq_offsets_set(struct queue *base, const char *group, const char *topic, const struct queue_place *places, size_t count,
	int64_t timeout_ms, struct err *err)
{
	const struct sqlq *queue = (const struct sqlq *)base;
	struct sqlq_file file = { 0 };
	struct sqlq_seat bar;
	int rc = -1;

	if (!sqlq_is_name(group) || !sqlq_is_name(topic))
		return err_set(err, ERR_INVALID, "\"%s\" is no name for a topic or a group", sqlq_is_name(group) ? topic : group);
	if (sqlq_seat_bar(queue, group, topic, &bar, err) < 0)
		return -1;
	if (sqlq_offsets_open(queue, group, &file, err) < 0)
		goto out;
	file.deadline_ms = clock_mono_ms() + timeout_ms;
	if (sqlq_begin(&file, err) == 0)
		rc = sqlq_end(&file, save_all(&file, topic, places, count, err), err);
	sqlq_file_close(&file);
out:
	sqlq_seat_leave(&bar);
	return rc;
}
