/* Dead letters go in, lines of a table or of JSON come out; or one letter with all that it has. */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "ctl/dlq.h"
#include "ctl/visible.h"

#define KEY_SHOWN 40
#define LINE "%-14s %8s  %-24s %-28s %5s  %-20s %s\n"

void dlq_place(const struct letters *letters, const struct queue_place *place, char out[DLQ_PLACE])
{
	if (letters_in_partitions(letters))
		snprintf(out, DLQ_PLACE, "%d/%" PRId64, (int)place->partition, place->offset);
	else
		snprintf(out, DLQ_PLACE, "%" PRId64, place->offset);
}

/* ---- a table */

void dlq_print_head(void)
{
	printf(LINE, "topic", "offset", "when", "origin", "tries", "key", "reason");
}

static void add_origin(struct buf *out, const struct record *letter)
{
	char topic[TOPIC_NAME_MAX];
	struct queue_place origin;

	if (letter_origin(letter, topic, &origin))
		buf_addf(out, "%s/%d/%" PRId64, topic, (int)origin.partition, origin.offset);
	else
		buf_add_str(out, "-");
}

static void add_text(struct buf *out, struct slice text, size_t limit)
{
	const bool is_long = text.len > limit;

	if (is_long)
		text.len = limit;
	visible_add(out, text);
	if (is_long)
		buf_add_str(out, "...");
}

struct printing {
	struct dlq *dlq;
	const struct letters *letters;
};

static int print_row(void *arg, const struct letter *letter, struct err *err)
{
	const struct printing *printing = arg;
	const struct record *record = letter->record;
	struct slice reason = record_header_get(record, HEADER_ERROR), tries = record_header_get(record, HEADER_ATTEMPTS);
	struct buf origin = BUF_INIT, key = BUF_INIT, why = BUF_INIT, count = BUF_INIT;
	char place[DLQ_PLACE], time[CLOCK_TEXT];

	(void)err;
	dlq_place(printing->letters, &(struct queue_place){ record->partition, record->offset }, place);
	clock_rfc3339(record->timestamp_ms, time);
	add_origin(&origin, record);
	add_text(&key, record->key, KEY_SHOWN);
	if (letter->is_replayed)
		buf_add_str(&why, "(replayed) ");
	if (record_header_get(record, HEADER_CUT).data != NULL)
		buf_add_str(&why, "(cut) ");
	add_text(&why, reason.data != NULL ? reason : slice_of("-"), SIZE_MAX);
	add_text(&count, tries.data != NULL ? tries : slice_of("-"), 8);
	printf(LINE, letters_topic(printing->letters), place, time, origin.data, count.data, key.data, why.data);
	buf_release(&origin);
	buf_release(&key);
	buf_release(&why);
	buf_release(&count);
	return 0;
}

/* ---- JSON: an object a line */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void add_base64(struct buf *out, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len; i += 3) {
		const size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
		uint32_t three = 0;

		for (size_t k = 0; k < 3; k++)
			three = three << 8 | (k < n ? (unsigned char)bytes.data[i + k] : 0);
		for (size_t k = 0; k < 4; k++)
			buf_add_char(out, k <= n ? digits[three >> (18 - 6 * k) & 63] : '=');
	}
}

/* "key" for text and null, "key_base64" for what is no text. */
static void put_bytes(struct json_writer *w, const char *name, struct slice bytes)
{
	struct buf text = BUF_INIT, long_name = BUF_INIT;

	if (bytes.data == NULL) {
		json_put_raw(w, name, slice_of("null"));
	} else if (str_utf8_valid(bytes)) {
		json_put_string(w, name, bytes);
	} else {
		buf_addf(&long_name, "%s_base64", name);
		add_base64(&text, bytes);
		json_put_string(w, long_name.data, (struct slice){ text.data, text.len });
	}
	buf_release(&text);
	buf_release(&long_name);
}

