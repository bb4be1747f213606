/* What a process says of itself goes in, datagrams to the service manager come out. */
#include "common/base/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/str.h"

#define SIGNS_A_PERIOD 4 /* so that one that is late is no alarm */

static struct sockaddr_un manager; /* empty path: there is none */
static socklen_t manager_len;
static int64_t every_ms; /* 0: nobody watches */
static int64_t last_ms;

static void read_socket(const char *name)
{
	const size_t len = name != NULL ? strlen(name) : 0;

	if (len < 2 || len >= sizeof(manager.sun_path) || (name[0] != '/' && name[0] != '@'))
		return;
	manager.sun_family = AF_UNIX;
	memcpy(manager.sun_path, name, len);
	if (name[0] == '@')
		manager.sun_path[0] = '\0'; /* an abstract name */
	manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static void read_watchdog(const char *usec, const char *pid)
{
	int64_t number;

	if (pid != NULL && (!str_int64(slice_of(pid), &number) || number != getpid()))
		return; /* it is about another process */
	if (usec == NULL || !str_int64(slice_of(usec), &number) || number <= 0)
		return;
	every_ms = number / 1000 / SIGNS_A_PERIOD > 0 ? number / 1000 / SIGNS_A_PERIOD : 1;
}

void notify_open(void)
{
	read_socket(getenv("NOTIFY_SOCKET"));
	read_watchdog(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

static void say(const char *message)
{
	int fd;

	if (manager_len == 0 || (fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return;
	(void)!sendto(fd, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&manager, manager_len);
	close(fd);
}

void notify_ready(void)
{
	last_ms = clock_mono_ms();
	say("READY=1");
}

void notify_stopping(void)
{
	say("STOPPING=1");
}

bool notify_is_due(int64_t *since_mono_ms)
{
	*since_mono_ms = last_ms;
	return every_ms > 0 && manager_len > 0 && clock_mono_ms() - last_ms >= every_ms;
}

void notify_alive(void)
{
	last_ms = clock_mono_ms();
	say("WATCHDOG=1");
}
