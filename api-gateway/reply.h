/* reply: the answers, one function for each kind. Each ends the call: its caller touches it no more. Any thread. */
#ifndef FEEDMILL_API_GATEWAY_REPLY_H
#define FEEDMILL_API_GATEWAY_REPLY_H

#include "api-gateway/call.h"
#include "common/http/problem.h"

#define JSON_TYPE "application/json"

void reply_json(struct call *call, struct buf *body);       /* 200; takes body's bytes */
void reply_static(struct call *call, int status, const char *type, struct slice body); /* bytes that live as long as the gateway */
struct http_stream *reply_stream(struct call *call, const char *type, size_t limit); /* 200, and goes on: see http_answer_stream() */
void reply_empty(struct call *call, int status);

/* A problem document; pointer says where in the body ("/price"), or "". */
void reply_problem(struct call *call, int status, const char *pointer, const char *format, ...) __attribute__((format(printf, 4, 5)));
void reply_with_problem(struct call *call, const struct problem *problem);

/* 503 with Retry-After: certainly nothing was stored, because of err; 504 when that is not certain, see once_in_doubt(). */
void reply_away(struct call *call, const struct err *err);
/* 202 with Location: it is stored, and not known to be applied. */
void reply_accepted(struct call *call);
/* What another attempt with the same key was answered, under the call's ids; takes body's bytes. */
void reply_again(struct call *call, int status, struct buf *body);
/* 409 with Retry-After. */
void reply_busy(struct call *call, const char *what);
/* 504 with Location: not known whether it is stored. */
void reply_unknown(struct call *call, const char *why);

/* For once.h: gives an answer that is kept, or need not be. */
void reply_kept(struct call *call, int status, const char *type, struct buf *body);
bool reply_may_log(void); /* false: there were enough lines this second */

#endif
