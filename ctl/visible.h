/* visible: bytes of others as text that a terminal shows and does not obey. Uses str, buf. */
#ifndef FEEDMILL_CTL_VISIBLE_H
#define FEEDMILL_CTL_VISIBLE_H

#include "common/base/buf.h"
#include "common/base/str.h"

/* Text as it is; what would move the cursor, or is no text, as \xNN; without data: "null". */
void visible_add(struct buf *line, struct slice bytes);

#endif
