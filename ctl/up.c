/* feedctl up: a configuration goes in, its gateway and workers run until a signal comes. */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/program.h"
#include "common/http/http_listen.h"
#include "ctl/child.h"
#include "ctl/ctl.h"
#include "ctl/supervise.h"

#define KINDS_MAX 64
#define PATH_TEXT 4096
#define LIST_MS 20000

struct up {
	struct kind kinds[KINDS_MAX]; /* workers as they list themselves, then the gateway */
	size_t count;
	struct buf said;              /* what feed-worker --list printed, for when it fails */
	char gateway[PATH_TEXT], worker[PATH_TEXT];
};

/* ---- programs */

/* Beside our own file, where `make` and `make install` put them; else PATH knows. */
static void find_program(const char *name, char out[PATH_TEXT])
{
	char own[PATH_TEXT - 64];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;

	own[len > 0 ? len : 0] = '\0';
	slash = strrchr(own, '/');
	if (slash != NULL) {
		snprintf(out, PATH_TEXT, "%.*s/%s", (int)(slash - own), own, name);
		if (access(out, X_OK) == 0)
			return;
	}
	snprintf(out, PATH_TEXT, "%s", name);
}

static void add_kind(struct up *up, struct slice name)
{
	if (name.len == 0 || name.len >= sizeof(up->kinds[0].name) || up->count == KINDS_MAX)
		return;
	memcpy(up->kinds[up->count].name, name.data, name.len);
	up->kinds[up->count++].replicas = 1;
}

/* "fanout    feed.posts      store: …" */
static void take_worker(void *arg, struct child *child, struct slice line)
{
	struct up *up = arg;

	(void)child;
	buf_add(&up->said, line.data, line.len);
	add_kind(up, slice_cut(&line, ' '));
}

/* The workers that the program has: who adds one has nothing to do here. */
static int list_workers(struct up *up, struct err *err)
{
	const char *const argv[] = { up->worker, "--list", NULL };
	const struct child_plan plan = { .argv = argv, .socket = -1 };
	int64_t until_ms = clock_mono_ms() + LIST_MS;
	struct child child;
	int status = 0;

	if (child_start(&child, &plan, err) < 0)
		return -1;
	while (child.out >= 0 && clock_mono_ms() < until_ms) {
		struct pollfd out = { .fd = child.out, .events = POLLIN };

		poll(&out, 1, 100);
		child_read(&child, take_worker, up);
	}
	if (child.out >= 0)
		child_kill(&child);
	while (!child_ended(&child, &status, take_worker, up))
		poll(NULL, 0, 1); /* it has closed its output: the end is near */
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || up->count == 0)
		return err_set(err, ERR_FATAL, "%s --list failed: %s", up->worker, up->said.data);
	return 0;
}

/* ---- the command line */

static struct kind *kind_named(struct up *up, struct slice name)
{
	for (size_t i = 0; i < up->count; i++)
		if (slice_is(name, up->kinds[i].name))
			return &up->kinds[i];
	return NULL;
}

static int unknown_kind(struct up *up, struct slice name)
{
	struct buf names = BUF_INIT;
	int code;

	for (size_t i = 0; i < up->count; i++)
		buf_addf(&names, "%s%s", i > 0 ? ", " : "", up->kinds[i].name);
	code = program_usage("up: --replicas knows no \"%.*s\"; there are %s", (int)name.len, name.data, names.data);
	buf_release(&names);
	return code;
}

/* "fanout=2,gateway=2"; 0, or the exit code. */
static int set_replicas(struct up *up, const char *text)
{
	struct slice rest = slice_of(text);

	while (rest.len > 0) {
		struct slice number = slice_cut(&rest, ',');
		struct slice name = slice_cut(&number, '=');
		struct kind *kind = kind_named(up, name);
		int64_t replicas;

		if (kind == NULL)
			return unknown_kind(up, name);
		if (!str_int64(number, &replicas) || replicas < 0 || replicas > SUPERVISE_REPLICAS)
			return program_usage("up: --replicas %s=N takes a number from 0 to %d", kind->name, SUPERVISE_REPLICAS);
		kind->replicas = (int)replicas;
	}
	return 0;
}

/* 0, or the exit code. */
static int read_options(struct up *up, int argc, char **argv)
{
	static const struct option options[] = { { "replicas", required_argument, NULL, 'r' }, { NULL, 0, NULL, 0 } };
	int option, rc = 0;

	optind = 0; /* the program's own options were read by getopt too */
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		rc = option == 'r' ? set_replicas(up, optarg) : program_usage("up: it takes [--replicas NAME=N,…]");
	if (rc == 0 && optind != argc)
		rc = program_usage("up: unexpected %s", argv[optind]);
	return rc;
}

/* ---- running */

/* Held as long as we are: clients queue here while gateways come and go. */
static int open_socket(const struct settings *settings, struct err *err)
{
	int handed_down = http_listen_handed_down();

	return handed_down >= 0 ? handed_down : http_listen(settings->gateway.listen, err);
}

static int run(struct up *up, const struct settings *settings)
{
	struct supervised what = { settings, program_config(), up->gateway, up->worker, -1, up->kinds, up->count };
	struct err err = ERR_INIT;
	int code;

	what.socket = open_socket(settings, &err);
	if (what.socket < 0) {
		fprintf(stderr, "feedctl up: %s\n", err.message);
		return 1;
	}
	log_info("holding", log_int("port", http_listen_port(what.socket)), log_int("pid", getpid()), log_str("version", FEEDMILL_VERSION));
	code = supervise(&what);
	close(what.socket);
	return code;
}

int ctl_up(const struct settings *settings, int argc, char **argv)
{
	struct up up = { .said = BUF_INIT };
	struct err err = ERR_INIT;
	int code = 1;

	find_program("feed-gateway", up.gateway);
	find_program("feed-worker", up.worker);
	if (list_workers(&up, &err) < 0) {
		fprintf(stderr, "feedctl up: %s\n", err.message);
		goto out;
	}
	add_kind(&up, slice_of(KIND_GATEWAY));
	code = read_options(&up, argc, argv);
	if (code == 0)
		code = run(&up, settings);
out:
	buf_release(&up.said);
	return code;
}
