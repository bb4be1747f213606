/* The settings and the name of a queue go in, the arguments that it is declared with come out. */
#include "workers/celery/arguments.h"

#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

#define QUEUE_NAME_MAX 255 /* bytes: AMQP's */
#define NUMBER_MAX INT64_MAX
#define TIME_MAX UINT32_MAX /* ms: RabbitMQ's timers */

enum kind { TEXT, CHOICE, NUMBER, TRUTH };

/* THE TABLE of arguments that RabbitMQ knows. */
static const struct known {
	const char *name;
	enum kind kind;
	int64_t min, max;    /* of a number */
	const char *choices; /* "a|b" */
} known[] = {
	{ "x-queue-type", CHOICE, 0, 0, "classic|quorum" },
	{ "x-max-priority", NUMBER, 0, 255, NULL },
	{ "x-message-ttl", NUMBER, 0, TIME_MAX, NULL },
	{ "x-expires", NUMBER, 1, TIME_MAX, NULL },
	{ "x-max-length", NUMBER, 0, NUMBER_MAX, NULL },
	{ "x-max-length-bytes", NUMBER, 0, NUMBER_MAX, NULL },
	{ "x-overflow", CHOICE, 0, 0, "drop-head|reject-publish|reject-publish-dlx" },
	{ "x-dead-letter-exchange", TEXT, 0, 0, NULL },
	{ "x-dead-letter-routing-key", TEXT, 0, 0, NULL },
	{ "x-dead-letter-strategy", CHOICE, 0, 0, "at-most-once|at-least-once" },
	{ "x-single-active-consumer", TRUTH, 0, 0, NULL },
	{ "x-delivery-limit", NUMBER, -1, NUMBER_MAX, NULL },
	{ "x-consumer-timeout", NUMBER, 0, NUMBER_MAX, NULL },
	{ "x-quorum-initial-group-size", NUMBER, 1, NUMBER_MAX, NULL },
	{ "x-max-in-memory-length", NUMBER, 0, NUMBER_MAX, NULL },
	{ "x-max-in-memory-bytes", NUMBER, 0, NUMBER_MAX, NULL },
	{ "x-queue-mode", CHOICE, 0, 0, "default|lazy" },
	{ "x-queue-version", NUMBER, 1, 2, NULL },
	{ "x-queue-leader-locator", TEXT, 0, 0, NULL },
	{ "x-queue-master-locator", TEXT, 0, 0, NULL },
};

/* ---- one argument */

