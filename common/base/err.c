/* A format and its arguments go in, a message of bounded length with a kind comes out. */
#include "common/base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
	[ERR_NONE] = "none",
	[ERR_INVALID] = "invalid",
	[ERR_UNAVAILABLE] = "unavailable",
	[ERR_CONFLICT] = "conflict",
	[ERR_UNKNOWN] = "unknown",
	[ERR_FULL] = "full",
	[ERR_FATAL] = "fatal",
};

int err_set(struct err *err, enum err_kind kind, const char *format, ...)
{
	char message[sizeof(err->message)]; /* the arguments may point into err->message */
	va_list args;

	assert(kind != ERR_NONE);
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	memcpy(err->message, message, sizeof(message));
	err->kind = kind;
	return -1;
}

/* "while x", "while x:" and "while x: " all read the same before a message. */
static const char *joint(const char *words)
{
	size_t len = strlen(words);

	if (len > 0 && words[len - 1] == ' ')
		return "";
	return len > 0 && words[len - 1] == ':' ? " " : ": ";
}

int err_wrap(struct err *err, const char *format, ...)
{
	char words[sizeof(err->message)];
	char old[sizeof(err->message)];
	va_list args;
	int len;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	memcpy(old, err->message, sizeof(old));
	len = snprintf(err->message, sizeof(err->message), "%s%s", words, joint(words));
	if (len >= 0 && (size_t)len < sizeof(err->message))
		snprintf(err->message + len, sizeof(err->message) - (size_t)len, "%s", old);
	return -1;
}

void err_clear(struct err *err)
{
	err->kind = ERR_NONE;
	err->message[0] = '\0';
}

const char *err_kind_name(enum err_kind kind)
{
	assert((size_t)kind < sizeof(kind_names) / sizeof(kind_names[0]));
	return kind_names[kind];
}
