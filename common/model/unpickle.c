/* A pickle goes in, the same value as JSON comes out: pickle's stack machine, whose values are JSON texts. */
#include "common/model/unpickle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"

#define TEXT_MAX (16u << 20) /* of all that is made: a pickle may name a text again and again */

enum kind { MARK, HOOK /* the one function */, VALUE, LIST, DICT };

struct item {
	enum kind kind;
	struct buf text; /* JSON; of a list or dict without its closing bracket */
	size_t count;    /* of a tuple */
};

struct memo {
	struct buf text;
	bool is_plain; /* else a list or dict, which may have changed since */
};

struct machine {
	struct slice rest;
	struct item *stack;
	size_t depth, room;
	struct memo *memo;
	size_t memos;
	size_t made; /* bytes */
};

/* ---- reading */

static bool take(struct machine *m, size_t len, struct slice *out)
{
	if (m->rest.len < len)
		return false;
	*out = (struct slice){ m->rest.data, len };
	m->rest.data += len;
	m->rest.len -= len;
	return true;
}

/* A little-endian number of so many bytes. */
static bool take_number(struct machine *m, size_t bytes, uint64_t *out)
{
	struct slice raw;

	if (!take(m, bytes, &raw))
		return false;
	*out = 0;
	for (size_t i = 0; i < bytes; i++)
		*out |= (uint64_t)(unsigned char)raw.data[i] << (8 * i);
	return true;
}

static bool take_line(struct machine *m, struct slice *out)
{
	const char *end = m->rest.len > 0 ? memchr(m->rest.data, '\n', m->rest.len) : NULL;
	struct slice newline;

	return end != NULL && take(m, (size_t)(end - m->rest.data), out) && take(m, 1, &newline);
}

/* ---- the stack */

static struct buf *push(struct machine *m, enum kind kind)
{
	if (m->depth == m->room) {
		m->room = m->room > 0 ? m->room * 2 : 16;
		m->stack = mem_grow(m->stack, m->room, sizeof(*m->stack));
	}
	m->stack[m->depth] = (struct item){ kind, BUF_INIT, 0 };
	return &m->stack[m->depth++].text;
}

static bool push_text(struct machine *m, const char *text)
{
	buf_add_str(push(m, VALUE), text);
	return true;
}

static void drop_to(struct machine *m, size_t depth)
{
	while (m->depth > depth)
		buf_release(&m->stack[--m->depth].text);
}

/* What stands behind the last mark; the mark itself is at *at. */
static bool find_mark(const struct machine *m, size_t *at)
{
	for (size_t i = m->depth; i > 0; i--) {
		if (m->stack[i - 1].kind == MARK) {
			*at = i - 1;
			return true;
		}
	}
	return false;
}

static bool add_item(struct machine *m, struct buf *out, const struct item *item)
{
	static const char *const closing[] = { [VALUE] = "", [LIST] = "]", [DICT] = "}" };

	if (item->kind < VALUE)
		return false;
	buf_add(out, item->text.data, item->text.len);
	buf_add_str(out, closing[item->kind]);
	m->made += item->text.len;
	return m->made <= TEXT_MAX;
}

static void add_comma(struct buf *out)
{
	if (out->len > 1)
		buf_add_char(out, ',');
}

/* ---- opcodes: what to do, with a number of its own */

typedef bool op_fn(struct machine *m, size_t n);

static bool op_skip(struct machine *m, size_t n)
{
	struct slice skipped;

	return take(m, n, &skipped);
}

static bool op_mark(struct machine *m, size_t n)
{
	(void)n;
	push(m, MARK);
	return true;
}

static bool op_none(struct machine *m, size_t n)
{
	(void)n;
	return push_text(m, "null");
}

static bool op_bool(struct machine *m, size_t is_true)
{
	return push_text(m, is_true ? "true" : "false");
}

static bool op_list(struct machine *m, size_t n)
{
	(void)n;
	buf_add_char(push(m, LIST), '[');
	return true;
}

static bool op_dict(struct machine *m, size_t n)
{
	(void)n;
	buf_add_char(push(m, DICT), '{');
	return true;
}

static bool op_int(struct machine *m, size_t bytes)
{
	uint64_t number;

	if (!take_number(m, bytes, &number))
		return false;
	buf_add_int(push(m, VALUE), bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number);
	return true;
}

/* Two's complement, as short as it gets; beyond 64 bits it is not read. */
static bool op_long1(struct machine *m, size_t n)
{
	uint64_t bytes, number;

	(void)n;
	if (!take_number(m, 1, &bytes) || bytes > 8 || !take_number(m, bytes, &number))
		return false;
	if (bytes > 0 && bytes < 8 && (number >> (8 * bytes - 1) & 1))
		number |= UINT64_MAX << (8 * bytes);
	buf_add_int(push(m, VALUE), (int64_t)number);
	return true;
}

