/* YAML text in, a tree of maps, lists and scalars out. */
#include "api-gateway/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/base/mem.h"

static const size_t depth_max = 64;

static struct yaml *node_of(yaml_document_t *document, yaml_node_t *source, size_t depth, struct err *err);

static int add_child(struct yaml *parent, struct yaml **tail, struct yaml *child, char *key)
{
	if (!child) {
		free(key);
		return -1;
	}
	child->key = key;
	if (*tail)
		(*tail)->next = child;
	else
		parent->first = child;
	*tail = child;
	return 0;
}

static int fill_list(struct yaml *list, yaml_document_t *document, yaml_node_t *source, size_t depth, struct err *err)
{
	struct yaml *tail = NULL;
	yaml_node_item_t *item;

	for (item = source->data.sequence.items.start; item < source->data.sequence.items.top; item++)
		if (add_child(list, &tail, node_of(document, yaml_document_get_node(document, *item), depth, err), NULL) < 0)
			return -1;
	return 0;
}

static int fill_map(struct yaml *map, yaml_document_t *document, yaml_node_t *source, size_t depth, struct err *err)
{
	struct yaml *tail = NULL;
	yaml_node_pair_t *pair;

	for (pair = source->data.mapping.pairs.start; pair < source->data.mapping.pairs.top; pair++) {
		yaml_node_t *key = yaml_document_get_node(document, pair->key);
		const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : NULL;

		if (!name || strlen(name) != key->data.scalar.length)
			return err_set(err, ERR_INVALID, "line %zu: a key must be a word", key->start_mark.line + 1);
		if (yaml_get(map, name))
			return err_set(err, ERR_INVALID, "line %zu: key \"%.100s\" is there twice", key->start_mark.line + 1, name);
		if (add_child(map, &tail, node_of(document, yaml_document_get_node(document, pair->value), depth, err), mem_strdup(name)) < 0)
			return -1;
	}
	return 0;
}

static struct yaml *node_of(yaml_document_t *document, yaml_node_t *source, size_t depth, struct err *err)
{
	struct yaml *node = mem_zalloc(sizeof(*node));
	int rc = 0;

	node->line = source->start_mark.line + 1;
	if (depth == 0) {
		rc = err_set(err, ERR_INVALID, "line %zu: nested too deep", node->line);
	} else if (source->type == YAML_MAPPING_NODE) {
		node->type = YAML_MAP;
		rc = fill_map(node, document, source, depth - 1, err);
	} else if (source->type == YAML_SEQUENCE_NODE) {
		node->type = YAML_LIST;
		rc = fill_list(node, document, source, depth - 1, err);
	} else {
		node->type = YAML_SCALAR;
		node->is_quoted = source->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
		node->text.len = source->data.scalar.length;
		node->text.data = mem_dup(source->data.scalar.value, node->text.len);
	}
	if (rc < 0) {
		yaml_tree_free(node);
		node = NULL;
	}
	return node;
}

/* Aliases are refused before the tree is made: in a document they have been resolved already. */
static int refuse_aliases(struct slice text, struct err *err)
{
	yaml_parser_t parser;
	yaml_event_t event;
	bool is_over = false;
	int rc = 0;

	if (!yaml_parser_initialize(&parser))
		return err_set(err, ERR_FATAL, "libyaml can't start");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.len);
	while (rc == 0 && !is_over) {
		if (!yaml_parser_parse(&parser, &event)) {
			rc = err_set(err, ERR_INVALID, "line %zu: %s", parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
			break;
		}
		if (event.type == YAML_ALIAS_EVENT)
			rc = err_set(err, ERR_INVALID, "line %zu: an alias; write it out, or use $ref", event.start_mark.line + 1);
		is_over = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}

struct yaml *yaml_tree_parse(struct slice text, struct err *err)
{
	yaml_parser_t parser;
	yaml_document_t document;
	yaml_node_t *root;
	struct yaml *tree = NULL;

	if (refuse_aliases(text, err) < 0)
		return NULL;
	if (!yaml_parser_initialize(&parser)) {
		err_set(err, ERR_FATAL, "libyaml can't start");
		return NULL;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.len);
	if (!yaml_parser_load(&parser, &document)) {
		err_set(err, ERR_INVALID, "line %zu: %s", parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
		goto out;
	}
	root = yaml_document_get_root_node(&document);
	if (root)
		tree = node_of(&document, root, depth_max, err);
	else
		err_set(err, ERR_INVALID, "the file is empty");
	yaml_document_delete(&document);
out:
	yaml_parser_delete(&parser);
	return tree;
}

void yaml_tree_free(struct yaml *root)
{
	while (root) {
		struct yaml *next = root->next;

		yaml_tree_free(root->first);
		free(root->key);
		free((char *)root->text.data);
		free(root);
		root = next;
	}
}

const struct yaml *yaml_get(const struct yaml *map, const char *key)
{
	const struct yaml *child = map && map->type == YAML_MAP ? map->first : NULL;

	while (child && strcmp(child->key, key) != 0)
		child = child->next;
	return child;
}

const char *yaml_text(const struct yaml *scalar)
{
	return scalar && scalar->type == YAML_SCALAR ? scalar->text.data : NULL;
}

const struct yaml *yaml_find(const struct yaml *root, const char *pointer)
{
	struct slice rest = slice_of(pointer);

	if (!slice_is(slice_cut(&rest, '/'), "#"))
		return NULL;
	while (root && rest.len > 0) {
		struct slice part = slice_cut(&rest, '/');
		char name[128];

		if (part.len >= sizeof(name))
			return NULL;
		memcpy(name, part.data, part.len);
		name[part.len] = '\0';
		root = yaml_get(root, name);
	}
	return root;
}

/* JSON's own spelling of numbers is enough for contracts: 0x10, .5 and 1_000 stay strings. */
static bool is_json_word(struct slice text)
{
	struct err err = ERR_INIT;
	struct json *value = json_parse(text, &err);
	bool is_word = value && json_type(value) <= JSON_NUMBER;

	json_free(value);
	return is_word;
}

static void write_scalar(const struct yaml *node, struct json_writer *w, const char *key)
{
	if (node->is_quoted)
		json_put_string(w, key, node->text);
	else if (node->text.len == 0 || slice_is(node->text, "~"))
		json_put_raw(w, key, slice_of("null"));
	else if (is_json_word(node->text))
		json_put_raw(w, key, node->text);
	else
		json_put_string(w, key, node->text);
}

void yaml_write_json(const struct yaml *node, struct json_writer *w, const char *key)
{
	const struct yaml *child;
	bool is_map = node->type == YAML_MAP;

	if (node->type == YAML_SCALAR) {
		write_scalar(node, w, key);
		return;
	}
	json_open(w, key, is_map ? '{' : '[');
	for (child = node->first; child; child = child->next)
		yaml_write_json(child, w, child->key);
	json_close(w, is_map ? '}' : ']');
}

const char *yaml_library(void)
{
	static char text[48];

	snprintf(text, sizeof(text), "libyaml %s", yaml_get_version_string());
	return text;
}
