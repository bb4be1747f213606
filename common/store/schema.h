/* schema: the tables' version. Migrations are sql/<dialect>/NNN_name.sql, applied in order, each once, recorded in
 * schema_version(version, name, applied_at). Uses store. */
#ifndef FEEDMILL_STORE_SCHEMA_H
#define FEEDMILL_STORE_SCHEMA_H

#include "common/store/store.h"

#define SCHEMA_VERSION 3 /* what this program was built for */

/* Applies what is missing from folder/<dialect>, under a lock (two may run at once); tells each step by `applied` (may be NULL). */
int schema_migrate(struct store *store, const char *folder, void (*applied)(void *arg, int version, const char *name), void *arg, struct err *err);

/* ERR_FATAL naming `feedctl migrate` when the tables are older, or saying that the program is older. */
int schema_check(struct store *store, struct err *err);

#endif
