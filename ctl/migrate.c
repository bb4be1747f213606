/* feedctl migrate: makes the database, its tables and the search index, or brings them up to date, and says what it did. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/program.h"
#include "common/store/schema.h"
#include "common/store/search.h"
#include "common/store/store.h"
#include "ctl/ctl.h"

#define MIGRATE_READ_MS (24 * 3600 * INT64_C(1000)) /* a change of a large table takes its time */

static void say_applied(void *arg, int version, const char *name)
{
	(void)version;
	++*(int *)arg;
	printf("tables: applied %s\n", name);
	fflush(stdout);
}

/* The checkout's own folder, else the one that `make install` filled. */
static const char *default_folder(void)
{
	return access("sql", R_OK | X_OK) == 0 ? "sql" : FEEDMILL_SHARE "/sql";
}

static int migrate_store(const struct settings *settings, const char *folder, struct err *err)
{
	struct store *store = NULL;
	struct buf where = BUF_INIT;
	bool made = false;
	int applied = 0, rc = -1;

	store_describe(settings, &where);
	if (store_create(settings, &made, err) < 0)
		goto out;
	if (made)
		printf("database: made %s\n", where.data);
	if (store_open(settings, &store, err) < 0)
		goto out;
	if (schema_migrate(store, folder, say_applied, &applied, err) < 0 || schema_check(store, err) < 0)
		goto out;
	if (applied == 0)
		printf("tables: up to date (version %d)\n", SCHEMA_VERSION);
	rc = 0;
out:
	store_close(store);
	buf_release(&where);
	return rc;
}

static int migrate_search(const struct settings *settings, struct err *err)
{
	struct search *search = NULL;
	bool made = false;
	int rc;

	if (search_open(settings, &search, err) < 0)
		return -1;
	rc = search_migrate(search, &made, err);
	if (rc == 0)
		printf("search index: %s %s\n", settings->search.index, made ? "made" : "is there");
	search_close(search);
	return rc;
}

/* 0, or the exit code. */
static int read_options(int argc, char **argv, const char **folder)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--sql") == 0 && i + 1 < argc)
			*folder = argv[++i];
		else if (strncmp(argv[i], "--sql=", 6) == 0 && argv[i][6] != '\0')
			*folder = argv[i] + 6;
		else
			return program_usage("migrate: unexpected %s (it takes --sql DIR alone)", argv[i]);
	}
	return 0;
}

int ctl_migrate(const struct settings *settings, int argc, char **argv)
{
	const char *folder = default_folder();
	struct settings patient = *settings;
	struct err err = ERR_INIT;
	int rc = read_options(argc, argv, &folder);

	if (rc != 0)
		return rc;
	patient.mysql.read_timeout_ms = MIGRATE_READ_MS;
	if (migrate_store(&patient, folder, &err) < 0 || migrate_search(&patient, &err) < 0) {
		fprintf(stderr, "feedctl migrate: %s\n", err.message);
		return 1;
	}
	return 0;
}
