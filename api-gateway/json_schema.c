/* Schemas of the contract in, verdicts on values out. Three tables are the whole of it: keywords, formats, types. */
#include "api-gateway/json_schema.h"

#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum { DEPTH_MAX = 32 };

enum type_bit { T_NULL = 1, T_BOOL = 2, T_INTEGER = 4, T_NUMBER = 8, T_STRING = 16, T_ARRAY = 32, T_OBJECT = 64, T_ANY = 127 };

struct property {
	char *name;
	const struct json_schema *schema; /* NULL: only required */
	bool is_required;
	struct property *next;
};

struct allowed {
	struct slice json; /* the value as compact JSON, owned */
	struct allowed *next;
};

struct branch { /* of anyOf, in order of the file */
	const struct json_schema *schema;
	struct branch *next;
};

struct bound {
	bool is_set, is_exclusive;
	double value;
};

struct json_schema {
	const struct yaml *place;
	struct json_schema *next; /* in the set */
	const struct json_schema *ref;
	unsigned types;
	struct property *properties;
	const struct json_schema *additional; /* NULL: see may_add */
	bool no_additional;
	const struct json_schema *items;
	bool unique_items;
	struct allowed *allowed;
	struct branch *any_of;
	const struct format *format;
	regex_t *pattern;
	char *pattern_text;
	struct bound minimum, maximum, multiple_of;
	struct bound min_length, max_length, min_items, max_items, min_properties, max_properties;
};

struct json_schema_set {
	const struct yaml *root;
	struct json_schema *first;
};

/* A value to be checked: a JSON node, or the text of a parameter. */
struct value {
	enum type_bit type;
	struct slice text;       /* a string's characters, or a number's digits */
	const struct json *node; /* NULL for a parameter */
};

/* ---- formats */

static bool is_date_time(struct slice text)
{
	int64_t ms;

	return clock_parse_rfc3339(text, &ms);
}

static bool is_uuid(struct slice text)
{
	size_t i;

	if (text.len != 36)
		return false;
	for (i = 0; i < text.len; i++) {
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_dash ? text.data[i] != '-' : !strchr("0123456789abcdefABCDEF", text.data[i]))
			return false;
	}
	return true;
}

struct format {
	const char *name;
	bool (*is_valid)(struct slice text); /* NULL: only describes */
};

static const struct format formats[] = {
	{ "date", clock_is_date }, { "date-time", is_date_time }, { "uuid", is_uuid }, { "int32", NULL }, { "int64", NULL },
	{ "float", NULL },         { "double", NULL },            { "uri", NULL },     { "uri-reference", NULL },
};

/* ---- compiling: one function a keyword */

typedef int keyword_fn(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err);

static int fault_at(const struct yaml *place, struct err *err, const char *what)
{
	return err_set(err, ERR_FATAL, "line %zu: %s: %s", place->line, place->key ? place->key : "item", what);
}

static const struct {
	const char *name;
	unsigned bits;
} type_names[] = {
	{ "null", T_NULL },     { "boolean", T_BOOL }, { "integer", T_INTEGER }, { "number", T_NUMBER | T_INTEGER },
	{ "string", T_STRING }, { "array", T_ARRAY },  { "object", T_OBJECT },
};

static int add_type(struct json_schema *schema, const struct yaml *name, struct err *err)
{
	size_t i;

	for (i = 0; i < sizeof(type_names) / sizeof(*type_names); i++)
		if (yaml_text(name) && strcmp(yaml_text(name), type_names[i].name) == 0) {
			schema->types |= type_names[i].bits;
			return 0;
		}
	return fault_at(name, err, "no such type");
}

static int compile_type(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	const struct yaml *name;

	(void)set;
	(void)field;
	schema->types = 0;
	if (value->type != YAML_LIST)
		return add_type(schema, value, err);
	for (name = value->first; name; name = name->next)
		if (add_type(schema, name, err) < 0)
			return -1;
	return 0;
}

