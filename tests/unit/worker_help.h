/* worker_help: a worker's function called by a test as the engine calls it: its own database, a batch, and what it gave out.
 * In a file in memory, and then on the server that MYSQL_HOST and its like name where there is one. */
#ifndef FEEDMILL_TESTS_WORKER_HELP_H
#define FEEDMILL_TESTS_WORKER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

/* Runs the tests once on each back end that is there, in a migrated database of this process. The number of failed tests. */
int desk_tests_run(const struct CMUnitTest *tests, size_t count);
#define desk_tests(tests) desk_tests_run(tests, sizeof(tests) / sizeof((tests)[0]))

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
