/* Pieces of a text go in, its words come out. */
#include "common/store/search_words.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct range {
	uint32_t first, last;
};

/* Characters of which each is a word. */
static const struct range alone[] = {
	{ 0x00a9, 0x00a9 }, { 0x00ae, 0x00ae }, { 0x203c, 0x203c }, { 0x2049, 0x2049 }, { 0x2122, 0x2122 }, { 0x2139, 0x2139 },
	{ 0x2194, 0x21aa }, { 0x231a, 0x23ff }, { 0x24c2, 0x24c2 }, { 0x25aa, 0x25fe }, { 0x2600, 0x27bf }, { 0x2934, 0x2935 },
	{ 0x2b05, 0x2b55 }, { 0x3030, 0x3030 }, { 0x303d, 0x303d }, { 0x3297, 0x3299 }, { 0x1f000, 0x1faff }, /* emoji, to here */
	{ 0x3041, 0x309f },						/* hiragana */
	{ 0x2e80, 0x2fdf }, { 0x3005, 0x3007 }, { 0x3400, 0x4dbf }, { 0x4e00, 0x9fff }, { 0xf900, 0xfaff }, { 0x20000, 0x3ffff },
};

/* Characters that only change how the one before looks. */
static const struct range silent[] = { { 0xfe00, 0xfe0f } };

static bool is_in(const struct range *ranges, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count; i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}
#define IS_IN(ranges, c) is_in(ranges, sizeof(ranges) / sizeof((ranges)[0]), c)

/* The character at s.data, which is UTF-8, and its length. */
static uint32_t character(struct slice s, size_t *len)
{
	const unsigned char *c = (const unsigned char *)s.data;
	uint32_t out;

	*len = c[0] < 0x80 ? 1 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
	if (*len > s.len)
		*len = s.len;
	out = *len == 1 ? c[0] : c[0] & (0x7fu >> *len);
	for (size_t i = 1; i < *len; i++)
		out = out << 6 | (c[i] & 0x3f);
	return out;
}

int search_words_end(struct search_words *w)
{
	const size_t len = w->len;

	w->len = 0;
	for (size_t i = 0; i < len; i++)
		if (w->kept[i] != '_')
			return w->word(w->arg, (struct slice){ w->kept, len }, w->start, w->end);
	return 0;
}

/* ---- joints */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* One of these, and nothing more, between two pieces. */
static const struct {
	const char *text;
	bool letters, digits;
} joints[] = {
	{ ".", true, true },
	{ "'", true, true },
	{ "\xe2\x80\x98", true, true }, /* U+2018 */
	{ "\xe2\x80\x99", true, true }, /* U+2019 */
	{ ":", true, false },
	{ "\xc2\xb7", true, false }, /* U+00B7 */
	{ ",", false, true },
	{ ";", false, true },
};

static bool is_joint(struct slice gap, char before, char after)
{
	for (size_t i = 0; i < sizeof(joints) / sizeof(joints[0]); i++)
		if (slice_is(gap, joints[i].text))
			return (joints[i].letters && is_letter(before) && is_letter(after)) ||
			       (joints[i].digits && is_digit(before) && is_digit(after));
	return false;
}

static int keep(struct search_words *w, struct slice part, size_t start, size_t end)
{
	int rc = 0;

	while (part.len > 0 && rc == 0) {
		size_t n = sizeof(w->kept) - w->len;

		n = part.len < n ? part.len : n;
		if (w->len == 0)
			w->start = start;
		w->end = end;
		memcpy(w->kept + w->len, part.data, n);
		w->len += n;
		part.data += n;
		part.len -= n;
		if (w->len == sizeof(w->kept))
			rc = search_words_end(w);
	}
	return rc;
}

/* ---- pieces */

/* The characters at the start of `piece` that belong into one word; *is_alone: it is one by itself. */
static struct slice run_of(struct slice piece, bool *is_alone)
{
	size_t at, len;

	*is_alone = IS_IN(alone, character(piece, &len));
	for (at = len; !*is_alone && at < piece.len; at += len)
		if (IS_IN(alone, character((struct slice){ piece.data + at, piece.len - at }, &len)))
			break;
	return (struct slice){ piece.data, at };
}

static int add_run(struct search_words *w, struct slice gap, struct slice run, bool is_alone, size_t start, size_t end)
{
	int rc = gap.len > 0 ? keep(w, gap, start, end) : search_words_end(w);

	if (rc == 0)
		rc = keep(w, run, start, end);
	return rc == 0 && is_alone ? search_words_end(w) : rc;
}

int search_words_piece(struct search_words *w, struct slice piece, size_t start, size_t end)
{
	struct slice gap = { w->text.data + w->end, start - w->end };
	int rc = 0;

	if (w->len == 0 || !is_joint(gap, w->kept[w->len - 1], w->text.data[start]))
		gap.len = 0;
	while (piece.len > 0 && rc == 0) {
		bool is_alone;
		struct slice run = run_of(piece, &is_alone);
		size_t len;

		if (IS_IN(silent, character(piece, &len)))
			run.len = len;
		else
			rc = add_run(w, is_alone ? SLICE_NONE : gap, run, is_alone, start, end);
		gap.len = 0;
		piece.data += run.len;
		piece.len -= run.len;
	}
	return rc;
}
