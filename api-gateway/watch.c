/* Answers of the database and the search engine go in, the last word on each comes out. */
#include "api-gateway/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "api-gateway/nap.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/store/schema.h"
#include "common/store/search.h"

#define ROUND_MS 5000
#define FIRST_ROUND_MS 500 /* until the tables were seen */

struct word {
	bool is_well;
	struct err why; /* when it is not */
};

struct watch {
	struct store *store; /* the thread's, as is the next */
	struct search *search;
	void (*wrong)(void *arg);
	void *arg;
	struct nap nap;
	pthread_t thread;
	bool is_running;
	_Atomic int64_t beat_ms;
	pthread_mutex_t lock; /* of the words */
	struct word schema, database, engine;
};

static bool tell(struct watch *watch, const struct word *word, struct err *why)
{
	bool is_well;

	pthread_mutex_lock(&watch->lock);
	is_well = word->is_well;
	if (!is_well)
		*why = word->why;
	pthread_mutex_unlock(&watch->lock);
	return is_well;
}

static void note(struct watch *watch, struct word *word, const struct err *err)
{
	pthread_mutex_lock(&watch->lock);
	word->is_well = err->kind == ERR_NONE;
	word->why = *err;
	pthread_mutex_unlock(&watch->lock);
}

bool watch_schema(struct watch *watch, struct err *why)
{
	return tell(watch, &watch->schema, why);
}

bool watch_store(struct watch *watch, struct err *why)
{
	return tell(watch, &watch->database, why);
}

bool watch_search(struct watch *watch, struct err *why)
{
	return tell(watch, &watch->engine, why);
}

/* Tables that were right stay so as long as we run: a database that is away later does not make us unready, posts go on. */
static int look_at_schema(struct watch *watch, struct err *err)
{
	int rc = schema_check(watch->store, err);

	note(watch, &watch->schema, err);
	note(watch, &watch->database, err);
	return rc < 0 && err->kind == ERR_FATAL ? -1 : 0;
}

static void look_at_store(struct watch *watch)
{
	struct err err = ERR_INIT;

	if (watch->schema.is_well) { /* written by this thread alone */
		store_ping(watch->store, &err);
		note(watch, &watch->database, &err);
		return;
	}
	if (look_at_schema(watch, &err) == 0)
		return;
	log_error("tables do not fit this program", log_err(&err));
	watch->wrong(watch->arg);
}

static void look_at_search(struct watch *watch)
{
	struct err err = ERR_INIT;

	search_ping(watch->search, &err);
	note(watch, &watch->engine, &err);
}

static void *run(void *arg)
{
	struct watch *watch = arg;

	do {
		look_at_store(watch);
		look_at_search(watch);
		atomic_store(&watch->beat_ms, clock_mono_ms());
	} while (nap_for(&watch->nap, watch->schema.is_well ? ROUND_MS : FIRST_ROUND_MS));
	return NULL;
}

int64_t watch_beat_ms(const struct watch *watch)
{
	return atomic_load(&watch->beat_ms);
}

static void words_init(struct watch *watch)
{
	err_set(&watch->schema.why, ERR_UNAVAILABLE, "not asked yet");
	watch->database.why = watch->engine.why = watch->schema.why;
}

int watch_open(const struct settings *settings, void (*wrong)(void *arg), void *arg, struct watch **out, struct err *err)
{
	struct watch *watch = mem_zalloc(sizeof(*watch));
	struct err seen = ERR_INIT;

	watch->wrong = wrong;
	watch->arg = arg;
	nap_init(&watch->nap);
	pthread_mutex_init(&watch->lock, NULL);
	words_init(watch);
	if (store_open(settings, &watch->store, err) < 0 || search_open(settings, &watch->search, err) < 0)
		goto failed;
	if (look_at_schema(watch, &seen) < 0) {
		*err = seen;
		goto failed;
	}
	if (pthread_create(&watch->thread, NULL, run, watch) != 0) {
		err_set(err, ERR_FATAL, "no thread for the watch");
		goto failed;
	}
	watch->is_running = true;
	*out = watch;
	return 0;
failed:
	watch_close(watch);
	return -1;
}

void watch_close(struct watch *watch)
{
	if (watch == NULL)
		return;
	nap_end(&watch->nap);
	if (watch->is_running)
		pthread_join(watch->thread, NULL);
	if (watch->search != NULL)
		search_close(watch->search);
	store_close(watch->store);
	pthread_mutex_destroy(&watch->lock);
	nap_release(&watch->nap);
	free(watch);
}
