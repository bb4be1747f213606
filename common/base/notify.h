/* notify: tells the service manager how this process is (sd_notify(3)'s protocol, without its library). Uses libc, clock.
 *
 * Whoever started us names a datagram socket in NOTIFY_SOCKET, and in WATCHDOG_USEC how long we may be silent once we were
 * ready. Where nobody did, all of this does nothing. A message that can't be sent is dropped. */
#ifndef FEEDMILL_BASE_NOTIFY_H
#define FEEDMILL_BASE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

void notify_open(void); /* before the first thread: takes the variables out of the environment, so that no child has them */
void notify_ready(void);
void notify_stopping(void);

/* Somebody watches and it is time for a sign of life: give one when everything has moved since then. One thread. */
bool notify_is_due(int64_t *since_mono_ms);
void notify_alive(void);

#endif
