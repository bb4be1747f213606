/* search_words: the words of a text, as the standard analyser of search engines sees them, from the pieces that SQLite's
 * unicode61 makes. Uses str only.
 *
 * A piece is a run of letters, digits, marks and symbols, in lower case. Words differ from pieces in three ways: an ideograph, a
 * hiragana or an emoji is a word by itself; pieces on both sides of a joint ("don't", "3.14", "example.org") are one word; and
 * underscores alone are none. */
#ifndef FEEDMILL_STORE_SEARCH_WORDS_H
#define FEEDMILL_STORE_SEARCH_WORDS_H

#include <stddef.h>

#include "common/base/str.h"

#define SEARCH_WORD_BYTES 1024 /* a longer word is cut into such lengths */

/* A word, and where it stands in the text. Not 0 stops. */
typedef int search_word_fn(void *arg, struct slice word, size_t start, size_t end);

struct search_words {
	struct slice text;
	search_word_fn *word;
	void *arg;
	/* the word that may still grow */
	char kept[SEARCH_WORD_BYTES];
	size_t len, start, end;
};

/* Hand in every piece of the text in order, then end. Both return what the callback did. */
int search_words_piece(struct search_words *words, struct slice piece, size_t start, size_t end);
int search_words_end(struct search_words *words);

#endif
