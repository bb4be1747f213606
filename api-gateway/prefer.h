/* prefer: the request header Prefer (RFC 7240): what the client would like, and what is said to have been honoured. Uses base. */
#ifndef FEEDMILL_API_GATEWAY_PREFER_H
#define FEEDMILL_API_GATEWAY_PREFER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

#define PREFER_WAIT_MAX_S 60 /* a longer wait is asked for in vain: Preference-Applied names this one */

struct prefer {
	bool respond_async; /* 202 rather than waiting */
	int64_t wait_s;     /* wait that long for the effect; -1: not said */
};

/* What is not understood, or broken, is ignored, as the RFC wants; of a preference said twice the first counts. */
void prefer_read(struct slice header, struct prefer *out);

#define PREFER_TEXT 32
void prefer_format_wait(const struct prefer *prefer, char out[PREFER_TEXT]); /* "wait=5" */

#endif
