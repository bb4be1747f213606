/* clock: RFC 3339 both ways, days that exist, the process's zone, and that the clocks go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/rand.h"

#define DAY INT64_C(86400000)

static void clocks_run(void **state)
{
	int64_t ms = clock_mono_ms();
	int64_t us = clock_mono_us();

	(void)state;
	assert_true(us / 1000 >= ms && us / 1000 - ms < 10000);
	while (clock_mono_us() == us) {
	}
	assert_true(clock_mono_us() > us);
	assert_true(clock_wall_ms() / 1000 - (int64_t)time(NULL) <= 1);
	assert_true(clock_wall_ms() / 1000 - (int64_t)time(NULL) >= -1);
}

static void times_are_written(void **state)
{
	char out[CLOCK_TEXT];

	(void)state;
	clock_rfc3339(0, out);
	assert_string_equal("1970-01-01T00:00:00.000Z", out);
	clock_rfc3339(INT64_C(1769860800123), out);
	assert_string_equal("2026-01-31T12:00:00.123Z", out);
	clock_rfc3339(INT64_MAX, out);
	assert_string_equal("9999-12-31T23:59:59.999Z", out);
	clock_rfc3339(INT64_MIN, out);
	assert_string_equal("0000-01-01T00:00:00.000Z", out);
	clock_rfc3339(-1, out);
	assert_string_equal("1969-12-31T23:59:59.999Z", out);
}

static void dates_follow_the_zone(void **state)
{
	char out[CLOCK_TEXT];
	int64_t late = INT64_C(1769860800000); /* 2026-01-31T12:00Z */

	(void)state;
	setenv("TZ", "AHEAD-13", 1);
	tzset();
	clock_date(late, out);
	assert_string_equal("2026-02-01", out);
	setenv("TZ", "BEHIND+13", 1);
	tzset();
	clock_date(late, out);
	assert_string_equal("2026-01-30", out);
	setenv("TZ", "UTC", 1);
	tzset();
	clock_date(-1, out);
	assert_string_equal("1969-12-31", out);
}