static int compile_ref(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	const struct yaml *place = yaml_text(value) ? yaml_find(set->root, yaml_text(value)) : NULL;

	(void)field;
	if (!place)
		return fault_at(value, err, "there is nothing in this file by that name");
	schema->ref = json_schema_compile(set, place, err);
	return schema->ref ? 0 : -1;
}

static struct property *property_of(struct json_schema *schema, const char *name)
{
	struct property *property = schema->properties;

	while (property && strcmp(property->name, name) != 0)
		property = property->next;
	if (!property) {
		property = mem_zalloc(sizeof(*property));
		property->name = mem_strdup(name);
		property->next = schema->properties;
		schema->properties = property;
	}
	return property;
}

static int compile_properties(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	const struct yaml *child;

	(void)field;
	if (value->type != YAML_MAP)
		return fault_at(value, err, "must be a map");
	for (child = value->first; child; child = child->next) {
		struct property *property = property_of(schema, child->key);

		property->schema = json_schema_compile(set, child, err);
		if (!property->schema)
			return -1;
	}
	return 0;
}

static int compile_required(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	const struct yaml *name;

	(void)set;
	(void)field;
	if (value->type != YAML_LIST)
		return fault_at(value, err, "must be a list of names");
	for (name = value->first; name; name = name->next) {
		if (!yaml_text(name))
			return fault_at(name, err, "must be a name");
		property_of(schema, yaml_text(name))->is_required = true;
	}
	return 0;
}

static int compile_additional(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	(void)field;
	if (yaml_text(value)) {
		schema->no_additional = strcmp(yaml_text(value), "false") == 0;
		return schema->no_additional || strcmp(yaml_text(value), "true") == 0 ? 0 : fault_at(value, err, "must be a schema, true or false");
	}
	schema->additional = json_schema_compile(set, value, err);
	return schema->additional ? 0 : -1;
}

static int compile_items(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	(void)field;
	schema->items = json_schema_compile(set, value, err);
	return schema->items ? 0 : -1;
}

static int compile_unique(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	(void)set;
	(void)field;
	schema->unique_items = yaml_text(value) && strcmp(yaml_text(value), "true") == 0;
	return schema->unique_items || (yaml_text(value) && strcmp(yaml_text(value), "false") == 0) ? 0 : fault_at(value, err, "must be true or false");
}

static int compile_enum(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	const struct yaml *child;

	(void)set;
	(void)field;
	if (value->type != YAML_LIST)
		return fault_at(value, err, "must be a list of values");
	for (child = value->first; child; child = child->next) {
		struct allowed *allowed = mem_zalloc(sizeof(*allowed));
		struct buf text = BUF_INIT;
		struct json_writer w = JSON_WRITER(&text);

		yaml_write_json(child, &w, NULL);
		allowed->json.len = text.len;
		allowed->json.data = buf_detach(&text);
		allowed->next = schema->allowed;
		schema->allowed = allowed;
	}
	return 0;
}

static int compile_any_of(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	struct branch **tail = &schema->any_of;
	const struct yaml *child;

	(void)field;
	if (value->type != YAML_LIST || !value->first)
		return fault_at(value, err, "must be a list of schemas");
	for (child = value->first; child; child = child->next) {
		*tail = mem_zalloc(sizeof(**tail));
		(*tail)->schema = json_schema_compile(set, child, err);
		if (!(*tail)->schema)
			return -1;
		tail = &(*tail)->next;
	}
	return 0;
}

static int compile_format(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	size_t i;

	(void)set;
	(void)field;
	for (i = 0; i < sizeof(formats) / sizeof(*formats); i++)
		if (yaml_text(value) && strcmp(yaml_text(value), formats[i].name) == 0) {
			schema->format = &formats[i];
			return 0;
		}
	return fault_at(value, err, "no such format");
}

static int compile_pattern(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	(void)set;
	(void)field;
	if (!yaml_text(value))
		return fault_at(value, err, "must be a regular expression");
	schema->pattern = mem_zalloc(sizeof(*schema->pattern));
	if (regcomp(schema->pattern, yaml_text(value), REG_EXTENDED | REG_NOSUB) != 0) {
		free(schema->pattern);
		schema->pattern = NULL;
		return fault_at(value, err, "is no extended regular expression");
	}
	schema->pattern_text = mem_strdup(yaml_text(value));
	return 0;
}

