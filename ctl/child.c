/* A command line goes in, a process comes out, with its lines and at last its exit status. */
#include "ctl/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

#define LISTEN_FIRST_FD 3   /* where the protocol puts the first socket */
#define LINE_LIMIT 65536    /* without an end: given out as it is */
#define EXIT_NOT_RUN 127    /* as a shell's */
#define READS_AT_ONCE 16    /* of one child, then the others get their turn */

/* ---- in the child, between fork and exec: we have one thread, so all of libc may be used */

/* Of a manager above us: they are about us, not about our children. */
static const char *const not_theirs[] = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" };

static void set_environment(const struct child_plan *plan)
{
	char pid[24];

	for (size_t i = 0; i < sizeof(not_theirs) / sizeof(not_theirs[0]); i++)
		unsetenv(not_theirs[i]);
	for (size_t i = 0; i < CHILD_VARIABLES && plan->variables[i].name != NULL; i++)
		setenv(plan->variables[i].name, plan->variables[i].value, 1);
	if (plan->socket < 0)
		return;
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
}

/* All our other descriptors close with exec. The socket comes last: its place may be the pipe's. */
static bool set_descriptors(int out, int socket)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		return false;
	if (socket == LISTEN_FIRST_FD)
		return fcntl(socket, F_SETFD, 0) == 0;
	return socket < 0 || dup2(socket, LISTEN_FIRST_FD) >= 0;
}

static void set_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Our death may have come before the kernel was told what to do then. */
static void become(const struct child_plan *plan, int out, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_NOT_RUN);
	setpgid(0, 0);
	set_environment(plan);
	set_signals();
	if (set_descriptors(out, plan->socket))
		execvp(plan->argv[0], (char *const *)plan->argv);
	dprintf(STDERR_FILENO, "%s can't be run: %s\n", plan->argv[0], strerror(errno));
	_exit(EXIT_NOT_RUN);
}

/* ---- in us */

int child_start(struct child *child, const struct child_plan *plan, struct err *err)
{
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, ERR_UNAVAILABLE, "start %s: %s", plan->argv[0], strerror(errno));
	fcntl(ends[0], F_SETFL, O_NONBLOCK); /* our end alone: a child may write as it likes */
	*child = (struct child){ .out = ends[0], .text = BUF_INIT, .started_ms = clock_mono_ms() };
	child->pid = fork();
	if (child->pid == 0)
		become(plan, ends[1], parent);
	close(ends[1]);
	if (child->pid > 0)
		return 0;
	err_set(err, ERR_UNAVAILABLE, "start %s: %s", plan->argv[0], strerror(errno));
	close(ends[0]);
	*child = (struct child){ .out = -1, .text = BUF_INIT };
	return -1;
}

static void cut_lines(struct child *child, line_fn *line, void *arg)
{
	struct slice rest = { child->text.data, child->text.len };
	const char *end;

	while ((end = memchr(rest.data, '\n', rest.len)) != NULL) {
		size_t len = (size_t)(end - rest.data);

		line(arg, child, (struct slice){ rest.data, len });
		rest = (struct slice){ end + 1, rest.len - len - 1 };
	}
	if (rest.len >= LINE_LIMIT) {
		line(arg, child, rest);
		rest.len = 0;
	}
	memmove(child->text.data, rest.data, rest.len);
	child->text.len = rest.len;
}

static void end_pipe(struct child *child, line_fn *line, void *arg)
{
	if (child->text.len > 0)
		line(arg, child, (struct slice){ child->text.data, child->text.len });
	buf_release(&child->text);
	close(child->out);
	child->out = -1;
}

/* 1: there may be more, 0: nothing now, -1: it has ended. */
static int read_once(struct child *child)
{
	char bytes[8192];
	ssize_t got = read(child->out, bytes, sizeof(bytes));

	if (got > 0)
		buf_add(&child->text, bytes, (size_t)got);
	if (got > 0 || (got < 0 && errno == EINTR))
		return 1;
	return got < 0 && errno == EAGAIN ? 0 : -1;
}

void child_read(struct child *child, line_fn *line, void *arg)
{
	int rc = 1;

	for (int i = 0; i < READS_AT_ONCE && rc > 0 && child->out >= 0; i++) {
		rc = read_once(child);
		if (child->text.len > 0)
			cut_lines(child, line, arg);
	}
	if (rc < 0)
		end_pipe(child, line, arg);
}

void child_ask(struct child *child)
{
	if (child->pid == 0 || child->asked_ms != 0)
		return;
	child->asked_ms = clock_mono_ms();
	kill(child->pid, SIGTERM);
}

void child_kill(struct child *child)
{
	if (child->pid == 0 || child->is_killed)
		return;
	child->is_killed = true;
	kill(child->pid, SIGKILL);
}

bool child_ended(struct child *child, int *status, line_fn *line, void *arg)
{
	if (child->pid == 0 || waitpid(child->pid, status, WNOHANG) != child->pid)
		return false;
	if (child->out >= 0)
		child_read(child, line, arg);
	if (child->out >= 0)
		end_pipe(child, line, arg);
	child->pid = 0;
	child->is_ready = false;
	return true;
}
