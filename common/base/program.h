/* program: what every program does before its own work: options, settings, log, signals. Uses settings, log, stop.
 *
 *   int main(int argc, char **argv) { return program_main(&feed_gateway, argc, argv); }
 *
 * Understands -c/--config FILE (default: $FEEDMILL_CONFIG, else none: defaults and environment), -h/--help, -V/--version and
 * --check-config. Exit codes: 0 done, 1 failed, 2 the command line or the settings are wrong (nothing was opened),
 * 130 left at the second signal. */
#ifndef FEEDMILL_BASE_PROGRAM_H
#define FEEDMILL_BASE_PROGRAM_H

#include "common/base/settings.h"

struct program {
	const char *name;
	const char *summary;  /* one line */
	const char *synopsis; /* what follows the options: "NAME", "VERB [ARGUMENT…]" */
	const char *(*details)(void); /* more text for --help (a table of verbs or workers), or NULL */
	const char *(*libraries)(void); /* "librdkafka 2.0.2, …" for --version, or NULL */
	/* argv[0] is the first word behind the options. Returns the exit code. */
	int (*run)(const struct settings *settings, int argc, char **argv);
};

int program_main(const struct program *program, int argc, char **argv);

/* The file that the settings come from, as it was given, or NULL: defaults and environment. */
const char *program_config(void);

/* The usage error: prints "NAME: message" and where help is to standard error; returns 2. */
int program_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define FEEDMILL_VERSION "0.1.0"

#endif
