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

/* A letter that its topic does not take, because it is too large once it is unpacked, as one that it does: where it came from and
 * why, the first bytes of key and value, and HEADER_CUT. The record itself stays readable where it came from until its retention
 * ends. `out` points into the letter and into `cut`. false: it is no dead letter. */
#define DEAD_LETTER_CUT 65536 /* bytes of the value that are kept */
bool dead_letter_cut(const struct record *letter, char cut[24], struct record *out);

#endif