static void put_origin(struct json_writer *w, const struct record *letter)
{
	char topic[TOPIC_NAME_MAX], time[CLOCK_TEXT];
	struct queue_place origin;
	int64_t wall_ms;

	if (!letter_origin(letter, topic, &origin)) {
		json_put_raw(w, "origin", slice_of("null"));
		return;
	}
	json_open(w, "origin", '{');
	put_bytes(w, "topic", slice_of(topic));
	json_put_int(w, "partition", origin.partition);
	json_put_int(w, "offset", origin.offset);
	if (letter_number(letter, HEADER_ORIGIN_TIMESTAMP, &wall_ms)) {
		clock_rfc3339(wall_ms, time);
		json_put_string(w, "time", slice_of(time));
	}
	json_close(w, '}');
}

static void put_headers(struct json_writer *w, const struct record *record)
{
	json_open(w, "headers", '[');
	for (size_t i = 0; i < record->header_count; i++) {
		json_open(w, NULL, '{');
		put_bytes(w, "name", slice_of(record->headers[i].name));
		put_bytes(w, "value", record->headers[i].value);
		json_close(w, '}');
	}
	json_close(w, ']');
}

static void put_letter(struct json_writer *w, const char *topic, const struct letter *letter, bool is_whole)
{
	const struct record *record = letter->record;
	char time[CLOCK_TEXT];
	int64_t number;

	clock_rfc3339(record->timestamp_ms, time);
	json_open(w, NULL, '{');
	json_put_string(w, "topic", slice_of(topic));
	json_put_int(w, "partition", record->partition);
	json_put_int(w, "offset", record->offset);
	json_put_string(w, "time", slice_of(time));
	put_bytes(w, "worker", record_header_get(record, HEADER_WORKER));
	put_origin(w, record);
	if (letter_number(record, HEADER_ATTEMPTS, &number))
		json_put_int(w, "tries", number);
	put_bytes(w, "reason", record_header_get(record, HEADER_ERROR));
	if (letter_number(record, HEADER_CUT, &number))
		json_put_int(w, "cut", number);
	json_put_bool(w, "replayed", letter->is_replayed);
	put_bytes(w, "key", record->key);
	if (is_whole) {
		put_headers(w, record);
		put_bytes(w, "value", record->value);
	}
	json_close(w, '}');
}

static void print_json(const char *topic, const struct letter *letter, bool is_whole)
{
	struct buf line = BUF_INIT;
	struct json_writer w = JSON_WRITER(&line);

	put_letter(&w, topic, letter, is_whole);
	puts(line.data);
	buf_release(&line);
}

static int print_json_row(void *arg, const struct letter *letter, struct err *err)
{
	const struct printing *printing = arg;

	(void)err;
	print_json(letters_topic(printing->letters), letter, false);
	return 0;
}

int dlq_print(struct dlq *dlq, struct letters *letters, struct err *err)
{
	struct printing printing = { dlq, letters };

	return letters_each(letters, dlq->is_json ? print_json_row : print_row, &printing, err);
}

int dlq_list(struct dlq *dlq, const char *topic, struct err *err)
{
	struct letters *letters;
	int rc;

	if (letters_open(dlq->queue, topic, &dlq->filter, &letters, err) < 0)
		return -1;
	rc = dlq_print(dlq, letters, err);
	letters_close(letters);
	return rc;
}

/* ---- one letter, for reading */

static void indent(struct buf *out, int depth)
{
	buf_addf(out, "\n%*s", 2 * depth, "");
}