/* Digits; LONG has an L behind them. */
static bool op_digits(struct machine *m, size_t n)
{
	struct slice line;
	size_t sign;

	(void)n;
	if (!take_line(m, &line))
		return false;
	if (line.len > 0 && line.data[line.len - 1] == 'L')
		line.len--;
	sign = line.len > 0 && line.data[0] == '-';
	if (line.len == sign || line.len > JSON_DIGITS || (line.data[sign] == '0' && line.len > sign + 1))
		return false;
	for (size_t i = sign; i < line.len; i++)
		if (line.data[i] < '0' || line.data[i] > '9')
			return false;
	buf_add(push(m, VALUE), line.data, line.len);
	return true;
}

static bool op_float(struct machine *m, size_t n)
{
	struct slice raw;
	uint64_t bits = 0;
	double real;

	(void)n;
	if (!take(m, 8, &raw))
		return false;
	for (int i = 0; i < 8; i++)
		bits = bits << 8 | (unsigned char)raw.data[i];
	memcpy(&real, &bits, sizeof(real));
	if (isfinite(real))
		buf_addf(push(m, VALUE), "%.17g", real);
	else
		push_text(m, "null");
	return true;
}

static bool op_text(struct machine *m, size_t bytes)
{
	uint64_t len;
	struct slice text;
	struct json_writer w;

	if (!take_number(m, bytes, &len) || len > TEXT_MAX || !take(m, (size_t)len, &text) || !str_utf8_valid(text))
		return false;
	w = (struct json_writer)JSON_WRITER(push(m, VALUE));
	json_put_string(&w, NULL, text.len > 0 ? text : slice_of(""));
	return true;
}

/* The top n values, or those behind the mark, as a list of their own. */
static bool gather(struct machine *m, size_t from, size_t drop)
{
	const size_t count = m->depth - from;
	struct buf text = BUF_INIT;
	bool is_right = true;

	buf_add_char(&text, '[');
	for (size_t i = from; i < m->depth && is_right; i++) {
		add_comma(&text);
		is_right = add_item(m, &text, &m->stack[i]);
	}
	buf_add_char(&text, ']');
	drop_to(m, drop);
	*push(m, VALUE) = text;
	m->stack[m->depth - 1].count = count;
	return is_right;
}

static bool op_tuple_of(struct machine *m, size_t n)
{
	return m->depth >= n && gather(m, m->depth - n, m->depth - n);
}

static bool op_tuple(struct machine *m, size_t n)
{
	size_t mark;

	(void)n;
	return find_mark(m, &mark) && gather(m, mark + 1, mark);
}

static bool append(struct machine *m, size_t from, size_t drop)
{
	struct item *list;

	if (drop == 0 || (list = &m->stack[drop - 1])->kind != LIST)
		return false;
	for (size_t i = from; i < m->depth; i++) {
		add_comma(&list->text);
		if (!add_item(m, &list->text, &m->stack[i]))
			return false;
	}
	drop_to(m, drop);
	return true;
}

static bool op_append(struct machine *m, size_t n)
{
	(void)n;
	return m->depth >= 2 && append(m, m->depth - 1, m->depth - 1);
}

static bool op_appends(struct machine *m, size_t n)
{
	size_t mark;

	(void)n;
	return find_mark(m, &mark) && append(m, mark + 1, mark);
}

/* JSON has texts for keys; a number or a bool becomes one, a list or dict can't be a key in Python either. */
static bool add_key(struct machine *m, struct buf *out, const struct item *key)
{
	bool is_text = key->text.len > 0 && key->text.data[0] == '"';

	if (key->kind != VALUE || (key->text.len > 0 && key->text.data[0] == '['))
		return false;
	buf_add_str(out, is_text ? "" : "\"");
	if (!add_item(m, out, key))
		return false;
	buf_add_str(out, is_text ? ":" : "\":");
	return true;
}

static bool set_items(struct machine *m, size_t from, size_t drop)
{
	struct item *dict;

	if (drop == 0 || (dict = &m->stack[drop - 1])->kind != DICT || (m->depth - from) % 2 != 0)
		return false;
	for (size_t i = from; i < m->depth; i += 2) {
		add_comma(&dict->text);
		if (!add_key(m, &dict->text, &m->stack[i]) || !add_item(m, &dict->text, &m->stack[i + 1]))
			return false;
	}
	drop_to(m, drop);
	return true;
}

static bool op_set_item(struct machine *m, size_t n)
{
	(void)n;
	return m->depth >= 3 && set_items(m, m->depth - 2, m->depth - 2);
}

static bool op_set_items(struct machine *m, size_t n)
{
	size_t mark;

	(void)n;
	return find_mark(m, &mark) && set_items(m, mark + 1, mark);
}

/* ---- the one call */

