/* The text of a Prefer header goes in, what it asks of us comes out. */
#include "api-gateway/prefer.h"

#include <stdio.h>

/* The part of *rest up to a separator that stands outside of quotes; rest becomes what follows it. */
static struct slice cut_unquoted(struct slice *rest, char separator)
{
	struct slice part = *rest;
	bool is_quoted = false;
	size_t i = 0;

	for (; i < rest->len && (is_quoted || rest->data[i] != separator); i++) {
		if (rest->data[i] == '"')
			is_quoted = !is_quoted;
		else if (rest->data[i] == '\\' && is_quoted && i + 1 < rest->len)
			i++;
	}
	part.len = i;
	rest->data += i < rest->len ? i + 1 : i;
	rest->len -= i < rest->len ? i + 1 : i;
	return slice_trim(part);
}

static struct slice unquote(struct slice value)
{
	value = slice_trim(value);
	if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
		return (struct slice){ value.data + 1, value.len - 2 };
	return value;
}

static void read_wait(struct slice value, struct prefer *out)
{
	int64_t seconds;

	if (!str_int64(unquote(value), &seconds) || seconds < 0)
		return;
	out->wait_s = seconds < PREFER_WAIT_MAX_S ? seconds : PREFER_WAIT_MAX_S;
}

void prefer_read(struct slice header, struct prefer *out)
{
	bool waited = false;

	*out = (struct prefer){ false, -1 };
	while (header.len > 0) {
		struct slice preference = cut_unquoted(&header, ',');
		struct slice value = cut_unquoted(&preference, ';'); /* parameters have no meaning for ours */
		struct slice name = cut_unquoted(&value, '=');

		if (slice_is_nocase(name, "respond-async") && unquote(value).len == 0)
			out->respond_async = true;
		if (slice_is_nocase(name, "wait") && !waited) {
			waited = true;
			read_wait(value, out);
		}
	}
}

void prefer_format_wait(const struct prefer *prefer, char out[PREFER_TEXT])
{
	snprintf(out, PREFER_TEXT, "wait=%lld", (long long)prefer->wait_s);
}
