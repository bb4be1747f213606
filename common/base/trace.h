/* trace: W3C Trace Context (level 1, header `traceparent`), carried from the request through record headers to the last
 * effect and every log line on the way. Uses rand. */
#ifndef FEEDMILL_BASE_TRACE_H
#define FEEDMILL_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

#define TRACE_HEADER "traceparent"
#define TRACE_TEXT 56 /* 55 characters and a NUL */

struct trace {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t flags;
};

void trace_start(struct trace *out);                         /* a new trace, not sampled */
bool trace_parse(struct slice header, struct trace *out);    /* false, out untouched: not a valid traceparent */
void trace_child(const struct trace *parent, struct trace *out); /* same trace, new span */
void trace_format(const struct trace *trace, char out[TRACE_TEXT]);
void trace_id_format(const struct trace *trace, char out[33]); /* the 32 hex digits that log lines show */

#endif
