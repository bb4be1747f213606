/* watch: how the database and the search engine are, asked every few seconds by a thread of its own, so that health checks
 * have an answer without asking. Uses schema, search. */
#ifndef FEEDMILL_API_GATEWAY_WATCH_H
#define FEEDMILL_API_GATEWAY_WATCH_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/settings.h"

struct watch;

/* Looks at the tables once before it returns: -1, ERR_FATAL when they are older or newer than the program. A database that is away
 * is no error; should its tables turn out wrong later, `wrong` is called from the thread. */
int watch_open(const struct settings *settings, void (*wrong)(void *arg), void *arg, struct watch **out, struct err *err);
void watch_close(struct watch *watch); /* NULL is fine */

int64_t watch_beat_ms(const struct watch *watch); /* when the thread made its last round, monotonic clock */

bool watch_schema(struct watch *watch, struct err *why); /* the tables were seen to be right, once */
bool watch_store(struct watch *watch, struct err *why);  /* the database answered lately */
bool watch_search(struct watch *watch, struct err *why); /* the search engine did */

#endif