static int compile_bound(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	struct bound *bound = (struct bound *)((char *)schema + field);
	char *end = NULL;

	(void)set;
	if (!yaml_text(value) || value->is_quoted || value->text.len == 0)
		return fault_at(value, err, "must be a number");
	bound->value = strtod(value->text.data, &end);
	bound->is_set = true;
	bound->is_exclusive = strncmp(value->key, "exclusive", 9) == 0;
	return *end == '\0' && isfinite(bound->value) ? 0 : fault_at(value, err, "must be a number");
}

static int only_describes(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, size_t field, struct err *err)
{
	(void)set;
	(void)schema;
	(void)value;
	(void)field;
	(void)err;
	return 0;
}

static const struct keyword {
	const char *name;
	keyword_fn *compile;
	size_t field; /* of a bound */
} keywords[] = {
	{ "type", compile_type, 0 },
	{ "$ref", compile_ref, 0 },
	{ "properties", compile_properties, 0 },
	{ "required", compile_required, 0 },
	{ "additionalProperties", compile_additional, 0 },
	{ "items", compile_items, 0 },
	{ "uniqueItems", compile_unique, 0 },
	{ "enum", compile_enum, 0 },
	{ "anyOf", compile_any_of, 0 },
	{ "format", compile_format, 0 },
	{ "pattern", compile_pattern, 0 },
	{ "minimum", compile_bound, offsetof(struct json_schema, minimum) },
	{ "exclusiveMinimum", compile_bound, offsetof(struct json_schema, minimum) },
	{ "maximum", compile_bound, offsetof(struct json_schema, maximum) },
	{ "exclusiveMaximum", compile_bound, offsetof(struct json_schema, maximum) },
	{ "multipleOf", compile_bound, offsetof(struct json_schema, multiple_of) },
	{ "minLength", compile_bound, offsetof(struct json_schema, min_length) },
	{ "maxLength", compile_bound, offsetof(struct json_schema, max_length) },
	{ "minItems", compile_bound, offsetof(struct json_schema, min_items) },
	{ "maxItems", compile_bound, offsetof(struct json_schema, max_items) },
	{ "minProperties", compile_bound, offsetof(struct json_schema, min_properties) },
	{ "maxProperties", compile_bound, offsetof(struct json_schema, max_properties) },
	{ "title", only_describes, 0 },
	{ "description", only_describes, 0 },
	{ "default", only_describes, 0 },
	{ "example", only_describes, 0 },
	{ "examples", only_describes, 0 },
	{ "deprecated", only_describes, 0 },
	{ "readOnly", only_describes, 0 },
	{ "writeOnly", only_describes, 0 },
};

static int compile_keyword(struct json_schema_set *set, struct json_schema *schema, const struct yaml *value, struct err *err)
{
	size_t i;

	for (i = 0; i < sizeof(keywords) / sizeof(*keywords); i++)
		if (strcmp(value->key, keywords[i].name) == 0)
			return keywords[i].compile(set, schema, value, keywords[i].field, err);
	return fault_at(value, err, "a schema keyword that this gateway does not check; it must not stand in the contract");
}

const struct json_schema *json_schema_compile(struct json_schema_set *set, const struct yaml *place, struct err *err)
{
	struct json_schema *schema;
	const struct yaml *value;

	for (schema = set->first; schema; schema = schema->next)
		if (schema->place == place)
			return schema;
	if (place->type != YAML_MAP) {
		fault_at(place, err, "must be a schema");
		return NULL;
	}
	schema = mem_zalloc(sizeof(*schema));
	schema->place = place;
	schema->types = T_ANY;
	schema->next = set->first;
	set->first = schema;
	for (value = place->first; value; value = value->next)
		if (compile_keyword(set, schema, value, err) < 0)
			return NULL;
	return schema;
}

struct json_schema_set *json_schema_set_new(const struct yaml *root)
{
	struct json_schema_set *set = mem_zalloc(sizeof(*set));

	set->root = root;
	return set;
}

