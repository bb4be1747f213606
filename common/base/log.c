/* An event and its fields go in, one logfmt line on standard error comes out. */
#include "common/base/log.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

/* Longer lines are cut: a pipe takes this much whole or not at all, and poll(2) says when it has room for it. */
#define LINE_MAX_BYTES PIPE_BUF
#define VALUE_MAX 1024

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static struct {
	const char *program;
	const char *worker;
	atomic_int level;
	pthread_mutex_t lock; /* between poll and write */
	int64_t dropped;      /* lines, since the last one that went out */
} state = { .program = "feedmill", .level = LOG_LEVEL_INFO, .lock = PTHREAD_MUTEX_INITIALIZER };

void log_open(const char *program, const char *worker)
{
	state.program = program;
	state.worker = worker;
}

int log_set_level(const char *name)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			atomic_store(&state.level, i);
			return 0;
		}
	}
	return -1;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&state.level, memory_order_relaxed);
}

const char *log_level_names(void)
{
	return "error|warn|info|debug";
}

struct log_field log_str(const char *key, const char *value)
{
	return log_slice(value != NULL ? key : NULL, slice_of(value));
}

struct log_field log_slice(const char *key, struct slice value)
{
	if (value.data == NULL)
		value.data = ""; /* NULL would make it a number */
	return (struct log_field){ .key = key, .text = value };
}

struct log_field log_int(const char *key, int64_t value)
{
	return (struct log_field){ .key = key, .number = value };
}

struct log_field log_err(const struct err *err)
{
	return log_str("error", err->message);
}

static bool needs_quotes(struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return true;
	}
	return value.len == 0;
}

/* The bytes at i that could make one line look like two, or like another: C0 and DEL, in UTF-8 C1, line separators and the
 * marks that turn the direction; or 0. */
static size_t sly_bytes(struct slice value, size_t i)
{
	unsigned char c = (unsigned char)value.data[i];
	unsigned char next = i + 1 < value.len ? (unsigned char)value.data[i + 1] : 0;
	unsigned char last = i + 2 < value.len ? (unsigned char)value.data[i + 2] : 0;

	if (c < ' ' || c == 0x7f)
		return 1;
	if (c == 0xc2 && next >= 0x80 && next < 0xa0)
		return 2;
	if (c == 0xe2 && ((next == 0x80 && last >= 0xa8 && last <= 0xae) || (next == 0x81 && last >= 0xa6 && last <= 0xa9)))
		return 3;
	return 0;
}

static void add_escaped(struct buf *line, struct slice value)
{
	bool valid = str_utf8_valid(value);
	size_t hidden = 0; /* how many bytes from here on are shown as \xNN */

	buf_add_char(line, '"');
	for (size_t i = 0; i < value.len; i++) {
		char c = value.data[i];

		if (hidden == 0)
			hidden = !valid && (unsigned char)c >= 0x80 ? 1 : sly_bytes(value, i);
		if (c == '"' || c == '\\')
			buf_addf(line, "\\%c", c);
		else if (c == '\n')
			buf_add_str(line, "\\n");
		else if (hidden > 0)
			buf_addf(line, "\\x%02x", (unsigned)(unsigned char)c);
		else
			buf_add_char(line, c);
		hidden -= hidden > 0;
	}
	buf_add_char(line, '"');
}

static void add_field(struct buf *line, const char *key, struct slice value)
{
	if (value.len > VALUE_MAX)
		value.len = VALUE_MAX;
	buf_add_char(line, ' ');
	buf_add_str(line, key);
	buf_add_char(line, '=');
	if (needs_quotes(value))
		add_escaped(line, value);
	else
		buf_add(line, value.data, value.len);
}

static void build_line(struct buf *line, enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
	char now[CLOCK_TEXT];

	clock_rfc3339(clock_wall_ms(), now);
	buf_addf(line, "time=%s level=%s", now, level_names[level]);
	add_field(line, "program", slice_of(state.program));
	if (state.worker != NULL)
		add_field(line, "worker", slice_of(state.worker));
	add_field(line, "event", slice_of(event));
	for (size_t i = 0; i < count; i++) {
		if (fields[i].key == NULL)
			continue;
		if (fields[i].text.data != NULL)
			add_field(line, fields[i].key, fields[i].text);
		else
			buf_addf(line, " %s=%lld", fields[i].key, (long long)fields[i].number);
	}
}

/* A reader that has stopped reading must not stop us: without room at once the line is counted and dropped. */
static void write_line(struct buf *line)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

	pthread_mutex_lock(&state.lock);
	if (state.dropped > 0)
		buf_addf(line, " dropped_lines=%lld", (long long)state.dropped);
	if (line->len >= LINE_MAX_BYTES)
		line->len = LINE_MAX_BYTES - 1;
	buf_add_char(line, '\n');
	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0 && write(STDERR_FILENO, line->data, line->len) > 0)
		state.dropped = 0;
	else
		state.dropped++;
	pthread_mutex_unlock(&state.lock);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
	struct buf line = BUF_INIT;

	if (!log_enabled(level))
		return;
	build_line(&line, level, event, fields, count);
	write_line(&line);
	buf_release(&line);
}
