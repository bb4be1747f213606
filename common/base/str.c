/* A slice goes in, a part of it, a number, a verdict or its decoded bytes come out. */
#include "common/base/str.h"

#include <string.h>
#include <strings.h>

struct slice slice_of(const char *text)
{
	return text == NULL ? SLICE_NONE : (struct slice){ text, strlen(text) };
}

bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool slice_is(struct slice s, const char *text)
{
	return slice_equal(s, slice_of(text));
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool slice_is_nocase(struct slice s, const char *text)
{
	if (s.len != strlen(text))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (lower(s.data[i]) != lower(text[i]))
			return false;
	}
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
	while (s.len > 0 && is_blank(s.data[0])) {
		s.data++;
		s.len--;
	}
	while (s.len > 0 && is_blank(s.data[s.len - 1]))
		s.len--;
	return s;
}

struct slice slice_put(char **at, struct slice s)
{
	const struct slice copy = { *at, s.len };

	if (s.data == NULL)
		return SLICE_NONE;
	memcpy(*at, s.data, s.len);
	*at += s.len;
	return copy;
}

struct slice slice_cut(struct slice *rest, char separator)
{
	struct slice part = *rest;
	const char *found = part.len > 0 ? memchr(part.data, separator, part.len) : NULL;

	if (found == NULL) {
		*rest = SLICE_NONE;
		return part;
	}
	part.len = (size_t)(found - part.data);
	rest->data = found + 1;
	rest->len -= part.len + 1;
	return part;
}

size_t str_put_int64(int64_t number, char out[STR_INT64])
{
	char digits[STR_INT64];
	size_t at = sizeof(digits);
	uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	digits[--at] = '\0';
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (number < 0)
		digits[--at] = '-';
	memcpy(out, digits + at, sizeof(digits) - at);
	return sizeof(digits) - at - 1;
}

bool str_has_control(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.data[i] < ' ' || s.data[i] == 0x7f)
			return true;
	return false;
}

bool str_int64(struct slice s, int64_t *out)
{
	bool negative = s.len > 0 && s.data[0] == '-';
	size_t at = negative ? 1 : 0;
	int64_t number = 0; /* counted down: the negative side reaches one further */

	if (at == s.len || (s.data[at] == '0' && s.len > 1))
		return false;
	for (; at < s.len; at++) {
		if (s.data[at] < '0' || s.data[at] > '9')
			return false;
		if (__builtin_mul_overflow(number, 10, &number) || __builtin_sub_overflow(number, s.data[at] - '0', &number))
			return false;
	}
	if (!negative && number == INT64_MIN)
		return false;
	*out = negative ? number : -number;
	return true;
}

bool str_id(struct slice s, int64_t *out)
{
	int64_t id;

	if (!str_int64(s, &id) || id < 1 || id > ID_MAX)
		return false;
	*out = id;
	return true;
}

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* The bytes of the character that starts at c (left of them are there), or 0: RFC 3629, section 4, row by row. */
static size_t character_length(const unsigned char *c, size_t left)
{
	if (c[0] < 0x80)
		return 1;
	if (c[0] >= 0xc2 && c[0] <= 0xdf)
		return left >= 2 && is_tail(c[1]) ? 2 : 0;
	if (c[0] >= 0xe0 && c[0] <= 0xef) {
		unsigned char low = c[0] == 0xe0 ? 0xa0 : 0x80;  /* shorter forms exist below */
		unsigned char high = c[0] == 0xed ? 0x9f : 0xbf; /* surrogates above */

		return left >= 3 && c[1] >= low && c[1] <= high && is_tail(c[2]) ? 3 : 0;
	}
	if (c[0] >= 0xf0 && c[0] <= 0xf4) {
		unsigned char low = c[0] == 0xf0 ? 0x90 : 0x80;
		unsigned char high = c[0] == 0xf4 ? 0x8f : 0xbf; /* U+10FFFF is the last */

		return left >= 4 && c[1] >= low && c[1] <= high && is_tail(c[2]) && is_tail(c[3]) ? 4 : 0;
	}
	return 0;
}

bool str_utf8_valid(struct slice s)
{
	const unsigned char *at = (const unsigned char *)s.data;
	size_t left = s.len;

	while (left > 0) {
		uint64_t eight;
		size_t len;

		if (left >= sizeof(eight)) { /* most text is ASCII */
			memcpy(&eight, at, sizeof(eight));
			if ((eight & UINT64_C(0x8080808080808080)) == 0) {
				at += sizeof(eight);
				left -= sizeof(eight);
				continue;
			}
		}
		len = character_length(at, left);
		if (len == 0)
			return false;
		at += len;
		left -= len;
	}
	return true;
}

size_t str_utf8_length(struct slice s)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	size_t tails = 0, i = 0;

	for (uint64_t eight; s.len - i >= sizeof(eight); i += sizeof(eight)) { /* top bit set, the next one not */
		memcpy(&eight, s.data + i, sizeof(eight));
		tails += (size_t)((((eight & ~(eight << 1)) >> 7 & ones) * ones) >> 56);
	}
	for (; i < s.len; i++)
		tails += is_tail((unsigned char)s.data[i]);
	return s.len - tails;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at *at, which moves behind what was read; -1: a broken escape, or a NUL. */
static int decoded_byte(struct slice s, size_t *at, bool plus_is_space)
{
	char c = s.data[(*at)++];
	int high, low;

	if (c == '+' && plus_is_space)
		return ' ';
	if (c != '%')
		return c != '\0' ? (unsigned char)c : -1;
	if (s.len - *at < 2)
		return -1;
	high = hex_digit(s.data[*at]);
	low = hex_digit(s.data[*at + 1]);
	*at += 2;
	return high < 0 || low < 0 || (high | low) == 0 ? -1 : high * 16 + low;
}

ptrdiff_t str_percent_decode(struct slice s, bool plus_is_space, char *out)
{
	size_t len = 0;

	for (size_t at = 0; at < s.len;) {
		int byte = decoded_byte(s, &at, plus_is_space);

		if (byte < 0)
			return -1;
		out[len++] = (char)byte;
	}
	out[len] = '\0';
	return (ptrdiff_t)len;
}

char *str_put_digits(char *at, int number, int digits, char behind)
{
	for (int i = digits - 1; i >= 0; i--, number /= 10)
		at[i] = (char)('0' + number % 10);
	at[digits] = behind;
	return at + digits + 1;
}