static void json_schema_free(struct json_schema *schema)
{
	while (schema->properties) {
		struct property *property = schema->properties;

		schema->properties = property->next;
		free(property->name);
		free(property);
	}
	while (schema->allowed) {
		struct allowed *allowed = schema->allowed;

		schema->allowed = allowed->next;
		free((char *)allowed->json.data);
		free(allowed);
	}
	while (schema->any_of) {
		struct branch *branch = schema->any_of;

		schema->any_of = branch->next;
		free(branch);
	}
	if (schema->pattern)
		regfree(schema->pattern);
	free(schema->pattern);
	free(schema->pattern_text);
	free(schema);
}

void json_schema_set_free(struct json_schema_set *set)
{
	while (set && set->first) {
		struct json_schema *schema = set->first;

		set->first = schema->next;
		json_schema_free(schema);
	}
	free(set);
}

/* ---- checking: each function says whether the value passes, and fills the fault when not */

static bool fail(struct json_schema_fault *fault, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(struct json_schema_fault *fault, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fault->what, sizeof(fault->what), format, args);
	va_end(args);
	return false;
}

/* Appends "/name" to the pointer, escaped as RFC 6901 wants; returns the old length, to cut back to. */
static size_t enter(struct json_schema_fault *fault, const char *name)
{
	size_t before = strlen(fault->pointer), at = before;

	if (at + 1 < sizeof(fault->pointer))
		fault->pointer[at++] = '/';
	for (; *name && at + 3 < sizeof(fault->pointer); name++) {
		if (*name == '~' || *name == '/') {
			fault->pointer[at++] = '~';
			fault->pointer[at++] = *name == '~' ? '0' : '1';
		} else {
			fault->pointer[at++] = *name;
		}
	}
	fault->pointer[at] = '\0';
	return before;
}

static bool check(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth);

static bool is_whole(struct slice digits)
{
	double number;

	if (!memchr(digits.data, '.', digits.len) && !memchr(digits.data, 'e', digits.len) && !memchr(digits.data, 'E', digits.len))
		return true;
	number = strtod(digits.data, NULL);
	return isfinite(number) && floor(number) == number;
}

static struct value value_of(const struct json *node)
{
	static const enum type_bit bits[] = { T_NULL, T_BOOL, T_NUMBER, T_STRING, T_ARRAY, T_OBJECT };
	struct value value = { bits[json_type(node)], SLICE_NONE, node };

	if (value.type == T_STRING)
		value.text = json_string(node);
	else if (value.type == T_NUMBER)
		value.text = json_number(node);
	if (value.type == T_NUMBER && is_whole(value.text))
		value.type = T_INTEGER;
	return value;
}

static const char *type_word(unsigned types)
{
	size_t i;

	for (i = 0; i < sizeof(type_names) / sizeof(*type_names); i++)
		if (type_names[i].bits == types)
			return type_names[i].name;
	return "of another type";
}

static bool check_type(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault)
{
	unsigned got = value->type == T_INTEGER ? T_NUMBER | T_INTEGER : (unsigned)value->type;

	if (schema->types & value->type)
		return true;
	return fail(fault, "must be %s %s, not %s", strchr("aio", type_word(schema->types)[0]) ? "an" : "a", type_word(schema->types),
		type_word(got == T_NUMBER ? T_NUMBER | T_INTEGER : got));
}

static bool check_enum(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault)
{
	const struct allowed *allowed;
	struct buf text = BUF_INIT, choices = BUF_INIT;
	struct json_writer w = JSON_WRITER(&text);
	bool is_allowed = !schema->allowed;

	if (is_allowed)
		return true;
	if (value->node)
		json_write_node(&text, value->node);
	else if (value->type == T_STRING)
		json_put_string(&w, NULL, value->text);
	else
		buf_add(&text, value->text.data, value->text.len);
	for (allowed = schema->allowed; allowed && !is_allowed; allowed = allowed->next) {
		is_allowed = allowed->json.len == text.len && memcmp(allowed->json.data, text.data, text.len) == 0;
		buf_addf(&choices, "%s%.*s", choices.len ? ", " : "", (int)allowed->json.len, allowed->json.data);
	}
	if (!is_allowed)
		fail(fault, "must be one of %s", choices.data);
	buf_release(&text);
	buf_release(&choices);
	return is_allowed;
}

