/* The options of a signature go in, parts of its message come out. */
#include "workers/celery/option.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "workers/celery/outgoing.h"

#define STAMPS_MAX 100     /* more are not taken */
#define NAME_MAX_BYTES 255 /* of a field in AMQP's tables */
#define EXPIRES_MAX_S 1e9

struct slice option_text(const struct json *options, const char *name)
{
	const struct json *node = json_get(options, name);

	return node != NULL ? json_string(node) : SLICE_NONE;
}

double option_number(const struct json *options, const char *name)
{
	const struct json *node = json_get(options, name);

	return node != NULL && json_type(node) == JSON_NUMBER ? strtod(json_number(node).data, NULL) : 0;
}

bool option_int(const struct json *options, const char *name, int64_t *out)
{
	const struct json *node = json_get(options, name);

	return node != NULL && json_int64(node, out);
}

bool option_bool(const struct json *options, const char *name)
{
	const struct json *node = json_get(options, name);

	return node != NULL && json_bool(node);
}

void option_json(const struct json *options, const char *name, struct buf *out)
{
	const struct json *node = json_get(options, name);

	if (node != NULL && json_type(node) != JSON_NULL)
		json_write_node(out, node);
}

void option_list(const struct json *options, const char *name, struct buf *out)
{
	const struct json *node = json_get(options, name);

	if (node == NULL || json_type(node) == JSON_NULL)
		return;
	if (json_type(node) == JSON_ARRAY) {
		json_write_node(out, node);
		return;
	}
	buf_add_char(out, '[');
	json_write_node(out, node);
	buf_add_char(out, ']');
}

/* ---- times */

/* A text, or {"__type__": "datetime", "__value__": text}, as kombu writes what was no text. */
static struct slice time_option(const struct json *options, const char *name)
{
	const struct json *node = json_get(options, name), *value = json_get(node, "__value__");

	if (value != NULL)
		return json_string(value);
	return node != NULL ? json_string(node) : SLICE_NONE;
}

int64_t option_delay(const struct json *options, char eta[OPTION_TIME])
{
	const double countdown = option_number(options, "countdown");
	const struct slice at = time_option(options, "eta");
	const int64_t now = clock_wall_ms();
	int64_t due = 0;

	eta[0] = '\0';
	if (countdown > 0 && countdown < (double)OUTGOING_DELAY_MAX_S)
		due = now + (int64_t)(countdown * 1000);
	else if (at.len == 0 || !request_time(at, &due))
		return 0;
	outgoing_time(due, eta);
	return due > now ? (due - now + 999) / 1000 : 0;
}

struct slice option_expires(const struct json *options, char text[OPTION_TIME])
{
	const struct json *node = json_get(options, "expires");
	double seconds;

	if (node == NULL || json_type(node) != JSON_NUMBER)
		return time_option(options, "expires");
	seconds = strtod(json_number(node).data, NULL);
	if (!(seconds > -EXPIRES_MAX_S && seconds < EXPIRES_MAX_S))
		return SLICE_NONE;
	outgoing_time(clock_wall_ms() + (int64_t)(seconds * 1000), text);
	return slice_of(text);
}

/* ---- headers */

/* A name that does not fit would take the connection with it. */
static bool names_fit(const struct json *node)
{
	for (const struct json *child = json_first(node); child != NULL; child = json_next(child)) {
		if (json_type(node) == JSON_OBJECT && strlen(json_key(child)) > NAME_MAX_BYTES)
			return false;
		if (!names_fit(child))
			return false;
	}
	return true;
}

static void put(struct json_writer *w, const char *name, const struct json *value)
{
	if (strlen(name) > NAME_MAX_BYTES || !names_fit(value))
		return;
	json_put_node(w, name, value);
}

static bool is_first(const struct json *names, const struct json *name)
{
	const struct json *n = json_first(names);

	while (n != name && !slice_equal(json_string(n), json_string(name)))
		n = json_next(n);
	return n == name;
}

void option_stamps(const struct json *options, struct buf *out)
{
	const struct json *names = json_get(options, "stamped_headers");
	struct json_writer w = JSON_WRITER(out);
	int count = 0;

	if (names == NULL || json_type(names) != JSON_ARRAY)
		return;
	json_open(&w, NULL, '{');
	for (const struct json *name = json_first(names); name != NULL && count < STAMPS_MAX; name = json_next(name), count++) {
		const struct slice key = json_string(name);
		const struct json *value = key.len > 0 && is_first(names, name) ? json_get(options, key.data) : NULL;

		if (value != NULL)
			put(&w, key.data, value);
	}
	json_close(&w, '}');
}

void option_headers(const struct json *options, struct buf *out)
{
	const struct json *headers = json_get(options, "headers");
	struct json_writer w = JSON_WRITER(out);

	if (headers == NULL || json_type(headers) != JSON_OBJECT)
		return;
	json_open(&w, NULL, '{');
	for (const struct json *header = json_first(headers); header != NULL; header = json_next(header))
		if (!request_knows(slice_of(json_key(header))))
			put(&w, json_key(header), header);
	json_close(&w, '}');
}
