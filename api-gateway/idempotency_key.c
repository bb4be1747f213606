/* The text of an Idempotency-Key header goes in, the key comes out. */
#include "api-gateway/idempotency_key.h"

#include <string.h>

static bool is_visible(char c)
{
	return c > ' ' && c <= '~';
}

/* Between the quotes. */
static bool read_quoted(struct slice text, char *out, size_t *len)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (c == '\\') {
			if (++i == text.len || (text.data[i] != '"' && text.data[i] != '\\'))
				return false;
			c = text.data[i];
		} else if (c == '"' || !is_visible(c)) {
			return false;
		}
		out[(*len)++] = c;
	}
	return true;
}

static bool read_bare(struct slice text, char *out, size_t *len)
{
	for (size_t i = 0; i < text.len; i++) {
		if (!is_visible(text.data[i]) || strchr("\",;[\\]", text.data[i]) != NULL)
			return false;
		out[(*len)++] = text.data[i];
	}
	return true;
}

bool idempotency_key_read(struct slice header, char out[IDEMPOTENCY_KEY])
{
	size_t len = 0;
	bool is_right;

	if (header.len >= IDEMPOTENCY_KEY)
		return false;
	if (header.len >= 2 && header.data[0] == '"' && header.data[header.len - 1] == '"')
		is_right = read_quoted((struct slice){ header.data + 1, header.len - 2 }, out, &len);
	else
		is_right = read_bare(header, out, &len);
	out[len] = '\0';
	return is_right && len > 0;
}
