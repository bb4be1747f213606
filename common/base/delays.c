/* A text with delays goes in, their names and lengths come out. */
#include "common/base/delays.h"

#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

#define LONGEST_MS (INT64_C(24) * 3600 * 1000)

static const struct {
	const char *name;
	int64_t ms;
} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 } };

/* 0: it is no delay. */
static int64_t length_of(struct slice word)
{
	const size_t digits = strspn(word.data, "0123456789"); /* the text behind the word ends it */
	const struct slice unit = { word.data + digits, word.len > digits ? word.len - digits : 0 };
	int64_t number;

	if (!str_int64((struct slice){ word.data, digits }, &number) || number < 1 || number > LONGEST_MS)
		return 0;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (slice_is(unit, units[i].name))
			return number <= LONGEST_MS / units[i].ms ? number * units[i].ms : 0;
	return 0;
}

static int add(struct delays *delays, struct slice word, struct err *err)
{
	struct delay *delay = &delays->list[delays->count];
	const int64_t ms = length_of(word);

	if (ms == 0 || word.len >= sizeof(delay->name))
		return err_set(err, ERR_INVALID, "\"%.*s\" is no delay: a number and ms, s, m or h, at most a day", (int)word.len, word.data);
	if (delays->count == DELAYS_MAX)
		return err_set(err, ERR_INVALID, "more than %d delays", DELAYS_MAX);
	for (size_t i = 0; i < delays->count; i++)
		if (slice_is(word, delays->list[i].name))
			return err_set(err, ERR_INVALID, "%s is there twice", delays->list[i].name);
	snprintf(delay->name, sizeof(delay->name), "%.*s", (int)word.len, word.data);
	delay->ms = ms;
	delays->count++;
	return 0;
}

int delays_parse(const char *text, struct delays *out, struct err *err)
{
	struct delays delays = { .count = 0 };
	const char *at = text;

	for (;;) {
		struct slice word;

		at += strspn(at, " ");
		word = (struct slice){ at, strcspn(at, ", ") };
		if (add(&delays, word, err) < 0)
			return -1;
		at += word.len;
		at += strspn(at, " ");
		if (*at == '\0')
			break;
		if (*at++ != ',')
			return err_set(err, ERR_INVALID, "\"%s\" is no list of delays: commas are between them", text);
	}
	*out = delays;
	return 0;
}
