/* Signatures of a finished task go in, the messages that follow it come out. */
#include "workers/celery/canvas.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/uuid.h"
#include "workers/celery/option.h"
#include "workers/celery/python.h"

#define DEPTH_MAX 16
#define REPR_MAX 1024

void canvas_init(struct canvas *c, const struct outgoing *outgoing, const struct request *parent, const char *purpose, struct buf *children)
{
	*c = (struct canvas){ .outgoing = outgoing, .parent = parent, .purpose = purpose, .children = children };
	c->last = &c->first;
}

void canvas_release(struct canvas *c)
{
	while (c->first != NULL) {
		struct post *post = c->first;

		c->first = post->next;
		post_free(post);
	}
	c->last = &c->first;
}

static void add_post(struct canvas *c, struct post *post)
{
	post->next = NULL;
	post->is_next = true;
	*c->last = post;
	c->last = &post->next;
	c->count++;
}

static void make_id(struct canvas *c, char out[UUID_TEXT])
{
	struct buf place = BUF_INIT;

	buf_addf(&place, "%s %u", c->purpose, c->made++);
	if (!uuid_derive(c->parent->id, buf_slice(&place), out))
		outgoing_uuid4(out);
	buf_release(&place);
}

/* ---- one task */

struct texts {
	struct buf args, kwargs, link, errors, chain, chord, stamps, stamped, custom, argsrepr, kwargsrepr;
};

static void texts_release(struct texts *t)
{
	struct buf *const all[] = { &t->args, &t->kwargs, &t->link, &t->errors, &t->chain, &t->chord, &t->stamps, &t->stamped, &t->custom,
		&t->argsrepr, &t->kwargsrepr };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		buf_release(all[i]);
}

static void write_args(struct buf *out, const struct json *signature, struct slice given)
{
	const struct json *args = json_get(signature, "args");
	const bool takes = given.data != NULL && !option_bool(signature, "immutable");
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '[');
	if (takes)
		json_put_raw(&w, NULL, given);
	for (const struct json *arg = args != NULL ? json_first(args) : NULL; arg != NULL; arg = json_next(arg))
		json_put_node(&w, NULL, arg);
	json_close(&w, ']');
}

/* A list that begins with what another one has. */
static void open_after(struct json_writer *w, struct slice list)
{
	json_open(w, NULL, '[');
	if (list.len > 2)
		json_put_raw(w, NULL, (struct slice){ list.data + 1, list.len - 2 });
}

/* The rest of the chain that this task is in, then what its own options say comes before it: both are last one first. */
static void write_chain(struct buf *out, const struct json *options, struct slice rest)
{
	const struct json *own = json_get(options, "chain");
	struct json_writer w = JSON_WRITER(out);

	open_after(&w, rest);
	for (const struct json *s = own != NULL ? json_first(own) : NULL; s != NULL; s = json_next(s))
		json_put_node(&w, NULL, s);
	json_close(&w, ']');
	if (out->len == 2)
		buf_reset(out);
}

/* [[id, null] of one more: what is behind that, and the end, are the caller's to write. */
static struct json_writer open_child(struct canvas *c, struct slice id)
{
	struct json_writer w = JSON_WRITER(c->children);

	w.comma = c->children->len > 0 && c->children->data[c->children->len - 1] != '[';
	json_open(&w, NULL, '[');
	json_open(&w, NULL, '[');
	json_put_string(&w, NULL, id);
	json_put_raw(&w, NULL, slice_of("null")); /* its parent is not part of it */
	json_close(&w, ']');
	return w;
}

static void add_child(struct canvas *c, struct slice id)
{
	struct json_writer w = open_child(c, id);

	json_put_raw(&w, NULL, slice_of("null"));
	json_close(&w, ']');
}

static void open_group(struct canvas *c, struct slice id)
{
	struct json_writer w = open_child(c, id);

	json_open(&w, NULL, '[');
}

static void close_group(struct canvas *c)
{
	buf_add_str(c->children, "]]");
}

static void fill_texts(struct texts *t, const struct json *signature, const struct json *options, struct slice given, struct slice rest)
{
	const struct json *kwargs = json_get(signature, "kwargs");

	write_args(&t->args, signature, given);
	if (kwargs != NULL && json_type(kwargs) == JSON_OBJECT)
		json_write_node(&t->kwargs, kwargs);
	else
		buf_add_str(&t->kwargs, "{}");
	option_list(options, "link", &t->link);
	option_list(options, "link_error", &t->errors);
	write_chain(&t->chain, options, rest);
	option_json(options, "chord", &t->chord);
	option_json(options, "stamped_headers", &t->stamped);
	option_stamps(options, &t->stamps);
	option_headers(options, &t->custom);
	python_repr_json(&t->argsrepr, buf_slice(&t->args), REPR_MAX);
	python_repr_json(&t->kwargsrepr, buf_slice(&t->kwargs), REPR_MAX);
}

