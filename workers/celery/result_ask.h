/* result_ask: whether a task that was delivered before has succeeded then: asked of the table of results, by a thread with a
 * connection of its own. While the database is away tasks wait for their answer: their results could not be stored either. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_ASK_H
#define FEEDMILL_WORKERS_CELERY_RESULT_ASK_H

#include "common/base/settings.h"
#include "workers/celery/inbox.h"

struct result_ask;
struct signer;

struct result_ask *result_ask_start(const struct settings *settings, const struct signer *signer, struct inbox *inbox); /* signer: or NULL */
void result_ask_stop(struct result_ask *ask); /* NULL is fine; what has no answer yet gets none */

/* What has no answer yet, and what is added from now on, comes to the inbox at once without one. The node's thread; NULL is fine. */
void result_ask_return(struct result_ask *ask);

/* Any thread. NOTICE_ASKED comes with task->has_succeeded; then the result as JSON is in task->reply.result, or that is empty: it is
 * a Python object that can't be read here. */
void result_ask_add(struct result_ask *ask, struct task *task);

#endif
