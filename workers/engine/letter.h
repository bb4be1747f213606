/* letter: a record that its worker can't do, as a record of another topic: same key, value and headers, and where it came from,
 * why it is there, and how often it was tried. <worker>.dlq is for those that are given up, <worker>.retry.<delay> for those that
 * come again. */
#ifndef FEEDMILL_WORKERS_ENGINE_LETTER_H
#define FEEDMILL_WORKERS_ENGINE_LETTER_H

#include "common/queue/topics.h"
#include "workers/worker.h"

struct letter {
	struct record record; /* points into item->record, and into what follows: must not move */
	char topic[TOPIC_NAME_MAX];
	char partition[24], offset[24], timestamp[24], tries[24], due[24];
};

void letter_dead(struct letter *letter, const char *worker, const struct item *item);
/* For the worker's retry topic number `stage`; not before due_ms, wall clock. */
void letter_retry(struct letter *letter, const char *worker, const struct item *item, size_t stage, int64_t due_ms);

/* How many of the worker's delays lie behind a record: 0 when it comes from the topic that the worker reads, n + 1 from its retry topic
 * number n. */
size_t letter_stage(const char *worker, const char *topic);
int64_t letter_due_ms(const struct record *record); /* of a record from a retry topic: wall clock */
unsigned letter_tries(const struct record *record); /* likewise: how often it was tried before */

/* A letter that its topic does not take, because it is too large once it is unpacked, as a dead letter that it does: where it came from
 * and why, the first bytes of key and value, and HEADER_CUT. The record itself stays readable where it came from until its retention
 * ends. `out` points into the letter, `topic` and `cut`. false: it is no letter. */
#define LETTER_CUT 65536 /* bytes of the value that are kept */
bool letter_cut(const struct record *letter, const char *worker, char topic[TOPIC_NAME_MAX], char cut[24], struct record *out);

#endif
