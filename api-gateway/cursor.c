/* The last id of a page goes in, an opaque word comes out, and back. */
#include "api-gateway/cursor.h"

#include <stdio.h>
#include <string.h>

#define VERSION '1'
#define PLAIN_TEXT 24 /* version, list, 16 digits, and a NUL; as bits they fill CURSOR_TEXT - 1 characters at most */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const char *plain, size_t len, char *out)
{
	unsigned bits = 0, count = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | (unsigned char)plain[i];
		for (count += 8; count >= 6; count -= 6)
			*out++ = alphabet[bits >> (count - 6) & 63];
	}
	if (count > 0)
		*out++ = alphabet[bits << (6 - count) & 63];
	*out = '\0';
}

/* The length of the plain text, or -1. Bits left over are not looked at: cursor_read() compares the whole. */
static int decode(struct slice text, char out[PLAIN_TEXT])
{
	unsigned bits = 0, count = 0;
	int len = 0;

	if (text.len >= CURSOR_TEXT)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		const char *at = text.data[i] != '\0' ? strchr(alphabet, text.data[i]) : NULL;

		if (at == NULL)
			return -1;
		bits = bits << 6 | (unsigned)(at - alphabet);
		count += 6;
		if (count < 8)
			continue;
		count -= 8;
		out[len++] = (char)(bits >> count & 255);
	}
	return len;
}

void cursor_write(char list, int64_t id, char out[CURSOR_TEXT])
{
	char plain[PLAIN_TEXT];
	int len = snprintf(plain, sizeof(plain), "%c%c%lld", VERSION, list, (long long)id);

	encode(plain, (size_t)len < sizeof(plain) ? (size_t)len : sizeof(plain) - 1, out);
}

bool cursor_read(struct slice text, char list, int64_t *id)
{
	char plain[PLAIN_TEXT], again[CURSOR_TEXT];
	int len = decode(text, plain);
	int64_t found;

	if (len < 3 || plain[0] != VERSION || plain[1] != list)
		return false;
	if (!str_id((struct slice){ plain + 2, (size_t)len - 2 }, &found))
		return false;
	cursor_write(list, found, again);
	if (!slice_is(text, again)) /* one cursor has one spelling */
		return false;
	*id = found;
	return true;
}
