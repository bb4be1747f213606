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
	{ "reject",       job_reject_always, true, 0, "message", NULL },
	{ "ignore",       job_ignore_always, true, 0, "", NULL },
	{ "crash",        job_crash,       false,  0, "", NULL },
	{ "email.send",   job_email_send,  true,   8, "to subject text", NULL },
	{ "image.resize", job_image_resize, false, 3, "source target width height", NULL },
	{ "webhook.deliver", job_webhook_deliver, true, 8, "url payload secret", NULL },
	{ "feed.post",    job_feed_post,   true,   8, "author subject story", NULL },
	{ "feed.befriend", job_feed_befriend, true, 8, "one other", NULL },
};
#define BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

static struct job_entry *named;
static size_t named_count;

#define NAMED_RETRIES 3

/* "task=target; other=target" */
static int read_named(const char *setting, struct slice text, job_fn *run, struct err *err)
{
	while (text.len > 0) {
		struct slice target = slice_trim(slice_cut(&text, ';'));
		const struct slice name = slice_trim(slice_cut(&target, '='));

		target = slice_trim(target);
		if (name.len == 0 && target.len == 0)
			continue;
		if (name.len == 0 || target.len == 0)
			return err_set(err, ERR_FATAL, "setting %s: \"%.*s\" is not task=target", setting, (int)name.len, name.len > 0 ? name.data : "");
		if (run == job_exec && !job_exec_takes(target))
			return err_set(err, ERR_FATAL, "setting %s: the line of %.*s has more than 4095 bytes or 63 words", setting, (int)name.len, name.data);
		if (job_find(name) != NULL)
			return err_set(err, ERR_FATAL, "setting %s: there is a job %.*s already", setting, (int)name.len, name.data);
		named = mem_grow(named, named_count + 1, sizeof(*named));
		named[named_count++] = (struct job_entry){ mem_dup(name.data, name.len), run, false, NAMED_RETRIES, "", mem_dup(target.data, target.len) };
	}
	return 0;
}

int jobs_open(const struct settings *settings, struct err *err)
{
	if (read_named("job.exec", slice_of(settings->job.exec), job_exec, err) < 0)
		return -1;
	return read_named("job.http", slice_of(settings->job.http), job_http, err);
}

void jobs_close(void)
{
	for (size_t i = 0; i < named_count; i++) {
		free((void *)(uintptr_t)named[i].name);
		free((void *)(uintptr_t)named[i].target);
	}
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
