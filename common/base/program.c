/* A command line goes in; a program with its settings read, its log open and its signals caught comes out. */
#include "common/base/program.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/conf.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/notify.h"
#include "common/base/packages.h"
#include "common/base/stop.h"

enum { EXIT_DONE = 0, EXIT_USAGE = 2 };

static const char *program_name = "feedmill"; /* for program_usage() */
static const char *config_file;              /* for program_config() */

struct options {
	const char *file;
	bool check;
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check-config", no_argument, NULL, 'k' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static void print_help(const struct program *program)
{
	printf("%s: %s\n\nusage: %s [OPTION…] %s\n\n", program->name, program->summary, program->name,
		program->synopsis != NULL ? program->synopsis : "");
	printf("  -c, --config FILE   settings; without: $FEEDMILL_CONFIG, else defaults and environment\n"
	       "      --check-config  read the settings, say whether they are right, and leave\n"
	       "  -h, --help          this text\n"
	       "  -V, --version       version, also of the libraries\n\n"
	       "The variable FEEDMILL_<GROUP>_<NAME> stands over the setting <group>.<name> in the file.\n");
	if (program->details != NULL)
		printf("\n%s", program->details());
}

static void print_old(void *arg, const char *package, const char *installed, const char *wanted)
{
	(void)arg;
	printf("warning: %s %s lacks security fixes, please upgrade it to %s\n", package, installed, wanted);
}

static void print_version(const struct program *program)
{
	printf("%s %s\n", program->name, FEEDMILL_VERSION);
	if (program->libraries != NULL)
		printf("%s, %s, %s\n", program->libraries(), json_library(), conf_library());
	packages_check(PACKAGES_STATUS, print_old, NULL);
}

const char *program_config(void)
{
	return config_file;
}

int program_usage(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n%s --help tells more\n", program_name);
	return EXIT_USAGE;
}

/* -1: go on; else the exit code. getopt has said what is wrong with an option. */
static int read_options(const struct program *program, int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt_long(argc, argv, "+c:hV", long_options, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->file = optarg;
			break;
		case 'k':
			options->check = true;
			break;
		case 'h':
			print_help(program);
			return EXIT_DONE;
		case 'V':
			print_version(program);
			return EXIT_DONE;
		default:
			fprintf(stderr, "%s --help tells more\n", program->name);
			return EXIT_USAGE;
		}
	}
	return -1;
}

static int run(const struct program *program, const struct settings *settings, int argc, char **argv)
{
	log_open(program->name, NULL);
	log_set_level(settings->log_level);
	stop_install();
	notify_open();
	return program->run(settings, argc, argv);
}

int program_main(const struct program *program, int argc, char **argv)
{
	const char *from_environment = getenv("FEEDMILL_CONFIG");
	struct options options = { .file = from_environment };
	struct settings settings;
	struct err err = ERR_INIT;
	int code;

	program_name = program->name;
	code = read_options(program, argc, argv, &options);
	if (code >= 0)
		return code;
	if (options.file != NULL && options.file[0] == '\0')
		options.file = NULL; /* FEEDMILL_CONFIG= means none */
	config_file = options.file;
	if (settings_load(&settings, options.file, &err) < 0) {
		fprintf(stderr, "%s: %s\n", program->name, err.message);
		return EXIT_USAGE;
	}
	if (options.check)
		printf("settings are right: %s\n", options.file != NULL ? options.file : "defaults and environment");
	else
		code = run(program, &settings, argc - optind, argv + optind);
	settings_release(&settings);
	return options.check ? EXIT_DONE : code;
}
