/* Bytes, texts and numbers go in, one NUL-terminated run of bytes comes out. */
#include "common/base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define BUF_FIRST 64

char buf_empty[1]; /* never written: size 0 says that it is shared */

void buf_release(struct buf *b)
{
	if (b->size > 0)
		free(b->data);
	b->data = buf_empty;
	b->len = 0;
	b->size = 0;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	if (b->size > 0)
		b->data[0] = '\0';
	else
		b->data = buf_empty;
}

void buf_reset_to(struct buf *b, size_t keep)
{
	if (b->size > keep)
		buf_release(b);
	else
		buf_reset(b);
}

char *buf_detach(struct buf *b)
{
	char *data = b->size > 0 ? b->data : mem_strdup("");

	b->size = 0;
	buf_release(b);
	return data;
}

void buf_reserve(struct buf *b, size_t extra)
{
	size_t need;
	size_t size = b->size > 0 ? b->size : BUF_FIRST;
	bool too_large = __builtin_add_overflow(b->len, extra, &need) || need >= SIZE_MAX / 2;

	assert(!too_large);
	(void)too_large;
	need += 1; /* the NUL */
	if (need <= b->size)
		return;
	while (size < need)
		size *= 2;
	b->data = mem_grow(b->size > 0 ? b->data : NULL, size, 1);
	b->size = size;
	b->data[b->len] = '\0';
}

struct slice buf_slice(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

void buf_add(struct buf *b, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	buf_reserve(b, len);
	memcpy(b->data + b->len, bytes, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_add_str(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_add_char(struct buf *b, char c)
{
	if (b->len + 1 >= b->size)
		buf_reserve(b, 1);
	b->data[b->len++] = c;
	b->data[b->len] = '\0';
}

void buf_add_int(struct buf *b, int64_t number)
{
	char digits[STR_INT64];

	buf_add(b, digits, str_put_int64(number, digits));
}

void buf_addf(struct buf *b, const char *format, ...)
{
	va_list args;
	va_list again;
	int len;

	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	if (len > 0) {
		buf_reserve(b, (size_t)len);
		vsnprintf(b->data + b->len, (size_t)len + 1, format, again);
		b->len += (size_t)len;
	}
	va_end(again);
	va_end(args);
}
