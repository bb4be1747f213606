/* Calls on a store go in, the back end's own functions are called. */
#include "common/store/store.h"

#include "common/store/store_ops.h"

/* The one place that chooses a back end. */
static const struct store_ops *chosen(void)
{
	return &store_mysql_ops;
}

int store_create(const struct settings *settings, bool *made, struct err *err)
{
	return chosen()->create(settings, made, err);
}

int store_open(const struct settings *settings, struct store **out, struct err *err)
{
	return chosen()->open(settings, out, err);
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
	return store->ops->begin(store, err);
}

int store_commit(struct store *store, struct err *err)
{
	return store->ops->commit(store, err);
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
	return rows == 0 ? 0 : store->ops->insert(store, how, into, values, columns, rows, err);
}

const char *store_now_ms(const struct store *store)
{
	return store->ops->now_ms;
}

const char *store_for_update(const struct store *store)
{
	return store->ops->for_update;
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
	return chosen()->library();
}
