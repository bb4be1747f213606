/* str: borrowed runs of text, and strict readings of them. Uses libc only.
 * Nothing here allocates; a slice is good as long as what it points into. */
#ifndef FEEDMILL_BASE_STR_H
#define FEEDMILL_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slice {
	const char *data; /* not NUL-terminated unless the giver says so */
	size_t len;
};

#define SLICE_NONE ((struct slice){ NULL, 0 })
struct slice slice_of(const char *text); /* NULL gives SLICE_NONE */
bool slice_is(struct slice s, const char *text);
bool slice_is_nocase(struct slice s, const char *text); /* ASCII letters only */
bool slice_equal(struct slice a, struct slice b);
struct slice slice_trim(struct slice s); /* without spaces and tabs at both ends */
/* Copies the bytes to *at and moves it behind them; the copy. A NULL stays NULL: it says something else than no bytes. */
struct slice slice_put(char **at, struct slice s);
struct slice slice_cut(struct slice *rest, char separator); /* the part before it; rest becomes what follows it */

bool str_has_control(struct slice s); /* a byte below a space, or DEL, among them what ends a line */

/* A whole number in plain decimal: no sign but '-', no leading zero, no space, nothing behind it. */
bool str_int64(struct slice s, int64_t *out);
/* The same backwards, NUL-terminated; returns the length. */
#define STR_INT64 21
size_t str_put_int64(int64_t number, char out[STR_INT64]);
/* So many digits of a number from 0 on, and what stands behind them; where the next may follow. printf() is dear where it is called for each row. */
char *str_put_digits(char *at, int number, int digits, char behind);

/* An id as it stands in a path, a link or a record: 1 to 2^53-1, plain decimal. */
#define ID_MAX ((INT64_C(1) << 53) - 1)
bool str_id(struct slice s, int64_t *out);

bool str_utf8_valid(struct slice s);    /* RFC 3629: no overlong forms, no surrogates, at most U+10FFFF */
size_t str_utf8_length(struct slice s); /* code points; s is valid */

/* Undoes %XX (and '+' as a space when plus_is_space) into out, which has room for s.len + 1 bytes and may be s.data;
 * NUL-terminated. Returns the length, or -1 for a broken escape or an escaped NUL. */
ptrdiff_t str_percent_decode(struct slice s, bool plus_is_space, char *out);

#endif
