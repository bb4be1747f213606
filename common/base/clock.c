/* The kernel's clocks go in, numbers and RFC 3339 texts come out, and back. */
#include "common/base/clock.h"

#include <string.h>
#include <time.h>

static int64_t read_us(clockid_t which)
{
	struct timespec now;

	clock_gettime(which, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

/* ---- dates. The calendar of the C library takes a lock for the time zone, and its text a parser: both dear where a row has a time. */

#define DAY_S 86400
#define ERA_DAYS 146097 /* 400 years */

/* Days since 1970-01-01. Years begin in March here, so that the leap day is a year's last. */
static int64_t days_of(int year, int month, int day)
{
	const int64_t years = year + 400 - (month <= 2);
	const int months = month > 2 ? month - 3 : month + 9;

	return years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719468 - ERA_DAYS;
}

/* From year 0 on. */
static void date_of(int64_t days, int *year, int *month, int *day)
{
	const int64_t since = days + 719468 + ERA_DAYS;
	const int64_t of_era = since % ERA_DAYS;
	const int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	const int64_t of_year = of_era - (years * 365 + years / 4 - years / 100);
	const int months = (int)((5 * of_year + 2) / 153);

	*day = (int)(of_year - (153 * months + 2) / 5 + 1);
	*month = months < 10 ? months + 3 : months - 9;
	*year = (int)(since / ERA_DAYS * 400 + years - 400 + (*month <= 2));
}

/* The years 0 to 9999 that RFC 3339 has: a time beyond them, which only a foreign record can bring, becomes the last or first. */
#define FIRST_MS INT64_C(-62167219200000)
#define LAST_MS INT64_C(253402300799999)

void clock_rfc3339(int64_t wall_ms, char out[CLOCK_TEXT])
{
	const int64_t there_ms = wall_ms < FIRST_MS ? FIRST_MS : wall_ms > LAST_MS ? LAST_MS : wall_ms;
	const int64_t ms = there_ms - FIRST_MS; /* the first is a midnight */
	const int of_day_s = (int)(ms / 1000 % DAY_S);
	int year, month, day;
	char *at = out;

	date_of(ms / 1000 / DAY_S + FIRST_MS / 1000 / DAY_S, &year, &month, &day);
	at = str_put_digits(at, year, 4, '-');
	at = str_put_digits(at, month, 2, '-');
	at = str_put_digits(at, day, 2, 'T');
	at = str_put_digits(at, of_day_s / 3600, 2, ':');
	at = str_put_digits(at, of_day_s / 60 % 60, 2, ':');
	at = str_put_digits(at, of_day_s % 60, 2, '.');
	at = str_put_digits(at, (int)(ms % 1000), 3, 'Z');
	*at = '\0';
}

/* A quarter of an hour has one date in every zone. Rows that follow each other often share it. */
void clock_date(int64_t wall_ms, char out[CLOCK_TEXT])
{
	static _Thread_local int64_t last_quarter = INT64_MIN;
	static _Thread_local long last_zone;
	static _Thread_local char last_text[CLOCK_TEXT];
	const time_t seconds = (time_t)(wall_ms / 1000 - (wall_ms % 1000 < 0));
	const int64_t quarter = seconds / 900 - (seconds % 900 < 0);

	if (quarter != last_quarter || timezone != last_zone) {
		struct tm tm;

		localtime_r(&seconds, &tm);
		strftime(last_text, CLOCK_TEXT, "%Y-%m-%d", &tm);
		last_quarter = quarter;
		last_zone = timezone;
	}
	memcpy(out, last_text, CLOCK_TEXT);
}

/* A fixed number of digits at the front of s, which moves behind them; -1: they are not there. */
static int take_digits(struct slice *s, size_t count)
{
	int number = 0;

	if (s->len < count)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (s->data[i] < '0' || s->data[i] > '9')
			return -1;
		number = number * 10 + (s->data[i] - '0');
	}
	s->data += count;
	s->len -= count;
	return number;
}

static bool take_char(struct slice *s, char wanted)
{
	if (s->len == 0 || s->data[0] != wanted)
		return false;
	s->data++;
	s->len--;
	return true;
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

static bool take_date(struct slice *s, struct tm *tm)
{
	int year = take_digits(s, 4);
	int month = year >= 0 && take_char(s, '-') ? take_digits(s, 2) : -1;
	int day = month >= 0 && take_char(s, '-') ? take_digits(s, 2) : -1;

	if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return true;
}

static bool take_time(struct slice *s, struct tm *tm)
{
	tm->tm_hour = take_digits(s, 2);
	tm->tm_min = tm->tm_hour >= 0 && take_char(s, ':') ? take_digits(s, 2) : -1;
	tm->tm_sec = tm->tm_min >= 0 && take_char(s, ':') ? take_digits(s, 2) : -1;
	return tm->tm_hour >= 0 && tm->tm_hour <= 23 && tm->tm_min >= 0 && tm->tm_min <= 59 && tm->tm_sec >= 0 &&
		tm->tm_sec <= 60; /* 60: a leap second, see is_leap_second() */
}

static bool take_fraction(struct slice *s, int64_t *ms)
{
	int64_t unit = 100;
	size_t digits = 0;

	*ms = 0;
	if (!take_char(s, '.'))
		return true;
	for (; s->len > 0 && s->data[0] >= '0' && s->data[0] <= '9'; s->data++, s->len--, digits++) {
		*ms += unit * (s->data[0] - '0');
		unit /= 10;
	}
	return digits > 0;
}

static bool take_offset(struct slice *s, int *minutes)
{
	bool west;
	int hour, minute;

	*minutes = 0;
	if (take_char(s, 'Z') || take_char(s, 'z'))
		return true;
	west = take_char(s, '-');
	if (!west && !take_char(s, '+'))
		return false;
	hour = take_digits(s, 2);
	minute = hour >= 0 && take_char(s, ':') ? take_digits(s, 2) : -1;
	if (hour > 23 || minute < 0 || minute > 59)
		return false;
	*minutes = (hour * 60 + minute) * (west ? -1 : 1);
	return true;
}

/* Leap seconds are put in at 23:59:60 UTC. */
static bool is_leap_second(const struct tm *tm, int offset_minutes)
{
	int minute = tm->tm_hour * 60 + tm->tm_min - offset_minutes;

	return (minute % 1440 + 1440) % 1440 == 1439;
}

bool clock_is_date(struct slice text)
{
	struct tm tm;

	return take_date(&text, &tm) && text.len == 0;
}

bool clock_parse_rfc3339(struct slice text, int64_t *wall_ms)
{
	struct tm tm = { 0 };
	int64_t ms;
	int offset;

	if (!take_date(&text, &tm) || !(take_char(&text, 'T') || take_char(&text, 't')))
		return false;
	if (!take_time(&text, &tm) || !take_fraction(&text, &ms) || !take_offset(&text, &offset) || text.len > 0)
		return false;
	if (tm.tm_sec == 60 && !is_leap_second(&tm, offset))
		return false;
	*wall_ms = (days_of(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday) * DAY_S + tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec - offset * 60) * 1000 + ms;
	return true;
}
