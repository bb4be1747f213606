/* search: full-text search over posts. Two back ends, chosen by the setting search.type: search_elastic.c, and search_sqlite.c for
 * one machine without servers; each fills one struct search_ops. A `struct search` is one connection, used by one thread. */
#ifndef FEEDMILL_STORE_SEARCH_H
#define FEEDMILL_STORE_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/base/str.h"

struct search;

int search_open(const struct settings *settings, struct search **out, struct err *err); /* connects at the first use */
void search_close(struct search *search);

/* Makes the index with its mapping when it is not there; *made says so. There already: its mapping is checked. */
int search_migrate(struct search *search, bool *made, struct err *err);
int search_ping(struct search *search, struct err *err); /* the index is there and can be asked */

struct search_document {
	int64_t id;     /* post */
	int64_t sender; /* participant */
	struct slice subject, story;
	int64_t posted_at_ms;
	/* set by search_add: */
	enum { SEARCH_STORED, SEARCH_BUSY, SEARCH_WRONG } result;
	char why[200]; /* for BUSY and WRONG */
};

/* Stores documents, each once: one that is there already is SEARCH_STORED. Returns 0 when each document has its result
 * (SEARCH_BUSY: this one later; SEARCH_WRONG: never); -1: nothing is known to be stored, all may be sent again. */
int search_add(struct search *search, struct search_document *documents, size_t count, struct err *err);

/* The senders of matching stories, best first, each once, at most `room`; any of the words matches; the text is plain, no
 * query syntax. */
int search_senders(struct search *search, struct slice keywords, int64_t *senders, size_t room, size_t *count, struct err *err);

int search_drop(struct search *search, struct err *err); /* deletes the index: for tests and rebuilds */

#endif
