/* ctl: the verbs of feedctl, one file each; main.c is their table. Uses program.
 *
 * A verb gets its own words (argv[0] is its name) and returns the exit code: 0 done, 1 failed (said on standard error, with what
 * to do), 2 the command line is wrong. Results go to standard output. */
#ifndef FEEDMILL_CTL_CTL_H
#define FEEDMILL_CTL_CTL_H

#include "common/base/settings.h"

int ctl_config(const struct settings *settings, int argc, char **argv);
int ctl_dlq(const struct settings *settings, int argc, char **argv);
int ctl_health(const struct settings *settings, int argc, char **argv);
int ctl_job(const struct settings *settings, int argc, char **argv);
int ctl_lag(const struct settings *settings, int argc, char **argv);
int ctl_migrate(const struct settings *settings, int argc, char **argv);
int ctl_offsets(const struct settings *settings, int argc, char **argv);
int ctl_post(const struct settings *settings, int argc, char **argv);
int ctl_prune(const struct settings *settings, int argc, char **argv);
int ctl_story(const struct settings *settings, int argc, char **argv);
int ctl_tail(const struct settings *settings, int argc, char **argv);
int ctl_topics(const struct settings *settings, int argc, char **argv);
int ctl_up(const struct settings *settings, int argc, char **argv);
int ctl_webhook(const struct settings *settings, int argc, char **argv);

#endif