static const struct known *find_known(const char *name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

static bool is_choice(const char *choices, struct slice text)
{
	struct slice rest = slice_of(choices);

	while (rest.len > 0)
		if (slice_equal(slice_cut(&rest, '|'), text))
			return true;
	return false;
}

static bool is_truth(struct slice text)
{
	return slice_is(text, "true") || slice_is(text, "false");
}

/* One that nobody here knows: what it looks like. */
static enum kind guess(struct slice text)
{
	int64_t number;

	if (str_int64(text, &number))
		return NUMBER;
	return is_truth(text) ? TRUTH : TEXT;
}

static int check_value(const struct known *k, struct slice text, struct err *err)
{
	const int len = (int)(text.len < 60 ? text.len : 60);
	const char *data = text.len > 0 ? text.data : "";
	int64_t number;

	if (k->kind == NUMBER && (!str_int64(text, &number) || number < k->min || number > k->max))
		return err_set(err, ERR_FATAL, "%s: \"%.*s\" is not a whole number from %lld to %lld", k->name, len, data, (long long)k->min,
			(long long)k->max);
	if (k->kind == TRUTH && !is_truth(text))
		return err_set(err, ERR_FATAL, "%s: \"%.*s\" is neither true nor false", k->name, len, data);
	if (k->kind == CHOICE && !is_choice(k->choices, text))
		return err_set(err, ERR_FATAL, "%s: \"%.*s\" is not one of %s", k->name, len, data, k->choices);
	return 0;
}

static struct amqp_field field_of(const char *name, enum kind kind, struct slice text)
{
	int64_t number;

	if (kind == NUMBER && str_int64(text, &number))
		return amqp_int(name, number);
	if (kind == TRUTH)
		return amqp_bool(name, slice_is(text, "true"));
	return amqp_text(name, text.len > 0 ? text : slice_of(""));
}

static void add(struct arguments *out, struct amqp_field field)
{
	out->fields[out->table.count++] = field;
	out->table.fields = out->fields;
}

/* item: "x-max-priority=10" */
static int read_item(struct slice item, struct arguments *out, struct err *err)
{
	struct slice value = item;
	const struct slice name = slice_trim(slice_cut(&value, '='));
	const struct known *k;
	char *own = out->names[out->table.count < ARGUMENTS_MAX ? out->table.count : 0];

	if (value.data == NULL || name.len < 3 || name.len > ARGUMENTS_NAME_MAX || memcmp(name.data, "x-", 2) != 0)
		return err_set(err, ERR_FATAL, "\"%.*s\" is not name=value, with a name that begins with x-", (int)(item.len < 80 ? item.len : 80), item.data);
	if (out->table.count == ARGUMENTS_MAX)
		return err_set(err, ERR_FATAL, "more than %d arguments", ARGUMENTS_MAX);
	snprintf(own, ARGUMENTS_NAME_MAX + 1, "%.*s", (int)name.len, name.data);
	if (amqp_table_value(&out->table, own) != NULL)
		return err_set(err, ERR_FATAL, "%s is there twice", own);
	value = slice_trim(value);
	k = find_known(own);
	if (k != NULL && check_value(k, value, err) < 0)
		return -1;
	add(out, field_of(own, k != NULL ? k->kind : guess(value), value));
	return 0;
}

/* ---- one queue's */

static int read_list(struct slice list, struct arguments *out, struct err *err)
{
	const struct amqp_value *type;

	out->table = AMQP_NO_TABLE;
	while (list.len > 0) {
		const struct slice item = slice_trim(slice_cut(&list, ','));

		if (item.len > 0 && read_item(item, out, err) < 0)
			return -1;
	}
	type = amqp_table_value(&out->table, "x-queue-type");
	if (type != NULL && slice_is(type->text, "quorum") && amqp_table_value(&out->table, "x-max-priority") != NULL)
		return err_set(err, ERR_FATAL, "x-max-priority: a quorum queue has no priorities");
	return 0;
}

/* A queue's name may have colons: the one behind it has arguments behind itself, which begin with x-, or nothing. */
static struct slice cut_name(struct slice *part)
{
	for (size_t i = 0; i < part->len; i++) {
		const struct slice name = slice_trim((struct slice){ part->data, i });
		const struct slice list = slice_trim((struct slice){ part->data + i + 1, part->len - i - 1 });

		if (part->data[i] != ':' || (list.len > 0 && (list.len < 2 || memcmp(list.data, "x-", 2) != 0)))
			continue;
		*part = list;
		return name;
	}
	return SLICE_NONE;
}

static struct slice next_part(struct slice *rest)
{
	struct slice part = SLICE_NONE;

	while (part.len == 0 && rest->len > 0)
		part = slice_trim(slice_cut(rest, ';'));
	return part;
}

/* ---- all */

/* false: the setting does not name it. */
static bool find_list(const struct settings *settings, const char *queue, struct slice *list)
{
	struct slice rest = slice_of(settings->job.queue_arguments);

	while ((*list = next_part(&rest)).len > 0)
		if (slice_is(cut_name(list), queue))
			return true;
	return false;
}

static int check_part(struct slice part, struct slice rest, struct err *err)
{
	const struct slice whole = part, name = cut_name(&part);
	struct arguments arguments;
	struct slice other;

	if (name.len == 0 || name.len > QUEUE_NAME_MAX || str_has_control(name))
		return err_set(err, ERR_FATAL, "\"%.*s\" is not queue: name=value, …", (int)(whole.len < 80 ? whole.len : 80), whole.data);
	if (read_list(part, &arguments, err) < 0)
		return err_wrap(err, "queue %.*s: ", (int)(name.len < 80 ? name.len : 80), name.data);
	while ((other = next_part(&rest)).len > 0)
		if (slice_equal(cut_name(&other), name))
			return err_set(err, ERR_FATAL, "queue %.*s is there twice", (int)(name.len < 80 ? name.len : 80), name.data);
	return 0;
}

int arguments_check(const struct settings *settings, struct err *err)
{
	struct slice rest = slice_of(settings->job.queue_arguments), part;

	while ((part = next_part(&rest)).len > 0)
		if (check_part(part, rest, err) < 0)
			return err_wrap(err, "setting job.queue_arguments: ");
	return 0;
}

static bool is_of_tasks(const struct settings *settings, const char *queue)
{
	struct slice rest = slice_of(settings->job.queues);

	while (rest.len > 0)
		if (slice_is(slice_trim(slice_cut(&rest, ',')), queue))
			return true;
	return false;
}

void arguments_of(const struct settings *settings, const char *queue, struct arguments *out)
{
	struct err none = ERR_INIT;
	struct slice list;

	out->table = AMQP_NO_TABLE;
	if (find_list(settings, queue, &list)) {
		read_list(list, out, &none);
		return;
	}
	if (strcmp(queue, settings->job.dead_letter_queue) == 0 && !is_of_tasks(settings, queue))
		return;
	if (strcmp(settings->job.queue_type, "quorum") == 0)
		add(out, amqp_text("x-queue-type", slice_of("quorum")));
	if (settings->job.max_priority > 0)
		add(out, amqp_int("x-max-priority", settings->job.max_priority));
}
