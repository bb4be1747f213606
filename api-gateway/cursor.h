/* cursor: where the next page of a list begins, as a word that clients hand back unread. Uses base.
 * base64url of "<version><list><id>": a cursor of one list is broken for another, and so is one of a later version. */
#ifndef FEEDMILL_API_GATEWAY_CURSOR_H
#define FEEDMILL_API_GATEWAY_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

#define CURSOR_TEXT 32

/* list: a letter for each list; id: the last one of the page before. */
void cursor_write(char list, int64_t id, char out[CURSOR_TEXT]);
bool cursor_read(struct slice text, char list, int64_t *id); /* false: not a cursor of this list */

#endif
