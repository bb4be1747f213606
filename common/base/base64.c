/* Bytes go in and base64 comes out, or the other way round. */
#include "common/base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Of each byte: one more than its digit's value; 0: no digit. */
static const unsigned char values[256] = {
	['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
	['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52,
	['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['/'] = 64,
};

/* What was written after its end. */
static void grow(struct buf *out, size_t len)
{
	out->len += len;
	out->data[out->len] = '\0';
}

void base64_encode(struct buf *out, const void *bytes, size_t len)
{
	const unsigned char *in = bytes;
	char *at;

	if (len == 0)
		return;
	buf_reserve(out, (len + 2) / 3 * 4);
	at = out->data + out->len;
	for (size_t i = 0; i < len; i += 3) {
		const uint32_t three = (uint32_t)in[i] << 16 | (uint32_t)(i + 1 < len ? in[i + 1] : 0) << 8 | (i + 2 < len ? in[i + 2] : 0);

		*at++ = digits[three >> 18];
		*at++ = digits[three >> 12 & 63];
		*at++ = i + 1 < len ? digits[three >> 6 & 63] : '=';
		*at++ = i + 2 < len ? digits[three & 63] : '=';
	}
	grow(out, (len + 2) / 3 * 4);
}

/* Four digits: 24 bits, or -1. */
static int32_t read_four(const char *text)
{
	const uint32_t a = values[(unsigned char)text[0]], b = values[(unsigned char)text[1]];
	const uint32_t c = values[(unsigned char)text[2]], d = values[(unsigned char)text[3]];

	if (a == 0 || b == 0 || c == 0 || d == 0)
		return -1;
	return (int32_t)((a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1));
}

static char *write_three(char *at, int32_t three)
{
	*at++ = (char)(three >> 16);
	*at++ = (char)(three >> 8);
	*at++ = (char)three;
	return at;
}

bool base64_decode(struct buf *out, struct slice text)
{
	const char *four = text.data, *last;
	char padded[4] = "AAAA", *at;
	int32_t three = 0;
	size_t pads;

	if (text.len == 0)
		return true;
	if (text.len % 4 != 0)
		return false;
	last = text.data + text.len - 4;
	pads = (size_t)(last[3] == '=') + (last[3] == '=' && last[2] == '=');
	memcpy(padded, last, 4 - pads);
	buf_reserve(out, text.len / 4 * 3);
	at = out->data + out->len;
	for (; four < last && three >= 0; four += 4)
		at = write_three(at, three = read_four(four));
	if (three >= 0)
		write_three(at, three = read_four(padded));
	if (three < 0 || (three & ((1 << 8 * pads) - 1)) != 0) { /* or bits that belong to nothing */
		out->data[out->len] = '\0';
		return false;
	}
	grow(out, text.len / 4 * 3 - pads);
	return true;
}
