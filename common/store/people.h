/* people: participants and friendships in the store. Uses store, model. */
#ifndef FEEDMILL_STORE_PEOPLE_H
#define FEEDMILL_STORE_PEOPLE_H

#include "common/model/friendship.h"
#include "common/model/participant.h"
#include "common/store/store.h"

typedef int participant_row_fn(void *arg, const struct participant *participant);
typedef int friendship_row_fn(void *arg, const struct friendship *friendship);

int people_insert(struct store *store, const struct participant *rows, size_t count, struct err *err);
/* Calls row once, or not at all when there is none. */
int people_get(struct store *store, int64_t id, participant_row_fn *row, void *arg, struct err *err);
/* known[i]: ids[i] exists. */
int people_known(struct store *store, const int64_t *ids, size_t count, bool *known, struct err *err);

/* Both rows. There already: *id becomes the id of the friendship that is, and nothing is written. */
int friends_insert(struct store *store, struct friendship *friendship, struct err *err);
/* Friendships of a participant in order of the friend's id, those above `after`. */
int friends_list(struct store *store, int64_t participant, int64_t after, size_t limit, friendship_row_fn *row, void *arg, struct err *err);

/* How many friends each of several has; at most `limit` are counted of one. Ids are distinct. */
int friends_count(struct store *store, const int64_t *ids, size_t count, size_t limit, size_t *counts, struct err *err);
/* One page of a long list: friends above `after`, ascending. */
int friends_page(struct store *store, int64_t author, int64_t after, int64_t *ids, size_t room, size_t *count, struct err *err);

#endif
