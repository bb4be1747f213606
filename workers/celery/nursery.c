/* Wishes for children go in, child processes come out, and word of their death. */
#include "workers/celery/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

#include "common/queue/signer.h"
#include "workers/celery/child.h"

struct letter {
	int what, slot;
	pid_t pid;
	int status;
};

#define MOST 1024 /* children at once */

static struct {
	pid_t pid;
	int slot;
} born[MOST];

/* ---- letters, with a descriptor or without */

static int post_letter(int fd, const struct letter *letter, int enclosed)
{
	struct iovec part = { (void *)(uintptr_t)letter, sizeof(*letter) };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (enclosed >= 0) {
		struct cmsghdr *head;

		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &enclosed, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* 1: a letter, 0: none, -1: nobody writes any more. */
static int read_letter(int fd, struct letter *letter, int *enclosed, int flags)
{
	struct iovec part = { letter, sizeof(*letter) };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	const ssize_t len = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *head;

	*enclosed = -1;
	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (len != (ssize_t)sizeof(*letter))
		return -1;
	head = CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_type == SCM_RIGHTS)
		memcpy(enclosed, CMSG_DATA(head), sizeof(int));
	return 1;
}

/* ---- in the nursery */

static void be_child(int fd, int nursery_fd, int signals, const struct settings *settings)
{
	close(nursery_fd);
	close(signals);
	_exit(child_run(fd, settings));
}

static void bear(int fd, int signals, int slot, const struct settings *settings)
{
	struct letter letter = { .what = NURSERY_DIED, .slot = slot, .pid = -1 };
	int ends[2], i = 0;
	sigset_t all, before;
	pid_t pid;

	while (i < MOST && born[i].pid != 0)
		i++;
	errno = EAGAIN;
	if (i == MOST || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		letter.status = errno;
		post_letter(fd, &letter, -1);
		return;
	}
	sigfillset(&all); /* a signal that comes before the child is ready for it waits */
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		be_child(ends[1], fd, signals, settings);
	}
	letter.status = pid < 0 ? errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (pid > 0) {
		setpgid(pid, pid); /* as it does itself: whoever is first */
		born[i].pid = pid;
		born[i].slot = slot;
		letter.what = NURSERY_BORN;
		letter.pid = pid;
	}
	post_letter(fd, &letter, pid > 0 ? ends[0] : -1);
	close(ends[0]);
}

static void bury(int fd, int signals)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(signals, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MOST; i++) {
			const struct letter letter = { NURSERY_DIED, born[i].slot, pid, status };

			if (born[i].pid != pid)
				continue;
			born[i].pid = 0;
			post_letter(fd, &letter, -1);
		}
	}
}

static _Noreturn void live(int fd, const struct settings *settings)
{
	struct letter letter;
	int signals, enclosed, rc = 1;
	sigset_t child;

	setpgid(0, 0);
	signer_forget_password(settings); /* no child signs, and what it runs is anybody's */
	signal(SIGTERM, SIG_IGN); /* the worker says when it is over: by its end */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	while (rc >= 0 && signals >= 0) {
		struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents != 0)
			bury(fd, signals);
		if (fds[0].revents == 0)
			continue;
		rc = read_letter(fd, &letter, &enclosed, MSG_DONTWAIT);
		if (rc > 0)
			bear(fd, signals, letter.slot, settings);
	}
	for (int i = 0; i < MOST; i++)
		if (born[i].pid > 0)
			kill(-born[i].pid, SIGKILL);
	_exit(0);
}

/* ---- outside of it */

int nursery_start(const struct settings *settings, int *fd, struct err *err)
{
	const pid_t parent = getpid();
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_set(err, ERR_FATAL, "no socket for child processes: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		live(ends[1], settings);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return err_set(err, ERR_FATAL, "no child processes: %s", strerror(errno));
	}
	*fd = ends[0];
	return 0;
}

int nursery_ask(int fd, int slot)
{
	const struct letter letter = { .slot = slot };

	return post_letter(fd, &letter, -1);
}

int nursery_next(int fd, struct nursery_news *news)
{
	struct letter letter = { 0 };
	int enclosed;
	const int rc = read_letter(fd, &letter, &enclosed, MSG_DONTWAIT);

	*news = (struct nursery_news){ .what = NURSERY_NOTHING };
	if (rc <= 0)
		return rc;
	news->what = letter.what == NURSERY_BORN ? NURSERY_BORN : NURSERY_DIED;
	news->slot = letter.slot;
	news->pid = letter.pid;
	news->fd = enclosed;
	news->status = letter.status;
	return 0;
}