struct place { /* in a group */
	struct slice group;
	int64_t index;
};

/* Where a signature goes: its queue, its exchange, or our own first queue. */
struct way {
	char queue[256], exchange[256], key[256];
};

static void find_way(const struct canvas *c, const struct json *options, struct way *way)
{
	const struct slice queue = option_text(options, "queue"), exchange = option_text(options, "exchange"), key = option_text(options, "routing_key");
	const struct slice to = queue.len > 0 ? queue : key.len > 0 ? key : slice_of(c->outgoing->queue);

	*way = (struct way){ "", "", "" };
	if (queue.len == 0 && exchange.len > 0) {
		snprintf(way->exchange, sizeof(way->exchange), "%.*s", (int)exchange.len, exchange.data);
		snprintf(way->key, sizeof(way->key), "%.*s", (int)key.len, key.len > 0 ? key.data : "");
	} else {
		snprintf(way->queue, sizeof(way->queue), "%.*s", (int)to.len, to.data);
	}
}

static void take_options(struct outgoing_task *task, const struct canvas *c, const struct json *options, const struct place *place)
{
	int64_t priority;

	task->root_id = c->parent->root_id;
	task->parent_id = c->parent->id;
	task->group = place != NULL ? place->group : option_text(options, "group_id");
	task->group_index = place != NULL ? place->index : 0;
	task->has_group_index = place != NULL || option_int(options, "group_index", &task->group_index);
	task->shadow = option_text(options, "shadow");
	task->origin = slice_of(c->outgoing->node);
	task->reply_to = option_text(options, "reply_to").len > 0 ? option_text(options, "reply_to") : c->parent->reply_to;
	task->is_repeat = c->is_repeat;
	task->is_msgpack = c->parent->is_msgpack; /* who can't read it would not have got the job before it */
	task->ignore_result = option_bool(options, "ignore_result");
	task->hard_s = option_number(options, "time_limit");
	task->soft_s = option_number(options, "soft_time_limit");
	task->priority = c->inherits_priority ? c->parent->priority : REQUEST_NO_PRIORITY;
	if (option_int(options, "priority", &priority) && priority >= 0 && priority <= 255)
		task->priority = (int)priority;
}

static void take_texts(struct outgoing_task *task, const struct texts *t)
{
	task->args = buf_slice(&t->args);
	task->kwargs = buf_slice(&t->kwargs);
	task->callbacks = buf_slice(&t->link);
	task->errbacks = buf_slice(&t->errors);
	task->chain = buf_slice(&t->chain);
	task->chord = buf_slice(&t->chord);
	task->stamps = buf_slice(&t->stamps);
	task->stamped_headers = buf_slice(&t->stamped);
	task->custom = buf_slice(&t->custom);
	task->argsrepr = buf_slice(&t->argsrepr);
	task->kwargsrepr = buf_slice(&t->kwargsrepr);
}

static int add_plain(struct canvas *c, const struct json *signature, struct slice given, struct slice rest, const struct place *place)
{
	const struct json *options = json_get(signature, "options");
	struct texts t = { BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT };
	struct outgoing_task task = { .task = option_text(signature, "task") };
	char id[UUID_TEXT], eta[OPTION_TIME], expires[OPTION_TIME];
	struct way way;

	make_id(c, id);
	fill_texts(&t, signature, options, given, rest);
	find_way(c, options, &way);
	take_options(&task, c, options, place);
	take_texts(&task, &t);
	task.id = option_text(options, "task_id").len > 0 ? option_text(options, "task_id") : slice_of(id);
	task.expires = option_expires(options, expires);
	task.delay_s = option_delay(options, eta);
	if (way.queue[0] == '\0' || !c->outgoing->is_behind_delay(c->outgoing->arg, way.queue))
		task.delay_s = 0; /* through an exchange, or into a queue, of others: whoever gets it waits */
	task.eta = slice_of(eta);
	task.queue = way.queue;
	task.exchange = way.exchange;
	task.routing_key = way.key;
	add_child(c, task.id);
	add_post(c, outgoing_post(&task));
	texts_release(&t);
	return 0;
}

