/* stop: SIGTERM and SIGINT. The first asks for a drain, the second leaves at once (exit code 130). Uses libc only.
 * stop_install() also ignores SIGPIPE. Called before the first thread is made. */
#ifndef FEEDMILL_BASE_STOP_H
#define FEEDMILL_BASE_STOP_H

#include <stdbool.h>
#include <stdint.h>

void stop_install(void);
bool stop_requested(void);
void stop_request(void);             /* the same as a first signal: a thread that can't go on calls it */
int stop_fd(void);                   /* for poll(2): readable from the request on; nobody reads it */
bool stop_wait(int64_t timeout_ms);  /* waits for the request; false when the time was up. Any thread */

#endif
