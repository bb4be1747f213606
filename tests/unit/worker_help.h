/* worker_help: a worker's function called by a test as the engine calls it: its own database, a batch, and what it gave out.
 * On the server that MYSQL_HOST and its like name; without them in a file in memory. */
#ifndef FEEDMILL_TESTS_WORKER_HELP_H
#define FEEDMILL_TESTS_WORKER_HELP_H

#include "common/model/command.h"
#include "common/model/post.h"
#include "common/store/store.h"
#include "workers/engine/batch.h"
#include "workers/worker.h"

#define DESK_ROOM 64

struct desk {
	struct settings settings;
	struct store *store;           /* the test's own connection */
	const struct worker_ops *ops;
	void *state;
	struct record records[DESK_ROOM];
	struct buf values[DESK_ROOM];
	struct item items[DESK_ROOM];
	struct outbox outbox;
	struct batch batch;
	struct err err; /* of the last desk_run() that failed */
};

/* cmocka group fixtures: a migrated database of this process, and its end. */
int desk_setup(void **state);
int desk_teardown(void **state);

/* The desk for a test, with empty tables. Call desk_close() at the end. */
struct desk *desk_open(void **state, const struct worker_ops *ops);
void desk_close(struct desk *desk);
bool desk_is_on_server(const struct desk *desk); /* and not in a file */
void desk_reopen(struct desk *desk); /* the worker again, with settings that have changed */

void desk_add(struct desk *desk, const char *value, const char *reply); /* reply: NULL, or a gateway's number */
void desk_add_post(struct desk *desk, int64_t id, int64_t from, const char *reply);
void desk_add_chunk(struct desk *desk, int64_t post, int64_t from, int64_t number, const char *reply);
int desk_run(struct desk *desk);   /* handle() on what was added; outcomes and outputs stay readable */
void desk_clear(struct desk *desk); /* before the next batch */

int64_t desk_number(struct desk *desk, const char *sql); /* the one number that the query gives */
void desk_sql(struct desk *desk, const char *sql);
void desk_people(struct desk *desk, int64_t first, int64_t last);          /* participants */
void desk_befriend(struct desk *desk, int64_t one, int64_t first, int64_t last); /* with each of them */

size_t desk_sent(const struct desk *desk, const char *topic); /* how many outputs */
const struct record *desk_output(const struct desk *desk, const char *topic, size_t n);

#endif
