/* Tests go in, one process for each part of them runs them, their words come out as if they had run in turn. */
#include "tests/unit/side_by_side.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PARTS = 6 };

struct part {
	pid_t pid;
	FILE *said;
};

/* Every PARTS-th test: neighbours are alike, and take alike. */
static void run_part(const char *name, const struct CMUnitTest *tests, size_t count, size_t part)
{
	struct CMUnitTest *mine = calloc(count, sizeof(*mine));
	size_t number = 0;
	int failed;

	if (mine == NULL)
		abort();
	for (size_t i = part; i < count; i += PARTS)
		mine[number++] = tests[i];
	failed = number > 0 ? _cmocka_run_group_tests(name, mine, number, NULL, NULL) : 0;
	free(mine);
	exit(failed < 100 ? failed : 100);
}

static void start(struct part *out, const char *name, const struct CMUnitTest *tests, size_t count, size_t part)
{
	out->said = tmpfile();
	if (out->said == NULL)
		abort();
	out->pid = fork();
	if (out->pid < 0)
		abort();
	if (out->pid > 0)
		return;
	dup2(fileno(out->said), STDOUT_FILENO);
	dup2(fileno(out->said), STDERR_FILENO);
	run_part(name, tests, count, part);
}

static int finish(struct part *part)
{
	int status = 0, c;

	waitpid(part->pid, &status, 0);
	rewind(part->said);
	while ((c = getc(part->said)) != EOF)
		putchar(c);
	fclose(part->said);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	printf("[  FAILED  ] a part of the tests ended by signal %d\n", WTERMSIG(status));
	return 1;
}

int side_by_side_run(const char *name, const struct CMUnitTest *tests, size_t count)
{
	struct part parts[PARTS];
	int failed = 0;

	fflush(NULL);
	for (size_t i = 0; i < PARTS; i++)
		start(&parts[i], name, tests, count, i);
	for (size_t i = 0; i < PARTS; i++)
		failed += finish(&parts[i]);
	return failed;
}
