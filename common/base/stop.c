/* SIGTERM and SIGINT go in, a request to stop comes out that any thread can ask for or wait for. */
#include "common/base/stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"

#define EXIT_SECOND_SIGNAL 130

static atomic_bool requested;
static int event_fd = -1; /* readable from the request on, never read: every waiter sees it */

/* Runs in a signal handler: write(2) and _exit(2) alone. */
static void wake(void)
{
	static const uint64_t one = 1;
	int saved = errno;

	if (event_fd >= 0 && write(event_fd, &one, sizeof(one)) < 0)
		_exit(1); /* nobody would ever wake up */
	errno = saved;
}

static void on_signal(int number)
{
	(void)number;
	if (atomic_exchange(&requested, true))
		_exit(EXIT_SECOND_SIGNAL);
	wake();
}

void stop_install(void)
{
	struct sigaction stop = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	if (event_fd >= 0)
		return;
	event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event_fd < 0)
		abort();
	sigemptyset(&stop.sa_mask);
	sigaddset(&stop.sa_mask, SIGTERM);
	sigaddset(&stop.sa_mask, SIGINT);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

bool stop_requested(void)
{
	return atomic_load(&requested);
}

void stop_request(void)
{
	if (!atomic_exchange(&requested, true))
		wake();
}

int stop_fd(void)
{
	return event_fd;
}

bool stop_wait(int64_t timeout_ms)
{
	int64_t deadline = clock_mono_ms() + timeout_ms;
	struct pollfd event = { .fd = event_fd, .events = POLLIN };

	while (!stop_requested()) {
		int64_t left = deadline - clock_mono_ms();

		if (left <= 0)
			return false;
		poll(&event, 1, left > 60000 ? 60000 : (int)left);
	}
	return true;
}
