/* raw_http: an HTTP client that says exactly the bytes it is told to. A read waits at most RAW_PATIENCE_S. */
#ifndef FEEDMILL_TESTS_RAW_HTTP_H
#define FEEDMILL_TESTS_RAW_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"

#define RAW_PATIENCE_S 20

struct raw {
	int fd;
	struct buf in; /* come and not yet read */
};

struct raw_answer {
	int status; /* 0: no answer came */
	struct buf head; /* with its empty line */
	struct buf body;
};

int raw_open(struct raw *raw, int port); /* to 127.0.0.1; -1: refused */
void raw_close(struct raw *raw);
void raw_abort(struct raw *raw); /* with a reset */

int raw_send(struct raw *raw, const void *bytes, size_t len); /* -1: the other side has gone */
int raw_say(struct raw *raw, const char *text);

/* An answer by its Content-Length; `to_head`: without the body. Interim answers (100) are answers too. 0, or -1 when the
 * connection ended or nothing came. */
int raw_read(struct raw *raw, struct raw_answer *answer, bool to_head);
bool raw_is_at_end(struct raw *raw); /* waits for the end; true when nothing came before it */
void raw_answer_release(struct raw_answer *answer);

bool raw_has_header(const struct raw_answer *answer, const char *line); /* "Connection: close", any case */

/* The whole of it: connects, says text, reads one answer, closes. */
int raw_ask(int port, const char *text, struct raw_answer *answer);

#endif
