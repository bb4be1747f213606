/* Bytes go in, text that is safe to print comes out. */
#include "ctl/visible.h"

#include <stdbool.h>

/* A control character, U+0080 to U+009F (two bytes in UTF-8) included. */
static bool is_control(struct slice text, size_t i)
{
	unsigned char c = (unsigned char)text.data[i];
	unsigned char before = i > 0 ? (unsigned char)text.data[i - 1] : 0;
	unsigned char after = i + 1 < text.len ? (unsigned char)text.data[i + 1] : 0;

	return c < 0x20 || c == 0x7f || (c == 0xc2 && after < 0xa0) || (before == 0xc2 && c < 0xa0);
}

static void add_text(struct buf *line, struct slice bytes)
{
	bool text = str_utf8_valid(bytes);

	for (size_t i = 0; i < bytes.len; i++) {
		unsigned char c = (unsigned char)bytes.data[i];

		if (is_control(bytes, i) || (c >= 0x80 && !text))
			buf_addf(line, "\\x%02x", c);
		else
			buf_add_char(line, (char)c);
	}
}

void visible_add(struct buf *line, struct slice bytes)
{
	if (bytes.data == NULL)
		buf_add_str(line, "null");
	else
		add_text(line, bytes);
}