/* ---- chains and groups */

static int add_signature(struct canvas *c, const struct json *signature, struct slice given, struct slice rest, const struct place *place, struct err *err);

static struct slice kind_of(const struct json *signature)
{
	return option_text(signature, "subtask_type");
}

static bool is_group(const struct json *signature)
{
	return slice_is(kind_of(signature), "group");
}

static bool is_plain(const struct json *signature)
{
	const struct slice kind = kind_of(signature);

	return !slice_is(kind, "group") && !slice_is(kind, "chain") && !slice_is(kind, "chord");
}

static const struct json *last_of(const struct json *list)
{
	const struct json *last = list != NULL ? json_first(list) : NULL;

	while (last != NULL && json_next(last) != NULL)
		last = json_next(last);
	return last;
}

static void put_members(struct json_writer *w, const struct json *object, const char *const *without)
{
	for (const struct json *m = json_type(object) == JSON_OBJECT ? json_first(object) : NULL; m != NULL; m = json_next(m)) {
		const char *const *name = without;

		while (*name != NULL && strcmp(*name, json_key(m)) != 0)
			name++;
		if (*name != NULL)
			continue;
		json_put_node(w, json_key(m), m);
	}
}

/* The same signature, with its id and its place among its options: it is sent by whoever runs what is in front of it. */
static void put_placed(struct json_writer *w, const struct json *signature, struct slice id, const struct place *place)
{
	static const char *const own[] = { "options", NULL }, *const said[] = { "task_id", "group_id", "group_index", NULL };
	const struct json *options = json_get(signature, "options");

	json_open(w, NULL, '{');
	put_members(w, signature, own);
	json_open(w, "options", '{');
	if (options != NULL)
		put_members(w, options, said);
	json_put_string(w, "task_id", id);
	json_put_string(w, "group_id", place->group);
	json_put_int(w, "group_index", place->index);
	json_close(w, '}');
	json_close(w, '}');
}

/* What is behind `first`, the last of it at the front, as messages have it; before that, `rest`. place: of the last one, whose id that is; or NULL. */
static void write_later(struct buf *out, const struct json *first, struct slice rest, struct slice id, const struct place *place)
{
	struct json_writer w = JSON_WRITER(out);
	const struct json **others;
	size_t count = 0;

	for (const struct json *t = json_next(first); t != NULL; t = json_next(t))
		count++;
	others = calloc(count + 1, sizeof(*others));
	if (others == NULL)
		abort();
	count = 0;
	for (const struct json *t = json_next(first); t != NULL; t = json_next(t))
		others[count++] = t;
	open_after(&w, rest);
	for (size_t i = count; i-- > 0;) {
		if (place != NULL && i == count - 1)
			put_placed(&w, others[i], id, place);
		else
			json_put_node(&w, NULL, others[i]);
	}
	json_close(&w, ']');
	free(others);
}

/* tasks: in the order in which they run. In a group it is the last of them that is its member, and a child. */
static int add_forward_chain(struct canvas *c, const struct json *tasks, struct slice given, struct slice rest, const struct place *place, struct err *err)
{
	const struct json *first = tasks != NULL ? json_first(tasks) : NULL, *last = last_of(tasks);
	const bool is_member = place != NULL && last != first && is_plain(last);
	struct buf later = BUF_INIT, unlisted = BUF_INIT, *const children = c->children;
	struct slice id = SLICE_NONE;
	char made[UUID_TEXT];
	int rc;

	if (first == NULL)
		return 0;
	if (is_member) {
		make_id(c, made);
		id = option_text(json_get(last, "options"), "task_id");
		if (id.len == 0)
			id = slice_of(made);
		add_child(c, id);
		c->children = &unlisted;
	}
	write_later(&later, first, rest, id, is_member ? place : NULL);
	rc = add_signature(c, first, given, buf_slice(&later), is_member ? NULL : place, err);
	c->children = children;
	buf_release(&later);
	buf_release(&unlisted);
	return rc;
}

static int add_members(struct canvas *c, const struct json *members, struct slice given, struct slice group, int64_t *index, struct err *err)
{
	int rc = 0;

	for (const struct json *m = json_first(members); m != NULL && rc == 0; m = json_next(m)) {
		if (is_group(m)) { /* nested ones are flattened */
			const struct json *tasks = json_get(json_get(m, "kwargs"), "tasks");

			rc = tasks != NULL ? add_members(c, tasks, given, group, index, err) : 0;
			continue;
		}
		const struct place place = { group, (*index)++ };

		rc = add_signature(c, m, given, SLICE_NONE, &place, err);
	}
	return rc;
}

