/* letters: the dead letters of one topic, those of them that somebody asks for, and whether they were sent again. Uses queue.
 *
 * That a letter was sent again is said by a mark behind it in the same partition (HEADER_REPLAYED): letters may be chosen one by
 * one, so an offset of a group can't say it; and deletion of records takes a letter before its mark. What comes while this is
 * open is not seen. */
#ifndef FEEDMILL_CTL_LETTERS_H
#define FEEDMILL_CTL_LETTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"

struct letter_filter {
	int64_t since_ms, until_ms;       /* when it was given up: from, and before; 0: any time */
	const char *error;                /* part of its reason, letter case ignored; NULL: any */
	const char *key;                  /* the whole key; NULL: any */
	const struct queue_place *places; /* these alone */
	size_t place_count;               /* 0: all */
	bool with_replayed;               /* also those that were sent again */
};

struct letter {
	const struct record *record; /* borrowed for the call */
	bool is_replayed;
};

struct letters;

/* Reads the whole topic once. -1 also when a stop was asked for. */
int letters_open(struct queue *queue, const char *topic, const struct letter_filter *filter, struct letters **out, struct err *err);
void letters_close(struct letters *letters); /* NULL is fine */
const char *letters_topic(const struct letters *letters);
size_t letters_count(const struct letters *letters);
bool letters_in_partitions(const struct letters *letters); /* the topic has more than one */

/* Calls fn for each, in the order of the topic, until it returns another value than 0: that is returned too. */
typedef int letter_fn(void *arg, const struct letter *letter, struct err *err);
int letters_each(struct letters *letters, letter_fn *fn, void *arg, struct err *err);

/* ---- of one letter */

/* Where it came from; false: it does not say. *origin's topic is NUL-terminated in `topic`. */
bool letter_origin(const struct record *letter, char topic[TOPIC_NAME_MAX], struct queue_place *origin);
bool letter_number(const struct record *letter, const char *header, int64_t *out); /* false: no such header, or no number */

#endif
