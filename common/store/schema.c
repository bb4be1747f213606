/* A folder of numbered SQL files goes in, tables that are up to date come out; and the tables' version. */
#include "common/store/schema.h"

#include <dirent.h>
#include <errno.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/store/sql_split.h"

#define SCHEMA_FILE_MAX (4 * 1024 * 1024) /* bytes */

/* ---- the version in the database */

static int read_version(void *arg, const struct store_value *columns, size_t count)
{
	(void)count;
	if (columns[0].type == STORE_INT)
		*(int64_t *)arg = columns[0].number;
	return 0;
}

static int last_version(struct store *store, int64_t *version, struct err *err)
{
	*version = 0;
	return store_query(store, "SELECT MAX(version) FROM schema_version", NULL, 0, read_version, version, err);
}

int schema_check(struct store *store, struct err *err)
{
	struct err why = ERR_INIT;
	int64_t version;

	if (last_version(store, &version, &why) < 0) {
		if (why.kind != ERR_FATAL) {
			*err = why;
			return -1;
		}
		return err_set(err, ERR_FATAL, "the tables are missing: run `feedctl migrate` (%.200s)", why.message);
	}
	if (version < SCHEMA_VERSION)
		return err_set(err, ERR_FATAL,
			"the tables are older (version %lld) than this program (%d): run `feedctl migrate`",
			(long long)version, SCHEMA_VERSION);
	if (version > SCHEMA_VERSION)
		return err_set(err, ERR_FATAL,
			"this program (version %d) is older than the tables (%lld): install the newer one",
			SCHEMA_VERSION, (long long)version);
	return 0;
}

/* ---- the folder */

struct migration {
	int version;
	char *name; /* of the file */
};

struct migrations {
	struct migration *list;
	size_t count;
};

static void migrations_release(struct migrations *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->list[i].name);
	free(all->list);
}

/* NNN_name.sql, or 0. */
static int version_of(const char *name)
{
	const char *dot = strrchr(name, '.');
	int version = 0;

	for (int i = 0; i < 3; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		version = version * 10 + (name[i] - '0');
	}
	return name[3] == '_' && dot && strcmp(dot, ".sql") == 0 ? version : 0;
}

static int compare_versions(const void *a, const void *b)
{
	return ((const struct migration *)a)->version - ((const struct migration *)b)->version;
}

static int list_migrations(const char *folder, struct migrations *out, struct err *err)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;

	if (!dir)
		return err_set(err, ERR_INVALID, "%s: %s", folder, strerror(errno));
	while ((entry = readdir(dir))) {
		if (version_of(entry->d_name) == 0)
			continue;
		out->list = mem_grow(out->list, out->count + 1, sizeof(*out->list));
		out->list[out->count++] = (struct migration){ version_of(entry->d_name), mem_strdup(entry->d_name) };
	}
	closedir(dir);
	if (out->count == 0)
		return err_set(err, ERR_INVALID, "%s: no file named NNN_name.sql", folder);
	qsort(out->list, out->count, sizeof(*out->list), compare_versions);
	for (size_t i = 0; i < out->count; i++)
		if (out->list[i].version != (int)i + 1)
			return err_set(err, ERR_INVALID, "%s: %s where number %03zu should be", folder,
				out->list[i].name, i + 1);
	return 0;
}

static int read_file(const char *path, struct buf *out, struct err *err)
{
	FILE *file = fopen(path, "re");
	char part[8192];
	size_t len;
	int rc = 0;

	if (!file)
		return err_set(err, ERR_INVALID, "%s: %s", path, strerror(errno));
	while ((len = fread(part, 1, sizeof(part), file)) > 0 && out->len <= SCHEMA_FILE_MAX)
		buf_add(out, part, len);
	if (ferror(file) || out->len > SCHEMA_FILE_MAX)
		rc = err_set(
			err, ERR_INVALID, "%s: %s", path, ferror(file) ? strerror(errno) : "too large for a migration");
	fclose(file);
	return rc;
}

/* ---- applying */

static int apply_text(struct store *store, const char *path, struct slice text, struct err *err)
{
	struct slice statement;
	int number = 0, more;

	while ((more = sql_next(&text, &statement, err)) > 0) {
		number++;
		if (store_query_once(store, statement.data, statement.len, NULL, NULL, err) < 0)
			break;
	}
	if (more == 0)
		return 0;
	return err_wrap(err, "%s, statement %d: ", path, more > 0 ? number : number + 1);
}

static int record(struct store *store, const struct migration *migration, struct err *err)
{
	struct store_value values[] = { store_int(migration->version), store_text(slice_of(migration->name)) };

	return store_run(store,
		"INSERT INTO schema_version (version, name, applied_at) VALUES (?, ?, CURRENT_TIMESTAMP)", values, 2,
		NULL, err);
}

static int apply(struct store *store, const char *folder, const struct migration *migration, struct err *err)
{
	struct buf path = BUF_INIT, text = BUF_INIT;
	int rc = -1;

	buf_addf(&path, "%s/%s", folder, migration->name);
	if (read_file(path.data, &text, err) == 0 &&
		apply_text(store, path.data, (struct slice){ text.data, text.len }, err) == 0)
		rc = record(store, migration, err);
	buf_release(&text);
	buf_release(&path);
	return rc;
}

static int apply_missing(struct store *store, const char *folder, const struct migrations *all,
	void (*applied)(void *arg, int version, const char *name), void *arg, struct err *err)
{
	static const char table[] =
		"CREATE TABLE IF NOT EXISTS schema_version "
		"(version INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, applied_at DATETIME NOT NULL)";
	int64_t version;

	if (store_query_once(store, table, sizeof(table) - 1, NULL, NULL, err) < 0 ||
		last_version(store, &version, err) < 0)
		return -1;
	for (size_t i = 0; i < all->count; i++) {
		if (all->list[i].version <= version)
			continue;
		if (apply(store, folder, &all->list[i], err) < 0)
			return -1;
		if (applied)
			applied(arg, all->list[i].version, all->list[i].name);
	}
	return 0;
}

int schema_migrate(struct store *store, const char *folder, void (*applied)(void *arg, int version, const char *name),
	void *arg, struct err *err)
{
	struct migrations all = { 0 };
	struct buf path = BUF_INIT;
	int rc = -1;

	buf_addf(&path, "%s/%s", folder, store_dialect(store));
	if (list_migrations(path.data, &all, err) < 0)
		goto out;
	if (store_lock(store, err) < 0)
		goto out;
	rc = apply_missing(store, path.data, &all, applied, arg, err);
	store_unlock(store);
out:
	migrations_release(&all);
	buf_release(&path);
	return rc;
}
