/* ledger: which commands were applied, and with what outcome: command(id, type, entity_id, outcome, body, applied_at).
 * Its row is written in the transaction of the effects, so a replayed command is found and not applied again. Uses store, model. */
#ifndef FEEDMILL_STORE_LEDGER_H
#define FEEDMILL_STORE_LEDGER_H

#include "common/base/buf.h"
#include "common/model/command.h"
#include "common/store/store.h"

struct ledger_row {
	char id[UUID_TEXT];
	enum command_type type; /* COMMAND_TYPE_COUNT: not known, of one that is rejected */
	int64_t entity;
	bool found;   /* by ledger_find */
	bool is_done; /* else failed */
	bool is_rejected; /* failed, and given up unapplied: its record, sent again after a fix, is applied then, see ledger_forget() */
	struct buf body; /* JSON: the entity, or the problem */
};

void ledger_row_release(struct ledger_row *row);
/* Looks up rows[i].id; fills the rest of those that are found. One round trip. */
int ledger_find(struct store *store, struct ledger_row *rows, size_t count, struct err *err);
/* The row goes if it is of a rejected command: for the transaction that applies it after all. */
int ledger_forget(struct store *store, const char *id, struct err *err);
/* A duplicate id is ERR_CONFLICT: another worker applied it meanwhile. */
int ledger_insert(struct store *store, const struct ledger_row *rows, size_t count, struct err *err);

#endif
