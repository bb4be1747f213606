/* The text of a migration goes in, its statements come out one by one. */
#include "common/store/sql_split.h"

#include <string.h>

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* How many bytes from `at` up to and with the closing quote; a doubled one goes on. 0: no end, or a backslash. */
static size_t quoted(struct slice s, size_t at)
{
	const char quote = s.data[at];

	for (size_t i = at + 1; i < s.len; i++) {
		if (s.data[i] == '\\' && quote != '`')
			return 0;
		if (s.data[i] == quote && i + 1 < s.len && s.data[i + 1] == quote)
			i++;
		else if (s.data[i] == quote)
			return i + 1 - at;
	}
	return 0;
}

static size_t line(struct slice s, size_t at)
{
	const char *end = memchr(s.data + at, '\n', s.len - at);

	return end ? (size_t)(end + 1 - (s.data + at)) : s.len - at;
}

static size_t block(struct slice s, size_t at)
{
	const char *end = memmem(s.data + at + 2, s.len - at - 2, "*/", 2);

	return end ? (size_t)(end + 2 - (s.data + at)) : 0;
}

enum piece { PIECE_PLAIN, PIECE_SPACE, PIECE_COMMENT, PIECE_QUOTE, PIECE_END };

/* What begins at `at`, and its length (0: it has no end). */
static enum piece piece_at(struct slice s, size_t at, size_t *len)
{
	const char c = s.data[at], next = at + 1 < s.len ? s.data[at + 1] : '\0';

	*len = 1;
	if (is_space(c))
		return PIECE_SPACE;
	if (c == ';')
		return PIECE_END;
	if (c == '#' || (c == '-' && next == '-' && (at + 2 == s.len || is_space(s.data[at + 2])))) {
		*len = line(s, at);
		return PIECE_COMMENT;
	}
	if (c == '/' && next == '*') {
		*len = block(s, at);
		return PIECE_COMMENT;
	}
	if (c == '\'' || c == '"' || c == '`') {
		*len = quoted(s, at);
		return PIECE_QUOTE;
	}
	return PIECE_PLAIN;
}

int sql_next(struct slice *rest, struct slice *statement, struct err *err)
{
	const struct slice s = *rest;
	size_t start = 0, end = 0; /* of what is more than space and comment; end 0: nothing yet */
	size_t at = 0, len;

	while (at < s.len) {
		enum piece piece = piece_at(s, at, &len);

		if (len == 0)
			return err_set(err, ERR_INVALID, "%s without an end, or with a backslash in it: %.*s",
				piece == PIECE_QUOTE ? "a quoted text" : "a comment",
				(int)(s.len - at < 40 ? s.len - at : 40), s.data + at);
		if (piece == PIECE_PLAIN || piece == PIECE_QUOTE) {
			if (end == 0)
				start = at;
			end = at + len;
		}
		at += len;
		if (piece == PIECE_END && end > 0)
			break;
	}
	*rest = (struct slice){ s.data + at, s.len - at };
	*statement = (struct slice){ s.data + start, end - start };
	return end > 0;
}
