/* Documents go in, the lines of a _bulk body come out; its answer goes in, a result for each document comes out. */
#include "common/store/elastic_bulk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/json.h"

/* ---- the body */

void bulk_write(struct buf *out, const struct search_document *document)
{
	struct json_writer w = JSON_WRITER(out);
	char text[CLOCK_TEXT];

	snprintf(text, sizeof(text), "%" PRId64, document->id);
	buf_addf(out, "{\"create\":{\"_id\":\"%s\"}}\n", text);
	json_open(&w, NULL, '{');
	json_put_string(&w, "id", slice_of(text));
	json_put_int(&w, "sender", document->sender);
	json_put_string(&w, "subject", document->subject);
	json_put_string(&w, "story", document->story);
	clock_rfc3339(document->posted_at_ms, text);
	json_put_string(&w, "posted_at", slice_of(text));
	json_close(&w, '}');
	buf_add_char(out, '\n');
}

/* ---- one item of the answer */

int bulk_no_index(const char *index, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "search: the index %s is not there: run `feedctl migrate`", index);
}

/* Not longer than fits, and no character cut in two. */
static void say_why(struct search_document *document, struct slice type, struct slice reason)
{
	int len = snprintf(document->why, sizeof(document->why), "%.*s: %.*s", (int)type.len, type.data, (int)reason.len, reason.data);
	size_t end = (size_t)len < sizeof(document->why) ? (size_t)len : sizeof(document->why) - 1;

	while (!str_utf8_valid((struct slice){ document->why, end }))
		end--;
	document->why[end] = '\0';
}

/* What keeps a document out says whether another try can help. An index that is gone, closed or blocked concerns all documents: nothing
 * moves until somebody has looked. Whatever is not known to be the document's fault is tried again. */
static int judge(struct search_document *document, int64_t status, struct slice type, struct slice reason, const char *index, struct err *err)
{
	if (status == 404)
		return bulk_no_index(index, err);
	if (slice_is(type, "index_closed_exception"))
		return err_set(err, ERR_UNAVAILABLE, "search: the index %s is closed: open it", index);
	if (slice_is(type, "cluster_block_exception"))
		return err_set(err, ERR_UNAVAILABLE, "search: the index %s is blocked: %.*s", index, (int)reason.len, reason.data);
	if ((status >= 200 && status < 300) || (status == 409 && !SABOTAGED("409"))) /* 409: it is there already */
		document->result = SEARCH_STORED;
	else if (status == 400 || status == 413)
		document->result = SEARCH_WRONG;
	else
		document->result = SEARCH_BUSY;
	return 0;
}

static const struct json *item_body(const struct json *item)
{
	return item != NULL && json_type(item) == JSON_OBJECT ? json_get(item, "create") : NULL;
}

static struct slice text_of(const struct json *error, const char *key, const char *otherwise)
{
	const struct json *member = json_get(error, key);

	return member != NULL && json_type(member) == JSON_STRING ? json_string(member) : slice_of(otherwise);
}

/* {"create":{"status":400,"error":{"type":"…","reason":"…"}}} */
static int read_item(struct slice text, const char *index, struct search_document *document, struct err *err)
{
	struct json *item = json_parse(text, err);
	const struct json *body = item_body(item);
	const struct json *number = json_get(body, "status");
	const struct json *error = json_get(body, "error");
	struct slice type = text_of(error, "type", "error"), reason = text_of(error, "reason", "no reason given");
	int64_t status;
	int rc = -1;

	document->why[0] = '\0';
	if (number == NULL || !json_int64(number, &status)) {
		err_set(err, ERR_UNAVAILABLE, "search: an item of the answer has no status");
		goto out;
	}
	rc = judge(document, status, type, reason, index, err);
	if (rc == 0 && document->result != SEARCH_STORED)
		say_why(document, type, reason);
out:
	json_free(item);
	return rc;
}

/* ---- the answer around them: taken apart by hand, since it may have more members than a JSON text of ours may */

struct cursor {
	const char *at;
	const char *end;
};

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && strchr(" \t\r\n", *c->at) != NULL && *c->at != '\0')
		c->at++;
}

static bool skip_char(struct cursor *c, char wanted)
{
	skip_space(c);
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

/* From an opening quote behind the closing one. */
static bool skip_string(struct cursor *c)
{
	if (!skip_char(c, '"'))
		return false;
	for (; c->at < c->end && *c->at != '"'; c->at++) {
		if (*c->at == '\\')
			c->at++;
	}
	if (c->at >= c->end)
		return false;
	c->at++;
	return true;
}

/* Any value, as far as brackets and quotes tell; what matters in it is parsed strictly afterwards. */
static bool skip_value(struct cursor *c)
{
	size_t depth = 0;

	skip_space(c);
	do {
		if (c->at >= c->end)
			return false;
		if (*c->at == '"') {
			if (!skip_string(c))
				return false;
			continue;
		}
		if (*c->at == '{' || *c->at == '[')
			depth++;
		else if ((*c->at == '}' || *c->at == ']') && depth-- == 0)
			return false;
		c->at++;
	} while (depth > 0 || (c->at < c->end && strchr(",]}", *c->at) == NULL));
	return true;
}

static int nonsense(const struct cursor *c, const char *start, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "search: the answer to _bulk makes no sense at byte %td", c->at - start);
}

static int read_items(struct cursor *c, const char *index, struct search_document *documents, size_t count, size_t *seen, struct err *err)
{
	const char *start = c->at;

	if (!skip_char(c, '['))
		return nonsense(c, start, err);
	if (skip_char(c, ']'))
		return 0;
	do {
		struct slice item;

		skip_space(c);
		item.data = c->at;
		if (!skip_value(c))
			return nonsense(c, start, err);
		item.len = (size_t)(c->at - item.data);
		if (*seen < count && read_item(item, index, &documents[*seen], err) < 0)
			return -1;
		(*seen)++;
	} while (skip_char(c, ','));
	return skip_char(c, ']') ? 0 : nonsense(c, start, err);
}

static int read_member(struct cursor *c, const char *start, const char *index, struct search_document *documents, size_t count,
	size_t *seen, struct err *err)
{
	struct slice key;

	skip_space(c);
	key.data = c->at;
	if (!skip_string(c))
		return nonsense(c, start, err);
	key.len = (size_t)(c->at - key.data);
	if (!skip_char(c, ':'))
		return nonsense(c, start, err);
	if (slice_is(key, "\"items\""))
		return read_items(c, index, documents, count, seen, err);
	return skip_value(c) ? 0 : nonsense(c, start, err);
}

int bulk_read(struct slice answer, const char *index, struct search_document *documents, size_t count, struct err *err)
{
	struct cursor c = { answer.data, answer.data + answer.len };
	size_t seen = 0;

	if (!skip_char(&c, '{'))
		return nonsense(&c, answer.data, err);
	do {
		if (read_member(&c, answer.data, index, documents, count, &seen, err) < 0)
			return -1;
	} while (skip_char(&c, ','));
	if (!skip_char(&c, '}'))
		return nonsense(&c, answer.data, err);
	skip_space(&c);
	if (c.at != c.end)
		return nonsense(&c, answer.data, err);
	if (seen != count)
		return err_set(err, ERR_UNAVAILABLE, "search: %zu documents were sent and %zu answered", count, seen);
	return 0;
}