/* Escaped once more for the terminal: JSON lets some control characters stand as they are. */
static void add_node(struct buf *out, const struct json *node, int depth)
{
	const bool is_object = json_type(node) == JSON_OBJECT;
	struct buf text = BUF_INIT;

	if ((!is_object && json_type(node) != JSON_ARRAY) || json_first(node) == NULL) {
		json_write_node(&text, node);
		visible_add(out, (struct slice){ text.data, text.len });
		buf_release(&text);
		return;
	}
	buf_add_char(out, is_object ? '{' : '[');
	for (const struct json *child = json_first(node); child != NULL; child = json_next(child)) {
		indent(out, depth + 1);
		if (is_object) {
			buf_add_char(out, '"');
			visible_add(out, slice_of(json_key(child)));
			buf_add_str(out, "\": ");
		}
		add_node(out, child, depth + 1);
		if (json_next(child) != NULL)
			buf_add_char(out, ',');
	}
	indent(out, depth);
	buf_add_char(out, is_object ? '}' : ']');
}

static void add_value(struct buf *out, struct slice value)
{
	struct err why = ERR_INIT;
	struct json *json = value.data != NULL ? json_parse(value, &why) : NULL;

	if (json != NULL)
		add_node(out, json, 0);
	else
		visible_add(out, value);
	json_free(json);
}

static void add_headers(struct buf *out, const struct record *record)
{
	buf_add_str(out, "headers\n");
	for (size_t i = 0; i < record->header_count; i++) {
		if (record_header_of_letter(record->headers[i].name))
			continue;
		buf_add_str(out, "  ");
		visible_add(out, slice_of(record->headers[i].name));
		buf_add_str(out, ": ");
		visible_add(out, record->headers[i].value);
		buf_add_char(out, '\n');
	}
	if (record->header_count == RECORD_HEADERS_FETCHED)
		buf_add_str(out, "  (there may be more, which are kept and not shown)\n");
}

static void print_whole(const char *topic, const struct letter *letter)
{
	static const struct {
		const char *name, *header;
	} lines[] = {
		{ "worker", HEADER_WORKER },
		{ "tries", HEADER_ATTEMPTS },
		{ "reason", HEADER_ERROR },
	};
	const struct record *record = letter->record;
	struct buf out = BUF_INIT;
	char time[CLOCK_TEXT];
	int64_t number;

	clock_rfc3339(record->timestamp_ms, time);
	buf_addf(&out, "%-9s%s, partition %d, offset %" PRId64 "\n%-9s%s\n%-9s", "letter", topic, (int)record->partition, record->offset,
		"time", time, "origin");
	add_origin(&out, record);
	if (letter_number(record, HEADER_ORIGIN_TIMESTAMP, &number)) {
		clock_rfc3339(number, time);
		buf_addf(&out, " of %s", time);
	}
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		buf_addf(&out, "\n%-9s", lines[i].name);
		visible_add(&out, record_header_get(record, lines[i].header));
	}
	buf_addf(&out, "\n%-9s%s\n%-9s", "replayed", letter->is_replayed ? "yes" : "no", "key");
	visible_add(&out, record->key);
	buf_add_char(&out, '\n');
	add_headers(&out, record);
	if (letter_number(record, HEADER_CUT, &number))
		buf_addf(&out, "value, the first %zu of %" PRId64 " bytes\n", record->value.len, number);
	else
		buf_addf(&out, "value, %zu bytes\n", record->value.len);
	add_value(&out, record->value);
	puts(out.data);
	buf_release(&out);
}

static int show_letter(void *arg, const struct letter *letter, struct err *err)
{
	const struct printing *printing = arg;

	(void)err;
	if (printing->dlq->is_json)
		print_json(letters_topic(printing->letters), letter, true);
	else
		print_whole(letters_topic(printing->letters), letter);
	return 0;
}

int dlq_show(struct dlq *dlq, const char *topic, struct err *err)
{
	struct printing printing = { dlq, NULL };
	struct letters *letters;
	int rc;

	dlq->filter.with_replayed = true;
	if (letters_open(dlq->queue, topic, &dlq->filter, &letters, err) < 0)
		return -1;
	printing.letters = letters;
	rc = letters_count(letters) > 0 ? letters_each(letters, show_letter, &printing, err)
		: err_set(err, ERR_INVALID, "%s has no letter at offset %" PRId64, topic, dlq->places[0].offset);
	letters_close(letters);
	return rc;
}