static int add_group(struct canvas *c, const struct json *members, struct slice given, struct slice group_id, struct err *err)
{
	int64_t index = 0;
	char id[UUID_TEXT];
	int rc;

	if (members == NULL || json_first(members) == NULL)
		return 0;
	make_id(c, id);
	if (group_id.len == 0)
		group_id = slice_of(id);
	open_group(c, group_id);
	rc = add_members(c, members, given, group_id, &index, err);
	close_group(c);
	return rc;
}

static bool is_empty(struct slice list)
{
	return list.len <= 2;
}

static int add_signature(struct canvas *c, const struct json *signature, struct slice given, struct slice rest, const struct place *place, struct err *err)
{
	const struct slice name = option_text(signature, "task"), kind = kind_of(signature);
	const struct json *kwargs = json_get(signature, "kwargs");
	int rc;

	if (name.len == 0 || name.len > REQUEST_NAME_MAX)
		return err_set(err, ERR_INVALID, "a signature without a task");
	if (c->depth >= DEPTH_MAX || c->count >= CANVAS_MAX)
		return err_set(err, ERR_INVALID, "signatures are nested too deeply, or are too many");
	if (slice_is(kind, "chord") || slice_is(name, "celery.chord"))
		return err_set(err, ERR_INVALID, "chords are not served by this worker");
	c->depth++;
	if (slice_is(kind, "chain"))
		rc = add_forward_chain(c, json_get(kwargs, "tasks"), given, rest, place, err);
	else if (slice_is(kind, "group") && !is_empty(rest))
		rc = err_set(err, ERR_INVALID, "a group in the middle of a chain is a chord, which this worker does not serve");
	else if (slice_is(kind, "group"))
		rc = add_group(c, json_get(kwargs, "tasks"), given, option_text(json_get(signature, "options"), "task_id"), err);
	else
		rc = add_plain(c, signature, given, rest, place);
	c->depth--;
	return rc;
}

int canvas_add(struct canvas *c, const struct json *signature, struct slice given, struct err *err)
{
	return add_signature(c, signature, given, SLICE_NONE, NULL, err);
}

int canvas_add_all(struct canvas *c, const struct json *signatures, struct slice given, struct err *err)
{
	int rc = 0;

	for (const struct json *s = json_first(signatures); s != NULL && rc == 0; s = json_next(s))
		rc = canvas_add(c, s, given, err);
	return rc;
}

static int add_others_as_group(struct canvas *c, const struct json *callbacks, struct slice given, struct err *err)
{
	struct place place = { SLICE_NONE, 0 };
	char id[UUID_TEXT];
	int rc = 0;

	make_id(c, id);
	place.group = slice_of(id);
	open_group(c, place.group);
	for (const struct json *s = json_first(callbacks); s != NULL && rc == 0; s = json_next(s)) {
		if (is_group(s))
			continue;
		rc = add_signature(c, s, given, SLICE_NONE, &place, err);
		place.index++;
	}
	close_group(c);
	return rc;
}

int canvas_add_callbacks(struct canvas *c, const struct json *callbacks, struct slice given, struct err *err)
{
	const struct json *first = json_first(callbacks);
	bool has_others = false;
	int rc = 0;

	if (first == NULL || json_next(first) == NULL)
		return canvas_add_all(c, callbacks, given, err);
	for (const struct json *s = first; s != NULL && rc == 0; s = json_next(s)) {
		if (is_group(s))
			rc = canvas_add(c, s, given, err);
		else
			has_others = true;
	}
	return rc == 0 && has_others ? add_others_as_group(c, callbacks, given, err) : rc;
}

int canvas_add_chain(struct canvas *c, const struct json *chain, struct slice given, struct err *err)
{
	const struct json *next = NULL;
	struct buf rest = BUF_INIT;
	struct json_writer w = JSON_WRITER(&rest);
	int rc;

	json_open(&w, NULL, '[');
	for (const struct json *s = json_first(chain); s != NULL; s = json_next(s)) {
		next = s;
		if (json_next(s) == NULL)
			break;
		json_put_node(&w, NULL, s);
	}
	json_close(&w, ']');
	rc = next != NULL ? add_signature(c, next, given, buf_slice(&rest), NULL, err) : 0;
	buf_release(&rest);
	return rc;
}
