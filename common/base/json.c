/* A JSON text goes in, a checked tree comes out; nodes and values go in, a JSON text comes out.
 *
 * Reading has three steps. scan_*() walks the text once, refuses what RFC 8259 or json.h refuses, and notes where each
 * key and each number stands. cJSON builds the tree. annotate() walks the tree in the same order as the text: it gives
 * numbers their digits (as valuestring, which cJSON leaves NULL for numbers but frees) and finds double keys, now
 * that cJSON has undone their escapes. */
#include "common/base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct mark { /* of a key or a number: where it stands */
	uint32_t at;
	uint32_t len;
};

struct scan {
	const char *start, *at, *end;
	unsigned depth;
	size_t keys, max_keys;
	struct mark *marks;
	size_t mark_count, mark_size;
	struct err *err;
};

__attribute__((constructor)) static void use_our_memory(void)
{
	cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = mem_alloc, .free_fn = free });
}

/* --- the scan --- */

static int expected(struct scan *s, const char *what)
{
	return err_set(s->err, ERR_INVALID, "JSON, byte %zu: expected %s", (size_t)(s->at - s->start), what);
}

static int refused(struct scan *s, const char *at, const char *why)
{
	return err_set(s->err, ERR_INVALID, "JSON, byte %zu: %s", (size_t)(at - s->start), why);
}

static void add_mark(struct scan *s, const char *from, const char *to)
{
	if (s->mark_count == s->mark_size) {
		s->mark_size = s->mark_size > 0 ? s->mark_size * 2 : 32;
		s->marks = mem_grow(s->marks, s->mark_size, sizeof(*s->marks));
	}
	s->marks[s->mark_count++] = (struct mark){ (uint32_t)(from - s->start), (uint32_t)(to - from) };
}

static void skip_space(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
		s->at++;
}

