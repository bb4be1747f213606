/* http_client: requests to other people's HTTP servers. The only user of libcurl. One client, one thread.
 * Keeps connections open; no redirects, no proxies from the environment; an answer larger than max_answer is an error. A request may
 * arrive twice (a dead kept connection is retried): send only what may. */
#ifndef FEEDMILL_HTTP_HTTP_CLIENT_H
#define FEEDMILL_HTTP_HTTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

struct http_client;

void http_client_global_init(void); /* once a process, before threads */
struct http_client *http_client_new(int64_t timeout_ms, size_t max_answer); /* of each request; 0 and less: none has the time */
void http_client_free(struct http_client *client); /* NULL is fine */

/* A header of every request from now on ("Prefer", "wait=5"); copies. -1, ERR_INVALID: there is a control character in the value. */
int http_client_header(struct http_client *client, const char *name, const char *value, struct err *err);

void http_client_forget_headers(struct http_client *client); /* those of http_client_header() */

/* For addresses that strangers give: connects to public addresses alone, by ports 80 and 443, whatever a name resolves to at that
 * moment; what is refused is ERR_UNAVAILABLE. */
void http_client_guard(struct http_client *client);
/* Whether such a client would connect there: neither this host, nor a private, shared, link-local, multicast or reserved network,
 * nor such a one inside of an IPv6 address. */
struct sockaddr;
bool http_client_is_public(const struct sockaddr *address);

/* Whatever status the server gave is success and in *status; the body is in *answer, whose old content goes. content_type NULL:
 * no body is sent. -1: ERR_UNAVAILABLE (no connection, nothing sent) or ERR_UNKNOWN (sent, no whole answer: lost, late, or
 * larger than max_answer). */
int http_client_send(struct http_client *client, const char *method, const char *url, const char *content_type, struct slice body,
	int *status, struct buf *answer, struct err *err);

bool http_client_was_too_large(const struct http_client *client); /* the last answer: another try would not help */

/* What the last answer's Retry-After asked for, in seconds or as a date: seconds from then, 0: it had none. */
int64_t http_client_retry_after_s(const struct http_client *client);

const char *http_client_library(void); /* "libcurl 7.88.1" */

#endif
