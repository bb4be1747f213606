/* sql_split: one statement after another from the text of a migration. Uses libc only. */
#ifndef FEEDMILL_STORE_SQL_SPLIT_H
#define FEEDMILL_STORE_SQL_SPLIT_H

#include "common/base/err.h"
#include "common/base/str.h"

/* Takes the next statement, without the ';' behind it and the comments before it, from the front of *rest.
 * 1: there is one; 0: there is none; -1: a quote or comment has no end, or a backslash stands in quotes (databases differ in
 * what it means). Knows '…', "…", `…`, "-- …", "# …" and slash-star comments; no DELIMITER, no procedures. */
int sql_next(struct slice *rest, struct slice *statement, struct err *err);

#endif
