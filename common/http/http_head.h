/* http_head: what is wrong with a request, by its header list: RFC 9110, RFC 9112. A part of http_server, which answers with the problem. */
#ifndef FEEDMILL_HTTP_HTTP_HEAD_H
#define FEEDMILL_HTTP_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"
#include "common/http/problem.h"

struct MHD_Connection;

struct http_head {
	size_t count, hosts, lengths, encodings, expectations;
	bool has_other_encoding, has_other_expectation;
	bool bad_line, bad_length, bad_host;
	struct slice length;
	size_t size; /* bytes of the header block */
};

void http_head_read(struct MHD_Connection *connection, struct http_head *head);

/* The framing of a body that can't be trusted, RFC 9112 6.3: 400, 501. */
bool http_framing_is_wrong(const struct http_head *head, bool is_http_10, struct problem *problem);
/* Too much of it (431), hosts, the path, expectations (417). */
bool http_head_is_wrong(const struct http_head *head, struct slice path, bool is_http_10, int64_t max_header, struct problem *problem);

int64_t http_announced_length(const struct http_head *head); /* of the body, when the framing is right; 0: none was */

#endif
