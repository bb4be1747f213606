/* The kernel's clocks go in, numbers and RFC 3339 texts come out, and back. */
#include "common/base/clock.h"

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

/* `digits` digits, and what stands behind them. printf() would be the dearest part of writing a post. */
static char *put(char *at, int number, int digits, char behind)
{
	for (int i = digits - 1; i >= 0; i--, number /= 10)
		at[i] = (char)('0' + number % 10);
	at[digits] = behind;
	return at + digits + 1;
}

/* The years 0 to 9999 that RFC 3339 has: a time beyond them, which only a foreign record can bring, becomes the last or first. */
#define FIRST_MS INT64_C(-62167219200000)
#define LAST_MS INT64_C(253402300799999)

void clock_rfc3339(int64_t wall_ms, char out[CLOCK_TEXT])
{
	const int64_t there_ms = wall_ms < FIRST_MS ? FIRST_MS : wall_ms > LAST_MS ? LAST_MS : wall_ms;
	int64_t ms = there_ms % 1000;
	time_t seconds = (time_t)(there_ms / 1000);
	struct tm tm;
	char *at = out;

	if (ms < 0) { /* before 1970: towards the earlier second */
		ms += 1000;
		seconds--;
	}
	gmtime_r(&seconds, &tm);
	at = put(at, tm.tm_year + 1900, 4, '-');
	at = put(at, tm.tm_mon + 1, 2, '-');
	at = put(at, tm.tm_mday, 2, 'T');
	at = put(at, tm.tm_hour, 2, ':');
	at = put(at, tm.tm_min, 2, ':');
	at = put(at, tm.tm_sec, 2, '.');
	at = put(at, (int)ms, 3, 'Z');
	*at = '\0';
}

void clock_date(int64_t wall_ms, char out[CLOCK_TEXT])
{
	time_t seconds = (time_t)(wall_ms / 1000 - (wall_ms % 1000 < 0));
	struct tm tm;

	localtime_r(&seconds, &tm);
	strftime(out, CLOCK_TEXT, "%Y-%m-%d", &tm);
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
	*wall_ms = ((int64_t)timegm(&tm) - (int64_t)offset * 60) * 1000 + ms;
	return true;
}
