/* Bytes go in and base64 comes out, or the other way round. */
#include "common/base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, const void *bytes, size_t len)
{
	const unsigned char *in = bytes;

	for (size_t i = 0; i < len; i += 3) {
		const uint32_t three = (uint32_t)in[i] << 16 | (uint32_t)(i + 1 < len ? in[i + 1] : 0) << 8 | (i + 2 < len ? in[i + 2] : 0);

		buf_add_char(out, digits[three >> 18]);
		buf_add_char(out, digits[three >> 12 & 63]);
		buf_add_char(out, i + 1 < len ? digits[three >> 6 & 63] : '=');
		buf_add_char(out, i + 2 < len ? digits[three & 63] : '=');
	}
}

static int value_of(char c)
{
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

bool base64_decode(struct buf *out, struct slice text)
{
	const size_t before = out->len;

	if (text.len % 4 != 0)
		return false;
	for (size_t i = 0; i < text.len; i += 4) {
		const bool is_last = i + 4 == text.len;
		const size_t pads = is_last ? (size_t)(text.data[i + 3] == '=') + (text.data[i + 3] == '=' && text.data[i + 2] == '=') : 0;
		uint32_t three = 0;

		for (size_t k = 0; k < 4; k++) {
			const int value = k >= 4 - pads ? 0 : value_of(text.data[i + k]);

			if (value < 0)
				goto wrong;
			three = three << 6 | (uint32_t)value;
		}
		if (pads > 0 && (three & ((1u << 8 * pads) - 1)) != 0)
			goto wrong; /* bits that belong to nothing */
		for (size_t k = 0; k < 3 - pads; k++)
			buf_add_char(out, (char)(three >> (16 - 8 * k) & 255));
	}
	return true;
wrong:
	out->len = before;
	if (out->size > 0)
		out->data[before] = '\0';
	return false;
}
