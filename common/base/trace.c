/* A traceparent header goes in, its parts come out, and back. */
#include "common/base/trace.h"

#include <string.h>

#include "common/base/rand.h"

#define SAMPLED 0x01 /* the one flag that version 00 defines */
#define HEADER_LEN (TRACE_TEXT - 1)

static bool all_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

static void random_id(uint8_t *bytes, size_t len)
{
	do {
		rand_bytes(bytes, len);
	} while (all_zero(bytes, len)); /* all zero means none */
}

void trace_start(struct trace *out)
{
	random_id(out->trace_id, sizeof(out->trace_id));
	random_id(out->span_id, sizeof(out->span_id));
	out->flags = 0;
}

void trace_child(const struct trace *parent, struct trace *out)
{
	*out = *parent;
	random_id(out->span_id, sizeof(out->span_id));
}

/* Lower case only: the standard says so. */
static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *at, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(at[2 * i]);
		int low = hex_digit(at[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* version-traceid-spanid-flags; a later version may go on behind another dash, ff is never valid. */
bool trace_parse(struct slice header, struct trace *out)
{
	struct trace trace;
	const char *text = header.data;
	uint8_t version;

	if (header.len < HEADER_LEN || text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!read_hex(text, &version, 1) || version == 0xff)
		return false;
	if (header.len > HEADER_LEN && (version == 0 || text[HEADER_LEN] != '-'))
		return false;
	if (!read_hex(text + 3, trace.trace_id, sizeof(trace.trace_id)) ||
		!read_hex(text + 36, trace.span_id, sizeof(trace.span_id)) || !read_hex(text + 53, &trace.flags, 1))
		return false;
	if (all_zero(trace.trace_id, sizeof(trace.trace_id)) || all_zero(trace.span_id, sizeof(trace.span_id)))
		return false;
	trace.flags &= SAMPLED; /* we write version 00 */
	*out = trace;
	return true;
}

static char *put_hex(char *at, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*at++ = digits[bytes[i] >> 4];
		*at++ = digits[bytes[i] & 15];
	}
	return at;
}

void trace_format(const struct trace *trace, char out[TRACE_TEXT])
{
	char *at = out;

	memcpy(at, "00-", 3);
	at = put_hex(at + 3, trace->trace_id, sizeof(trace->trace_id));
	*at++ = '-';
	at = put_hex(at, trace->span_id, sizeof(trace->span_id));
	*at++ = '-';
	at = put_hex(at, &trace->flags, 1);
	*at = '\0';
}

void trace_id_format(const struct trace *trace, char out[33])
{
	*put_hex(out, trace->trace_id, sizeof(trace->trace_id)) = '\0';
}
