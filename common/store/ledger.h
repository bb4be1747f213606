/* ledger: which commands were applied, and with what outcome: command(id, type, entity_id, outcome, body, applied_at).
 * Its row is written in the transaction of the effects, so a replayed command is found and not applied again. Uses store, model. */
#ifndef FEEDMILL_STORE_LEDGER_H
#define FEEDMILL_STORE_LEDGER_H

#include "common/base/buf.h"
#include "common/model/command.h"
#include "common/store/store.h"

struct ledger_row {
	char id[UUID_TEXT];
	enum command_type type;
	int64_t entity;
	bool found;   /* by ledger_find */
	bool is_done; /* else failed */
	struct buf body; /* JSON: the entity, or the problem */
};

void ledger_row_release(struct ledger_row *row);
/* Looks up rows[i].id; fills the rest of those that are found. One round trip. */
int ledger_find(struct store *store, struct ledger_row *rows, size_t count, struct err *err);
/* A duplicate id is ERR_CONFLICT: another worker applied it meanwhile. */
int ledger_insert(struct store *store, const struct ledger_row *rows, size_t count, struct err *err);

#endif