static bool is_digit(const struct scan *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* Four hex digits; -1: they are not there. */
static int scan_hex4(struct scan *s)
{
	int unit = 0;

	if (s->end - s->at < 4)
		return expected(s, "four hex digits");
	for (int i = 0; i < 4; i++, s->at++) {
		char c = *s->at;

		if (c >= '0' && c <= '9')
			unit = unit * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			unit = unit * 16 + ((c | 0x20) - 'a' + 10);
		else
			return expected(s, "four hex digits");
	}
	return unit;
}

/* Behind "\u". A high surrogate must be followed by an escaped low one. */
static int scan_unicode_escape(struct scan *s)
{
	const char *from = s->at - 2;
	int unit = scan_hex4(s);

	if (unit < 0)
		return -1;
	if (unit == 0)
		return refused(s, from, "\\u0000 is not accepted");
	if (unit >= 0xdc00 && unit <= 0xdfff)
		return refused(s, from, "a low surrogate without a high one");
	if (unit < 0xd800 || unit > 0xdbff)
		return 0;
	if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
		return refused(s, from, "a high surrogate without a low one");
	s->at += 2;
	unit = scan_hex4(s);
	if (unit >= 0 && (unit < 0xdc00 || unit > 0xdfff))
		return refused(s, from, "a high surrogate without a low one");
	return unit < 0 ? -1 : 0;
}

static int scan_escape(struct scan *s)
{
	s->at++;
	if (s->at == s->end || strchr("\"\\/bfnrtu", *s->at) == NULL || *s->at == '\0')
		return expected(s, "one of \" \\ / b f n r t u behind \\");
	return *s->at++ == 'u' ? scan_unicode_escape(s) : 0;
}

/* What ends a run of plain ASCII in a string. */
static bool is_special(unsigned char c)
{
	return c < ' ' || c >= 0x80 || c == '"' || c == '\\';
}

/* How long the run of plain ASCII is that begins here: eight bytes at a look while none of them is special. In each byte of
 * `eight` the top bit of (x - n) & ~x says that x < n, and a borrow can only come from a byte that is. */
static size_t plain_run(const char *at, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
	size_t run = 0;

	for (uint64_t eight; len - run >= sizeof(eight); run += sizeof(eight)) {
		uint64_t quote, backslash;

		memcpy(&eight, at + run, sizeof(eight));
		quote = eight ^ ones * '"';
		backslash = eight ^ ones * '\\';
		if (((eight | ((eight - ones * ' ') & ~eight) | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & tops) != 0)
			break;
	}
	while (run < len && !is_special((unsigned char)at[run]))
		run++;
	return run;
}

/* UTF-8 is checked at the end, over the whole string: its bytes are never a quote or a backslash. */
static int scan_string(struct scan *s)
{
	const char *from = s->at;
	bool is_ascii = true;

	if (s->at == s->end || *s->at != '"')
		return expected(s, "a string");
	s->at++;
	for (;;) {
		s->at += plain_run(s->at, (size_t)(s->end - s->at));
		if (s->at == s->end)
			return expected(s, "the end of the string");
		if (*s->at == '"')
			break;
		if ((unsigned char)*s->at >= 0x80) {
			is_ascii = false;
			s->at++;
		} else if (*s->at != '\\') {
			return refused(s, s->at, "a control character must be escaped");
		} else if (scan_escape(s) < 0) {
			return -1;
		}
	}
	if (!is_ascii && !str_utf8_valid((struct slice){ from, (size_t)(s->at - from) }))
		return refused(s, from, "the string is not valid UTF-8");
	s->at++;
	return 0;
}

static int scan_digits(struct scan *s)
{
	if (!is_digit(s))
		return expected(s, "a digit");
	while (is_digit(s))
		s->at++;
	return 0;
}

static int scan_number(struct scan *s)
{
	const char *from = s->at;

	if (*s->at == '-')
		s->at++;
	if (s->at < s->end && *s->at == '0')
		s->at++; /* a digit behind it is what the caller does not expect */
	else if (scan_digits(s) < 0)
		return -1;
	if (s->at < s->end && *s->at == '.') {
		s->at++;
		if (scan_digits(s) < 0)
			return -1;
	}
	if (s->at < s->end && (*s->at | 0x20) == 'e') {
		s->at++;
		if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
			s->at++;
		if (scan_digits(s) < 0)
			return -1;
	}
	if (s->at - from > JSON_DIGITS)
		return refused(s, from, "the number has too many digits");
	add_mark(s, from, s->at);
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
		return expected(s, "a value");
	s->at += len;
	return 0;
}

static int scan_value(struct scan *s);

static int scan_member(struct scan *s)
{
	const char *from = s->at;

	if (++s->keys > s->max_keys)
		return refused(s, from, "too many keys");
	if (s->at < s->end && *s->at != '"')
		return expected(s, "a key in double quotes");
	if (scan_string(s) < 0)
		return -1;
	add_mark(s, from, s->at);
	skip_space(s);
	if (s->at == s->end || *s->at != ':')
		return expected(s, "':'");
	s->at++;
	skip_space(s);
	return scan_value(s);
}

/* At its opening bracket. */
static int scan_container(struct scan *s, char close, int (*scan_item)(struct scan *s))
{
	if (++s->depth > JSON_DEPTH)
		return refused(s, s->at, "nested too deeply");
	s->at++;
	skip_space(s);
	if (s->at < s->end && *s->at == close)
		goto closed;
	for (;;) {
		if (scan_item(s) < 0)
			return -1;
		skip_space(s);
		if (s->at < s->end && *s->at == close)
			goto closed;
		if (s->at == s->end || *s->at != ',')
			return expected(s, close == '}' ? "',' or '}'" : "',' or ']'");
		s->at++;
		skip_space(s);
	}
closed:
	s->at++;
	s->depth--;
	return 0;
}

static int scan_value(struct scan *s)
{
	if (s->at == s->end)
		return expected(s, "a value");
	switch (*s->at) {
	case '{':
		return scan_container(s, '}', scan_member);
	case '[':
		return scan_container(s, ']', scan_value);
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return *s->at == '-' || is_digit(s) ? scan_number(s) : expected(s, "a value");
	}
}

static int scan_text(struct scan *s)
{
	skip_space(s);
	if (scan_value(s) < 0)
		return -1;
	skip_space(s);
	return s->at == s->end ? 0 : expected(s, "nothing behind the value");
}

/* --- from the marks to the tree --- */

#define FEW 16 /* keys: comparing all pairs is cheaper than sorting */

static int compare_keys(const void *a, const void *b)
{
	return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static const cJSON *double_among_many(const cJSON *object, size_t count)
{
	const cJSON **members = mem_array(count, sizeof(cJSON *));
	const cJSON *found = NULL;
	size_t i = 0;

	for (const cJSON *m = object->child; m != NULL; m = m->next)
		members[i++] = m;
	qsort(members, count, sizeof(members[0]), compare_keys);
	for (i = 1; i < count && found == NULL; i++) {
		if (compare_keys(&members[i - 1], &members[i]) == 0)
			found = members[i];
	}
	free(members);
	return found;
}

/* A member whose key another has too, or NULL. No string holds a NUL: \u0000 is refused. */
static const cJSON *double_key(const cJSON *object)
{
	size_t count = 0;

	for (const cJSON *m = object->child; m != NULL; m = m->next)
		count++;
	if (count > FEW)
		return double_among_many(object, count);
	for (const cJSON *m = object->child; m != NULL; m = m->next) {
		for (const cJSON *other = object->child; other != m; other = other->next) {
			if (strcmp(m->string, other->string) == 0)
				return m;
		}
	}
	return NULL;
}

static int refuse_double_keys(const struct scan *s, const cJSON *object, const struct mark *first)
{
	const cJSON *twice = double_key(object);

	if (twice == NULL)
		return 0;
	return err_set(s->err, ERR_INVALID, "JSON, from byte %lu on: the key \"%.64s\" is there twice in one object",
		(unsigned long)first->at, twice->string);
}

/* Takes the marks of node and of all below it, in document order. */
static int annotate(struct scan *s, cJSON *node, const struct mark **next)
{
	const struct mark *first = *next;

	if (cJSON_IsNumber(node)) {
		if (!isfinite(node->valuedouble))
			return refused(s, s->start + first->at, "the number is out of range");
		node->valuestring = mem_dup(s->start + first->at, first->len);
		(*next)++;
		return 0;
	}
	for (cJSON *child = node->child; child != NULL; child = child->next) {
		if (child->string != NULL)
			(*next)++; /* its key */
		if (annotate(s, child, next) < 0)
			return -1;
	}
	return cJSON_IsObject(node) ? refuse_double_keys(s, node, first) : 0;
}

static struct json *parse(struct slice text, size_t max_keys, struct err *err)
{
	struct scan s = { .start = text.data, .at = text.data, .max_keys = max_keys, .err = err };
	const struct mark *next;
	cJSON *root = NULL;

	if (text.len == 0 || text.len > UINT32_MAX) {
		err_set(err, ERR_INVALID, text.len == 0 ? "JSON: the text is empty" : "JSON: the text is too long");
		return NULL;
	}
	s.end = text.data + text.len;
	if (scan_text(&s) < 0)
		goto out;
	root = cJSON_ParseWithLengthOpts(text.data, text.len, NULL, 0);
	if (root == NULL) {
		err_set(err, ERR_INVALID, "JSON: not readable"); /* a difference between scan and cJSON */
		goto out;
	}
	next = s.marks;
	if (annotate(&s, root, &next) < 0) {
		cJSON_Delete(root);
		root = NULL;
	}
out:
	free(s.marks);
	return (struct json *)root;
}

struct json *json_parse(struct slice text, struct err *err)
{
	return parse(text, JSON_KEYS, err);
}

struct json *json_parse_answer(struct slice text, struct err *err)
{
	return parse(text, SIZE_MAX, err);
}

/* --- the tree --- */

static const cJSON *inside(const struct json *node)
{
	return (const cJSON *)node;
}

void json_free(struct json *root)
{
	cJSON_Delete((cJSON *)root);
}

enum json_type json_type(const struct json *node)
{
	const cJSON *n = inside(node);

	if (cJSON_IsString(n))
		return JSON_STRING;
	if (cJSON_IsNumber(n))
		return JSON_NUMBER;
	if (cJSON_IsObject(n))
		return JSON_OBJECT;
	if (cJSON_IsArray(n))
		return JSON_ARRAY;
	return cJSON_IsBool(n) ? JSON_BOOL : JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",
		[JSON_BOOL] = "boolean",
		[JSON_NUMBER] = "number",
		[JSON_STRING] = "string",
		[JSON_ARRAY] = "array",
		[JSON_OBJECT] = "object",
	};

	return names[type];
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (!cJSON_IsObject(inside(object)))
		return NULL;
	return (const struct json *)cJSON_GetObjectItemCaseSensitive(inside(object), key);
}

const struct json *json_first(const struct json *container)
{
	return (const struct json *)inside(container)->child;
}

const struct json *json_next(const struct json *node)
{
	return (const struct json *)inside(node)->next;
}

const char *json_key(const struct json *member)
{
	return inside(member)->string;
}

struct slice json_string(const struct json *node)
{
	return cJSON_IsString(inside(node)) ? slice_of(inside(node)->valuestring) : SLICE_NONE;
}

struct slice json_number(const struct json *node)
{
	return cJSON_IsNumber(inside(node)) ? slice_of(inside(node)->valuestring) : SLICE_NONE;
}

bool json_bool(const struct json *node)
{
	return cJSON_IsTrue(inside(node));
}

bool json_int64(const struct json *node, int64_t *out)
{
	return str_int64(json_number(node), out);
}

/* --- writing --- */

/* The letter behind the backslash, or 0: written as \u00XX. */
static char short_escape(char c)
{
	switch (c) {
	case '"':
	case '\\':
		return c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

static void add_special(struct buf *out, char c, bool is_utf8)
{
	char letter = short_escape(c);

	if (letter != 0) {
		buf_add_char(out, '\\');
		buf_add_char(out, letter);
	} else if ((unsigned char)c < ' ') {
		buf_addf(out, "\\u%04x", (unsigned)(unsigned char)c);
	} else if (is_utf8) {
		buf_add_char(out, c);
	} else {
		buf_add_str(out, "\\ufffd"); /* a byte that is part of no character: what we write is always JSON */
	}
}

static void add_quoted(struct buf *out, struct slice text)
{
	bool is_utf8 = true, is_asked = false;
	size_t plain = 0; /* what starts here and needs nothing is added in one piece */

	buf_reserve(out, text.len + 2);
	buf_add_char(out, '"');
	for (size_t i = plain_run(text.data, text.len); i < text.len; i += plain_run(text.data + i, text.len - i)) {
		const bool is_ascii = (unsigned char)text.data[i] < 0x80;

		if (!is_ascii && !is_asked)
			is_utf8 = str_utf8_valid(text);
		is_asked = is_asked || !is_ascii;
		if (is_ascii || !is_utf8) {
			buf_add(out, text.data + plain, i - plain);
			add_special(out, text.data[i], is_utf8);
			plain = i + 1;
		}
		i++;
	}
	if (text.len > plain)
		buf_add(out, text.data + plain, text.len - plain);
	buf_add_char(out, '"');
}

static void begin(struct json_writer *w, const char *key)
{
	if (w->comma)
		buf_add_char(w->out, ',');
	w->comma = true;
	if (key != NULL) {
		add_quoted(w->out, slice_of(key));
		buf_add_char(w->out, ':');
	}
}

void json_open(struct json_writer *w, const char *key, char bracket)
{
	begin(w, key);
	buf_add_char(w->out, bracket);
	w->comma = false;
}

void json_close(struct json_writer *w, char bracket)
{
	buf_add_char(w->out, bracket);
	w->comma = true;
}

void json_put_string(struct json_writer *w, const char *key, struct slice text)
{
	begin(w, key);
	add_quoted(w->out, text);
}

void json_put_int(struct json_writer *w, const char *key, int64_t number)
{
	begin(w, key);
	buf_add_int(w->out, number);
}

void json_put_bool(struct json_writer *w, const char *key, bool value)
{
	begin(w, key);
	buf_add_str(w->out, value ? "true" : "false");
}

void json_put_raw(struct json_writer *w, const char *key, struct slice json)
{
	begin(w, key);
	buf_add(w->out, json.data, json.len);
}

static void write_node(struct json_writer *w, const struct json *node)
{
	const char *key = json_key(node);
	enum json_type type = json_type(node);

	if (type == JSON_OBJECT || type == JSON_ARRAY) {
		json_open(w, key, type == JSON_OBJECT ? '{' : '[');
		for (const struct json *child = json_first(node); child != NULL; child = json_next(child))
			write_node(w, child);
		json_close(w, type == JSON_OBJECT ? '}' : ']');
	} else if (type == JSON_STRING) {
		json_put_string(w, key, json_string(node));
	} else if (type == JSON_NUMBER) {
		json_put_raw(w, key, json_number(node));
	} else if (type == JSON_BOOL) {
		json_put_bool(w, key, json_bool(node));
	} else {
		json_put_raw(w, key, slice_of("null"));
	}
}

void json_write_node(struct buf *out, const struct json *node)
{
	struct json_writer w = JSON_WRITER(out);
	cJSON root = *inside(node); /* written as a value: without its key */

	root.string = NULL;
	write_node(&w, (const struct json *)&root);
}

void json_put_node(struct json_writer *w, const char *key, const struct json *node)
{
	begin(w, key);
	json_write_node(w->out, node);
}

/* As it is loaded, not as it was compiled against. */
const char *json_library(void)
{
	static char text[48]; /* written with the same bytes each time */

	snprintf(text, sizeof(text), "cJSON %s", cJSON_Version());
	return text;
}
