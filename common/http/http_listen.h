/* http_listen: listening TCP sockets. Uses libc only. */
#ifndef FEEDMILL_HTTP_HTTP_LISTEN_H
#define FEEDMILL_HTTP_HTTP_LISTEN_H

#include "common/base/err.h"

/* "address:port", "[v6]:port"; no address or "*": all; port 0: any. SO_REUSEPORT is set, so that several programs can
 * share a port. The descriptor, or -1. */
int http_listen(const char *address, struct err *err);
/* A descriptor of our own for a listening socket that was inherited: closing it leaves the socket to the others. */
int http_listen_inherited(int fd, struct err *err);
/* The socket that systemd, or `feedctl up`, holds for this process (LISTEN_FDS, LISTEN_PID), or -1. Close-on-exec from here on. */
int http_listen_handed_down(void);
int http_listen_port(int fd);

#endif