/* Decimal fractions are compared by their digits, not as doubles: 0.07 is a multiple of 0.01. */
static bool is_multiple(double number, double step)
{
	double times = number / step;

	return isfinite(times) && fabs(times - round(times)) <= fabs(times) * 4e-16;
}

static bool check_number(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault)
{
	double number;

	if (!(value->type & (T_NUMBER | T_INTEGER)))
		return true;
	number = strtod(value->text.data, NULL);
	if (schema->minimum.is_set && (schema->minimum.is_exclusive ? number <= schema->minimum.value : number < schema->minimum.value))
		return fail(fault, "must be %s %.15g", schema->minimum.is_exclusive ? "above" : "at least", schema->minimum.value);
	if (schema->maximum.is_set && (schema->maximum.is_exclusive ? number >= schema->maximum.value : number > schema->maximum.value))
		return fail(fault, "must be %s %.16g", schema->maximum.is_exclusive ? "below" : "at most", schema->maximum.value);
	if (schema->multiple_of.is_set && !is_multiple(number, schema->multiple_of.value))
		return fail(fault, "must be a multiple of %.15g", schema->multiple_of.value);
	return true;
}

static bool check_count(const struct bound *min, const struct bound *max, size_t count, const char *unit, struct json_schema_fault *fault)
{
	if (min->is_set && (double)count < min->value)
		return fail(fault, "must have at least %.0f %s", min->value, unit);
	if (max->is_set && (double)count > max->value)
		return fail(fault, "must have at most %.0f %s, not %zu", max->value, unit, count);
	return true;
}

static bool check_string(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault)
{
	if (value->type != T_STRING)
		return true;
	if ((schema->min_length.is_set || schema->max_length.is_set) &&
		!check_count(&schema->min_length, &schema->max_length, str_utf8_length(value->text), "characters", fault))
		return false;
	if (schema->pattern && regexec(schema->pattern, value->text.data, 0, NULL, 0) != 0)
		return fail(fault, "must match %.150s", schema->pattern_text);
	if (schema->format && schema->format->is_valid && !schema->format->is_valid(value->text))
		return fail(fault, "must be a %s", schema->format->name);
	return true;
}

/* Says of all branches what they want: "must be a date, or must be a date-time". */
static bool wants_one_of(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth)
{
	struct buf wanted = BUF_INIT;

	for (const struct branch *branch = schema->any_of; branch; branch = branch->next) {
		struct json_schema_fault one = *fault;

		check(branch->schema, value, &one, depth);
		buf_addf(&wanted, "%s%s", wanted.len ? ", or " : "", one.what);
	}
	fail(fault, "%s", wanted.data);
	buf_release(&wanted);
	return false;
}

static bool check_any_of(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth)
{
	const size_t place = strlen(fault->pointer);

	for (const struct branch *branch = schema->any_of; branch; branch = branch->next) {
		if (check(branch->schema, value, fault, depth))
			return true;
		fault->pointer[place] = '\0'; /* where this branch found its fault */
	}
	return !schema->any_of || wants_one_of(schema, value, fault, depth);
}

static bool has_twin(const struct json *item)
{
	struct buf one = BUF_INIT, other = BUF_INIT;
	const struct json *next;
	bool is_found = false;

	json_write_node(&one, item);
	for (next = json_next(item); next && !is_found; next = json_next(next)) {
		buf_reset(&other);
		json_write_node(&other, next);
		is_found = one.len == other.len && memcmp(one.data, other.data, one.len) == 0;
	}
	buf_release(&one);
	buf_release(&other);
	return is_found;
}

static bool check_array(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth)
{
	const struct json *item;
	size_t count = 0;

	if (value->type != T_ARRAY || !value->node)
		return true;
	for (item = json_first(value->node); item; item = json_next(item), count++) {
		struct value element = value_of(item);
		char index[24];
		size_t before;

		snprintf(index, sizeof(index), "%zu", count);
		before = enter(fault, index);
		if (schema->items && !check(schema->items, &element, fault, depth))
			return false;
		if (schema->unique_items && has_twin(item))
			return fail(fault, "must not be there twice");
		fault->pointer[before] = '\0';
	}
	return check_count(&schema->min_items, &schema->max_items, count, "items", fault);
}

