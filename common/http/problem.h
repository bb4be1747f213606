/* problem: error answers, RFC 9457 problem documents. Uses http_server. */
#ifndef FEEDMILL_HTTP_PROBLEM_H
#define FEEDMILL_HTTP_PROBLEM_H

#include "common/base/buf.h"
#include "common/http/http_server.h"

#define PROBLEM_TYPE "application/problem+json"

struct problem {
	int status;
	char title[64];    /* the status in words */
	char detail[400];  /* what was wrong with this request, and what to do */
	char pointer[200]; /* where in the body, a JSON pointer ("/price"); "" when it is not in the body */
};

const char *problem_title(int status); /* "Not Found" */
void problem_set(struct problem *problem, int status, const char *pointer, const char *format, ...) __attribute__((format(printf, 4, 5)));
void problem_write(const struct problem *problem, struct buf *out); /* {"title","status","detail"[,"pointer"]} */
int problem_read(struct problem *problem, struct slice json);       /* what problem_write() wrote; -1: it is something else */
void problem_answer(struct http_exchange *exchange, const struct problem *problem);

#endif
