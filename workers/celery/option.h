/* option: what a signature's options say about its message. `options` may be NULL or no object: nothing is set then. Texts that come
 * out point into it, or into the room that was given. The first four are as good for members of the signature itself. */
#ifndef FEEDMILL_WORKERS_CELERY_OPTION_H
#define FEEDMILL_WORKERS_CELERY_OPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/json.h"

#define OPTION_TIME 40 /* bytes of a time as text */

struct slice option_text(const struct json *options, const char *name);
double option_number(const struct json *options, const char *name); /* 0: none */
bool option_int(const struct json *options, const char *name, int64_t *out);
bool option_bool(const struct json *options, const char *name);
void option_json(const struct json *options, const char *name, struct buf *out); /* as it is; nothing for null */
void option_list(const struct json *options, const char *name, struct buf *out); /* one that stands alone becomes a list */

/* countdown, or eta: seconds from now, and the time in eta; 0 and "": at once. */
int64_t option_delay(const struct json *options, char eta[OPTION_TIME]);
/* expires is seconds from now, or a time. */
struct slice option_expires(const struct json *options, char text[OPTION_TIME]);

/* {name: value} of each name in stamped_headers: signatures have them among their options, messages in one header. */
void option_stamps(const struct json *options, struct buf *out);
/* Headers of the sender's own; those that a message has anyway are left out. */
void option_headers(const struct json *options, struct buf *out);

#endif
