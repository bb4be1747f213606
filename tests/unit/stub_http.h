/* stub_http: an HTTP server for tests, on 127.0.0.1 and any free port, in a thread of its own. It takes one connection at a time,
 * reads whole requests (Content-Length alone) and does what the test's function says with each, misbehaviour included. */
#ifndef FEEDMILL_TESTS_STUB_HTTP_H
#define FEEDMILL_TESTS_STUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/str.h"

struct stub_request {
	size_t number;     /* from 0, over all connections */
	size_t connection; /* from 0 */
	char method[16];
	char target[512];  /* path and query */
	struct slice head; /* request line and header lines, NUL-terminated */
	struct slice body;
};

enum stub_action {
	STUB_ANSWER,       /* status and body, and keep the connection */
	STUB_CLOSE,        /* the same, then close without having said so */
	STUB_RESET,        /* no answer: connection reset */
	STUB_SILENCE,      /* no answer until the client hangs up */
	STUB_HALF,         /* announces the body, sends half of it, closes */
	STUB_CHUNKS,       /* status and body in chunks, no length */
};

struct stub_reply {
	enum stub_action action;
	int status;
	char header[200]; /* one more line, "Location: /x\r\n", or "" */
	struct buf body;  /* the stub releases it */
};

/* Fills the reply, which comes as 200 without a body. Called in the stub's thread. */
typedef void stub_fn(void *arg, const struct stub_request *request, struct stub_reply *reply);

struct stub;
struct stub *stub_start(stub_fn *answer, void *arg);
const char *stub_url(const struct stub *stub); /* "http://127.0.0.1:12345" */
size_t stub_requests(struct stub *stub);       /* heard so far */
void stub_stop(struct stub *stub);             /* NULL is fine */

/* "http://127.0.0.1:N" where nobody listens. */
void stub_dead_url(char out[64]);

#endif
