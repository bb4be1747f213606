/* idempotency: requests with an Idempotency-Key, and what they were answered:
 * idempotency(client, key, body_hash, command_id, entity_id, made_at, owner, deadline, outcome, body, expires). Uses store.
 *
 * An attempt reserves its key by one INSERT before it does anything else. Who has the row goes on, until the deadline that it set
 * itself; then another attempt may take it over, and does the same once more under the same ids. At the end the row has the
 * answer for all attempts that follow, or is given back. All times are the database's clock. Nothing here needs a
 * transaction: each statement decides by itself. */
#ifndef FEEDMILL_STORE_IDEMPOTENCY_H
#define FEEDMILL_STORE_IDEMPOTENCY_H

#include <stdbool.h>

#include "common/base/sha256.h"
#include "common/base/uuid.h"
#include "common/store/store.h"

#define IDEMPOTENCY_CLIENT 65 /* with a NUL */
#define IDEMPOTENCY_KEY 256

/* What an attempt found. */
enum reserved {
	RESERVED_FIRST,    /* it is the first: nobody has done anything under these ids */
	RESERVED_AGAIN,    /* it took over what another began: that may have been done already */
	RESERVED_ANSWERED, /* the answer is there */
	RESERVED_BUSY,     /* another attempt is under way */
	RESERVED_OTHER,    /* the key belongs to another request */
};

struct idempotency {
	char client[IDEMPOTENCY_CLIENT];
	char key[IDEMPOTENCY_KEY];
	char hash[SHA256_TEXT]; /* of what is asked */
	/* What a first attempt brings; what it is to use afterwards, whoever was first: */
	char command[UUID_TEXT];
	int64_t entity;
	int64_t made_at_ms;
	char owner[UUID_TEXT];  /* made by idempotency_reserve() */
	int status;             /* of RESERVED_ANSWERED, as is the next */
	struct buf body;        /* starts as BUF_INIT; the caller's to release */
};

/* Reserves the key for hold_ms; keep_ms after its first attempt the row counts no more. -1: nothing is reserved, or, with
 * the connection lost, a row that nobody works on stands in the way for hold_ms. */
int idempotency_reserve(struct store *store, struct idempotency *request, int64_t hold_ms, int64_t keep_ms, enum reserved *found,
	struct err *err);

/* What every attempt is answered from now on; the first word counts. Any attempt may say it: they all did the same. */
int idempotency_answer(struct store *store, const struct idempotency *request, int status, struct slice body, struct err *err);
/* The attempt is over without an answer: the next one takes over at once. Nothing when another has taken over. */
int idempotency_let_go(struct store *store, const struct idempotency *request, struct err *err);
/* The same when nothing was done under these ids (RESERVED_FIRST alone can know): as if there had been no attempt. */
int idempotency_forget(struct store *store, const struct idempotency *request, struct err *err);

/* Deletes about `limit` rows that have expired, oldest first; *deleted: how many (0: none is left). */
int idempotency_prune(struct store *store, size_t limit, int64_t *deleted, struct err *err);

#endif
