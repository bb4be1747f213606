/* yaml: a YAML 1.2 text as a tree of maps, lists and scalars. The only user of libyaml. Uses base.
 * The names yaml_parse and yaml_free are libyaml's own.
 * One document; anchors, aliases, tags and double keys are refused: a contract needs none, and a reader of it even less. */
#ifndef FEEDMILL_API_GATEWAY_YAML_H
#define FEEDMILL_API_GATEWAY_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum yaml_type { YAML_SCALAR, YAML_MAP, YAML_LIST };

struct yaml {
	enum yaml_type type;
	struct slice text; /* a scalar's, NUL-terminated */
	bool is_quoted;    /* a scalar that is a string whatever it looks like */
	char *key;         /* its name in its map, else NULL */
	struct yaml *next; /* sibling */
	struct yaml *first; /* child */
	size_t line;       /* from 1 */
};

struct yaml *yaml_tree_parse(struct slice text, struct err *err); /* NULL, ERR_INVALID with the line */
void yaml_tree_free(struct yaml *root);

const struct yaml *yaml_get(const struct yaml *map, const char *key); /* NULL: not there, or no map */
const char *yaml_text(const struct yaml *scalar);                     /* NULL: none, or not a scalar */
const struct yaml *yaml_find(const struct yaml *root, const char *pointer); /* "#/components/schemas/Id"; NULL: nothing there */

/* The same as JSON: plain scalars become null, booleans and numbers by the core schema's rules. */
void yaml_write_json(const struct yaml *node, struct json_writer *w, const char *key);

const char *yaml_library(void); /* "libyaml 0.2.5" */

#endif