static void dates_must_exist(void **state)
{
	static const char *const good[] = { "2026-01-31", "2024-02-29", "2000-02-29", "0000-01-01", "9999-12-31" };
	static const char *const bad[] = {
		"", "2026-02-29", "1900-02-29", "2026-00-10", "2026-13-10", "2026-01-00", "2026-01-32", "2026-04-31", "2026-1-31",
		"26-01-31", "2026-01-31 ", " 2026-01-31", "2026/01/31", "20260131", "2026-01-31T00:00:00Z", "2026-01", "2026-01-3a",
		"-026-01-31", "+2026-01-31", "2026-01-", "2026-",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(clock_is_date(slice_of(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (clock_is_date(slice_of(bad[i])))
			fail_msg("\"%s\" is no date", bad[i]);
	}
	assert_false(clock_is_date(SLICE_NONE));
}

static void date_times_are_read(void **state)
{
	static const struct {
		const char *text;
		int64_t wall_ms;
	} rows[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "1970-01-01t00:00:00z", 0 },
		{ "1970-01-01T00:00:00.1Z", 100 },
		{ "1970-01-01T00:00:00.1239999999999999999999Z", 123 },
		{ "1970-01-01T01:00:00+01:00", 0 },
		{ "1969-12-31T18:30:00-05:30", 0 },
		{ "1970-01-01T00:00:00-00:00", 0 },
		{ "1970-01-02T00:00:00+23:59", 60000 },
		{ "1969-12-31T23:59:59.999Z", -1 },
		{ "2026-01-31T12:00:00.123Z", INT64_C(1769860800123) },
		{ "1990-12-31T23:59:60Z", INT64_C(662688000000) },      /* the leap seconds of RFC 3339, 5.8 */
		{ "1990-12-31T15:59:60-08:00", INT64_C(662688000000) },
		{ "2024-02-29T00:00:00Z", INT64_C(1709164800000) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t wall_ms = 42;

		if (!clock_parse_rfc3339(slice_of(rows[i].text), &wall_ms) || wall_ms != rows[i].wall_ms)
			fail_msg("%s gave %lld", rows[i].text, (long long)wall_ms);
	}
}

static void other_date_times_are_refused(void **state)
{
	static const char *const rows[] = {
		"", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z", "2026-01-31 12:00:00Z", "2026-01-31T24:00:00Z",
		"2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00,5Z",
		"2026-01-31T12:00:00+0100", "2026-01-31T12:00:00+01", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60",
		"2026-01-31T12:00:00ZZ", "2026-01-31T12:00:00Z ", " 2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z", "2026-01-31T1:00:00Z",
		"2026-01-31T12:00:00.5", "2026-01-31T12:-1:00Z", "2026-01-31T12:00:00+", "2026-01-31T", "2026-01-31T12", "T12:00:00Z",
	};
	int64_t wall_ms = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (clock_parse_rfc3339(slice_of(rows[i]), &wall_ms))
			fail_msg("\"%s\" was read as %lld", rows[i], (long long)wall_ms);
	}
	assert_int_equal(42, wall_ms);
}

static void every_day_reads_back(void **state)
{
	(void)state;
	for (int64_t at = -30000 * DAY; at < 60000 * DAY; at += 17 * DAY + 12345) {
		char out[CLOCK_TEXT];
		int64_t back = 0;

		clock_rfc3339(at, out);
		assert_true(clock_parse_rfc3339(slice_of(out), &back));
		assert_true(at == back);
	}
}

/* From year 0 to 9999, as the C library counts. */
static void every_day_is_the_calendar_s(void **state)
{
	(void)state;
	for (int64_t day = -719528; day <= 2932896; day++) {
		const time_t seconds = (time_t)(day * 86400 + (day + 719528) % 86399);
		char out[CLOCK_TEXT], wanted[64];
		struct tm tm;

		gmtime_r(&seconds, &tm);
		snprintf(wanted, sizeof(wanted), "%04d-%02d-%02dT%02d:%02d:%02d.007Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
			tm.tm_min, tm.tm_sec);
		clock_rfc3339((int64_t)seconds * 1000 + 7, out);
		if (strcmp(out, wanted) != 0)
			fail_msg("%s is told as %s", wanted, out);
	}
}

static void random_numbers_stay_below_and_differ(void **state)
{
	unsigned seen = 0;
	unsigned char a[16], b[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t number = rand_below(8);

		assert_true(number < 8);
		seen |= 1u << number;
	}
	assert_int_equal(0xff, seen); /* missing one by chance: once in 10^57 runs */
	assert_int_equal(0, rand_below(1));
	rand_bytes(a, sizeof(a));
	rand_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

static int64_t longest_of(struct backoff start, int rounds)
{
	int64_t longest = 0;

	for (int i = 0; i < rounds; i++) {
		struct backoff b = start;
		int64_t wait = backoff_next_ms(&b);

		assert_true(wait >= 1);
		assert_int_equal(start.tries + 1, b.tries);
		longest = wait > longest ? wait : longest;
	}
	return longest;
}

static void backoff_doubles_up_to_its_limit(void **state)
{
	struct backoff b = { .first_ms = 100, .limit_ms = 1000, .tries = 9 };

	(void)state;
	backoff_reset(&b);
	assert_int_equal(0, b.tries);
	for (unsigned tries = 0; tries < 70; tries += tries < 5 ? 1 : 60) {
		int64_t ceiling = tries < 4 ? 100 << tries : 1000;
		int64_t longest = longest_of((struct backoff){ 100, 1000, tries }, 2000);

		assert_true(longest <= ceiling);
		assert_true(longest > ceiling * 3 / 4); /* jitter over the whole range: missed once in 10^249 runs */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clocks_run),
		cmocka_unit_test(times_are_written),
		cmocka_unit_test(dates_follow_the_zone),
		cmocka_unit_test(dates_must_exist),
		cmocka_unit_test(date_times_are_read),
		cmocka_unit_test(other_date_times_are_refused),
		cmocka_unit_test(every_day_reads_back),
		cmocka_unit_test(every_day_is_the_calendar_s),
		cmocka_unit_test(random_numbers_stay_below_and_differ),
		cmocka_unit_test(backoff_doubles_up_to_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