static bool op_global(struct machine *m, size_t n)
{
	struct slice module, name;

	(void)n;
	if (!take_line(m, &module) || !take_line(m, &name) || !slice_is(module, "kombu.utils.json") || !slice_is(name, "object_hook"))
		return false;
	push(m, HOOK);
	return true;
}

/* With one dict: that stays. */
static bool op_reduce(struct machine *m, size_t n)
{
	struct item *hook, *tuple;

	(void)n;
	if (m->depth < 2 || (hook = &m->stack[m->depth - 2])->kind != HOOK || (tuple = &m->stack[m->depth - 1])->count != 1 ||
		tuple->text.data[1] != '{')
		return false;
	buf_add(&hook->text, tuple->text.data + 1, tuple->text.len - 2); /* without the brackets */
	hook->kind = VALUE;
	m->made += hook->text.len;
	drop_to(m, m->depth - 1);
	return m->made <= TEXT_MAX;
}

/* ---- the memo */

static bool remember(struct machine *m, uint64_t at)
{
	const struct item *top;

	if (m->depth == 0 || at > m->memos) /* they are numbered one after another */
		return false;
	top = &m->stack[m->depth - 1];
	if (at == m->memos) {
		m->memo = mem_grow(m->memo, m->memos + 1, sizeof(*m->memo));
		m->memo[m->memos++].text = (struct buf)BUF_INIT;
	}
	buf_reset(&m->memo[at].text);
	m->memo[at].is_plain = top->kind == VALUE;
	if (top->kind == VALUE)
		buf_add(&m->memo[at].text, top->text.data, top->text.len);
	m->made += top->text.len;
	return top->kind >= VALUE && m->made <= TEXT_MAX;
}

static bool op_memoize(struct machine *m, size_t n)
{
	(void)n;
	return remember(m, m->memos);
}

static bool op_put(struct machine *m, size_t bytes)
{
	uint64_t at;

	return take_number(m, bytes, &at) && remember(m, at);
}

static bool op_get(struct machine *m, size_t bytes)
{
	uint64_t at;

	if (!take_number(m, bytes, &at) || at >= m->memos || !m->memo[at].is_plain)
		return false;
	buf_add(push(m, VALUE), m->memo[at].text.data, m->memo[at].text.len);
	m->made += m->memo[at].text.len;
	return m->made <= TEXT_MAX;
}

/* ---- running */

static const struct {
	unsigned char code;
	size_t n;
	op_fn *run;
} ops[] = {
	{ 0x80, 1, op_skip },    /* PROTO */
	{ 0x95, 8, op_skip },    /* FRAME */
	{ '(', 0, op_mark },     { 'N', 0, op_none },     { 0x88, 1, op_bool },    { 0x89, 0, op_bool },
	{ 'J', 4, op_int },      { 'K', 1, op_int },      { 'M', 2, op_int },      { 0x8a, 0, op_long1 },
	{ 'L', 0, op_digits },   { 'I', 0, op_digits },   { 'G', 0, op_float },
	{ 'X', 4, op_text },     { 0x8c, 1, op_text },    { 0x8d, 8, op_text },
	{ ']', 0, op_list },     { 'a', 0, op_append },   { 'e', 0, op_appends },
	{ '}', 0, op_dict },     { 's', 0, op_set_item }, { 'u', 0, op_set_items },
	{ ')', 0, op_tuple_of }, { 0x85, 1, op_tuple_of }, { 0x86, 2, op_tuple_of }, { 0x87, 3, op_tuple_of }, { 't', 0, op_tuple },
	{ 0x94, 0, op_memoize }, { 'q', 1, op_put },      { 'r', 4, op_put },
	{ 'h', 1, op_get },      { 'j', 4, op_get },
	{ 'c', 0, op_global },   { 'R', 0, op_reduce },
};

static bool step(struct machine *m, unsigned char code)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (ops[i].code == code)
			return ops[i].run(m, ops[i].n);
	return false;
}

static bool run(struct machine *m)
{
	struct slice code;

	while (take(m, 1, &code)) {
		if (code.data[0] == '.') /* STOP */
			return m->depth == 1 && m->stack[0].kind >= VALUE;
		if (!step(m, (unsigned char)code.data[0]))
			return false;
	}
	return false;
}

int unpickle(struct slice pickle, struct buf *out, struct err *err)
{
	struct machine m = { .rest = pickle };
	int rc = -1;

	if (!run(&m))
		err_set(err, ERR_INVALID, "not a pickle of plain values, at its byte %zu", pickle.len - m.rest.len);
	else if (add_item(&m, out, &m.stack[0]))
		rc = 0;
	else
		err_set(err, ERR_INVALID, "a pickle of more than %u bytes", TEXT_MAX);
	drop_to(&m, 0);
	for (size_t i = 0; i < m.memos; i++)
		buf_release(&m.memo[i].text);
	free(m.memo);
	free(m.stack);
	return rc;
}
