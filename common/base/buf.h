/* buf: a growable run of bytes. Uses mem and str.
 *
 * data is always NUL-terminated and never NULL after BUF_INIT, buf_reset() or buf_release(). len does not count the NUL.
 * Adding can't fail (see mem.h), so a text is built without checks. */
#ifndef FEEDMILL_BASE_BUF_H
#define FEEDMILL_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

struct buf {
	char *data;
	size_t len;
	size_t size; /* 0 while data points at a shared empty string */
};

extern char buf_empty[1];
#define BUF_INIT { buf_empty, 0, 0 }

void buf_release(struct buf *b);               /* frees; b is empty and usable again */
void buf_reset(struct buf *b);                 /* empty, memory kept */
void buf_reset_to(struct buf *b, size_t keep);    /* empty, memory kept unless it is more than that */
char *buf_detach(struct buf *b);               /* caller frees; b is empty again */
void buf_reserve(struct buf *b, size_t extra); /* room for that many more bytes */

struct slice buf_slice(const struct buf *b);     /* borrowed, until b changes */

void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_str(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_add_int(struct buf *b, int64_t number); /* decimal */
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
