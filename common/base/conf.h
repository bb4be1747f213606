/* conf: settings, typed and range-checked, from a table over libconfig. The only user of libconfig.
 *
 * One row is one setting; its default lives there and nowhere else. "mysql.port" is the member `port` of the group `mysql`
 * in the file, and FEEDMILL_MYSQL_PORT in the environment, which wins. A secret row "mysql.password" may also be given as
 * "mysql.password_file", a path whose first line is the value (refused when others may read it).
 * An unknown key, a wrong type or a value out of range is an error that names file and line, or the variable. */
#ifndef FEEDMILL_BASE_CONF_H
#define FEEDMILL_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"

enum conf_type {
	CONF_TEXT,   /* char *; min and max bound its length */
	CONF_SECRET, /* char *; shown as "***" */
	CONF_CHOICE, /* char *; one of help's first word list, see choices; true and false are written with quotes or without */
	CONF_INT,    /* int64_t, 64 bits whatever the suffix in the file */
	CONF_BOOL,   /* bool */
};

struct conf_row {
	const char *name;
	enum conf_type type;
	size_t offset;       /* of the field in the target struct */
	const char *initial; /* the default, as it would stand in the environment */
	int64_t min, max;
	const char *choices; /* CONF_CHOICE: "error|warn|info|debug" */
	const char *help;    /* one line, with the unit */
};

/* Fills every field of target, which is zeroed: defaults, then the file (NULL: none), then the environment. */
int conf_load(void *target, const struct conf_row *rows, size_t count, const char *file, struct err *err);
void conf_release(void *target, const struct conf_row *rows, size_t count); /* frees the texts */

/* Every setting with its value now, as a file that conf_load() takes; comments tell meaning, range and default. */
void conf_write(const void *target, const struct conf_row *rows, size_t count, struct buf *out);

const char *conf_library(void); /* "libconfig 1.5" */

#endif
