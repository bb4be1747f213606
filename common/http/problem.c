/* What was wrong goes in, a problem document (RFC 9457) comes out, and back. */
#include "common/http/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"

static const struct {
	int status;
	const char *title;
} titles[] = {
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 406, "Not Acceptable" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 412, "Precondition Failed" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 417, "Expectation Failed" },
	{ 422, "Unprocessable Content" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};

const char *problem_title(int status)
{
	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
		if (titles[i].status == status)
			return titles[i].title;
	return status >= 500 ? "Server Error" : "Client Error";
}

/* A text that was cut at its array's end must not end in half a character: the document would not be UTF-8. */
static void drop_half_character(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && !str_utf8_valid((struct slice){ text, len }) && len + 3 > strlen(text))
		len--;
	text[len] = '\0';
}

/* A detail may quote bytes of a request that are not UTF-8. */
static void make_utf8(char *text)
{
	if (str_utf8_valid(slice_of(text)))
		return;
	for (; *text != '\0'; text++)
		if ((unsigned char)*text >= 0x80)
			*text = '?';
}

static void take(char *out, size_t size, struct slice text)
{
	size_t len = text.len < size ? text.len : size - 1;

	if (len > 0)
		memcpy(out, text.data, len);
	out[len] = '\0';
	if (len < text.len)
		drop_half_character(out);
}

void problem_set(struct problem *problem, int status, const char *pointer, const char *format, ...)
{
	char detail[sizeof(problem->detail)];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(detail, sizeof(detail), format, args); /* aside first: an argument may be the old detail */
	va_end(args);
	if (len < 0)
		detail[0] = '\0';
	if (len >= (int)sizeof(detail))
		drop_half_character(detail);
	make_utf8(detail);
	problem->status = status;
	take(problem->title, sizeof(problem->title), slice_of(problem_title(status)));
	take(problem->pointer, sizeof(problem->pointer), slice_of(pointer));
	make_utf8(problem->pointer);
	memcpy(problem->detail, detail, sizeof(detail));
}

void problem_write(const struct problem *problem, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "title", slice_of(problem->title));
	json_put_int(&w, "status", problem->status);
	json_put_string(&w, "detail", slice_of(problem->detail));
	if (problem->pointer[0] != '\0')
		json_put_string(&w, "pointer", slice_of(problem->pointer));
	json_close(&w, '}');
}

int problem_read(struct problem *problem, struct slice json)
{
	struct err err = ERR_INIT;
	struct json *root = json_parse(json, &err);
	const struct json *title = json_get(root, "title");
	const struct json *detail = json_get(root, "detail");
	int64_t status;
	int rc = -1;

	if (root == NULL || json_string(title).data == NULL || json_string(detail).data == NULL)
		goto out;
	if (!json_int64(json_get(root, "status"), &status) || status < 400 || status > 599)
		goto out;
	problem->status = (int)status;
	take(problem->title, sizeof(problem->title), json_string(title));
	take(problem->detail, sizeof(problem->detail), json_string(detail));
	take(problem->pointer, sizeof(problem->pointer), json_string(json_get(root, "pointer")));
	rc = 0;
out:
	json_free(root);
	return rc;
}

void problem_answer(struct http_exchange *exchange, const struct problem *problem)
{
	struct buf body = BUF_INIT;

	problem_write(problem, &body);
	http_answer(exchange, problem->status, PROBLEM_TYPE, &body);
}
