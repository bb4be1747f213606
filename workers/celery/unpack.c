/* Compressed or base64 bytes go in, plain ones come out. */
#include "workers/celery/unpack.h"

#include <string.h>
#include <zlib.h>

#define AUTO_HEADER 32 /* inflateInit2: zlib's header or gzip's */

static bool is_zlib(struct slice how)
{
	static const char *const names[] = { "application/x-gzip", "gzip", "zlib", "application/gzip" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (slice_is_nocase(how, names[i]))
			return true;
	return false;
}

static int inflate_all(z_stream *stream, size_t max, struct buf *out, struct err *err)
{
	char part[16384];
	int rc = Z_OK;

	while (rc != Z_STREAM_END) {
		stream->next_out = (Bytef *)part;
		stream->avail_out = sizeof(part);
		rc = inflate(stream, Z_NO_FLUSH);
		if (rc != Z_OK && rc != Z_STREAM_END)
			return err_set(err, ERR_INVALID, "the body is no whole zlib stream");
		buf_add(out, part, sizeof(part) - stream->avail_out);
		if (out->len > max)
			return err_set(err, ERR_INVALID, "the body is larger than %zu bytes once it is unpacked", max);
		if (rc == Z_OK && stream->avail_in == 0 && stream->avail_out == sizeof(part))
			return err_set(err, ERR_INVALID, "the body's zlib stream ends early");
	}
	return 0;
}

int unpack_zlib(struct slice how, struct slice packed, size_t max, struct buf *out, struct err *err)
{
	z_stream stream = { .next_in = (Bytef *)(uintptr_t)packed.data, .avail_in = (uInt)packed.len };
	int rc;

	if (!is_zlib(how))
		return err_set(err, ERR_INVALID, "compression \"%.*s\" is not known here", (int)(how.len < 80 ? how.len : 80), how.data);
	if (packed.len > max || inflateInit2(&stream, MAX_WBITS + AUTO_HEADER) != Z_OK)
		return err_set(err, ERR_INVALID, "the body is too large");
	rc = inflate_all(&stream, max, out, err);
	inflateEnd(&stream);
	return rc;
}

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int unpack_base64(struct slice text, struct buf *out, struct err *err)
{
	uint32_t bits = 0;
	size_t count = 0, padding = 0;

	for (size_t i = 0; i < text.len; i++) {
		const char c = text.data[i];
		const char *at = c != '\0' ? strchr(letters, c) : NULL;

		if (c == '\n' || c == '\r')
			continue;
		if (c == '=') {
			padding++;
			continue;
		}
		if (at == NULL || padding > 0)
			return err_set(err, ERR_INVALID, "no base64 at byte %zu", i);
		bits = bits << 6 | (uint32_t)(at - letters);
		if (++count % 4 != 1)
			buf_add_char(out, (char)(bits >> (2 * (3 - (count - 1) % 4))));
	}
	if (count % 4 == 1 || padding > 2)
		return err_set(err, ERR_INVALID, "the base64 text ends early");
	return 0;
}
