/* Calls on a store go in, the back end's own functions are called. */
#include "common/store/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/store/store_ops.h"

/* THE TABLE of back ends. */
static const struct store_ops *const back_ends[] = { &store_mysql_ops, &store_sqlite_ops };
#define BACK_ENDS (sizeof(back_ends) / sizeof(back_ends[0]))

/* The settings take no other names than these. */
static const struct store_ops *chosen(const struct settings *settings)
{
	for (size_t i = 0; i < BACK_ENDS; i++)
		if (strcmp(back_ends[i]->dialect, settings->store.type) == 0)
			return back_ends[i];
	assert(!"store.type is a choice of these");
	return NULL;
}

void store_describe(const struct settings *settings, struct buf *out)
{
	chosen(settings)->describe(settings, out);
}

int store_create(const struct settings *settings, bool *made, struct err *err)
{
	return chosen(settings)->create(settings, made, err);
}

int store_open(const struct settings *settings, struct store **out, struct err *err)
{
	return chosen(settings)->open(settings, out, err);
}

void store_close(struct store *store)
{
	if (store)
		store->ops->close(store);
}

int store_ping(struct store *store, struct err *err)
{
	return store->ops->ping(store, err);
}

int store_begin(struct store *store, struct err *err)
{
	if (store->ops->begin(store, err) < 0)
		return -1;
	FAULT_POINT("store.begun");
	return 0;
}

int store_commit(struct store *store, struct err *err)
{
	FAULT_POINT("store.committing");
	if (store->ops->commit(store, err) < 0)
		return -1;
	if (FAULT_FAILS("store.committed"))
		return err_set(err, ERR_UNKNOWN, "fault: the answer to COMMIT is lost");
	return 0;
}

void store_rollback(struct store *store)
{
	store->ops->rollback(store);
}

struct store_value store_int(int64_t number)
{
	return (struct store_value){ .type = STORE_INT, .number = number };
}

struct store_value store_text(struct slice text)
{
	return (struct store_value){ .type = STORE_TEXT, .text = text };
}

struct store_value store_bytes(struct slice bytes)
{
	return (struct store_value){ .type = STORE_BYTES, .text = bytes };
}

int store_query(struct store *store, const char *sql, const struct store_value *values, size_t count, store_row_fn *row,
	void *arg, struct err *err)
{
	return store->ops->query(store, sql, values, count, row, arg, err);
}

int store_run(struct store *store, const char *sql, const struct store_value *values, size_t count, int64_t *changed,
	struct err *err)
{
	return store->ops->run(store, sql, values, count, changed, err);
}

int store_query_once(struct store *store, const char *sql, size_t len, store_row_fn *row, void *arg, struct err *err)
{
	return store->ops->query_once(store, sql, len, row, arg, err);
}

int store_insert(struct store *store, enum store_insert how, const char *into, const struct store_value *values,
	size_t columns, size_t rows, struct err *err)
{
	if (rows == 0)
		return 0;
	if (FAULT_FAILS("store.inserting"))
		return err_set(err, ERR_CONFLICT, "fault: deadlock");
	return store->ops->insert(store, how, into, values, columns, rows, err);
}

const char *store_now_ms(const struct store *store)
{
	return store->ops->now_ms;
}

const char *store_for_update(const struct store *store)
{
	return store->ops->for_update;
}

void store_keep(const struct store *store, struct slice column, struct buf *sql)
{
	store->ops->keep(column, sql);
}

const char *store_join(const struct store *store)
{
	return store->ops->join;
}

const char *store_dialect(const struct store *store)
{
	return store->ops->dialect;
}

int store_lock(struct store *store, struct err *err)
{
	return store->ops->lock(store, err);
}

void store_unlock(struct store *store)
{
	store->ops->unlock(store);
}

const char *store_library(void)
{
	static char text[128];
	size_t len = 0;

	for (size_t i = 0; i < BACK_ENDS && len < sizeof(text); i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? ", " : "", back_ends[i]->library());
	return text;
}
