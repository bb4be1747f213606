/* "address:port" or an inherited descriptor goes in, a non-blocking listening socket comes out. */
#include "common/http/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/str.h"

#define BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */

/* Cuts "host:port" and "[v6]:port"; host stays empty for all addresses. */
static bool cut_address(const char *address, char host[256], char port[8])
{
	const char *colon = strrchr(address, ':');
	const char *from = address;
	size_t len, port_len;

	if (colon == NULL)
		return false;
	len = (size_t)(colon - address);
	port_len = strlen(colon + 1);
	if (len >= 2 && from[0] == '[' && from[len - 1] == ']') {
		from++;
		len -= 2;
	} else if (memchr(from, ':', len) != NULL) {
		return false; /* a bare IPv6 address: where its port starts is anyone's guess */
	}
	if (len >= 256 || port_len == 0 || port_len >= 8)
		return false;
	if (len == 1 && from[0] == '*')
		len = 0;
	memcpy(host, from, len);
	host[len] = '\0';
	memcpy(port, colon + 1, port_len + 1);
	return true;
}

static int open_socket(const struct addrinfo *info)
{
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0, saved;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)); /* "[::]" is for IPv4 too */
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int open_first(const struct addrinfo *list)
{
	int fd = -1;

	for (; list != NULL && fd < 0; list = list->ai_next)
		fd = open_socket(list);
	return fd;
}

int http_listen(const char *address, struct err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char host[256], port[8];
	int64_t number;
	int fd, rc;

	if (!cut_address(address, host, port) || !str_int64(slice_of(port), &number) || number < 0 || number > 65535)
		return err_set(err, ERR_INVALID, "listen address \"%s\" is not address:port or [v6]:port", address);
	rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
	if (rc != 0)
		return err_set(err, ERR_INVALID, "listen address \"%s\": %s", address, gai_strerror(rc));
	fd = open_first(list);
	if (fd < 0)
		err_set(err, ERR_UNAVAILABLE, "listen on %s: %s", address, strerror(errno));
	freeaddrinfo(list);
	return fd;
}

int http_listen_inherited(int fd, struct err *err)
{
	int listening = 0, own;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
		return err_set(err, ERR_INVALID, "inherited descriptor %d is not a listening socket", fd);
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	/* Shared with the other holders, which poll before they accept too: a connection may go to any of us. */
	if (own < 0 || fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK) < 0)
		err_set(err, ERR_UNAVAILABLE, "inherited descriptor %d: %s", fd, strerror(errno));
	return own;
}

int http_listen_handed_down(void)
{
	enum { FIRST_FD = 3 }; /* where the protocol puts it */
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int64_t number;

	if (pid == NULL || !str_int64(slice_of(pid), &number) || number != getpid())
		return -1;
	if (count == NULL || !str_int64(slice_of(count), &number) || number < 1)
		return -1;
	return fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) == 0 ? FIRST_FD : -1;
}

int http_listen_port(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} bound = { 0 };
	socklen_t len = sizeof(bound);

	if (getsockname(fd, &bound.any, &len) < 0)
		return -1;
	return ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
}
