/* Compressed or base64 bytes go in, plain ones come out. */
#include "workers/celery/unpack.h"

#include <brotli/decode.h>
#include <bzlib.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define AUTO_HEADER 32 /* inflateInit2: zlib's header or gzip's */
#define PART 16384
#define LZMA_MEMORY (UINT64_C(72) << 20) /* what xz -9 needs, and Python's lzma at most */

static int say_broken(const char *what, struct err *err)
{
	return err_set(err, ERR_INVALID, "the body is no whole %s stream", what);
}

/* What one step gave is kept; -1: it is too much, or the input ended before the stream. */
static int keep(struct buf *out, const char *part, size_t left, size_t max, bool is_starved, const char *what, struct err *err)
{
	buf_add(out, part, PART - left);
	if (out->len > max)
		return err_set(err, ERR_INVALID, "the body is larger than %zu bytes once it is unpacked", max);
	return is_starved && left == PART ? say_broken(what, err) : 0;
}

static int unpack_zlib(struct slice packed, size_t max, struct buf *out, struct err *err)
{
	z_stream stream = { .next_in = (Bytef *)(uintptr_t)packed.data, .avail_in = (uInt)packed.len };
	char part[PART];
	int step = Z_OK, rc = 0;

	if (inflateInit2(&stream, MAX_WBITS + AUTO_HEADER) != Z_OK)
		return err_set(err, ERR_INVALID, "zlib can't begin");
	while (rc == 0 && step != Z_STREAM_END) {
		stream.next_out = (Bytef *)part;
		stream.avail_out = sizeof(part);
		step = inflate(&stream, Z_NO_FLUSH);
		if (step != Z_OK && step != Z_STREAM_END)
			rc = say_broken("zlib", err);
		else
			rc = keep(out, part, stream.avail_out, max, step == Z_OK && stream.avail_in == 0, "zlib", err);
	}
	inflateEnd(&stream);
	return rc;
}

static int unpack_bzip2(struct slice packed, size_t max, struct buf *out, struct err *err)
{
	bz_stream stream = { .next_in = (char *)(uintptr_t)packed.data, .avail_in = (unsigned)packed.len };
	char part[PART];
	int step = BZ_OK, rc = 0;

	if (BZ2_bzDecompressInit(&stream, 0, 0) != BZ_OK)
		return err_set(err, ERR_INVALID, "bzip2 can't begin");
	while (rc == 0 && step != BZ_STREAM_END) {
		stream.next_out = part;
		stream.avail_out = sizeof(part);
		step = BZ2_bzDecompress(&stream);
		if (step != BZ_OK && step != BZ_STREAM_END)
			rc = say_broken("bzip2", err);
		else
			rc = keep(out, part, stream.avail_out, max, step == BZ_OK && stream.avail_in == 0, "bzip2", err);
	}
	BZ2_bzDecompressEnd(&stream);
	return rc;
}

static int unpack_xz(struct slice packed, size_t max, struct buf *out, struct err *err)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	char part[PART];
	lzma_ret step = LZMA_OK;
	int rc = 0;

	stream.next_in = (const uint8_t *)packed.data;
	stream.avail_in = packed.len;
	if (lzma_auto_decoder(&stream, LZMA_MEMORY, 0) != LZMA_OK)
		return err_set(err, ERR_INVALID, "lzma can't begin");
	while (rc == 0 && step != LZMA_STREAM_END) {
		stream.next_out = (uint8_t *)part;
		stream.avail_out = sizeof(part);
		step = lzma_code(&stream, LZMA_RUN);
		if (step != LZMA_OK && step != LZMA_STREAM_END)
			rc = say_broken("lzma", err);
		else
			rc = keep(out, part, stream.avail_out, max, step == LZMA_OK && stream.avail_in == 0, "lzma", err);
	}
	lzma_end(&stream);
	return rc;
}

/* Its window may be 128 MiB, but no more of it is touched than comes out. */
static int unpack_zstd(struct slice packed, size_t max, struct buf *out, struct err *err)
{
	ZSTD_DStream *stream = ZSTD_createDStream();
	ZSTD_inBuffer in = { packed.data, packed.len, 0 };
	char part[PART];
	size_t step = 1; /* 0: the frame is whole */
	int rc = 0;

	if (stream == NULL)
		return err_set(err, ERR_INVALID, "zstd can't begin");
	while (rc == 0 && step != 0) {
		ZSTD_outBuffer room = { part, sizeof(part), 0 };

		step = ZSTD_decompressStream(stream, &room, &in);
		if (ZSTD_isError(step))
			rc = say_broken("zstd", err);
		else
			rc = keep(out, part, sizeof(part) - room.pos, max, step != 0 && in.pos == in.size, "zstd", err);
	}
	ZSTD_freeDStream(stream);
	return rc;
}

static int unpack_brotli(struct slice packed, size_t max, struct buf *out, struct err *err)
{
	BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	const uint8_t *in = (const uint8_t *)packed.data;
	size_t left = packed.len;
	char part[PART];
	BrotliDecoderResult step = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
	int rc = 0;

	if (state == NULL)
		return err_set(err, ERR_INVALID, "brotli can't begin");
	while (rc == 0 && step != BROTLI_DECODER_RESULT_SUCCESS) {
		uint8_t *at = (uint8_t *)part;
		size_t room = sizeof(part);

		step = BrotliDecoderDecompressStream(state, &left, &in, &room, &at, NULL);
		if (step == BROTLI_DECODER_RESULT_ERROR)
			rc = say_broken("brotli", err);
		else
			rc = keep(out, part, room, max, step == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT, "brotli", err);
	}
	BrotliDecoderDestroyInstance(state);
	return rc;
}

/* Names as in kombu's registry, and its aliases. */
static const struct {
	const char *name;
	int (*unpack)(struct slice packed, size_t max, struct buf *out, struct err *err);
} compressions[] = {
	{ "application/x-gzip", unpack_zlib },
	{ "application/gzip", unpack_zlib },
	{ "gzip", unpack_zlib },
	{ "zlib", unpack_zlib },
	{ "application/x-bz2", unpack_bzip2 },
	{ "bzip2", unpack_bzip2 },
	{ "bzip", unpack_bzip2 },
	{ "application/x-lzma", unpack_xz },
	{ "lzma", unpack_xz },
	{ "xz", unpack_xz },
	{ "application/zstd", unpack_zstd },
	{ "zstd", unpack_zstd },
	{ "zstandard", unpack_zstd },
	{ "application/x-brotli", unpack_brotli },
	{ "brotli", unpack_brotli },
};

int unpack_compressed(struct slice how, struct slice packed, size_t max, struct buf *out, struct err *err)
{
	if (packed.len > max)
		return err_set(err, ERR_INVALID, "the body is too large");
	for (size_t i = 0; i < sizeof(compressions) / sizeof(compressions[0]); i++)
		if (slice_is_nocase(how, compressions[i].name))
			return compressions[i].unpack(packed, max, out, err);
	return err_set(err, ERR_INVALID, "compression \"%.*s\" is not known here (there are gzip, bzip2, lzma, zstd, brotli)",
		(int)(how.len < 80 ? how.len : 80), how.data);
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
