/* deadletter: a record that can't be handled, as a record of <worker>.dlq: same key, value and headers, and where it came from,
 * why it is there, and how often it was tried. */
#ifndef FEEDMILL_WORKERS_ENGINE_DEADLETTER_H
#define FEEDMILL_WORKERS_ENGINE_DEADLETTER_H

#include "common/queue/topics.h"
#include "workers/worker.h"

struct dead_letter {
	struct record record; /* points into item->record, and into what follows: must not move */
	char topic[TOPIC_NAME_MAX];
	char partition[24], offset[24], timestamp[24], tries[24];
};

void dead_letter_make(struct dead_letter *letter, const char *worker, const struct item *item);

#endif
