/* store_ops: what a back end fills in, once, at the end of its file. Private to store.c and the back ends. */
#ifndef FEEDMILL_STORE_STORE_OPS_H
#define FEEDMILL_STORE_STORE_OPS_H

#include "common/base/buf.h"
#include "common/store/store.h"

/* The first member of a back end's own struct. */
struct store {
	const struct store_ops *ops;
};

/* Each does what the function of its name in store.h says. */
struct store_ops {
	const char *dialect; /* and the value of store.type that chooses it */
	const char *now_ms;
	const char *for_update;
	const char *join;
	void (*keep)(struct slice column, struct buf *sql);
	const char *(*library)(void);
	void (*describe)(const struct settings *settings, struct buf *out);
	int (*create)(const struct settings *settings, bool *made, struct err *err);
	int (*open)(const struct settings *settings, struct store **out, struct err *err);
	void (*close)(struct store *store);
	int (*ping)(struct store *store, struct err *err);
	int (*begin)(struct store *store, struct err *err);
	int (*commit)(struct store *store, struct err *err);
	void (*rollback)(struct store *store);
	int (*query)(struct store *store, const char *sql, const struct store_value *values, size_t count, store_row_fn *row, void *arg,
		struct err *err);
	int (*run)(struct store *store, const char *sql, const struct store_value *values, size_t count, int64_t *changed, struct err *err);
	int (*query_once)(struct store *store, const char *sql, size_t len, store_row_fn *row, void *arg, struct err *err);
	int (*insert)(struct store *store, enum store_insert how, const char *into, const struct store_value *values, size_t columns,
		size_t rows, struct err *err);
	int (*lock)(struct store *store, struct err *err);
	void (*unlock)(struct store *store);
};

extern const struct store_ops store_mysql_ops;
extern const struct store_ops store_sqlite_ops;

/* The kind of a MySQL or MariaDB error (server's or client's); sqlstate decides where the number is not known. */
enum err_kind store_mysql_kind(unsigned error, const char *sqlstate, bool in_commit);

#endif
