/* A kind and a number go in, the command line of that replica comes out; its lines go in, and come out with its name. */
#include "ctl/replica.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"

#define RESTART_FIRST_MS 500
#define RESTART_LIMIT_MS 30000
#define VALUE_TEXT 512

void replica_init(struct replica *replica, const struct kind *kind, int number)
{
	*replica = (struct replica){ .kind = kind, .number = number, .backoff = { RESTART_FIRST_MS, RESTART_LIMIT_MS, 0 } };
	replica->now = replica->next = (struct child){ .out = -1, .text = BUF_INIT };
	snprintf(replica->name, sizeof(replica->name), "%s.%d", kind->name, number);
}

bool replica_is_gateway(const struct replica *replica)
{
	return strcmp(replica->kind->name, KIND_GATEWAY) == 0;
}

bool replica_is_named(const struct replica *replica, const struct settings *settings)
{
	return !replica_is_gateway(replica) && settings->instance[0] != '\0';
}

/* ---- starting */

static void set_variable(struct child_plan *plan, const char *name, const char *value)
{
	size_t i = 0;

	while (plan->variables[i].name != NULL)
		i++;
	plan->variables[i].name = name;
	plan->variables[i].value = value;
}

/* "host:port" with a port that is `more` above; false: it names none of its own. */
static bool shift_port(const char *address, int more, char out[VALUE_TEXT])
{
	const char *colon = strrchr(address, ':');
	int64_t port;

	if (colon == NULL || !str_int64(slice_of(colon + 1), &port) || port == 0)
		return false;
	snprintf(out, VALUE_TEXT, "%.*s:%lld", (int)(colon - address), address, (long long)port + more);
	return true;
}

static int level_number(const char *name)
{
	static const char *const names[] = { "error", "warn", "info", "debug" }; /* as enum log_level */
	int i = 0;

	while (i < LOG_LEVEL_DEBUG && strcmp(names[i], name) != 0)
		i++;
	return i;
}

int replica_start(struct replica *replica, struct child *child, const struct supervised *what, const struct settings *settings,
	struct err *err)
{
	bool is_gateway = replica_is_gateway(replica);
	const char *argv[5] = { is_gateway ? what->gateway : what->worker };
	struct child_plan plan = { .argv = argv, .socket = is_gateway ? what->socket : -1 };
	char instance[VALUE_TEXT], admin[VALUE_TEXT];
	int words = 1;

	if (what->config != NULL) {
		argv[words++] = "--config";
		argv[words++] = what->config;
	}
	if (!is_gateway)
		argv[words++] = replica->kind->name;
	if (replica->number > 1 && settings->instance[0] != '\0') {
		snprintf(instance, sizeof(instance), "%s-%d", settings->instance, replica->number);
		set_variable(&plan, "FEEDMILL_INSTANCE", instance);
	}
	if (replica->number > 1 && is_gateway && shift_port(settings->gateway.admin, replica->number - 1, admin))
		set_variable(&plan, "FEEDMILL_GATEWAY_ADMIN", admin);
	replica->shown_level = level_number(settings->log_level);
	if (replica->shown_level < LOG_LEVEL_INFO)
		set_variable(&plan, "FEEDMILL_LOG_LEVEL", "info"); /* we wait for a line of this level, and leave out the others */
	replica->start_at_ms = 0;
	return child_start(child, &plan, err);
}

/* ---- lines */

/* The first field of that name: all that come before `event` are the program's own, so nothing from outside can pass for it. */
static struct slice field(struct slice line, const char *name)
{
	size_t len = strlen(name);
	const char *at = memmem(line.data, line.len, name, len);
	struct slice rest;

	if (at == NULL || line.len < 5 || memcmp(line.data, "time=", 5) != 0)
		return SLICE_NONE;
	rest = (struct slice){ at + len, line.len - (size_t)(at - line.data) - len };
	return slice_cut(&rest, ' ');
}

static bool is_shown(const struct replica *replica, struct slice line)
{
	struct slice level = field(line, " level=");
	char name[8] = "";

	if (level.data == NULL || level.len >= sizeof(name))
		return true;
	memcpy(name, level.data, level.len);
	return level_number(name) <= replica->shown_level;
}

/* As log.c: a reader that has stopped reading must not stop us. Longer lines are cut: a pipe takes this much whole. */
static void pass_on(struct replica *replica, struct slice line)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	struct buf text = BUF_INIT;

	buf_addf(&text, "replica=%s ", replica->name);
	if (replica->dropped_lines > 0)
		buf_addf(&text, "dropped_lines=%lld ", (long long)replica->dropped_lines);
	buf_add(&text, line.data, line.len);
	if (text.len >= PIPE_BUF)
		text.len = PIPE_BUF - 1;
	buf_add_char(&text, '\n');
	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0 && write(STDERR_FILENO, text.data, text.len) > 0)
		replica->dropped_lines = 0;
	else
		replica->dropped_lines++;
	buf_release(&text);
}

void replica_line(void *arg, struct child *child, struct slice line)
{
	struct replica *replica = arg;

	if (slice_is(field(line, " event="), "ready"))
		child->is_ready = true;
	if (is_shown(replica, line))
		pass_on(replica, line);
}