static const struct property *property_find(const struct json_schema *schema, const char *name)
{
	const struct property *property = schema->properties;

	while (property && strcmp(property->name, name) != 0)
		property = property->next;
	return property;
}

static bool check_member(const struct json_schema *schema, const struct json *member, struct json_schema_fault *fault, int depth)
{
	const struct property *property = property_find(schema, json_key(member));
	const struct json_schema *wanted = property ? property->schema : schema->additional;
	struct value value = value_of(member);
	size_t before = enter(fault, json_key(member));

	if (!property && schema->no_additional)
		return fail(fault, "is not known here");
	if (wanted && !check(wanted, &value, fault, depth))
		return false;
	fault->pointer[before] = '\0';
	return true;
}

static bool check_object(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth)
{
	const struct property *property;
	const struct json *member;
	size_t count = 0;

	if (value->type != T_OBJECT || !value->node)
		return true;
	for (member = json_first(value->node); member; member = json_next(member), count++)
		if (!check_member(schema, member, fault, depth))
			return false;
	for (property = schema->properties; property; property = property->next)
		if (property->is_required && !json_get(value->node, property->name)) {
			enter(fault, property->name);
			return fail(fault, "is required");
		}
	return check_count(&schema->min_properties, &schema->max_properties, count, "members", fault);
}

static bool check(const struct json_schema *schema, const struct value *value, struct json_schema_fault *fault, int depth)
{
	if (depth == 0)
		return fail(fault, "is nested too deep");
	return (!schema->ref || check(schema->ref, value, fault, depth - 1)) && check_type(schema, value, fault) && check_enum(schema, value, fault) &&
		check_number(schema, value, fault) && check_string(schema, value, fault) &&
		check_any_of(schema, value, fault, depth - 1) && check_array(schema, value, fault, depth - 1) &&
		check_object(schema, value, fault, depth - 1);
}

bool json_schema_check(const struct json_schema *schema, const struct json *node, struct json_schema_fault *fault)
{
	struct value value = value_of(node);

	fault->pointer[0] = '\0';
	fault->what[0] = '\0';
	return check(schema, &value, fault, DEPTH_MAX);
}

/* The types that a schema lets through, references followed. */
static unsigned types_of(const struct json_schema *schema)
{
	unsigned types = T_ANY;
	int depth;

	for (depth = DEPTH_MAX; schema && depth > 0; schema = schema->ref, depth--)
		types &= schema->types;
	return types;
}

/* A number or boolean where the schema wants one and the text is one; else a string. */
static enum type_bit type_of_text(const struct json_schema *schema, struct slice text)
{
	unsigned types = types_of(schema);
	struct err err = ERR_INIT;
	struct json *node;
	enum type_bit type = T_STRING;
	int64_t number;

	if ((types & T_INTEGER) && str_int64(text, &number))
		return T_INTEGER;
	if ((types & T_STRING) || !(types & (T_NUMBER | T_INTEGER | T_BOOL)))
		return T_STRING;
	node = json_parse(text, &err);
	if (node && json_type(node) == JSON_NUMBER && json_number(node).len == text.len) /* no spaces around it */
		type = value_of(node).type;
	else if (slice_is(text, "true") || slice_is(text, "false"))
		type = T_BOOL;
	json_free(node);
	return type;
}

bool json_schema_check_text(const struct json_schema *schema, struct slice text, struct json_schema_fault *fault)
{
	char *copy = mem_dup(text.data, text.len); /* strtod and regexec want an end */
	struct value value = { type_of_text(schema, text), { copy, text.len }, NULL };
	bool is_valid;

	fault->pointer[0] = '\0';
	fault->what[0] = '\0';
	is_valid = check(schema, &value, fault, DEPTH_MAX);
	free(copy);
	return is_valid;
}
