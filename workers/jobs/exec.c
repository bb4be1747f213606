/* Jobs that programs do: the arguments go in as JSON on standard input, the result comes out as JSON on standard output.
 *
 *   in     {"id": …, "task": …, "args": […], "kwargs": {…}, "retries": 0}, and FEED_JOB_ID, FEED_JOB_TASK, FEED_JOB_RETRIES
 *   out    any JSON text; nothing: null
 *   exit   0 done, 75 (EX_TEMPFAIL) again later, all else failed: the last line of standard error says why */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "workers/jobs/handlers.h"

#define OUTPUT_MAX (16u << 20) /* bytes of standard output */
#define ERRORS_MAX 65536       /* of standard error: the rest is read and dropped */
#define LINE_ROOM 4096         /* a program and its arguments, */
#define WORDS_MAX 64           /* with NULL behind them */
#define TRY_LATER 75
#define ORPHANED SIGUSR2       /* to the guard, when the child has died */
#define GRACE_MS 2000          /* from SIGTERM to SIGKILL, once the soft limit has passed */

struct program {
	pid_t pid; /* of the guard, and its group's */
	int in, out, errors;
	struct buf input, output, complaint;
	size_t written;
	int status;
};

/* ---- starting it */

static size_t split(char *line, char **words)
{
	size_t count = 0;
	char *at = line;

	while (count < WORDS_MAX - 1) {
		at += strspn(at, " \t");
		if (*at == '\0')
			break;
		words[count++] = at;
		at += strcspn(at, " \t");
		if (*at != '\0')
			*at++ = '\0';
	}
	words[count] = NULL;
	return count;
}

/* As split() cuts it. */
bool job_exec_takes(struct slice line)
{
	size_t words = 0;
	bool is_gap = true;

	for (size_t i = 0; i < line.len; i++) {
		const bool was_gap = is_gap;

		is_gap = line.data[i] == ' ' || line.data[i] == '\t';
		words += was_gap && !is_gap;
	}
	return line.len < LINE_ROOM && words < WORDS_MAX;
}

static void set_environment(const struct job_call *call)
{
	char text[300];

	snprintf(text, sizeof(text), "%.*s", (int)call->id.len, call->id.data);
	setenv("FEED_JOB_ID", text, 1);
	snprintf(text, sizeof(text), "%.*s", (int)call->task.len, call->task.data);
	setenv("FEED_JOB_TASK", text, 1);
	snprintf(text, sizeof(text), "%lld", (long long)call->retries);
	setenv("FEED_JOB_RETRIES", text, 1);
}

/* In the program's process. */
static _Noreturn void become(const struct job_call *call, const int in[2], const int out[2], const int errors[2])
{
	char line[LINE_ROOM], *words[WORDS_MAX];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	signal(ORPHANED, SIG_DFL);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	dup2(errors[1], STDERR_FILENO);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	set_environment(call);
	snprintf(line, sizeof(line), "%s", call->entry->target);
	if (split(line, words) > 0)
		execv(words[0], words);
	dprintf(STDERR_FILENO, "%s: %s\n", words[0] != NULL ? words[0] : "", strerror(errno));
	_exit(127);
}

static void close_both(int ends[2])
{
	if (ends[0] >= 0)
		close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
}

static void end_group(int number)
{
	(void)number;
	kill(0, SIGKILL);
}

/* The leader of the program's group, so that a limit reaches whatever the program started: the soft one by a signal to the group, the
 * hard one by the death of the child, which the kernel tells. It ends as the program ended. */
