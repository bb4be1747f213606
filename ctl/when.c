/* What an operator typed goes in, a time comes out. */
#include "ctl/when.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"

#define AGO_MAX INT64_C(1000000) /* of each unit */

static const struct {
	char letter;
	int64_t ms;
} units[] = { { 's', 1000 }, { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 } };

static bool read_ago(struct slice text, int64_t now_ms, int64_t *wall_ms)
{
	int64_t number;

	if (text.len < 2 || !str_int64((struct slice){ text.data, text.len - 1 }, &number) || number < 0 || number > AGO_MAX)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].letter == text.data[text.len - 1]) {
			*wall_ms = now_ms - number * units[i].ms;
			return true;
		}
	}
	return false;
}

bool when_read(const char *text, int64_t now_ms, int64_t *wall_ms)
{
	char midnight[32];

	if (clock_is_date(slice_of(text))) {
		snprintf(midnight, sizeof(midnight), "%sT00:00:00Z", text);
		return clock_parse_rfc3339(slice_of(midnight), wall_ms);
	}
	return clock_parse_rfc3339(slice_of(text), wall_ms) || read_ago(slice_of(text), now_ms, wall_ms);
}
