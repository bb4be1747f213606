/* A request's header list goes in; what is wrong with it comes out, as a problem. */
#include "common/http/http_head.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX 100

static bool is_letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A token, RFC 9110 5.6.2: with a space behind it, "Content-Length " would be the length to one reader and nothing to the next. */
static bool is_header_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!is_letter_or_digit(name.data[i]) && (name.data[i] == '\0' || strchr("!#$%&'*+-.^_`|~", name.data[i]) == NULL))
			return false;
	return name.len > 0;
}

static bool is_header_value(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (((unsigned char)value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
			return false;
	return true;
}

static void note_host(struct http_head *head, struct slice value)
{
	head->hosts++;
	for (size_t i = 0; i < value.len; i++)
		head->bad_host |= (unsigned char)value.data[i] <= ' ' || value.data[i] == 0x7f || strchr("@/?#,\\\"<>", value.data[i]) != NULL;
}

static void note_length(struct http_head *head, struct slice value)
{
	int64_t length;

	head->lengths++;
	head->length = value;
	/* Leading zeros are fine by RFC 9110; a list, a sign or 2^63 are not. */
	while (value.len > 1 && value.data[0] == '0') {
		value.data++;
		value.len--;
	}
	if (!str_int64(value, &length) || length < 0)
		head->bad_length = true;
}

static void note_encoding(struct http_head *head, struct slice value)
{
	head->encodings++;
	head->has_other_encoding |= !slice_is_nocase(value, "chunked");
}

static void note_expectation(struct http_head *head, struct slice value)
{
	head->expectations++;
	head->has_other_expectation |= !slice_is_nocase(value, "100-continue");
}

static const struct {
	const char *name;
	size_t len;
	void (*note)(struct http_head *head, struct slice value);
} framing_headers[] = {
	{ "Host", 4, note_host },
	{ "Content-Length", 14, note_length },
	{ "Transfer-Encoding", 17, note_encoding },
	{ "Expect", 6, note_expectation },
};

static enum MHD_Result note_header(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value, size_t value_len)
{
	struct http_head *head = arg;

	(void)kind;
	head->count++;
	head->bad_line |= !is_header_name((struct slice){ name, name_len }) || !is_header_value((struct slice){ value, value_len });
	for (size_t i = 0; i < sizeof(framing_headers) / sizeof(framing_headers[0]); i++)
		if (framing_headers[i].len == name_len && strncasecmp(framing_headers[i].name, name, name_len) == 0)
			framing_headers[i].note(head, (struct slice){ value, value_len });
	return MHD_YES;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* No spaces and controls, and every '%' begins an escape of something other than NUL. */
static bool path_is_clean(struct slice path)
{
	for (size_t i = 0; i < path.len; i++) {
		unsigned char c = (unsigned char)path.data[i];

		if (c <= ' ' || c == 0x7f)
			return false;
		if (c != '%')
			continue;
		if (path.len - i < 3 || !is_hex(path.data[i + 1]) || !is_hex(path.data[i + 2]))
			return false;
		if (path.data[i + 1] == '0' && path.data[i + 2] == '0')
			return false;
	}
	return path.len > 0;
}

void http_head_read(struct MHD_Connection *connection, struct http_head *head)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	*head = (struct http_head){ .size = info != NULL ? info->header_size : 0 };
	MHD_get_connection_values_n(connection, MHD_HEADER_KIND, note_header, head);
}

bool http_framing_is_wrong(const struct http_head *head, bool is_http_10, struct problem *problem)
{
	if (head->bad_line)
		problem_set(problem, 400, "", "a header has a name that is no token, or a control character");
	else if (head->encodings > 0 && head->lengths > 0)
		problem_set(problem, 400, "", "Content-Length and Transfer-Encoding exclude each other");
	else if (head->lengths > 1)
		problem_set(problem, 400, "", "more than one Content-Length");
	else if (head->bad_length)
		problem_set(problem, 400, "", "Content-Length is not a number of bytes");
	else if (head->encodings > 0 && is_http_10)
		problem_set(problem, 400, "", "HTTP/1.0 has no Transfer-Encoding");
	else if (head->encodings > 1 || head->has_other_encoding)
		problem_set(problem, 501, "", "Transfer-Encoding: only \"chunked\" is understood");
	else
		return false;
	return true;
}

bool http_head_is_wrong(const struct http_head *head, struct slice path, bool is_http_10, int64_t max_header, struct problem *problem)
{
	if (head->size > (size_t)max_header)
		problem_set(problem, 431, "", "the header block is longer than %lld bytes", (long long)max_header);
	else if (head->count > HEADERS_MAX)
		problem_set(problem, 431, "", "more than %d headers", HEADERS_MAX);
	else if (head->hosts > 1)
		problem_set(problem, 400, "", "more than one Host");
	else if (head->hosts == 0 && !is_http_10)
		problem_set(problem, 400, "", "no Host");
	else if (head->bad_host)
		problem_set(problem, 400, "", "Host is not a host name");
	else if (!path_is_clean(path))
		problem_set(problem, 400, "", "the path has a space, a control character or a broken %% escape");
	else if (head->has_other_expectation)
		problem_set(problem, 417, "", "Expect: only \"100-continue\" is understood");
	else
		return false;
	return true;
}

int64_t http_announced_length(const struct http_head *head)
{
	struct slice digits = head->length;
	int64_t length = 0;

	for (size_t i = 0; i < digits.len; i++) /* well framed: it does not overflow */
		length = length * 10 + (digits.data[i] - '0');
	return length;
}
