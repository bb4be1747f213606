/* THE TABLE of jobs: a task's name goes in, its handler comes out. One line for each; settings add those with a target. */
#include <string.h>

#include "common/base/mem.h"
#include "workers/jobs/handlers.h"

static const struct job_entry built_in[] = {
	/* name           function         threads retries parameters */
	{ "echo",         job_echo,        true,   0, "x", NULL },
	{ "add",          job_add,         true,   0, "x y", NULL },
	{ "sleep",        job_sleep,       true,   0, "seconds", NULL },
	{ "fail",         job_fail_always, true,   0, "message", NULL },
	{ "flaky",        job_flaky,       true,   3, "n", NULL },
	{ "crash",        job_crash,       false,  0, "", NULL },
};
#define BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

static struct job_entry *named;
static size_t named_count;

int jobs_open(const struct settings *settings, struct err *err)
{
	(void)settings;
	(void)err;
	return 0;
}

void jobs_close(void)
{
	free(named);
	named = NULL;
	named_count = 0;
}

const struct job_entry *job_at(size_t i)
{
	if (i < BUILT_IN)
		return &built_in[i];
	return i - BUILT_IN < named_count ? &named[i - BUILT_IN] : NULL;
}

const struct job_entry *job_find(struct slice name)
{
	const struct job_entry *entry;

	for (size_t i = 0; (entry = job_at(i)) != NULL; i++)
		if (slice_is(name, entry->name))
			return entry;
	return NULL;
}
