/* The settings go in; rows that nobody asks for any more go from the tables, as feedctl prune does it. */
#include "workers/command_prune.h"

#include "common/base/log.h"
#include "common/base/stop.h"
#include "common/store/prune.h"
#include "common/store/schema.h"

#define ASK_MS 8000
#define REST_MS 20 /* after each transaction: those of records come first */

static bool is_over(void *arg, const struct prune_kind *kind, int64_t deleted)
{
	int64_t *sum = arg;

	(void)kind;
	*sum = deleted;
	return stop_wait(REST_MS);
}

static int prune_one(const struct prune_kind *kind, struct store *store, struct queue *queue, struct err *err)
{
	int64_t before_ms, deleted = 0;
	int rc;

	if (prune_before(kind, queue, ASK_MS, &before_ms, err) < 0)
		return -1;
	rc = prune_all(kind, store, before_ms, is_over, &deleted, err);
	if (deleted > 0)
		log_info("rows pruned", log_str("rows", kind->name), log_int("count", deleted));
	return rc;
}

int64_t command_prune_s(const struct settings *settings)
{
	return settings->command_prune_s;
}

int command_prune(const struct settings *settings, struct queue *queue, struct err *err)
{
	struct store *store;
	int rc;

	if (store_open(settings, &store, err) < 0)
		return -1;
	rc = schema_check(store, err);
	for (size_t i = 0; i < prune_count && rc == 0 && !stop_requested(); i++)
		rc = prune_one(&prune_table[i], store, queue, err);
	store_close(store);
	return rc;
}
