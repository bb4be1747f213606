/* store_suite: what every back end of store.h must do, through store.h and the files of its tables alone. A back end's test
 * program says how its database is made and calls this. */
#ifndef FEEDMILL_TESTS_STORE_SUITE_H
#define FEEDMILL_TESTS_STORE_SUITE_H

#include <stdbool.h>

#include "common/base/settings.h"
#include "common/store/store.h"

struct store_rig {
	struct settings settings; /* of a database with its tables, which the suite may fill and empty */
	const char *missing;      /* set: why nothing can be tested here; each test is skipped and says so */
	const char *folder;       /* of the migrations */
};

extern struct store_rig store_rig;

int store_suite_run(void);       /* the number of failed tests, with those of the next */
int idempotency_suite_run(void); /* idempotency_suite.c */
int prune_suite_run(void);       /* prune_suite.c */
int webhook_suite_run(void);     /* webhook_suite.c */
int result_clean_suite_run(void); /* result_clean_suite.c */

/* For tests of their own: a store on the emptied tables, closed by the teardown. */
int suite_setup(void **state);
int suite_teardown(void **state);
struct store *suite_store(void **state); /* skips the test when the rig is missing */
struct store *suite_second(void);        /* one more connection; the caller closes it */
int64_t suite_count(struct store *store, const char *sql); /* the whole number that the query gives */

#define assert_ok(call)                                                                        \
	do {                                                                                   \
		struct err err = ERR_INIT;                                                     \
		if ((call) != 0)                                                               \
			fail_msg("%s: %s: %s", #call, err_kind_name(err.kind), err.message);   \
	} while (0)

#define assert_fails(wanted, call)                                                             \
	do {                                                                                   \
		struct err err = ERR_INIT;                                                     \
		assert_int_equal(-1, (call));                                                  \
		if (err.kind != (wanted))                                                      \
			fail_msg("%s: %s, not %s: %s", #call, err_kind_name(err.kind), err_kind_name(wanted), err.message); \
	} while (0)

#endif