static _Noreturn void guard(const struct job_call *call, pid_t child, int in[2], int out[2], int errors[2])
{
	pid_t program;
	int status = 0;

	setpgid(0, 0);
	signal(SIGTERM, SIG_IGN); /* meant for the program */
	signal(SIGUSR1, SIG_IGN);
	signal(ORPHANED, end_group);
	prctl(PR_SET_PDEATHSIG, ORPHANED);
	if (getppid() != child)
		_exit(0); /* it was quicker */
	program = fork();
	if (program == 0)
		become(call, in, out, errors);
	if (program < 0) {
		dprintf(errors[1], "no program can be started: %s\n", strerror(errno));
		_exit(TRY_LATER);
	}
	close_both(in);
	close_both(out);
	close_both(errors);
	while (waitpid(program, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	prctl(PR_SET_DUMPABLE, 0); /* the program's core is enough */
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	_exit(128 + WTERMSIG(status));
}

static int start(struct program *p, const struct job_call *call, struct err *err)
{
	const pid_t self = getpid();
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, errors[2] = { -1, -1 };

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0 || (p->pid = fork()) < 0) {
		close_both(in);
		close_both(out);
		close_both(errors);
		return err_set(err, ERR_UNAVAILABLE, "no program can be started: %s", strerror(errno));
	}
	if (p->pid == 0)
		guard(call, self, in, out, errors);
	setpgid(p->pid, p->pid); /* as it does itself: whoever is first */
	close(in[0]);
	close(out[1]);
	close(errors[1]);
	p->in = in[1];
	p->out = out[0];
	p->errors = errors[0];
	fcntl(p->in, F_SETFL, O_NONBLOCK);
	return 0;
}

/* ---- talking to it */

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void feed(struct program *p)
{
	const ssize_t put = write(p->in, p->input.data + p->written, p->input.len - p->written);

	if (put > 0)
		p->written += (size_t)put;
	if ((put < 0 && errno != EAGAIN && errno != EINTR) || p->written == p->input.len)
		shut(&p->in); /* it has all, or does not want it */
}

static void take(int *fd, struct buf *into, size_t max)
{
	char part[16384];
	const ssize_t got = read(*fd, part, sizeof(part));

	if (got > 0 && into->len < max)
		buf_add(into, part, (size_t)got);
	if (got == 0 || (got < 0 && errno != EINTR))
		shut(fd);
}

static void talk(struct program *p, int64_t wait_ms)
{
	struct pollfd fds[] = { { p->in, POLLOUT, 0 }, { p->out, POLLIN, 0 }, { p->errors, POLLIN, 0 } };

	if (poll(fds, 3, (int)wait_ms) <= 0)
		return;
	if (fds[0].revents != 0)
		feed(p);
	if (fds[1].revents != 0)
		take(&p->out, &p->output, OUTPUT_MAX + 1);
	if (fds[2].revents != 0)
		take(&p->errors, &p->complaint, ERRORS_MAX);
}

/* What the program left behind has as long as the program itself. */
static void end_rest(const struct program *p, int64_t kill_at)
{
	while (kill(-p->pid, 0) == 0) {
		if (clock_mono_ms() >= kill_at) {
			kill(-p->pid, SIGKILL);
			return;
		}
		poll(NULL, 0, 5);
	}
}

/* false: it was ended, because its time was up. */
static bool wait_for(struct program *p, const struct job_call *call)
{
	int64_t kill_at = 0;

	while (waitpid(p->pid, &p->status, WNOHANG) == 0) {
		if (p->output.len > OUTPUT_MAX)
			kill(-p->pid, SIGKILL);
		if (kill_at == 0 && job_is_over(call)) {
			kill(-p->pid, SIGTERM);
			kill_at = clock_mono_ms() + GRACE_MS;
		} else if (kill_at != 0 && clock_mono_ms() >= kill_at) {
			kill(-p->pid, SIGKILL);
		}
		if (p->out < 0 && p->errors < 0)
			poll(NULL, 0, 2); /* it has closed both and lives on */
		else
			talk(p, 50);
	}
	if (kill_at != 0)
		end_rest(p, kill_at);
	while (p->out >= 0 && p->output.len <= OUTPUT_MAX) { /* what it said last; not what its own children hold open */
		struct pollfd left = { p->out, POLLIN, 0 };

		if (poll(&left, 1, 0) <= 0)
			break;
		take(&p->out, &p->output, OUTPUT_MAX + 1);
	}
	while (p->errors >= 0) {
		struct pollfd left = { p->errors, POLLIN, 0 };

		if (poll(&left, 1, 0) <= 0)
			break;
		take(&p->errors, &p->complaint, ERRORS_MAX);
	}
	return kill_at == 0;
}

/* ---- what came of it */

static struct slice last_line(const struct buf *text)
{
	size_t end = text->len, start;

	while (end > 0 && (text->data[end - 1] == '\n' || text->data[end - 1] == '\r'))
		end--;
	start = end;
	while (start > 0 && text->data[start - 1] != '\n')
		start--;
	return (struct slice){ text->data + start, end - start };
}

static int fail(const struct program *p, struct job_reply *reply)
{
	const struct slice why = last_line(&p->complaint);
	const int shown = (int)(why.len < 1000 ? why.len : 1000);

	if (WIFSIGNALED(p->status))
		return job_fail(reply, "RuntimeError", "builtins", "signal %d: %.*s", WTERMSIG(p->status), shown, why.data);
	return job_fail(reply, "RuntimeError", "builtins", "exit status %d: %.*s", WEXITSTATUS(p->status), shown, why.data);
}

static int finish(const struct program *p, struct job_reply *reply)
{
	struct slice text = { p->output.data, p->output.len };
	struct err why = ERR_INIT;
	struct json *result;

	if (p->output.len > OUTPUT_MAX)
		return job_fail(reply, "RuntimeError", "builtins", "more than %u bytes of output", OUTPUT_MAX);
	if (WIFEXITED(p->status) && WEXITSTATUS(p->status) == TRY_LATER) {
		const struct slice line = last_line(&p->complaint);
		char reason[512];

		snprintf(reason, sizeof(reason), "%.*s", (int)(line.len < 500 ? line.len : 500), line.data);
		return job_again(reply, 0, -1, reason);
	}
	if (!WIFEXITED(p->status) || WEXITSTATUS(p->status) != 0)
		return fail(p, reply);
	while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL)
		text.len--;
	if (text.len == 0)
		return job_return_null(reply);
	result = json_parse_answer(text, &why);
	if (result == NULL)
		return job_fail(reply, "ValueError", "builtins", "the output is not JSON: %s", why.message);
	json_free(result);
	return job_return(reply, text);
}

void job_write_call(const struct job_call *call, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "id", call->id);
	json_put_string(&w, "task", call->task);
	json_put_node(&w, "args", call->args);
	json_put_node(&w, "kwargs", call->kwargs);
	json_put_int(&w, "retries", call->retries);
	json_close(&w, '}');
}

int job_exec(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct program p = { .in = -1, .out = -1, .errors = -1, .input = BUF_INIT, .output = BUF_INIT, .complaint = BUF_INIT };
	int rc;

	job_write_call(call, &p.input);
	signal(SIGPIPE, SIG_IGN);
	rc = start(&p, call, err);
	if (rc == 0)
		rc = wait_for(&p, call) ? finish(&p, reply) : job_over(call, reply);
	shut(&p.in);
	shut(&p.out);
	shut(&p.errors);
	buf_release(&p.input);
	buf_release(&p.output);
	buf_release(&p.complaint);
	return rc;
}
