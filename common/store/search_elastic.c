/* Documents go into one index of Elasticsearch or OpenSearch, senders of matching stories come out.
 *
 * The index must never come into being by itself: a document written to an index that is not there makes one with a guessed
 * mapping. So a template of exactly its name forbids that (allow_auto_create, Elasticsearch 7.11 and later); where it is not
 * known (OpenSearch), the same template sees to it that what comes into being has our mapping. The template lives as long as
 * the index does not: whoever deletes the index gets a 404 and a word about `feedctl migrate`. Before its first document a
 * connection asks whether the index is there, for the time before the first migration, when there is no template either. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/http/http_client.h"
#include "common/store/elastic_bulk.h"
#include "common/store/search_ops.h"

#define ANSWER_MAX (16 * 1024 * 1024) /* bytes; a refused document costs up to a few hundred */
#define KEPT_BYTES (64 * 1024)         /* of a body or an answer, until the next */
#define BULK_BYTES (2 * 1024 * 1024)  /* a body that has reached this goes out: more per request is hardly faster */
#define SENDERS_MAX 400               /* an answer with more would not pass JSON_KEYS */
#define WORDS_MAX 1000                /* an engine takes 1,024 clauses a query, unless told otherwise */
#define RUN_MAX 255                   /* characters of a word at which an analyser splits it */
#define TEMPLATE_PRIORITY 500

#define JSON_TYPE "application/json"
#define NDJSON_TYPE "application/x-ndjson"

struct elastic {
	struct search search; /* first */
	struct http_client *client;
	char *server; /* "http://host:9200" */
	char *index;
	int64_t timeout_ms;
	bool index_seen; /* since it was last missing */
	struct buf url, body, answer;
};

static struct elastic *elastic_of(struct search *search)
{
	return (struct elastic *)search;
}

/* ---- requests */

/* Sends e->body (type NULL: none) to a path of the server. Everything here may be done twice, so an outcome that is not known
 * is the same as none. */
static int ask(struct elastic *e, const char *method, const char *type, int *status, struct err *err)
{
	struct slice body = { e->body.data, e->body.len };

	if (http_client_send(e->client, method, e->url.data, type, body, status, &e->answer, err) == 0)
		return 0;
	err->kind = ERR_UNAVAILABLE;
	return err_wrap(err, "search");
}

static void index_url(struct elastic *e, const char *path)
{
	buf_reset(&e->url);
	buf_addf(&e->url, "%s/%s%s", e->server, e->index, path);
}

static void template_url(struct elastic *e)
{
	buf_reset(&e->url);
	buf_addf(&e->url, "%s/_index_template/feedmill-%s", e->server, e->index);
}

static struct slice member_text(const struct json *object, const char *key)
{
	const struct json *member = json_get(object, key);

	return member != NULL && json_type(member) == JSON_STRING ? json_string(member) : slice_of("");
}

/* An answer other than expected, in words: {"error":{"type":"…","reason":"…"}}, or whatever a proxy in front may say. */
static int refused(struct elastic *e, int status, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct json *answer = NULL;
	struct slice type, reason;

	answer = json_parse((struct slice){ e->answer.data, e->answer.len }, &ignored);
	type = member_text(json_get(answer, "error"), "type");
	reason = member_text(json_get(answer, "error"), "reason");
	err_set(err, ERR_UNAVAILABLE, "search: HTTP %d %.*s%s%.*s", status, (int)type.len, type.data, reason.len > 0 ? ": " : "",
		(int)reason.len, reason.data);
	json_free(answer);
	return -1;
}

static bool is_fine(int status)
{
	return status >= 200 && status < 300;
}

/* The same for a request to the index. */
static int index_refused(struct elastic *e, int status, struct err *err)
{
	return status == 404 ? bulk_no_index(e->index, err) : refused(e, status, err);
}

static int ask_index(struct elastic *e, const char *method, const char *type, struct err *err)
{
	int status;

	if (ask(e, method, type, &status, err) < 0)
		return -1;
	return is_fine(status) ? 0 : index_refused(e, status, err);
}

/* ---- the index and its mapping */

static const struct {
	const char *name;
	const char *type;
} mapping[] = {
	{ "id", "keyword" },
	{ "sender", "long" },
	{ "subject", "text" },
	{ "story", "text" },
	{ "posted_at", "date" },
};
#define MAPPING_FIELDS (sizeof(mapping) / sizeof(mapping[0]))

/* Members "settings" and "mappings". One shard holds tens of millions of posts; a second node gets a copy by itself. */
static void put_index(struct json_writer *w)
{
	json_open(w, "settings", '{');
	json_open(w, "index", '{');
	json_put_int(w, "number_of_shards", 1);
	json_put_string(w, "auto_expand_replicas", slice_of("0-1"));
	json_close(w, '}');
	json_close(w, '}');
	json_open(w, "mappings", '{');
	json_put_string(w, "dynamic", slice_of("strict"));
	json_open(w, "properties", '{');
	for (size_t i = 0; i < MAPPING_FIELDS; i++) {
		json_open(w, mapping[i].name, '{');
		json_put_string(w, "type", slice_of(mapping[i].type));
		json_close(w, '}');
	}
	json_close(w, '}');
	json_close(w, '}');
}

static int put_template(struct elastic *e, bool may_forbid, int *status, struct err *err)
{
	struct json_writer w = JSON_WRITER(&e->body);

	buf_reset(&e->body);
	json_open(&w, NULL, '{');
	json_open(&w, "index_patterns", '[');
	json_put_string(&w, NULL, slice_of(e->index));
	json_close(&w, ']');
	json_put_int(&w, "priority", TEMPLATE_PRIORITY);
	if (may_forbid)
		json_put_bool(&w, "allow_auto_create", false);
	json_open(&w, "template", '{');
	put_index(&w);
	json_close(&w, '}');
	json_close(&w, '}');
	template_url(e);
	return ask(e, "PUT", JSON_TYPE, status, err);
}

static int make_template(struct elastic *e, struct err *err)
{
	int status;

	if (put_template(e, true, &status, err) < 0)
		return -1;
	if (status == 400 && strstr(e->answer.data, "allow_auto_create") != NULL && put_template(e, false, &status, err) < 0)
		return -1;
	return is_fine(status) ? 0 : refused(e, status, err);
}

/* Adds what is not as it must be to `out`. */
static void compare(struct buf *out, const char *what, struct slice is, const char *wanted)
{
	if (!slice_is(is, wanted))
		buf_addf(out, "%s%s is %.*s, not %s", out->len > 0 ? ", " : "", what, is.len > 0 ? (int)is.len : 7,
			is.len > 0 ? is.data : "missing", wanted);
}

static void compare_mappings(struct buf *out, const struct json *mappings)
{
	const struct json *properties = json_get(mappings, "properties");

	compare(out, "dynamic", member_text(mappings, "dynamic"), "strict");
	for (size_t i = 0; i < MAPPING_FIELDS; i++)
		compare(out, mapping[i].name, member_text(json_get(properties, mapping[i].name), "type"), mapping[i].type);
}

/* {"NAME":{"mappings":{…}}}; an alias may answer with several names, an index without any mapping with {}. */
static int check_mapping(struct elastic *e, struct err *err)
{
	struct json *answer = json_parse((struct slice){ e->answer.data, e->answer.len }, err);
	const struct json *index = answer != NULL && json_type(answer) == JSON_OBJECT ? json_first(answer) : NULL;
	struct buf differences = BUF_INIT;
	int rc = 0;

	if (answer == NULL) {
		err->kind = ERR_UNAVAILABLE;
		return err_wrap(err, "search: the answer to _mapping");
	}
	do {
		compare_mappings(&differences, json_get(index, "mappings"));
		index = index != NULL ? json_next(index) : NULL;
	} while (index != NULL);
	if (differences.len > 0)
		rc = err_set(err, ERR_FATAL, "search: the index %s is there with another mapping: %s (delete it, or choose another search.index)",
			e->index, differences.data);
	json_free(answer);
	buf_release(&differences);
	return rc;
}

static int ask_mapping(struct elastic *e, int *status, struct err *err)
{
	index_url(e, "/_mapping?filter_path=*.mappings.dynamic");
	for (size_t i = 0; i < MAPPING_FIELDS; i++)
		buf_addf(&e->url, ",*.mappings.properties.%s.type", mapping[i].name);
	return ask(e, "GET", NULL, status, err);
}

static int make_index(struct elastic *e, bool *made, struct err *err)
{
	struct json_writer w = JSON_WRITER(&e->body);
	int status;

	buf_reset(&e->body);
	json_open(&w, NULL, '{');
	put_index(&w);
	json_close(&w, '}');
	index_url(e, "");
	if (ask(e, "PUT", JSON_TYPE, &status, err) < 0)
		return -1;
	*made = is_fine(status);
	if (status == 400 && strstr(e->answer.data, "resource_already_exists_exception") != NULL)
		return 0; /* somebody else was faster */
	return *made ? 0 : refused(e, status, err);
}

static int elastic_migrate(struct search *search, bool *made, struct err *err)
{
	struct elastic *e = elastic_of(search);
	int status;

	*made = false;
	if (ask_mapping(e, &status, err) < 0)
		return -1;
	if (is_fine(status) && check_mapping(e, err) < 0)
		return -1;
	if (!is_fine(status) && status != 404)
		return refused(e, status, err);
	if (make_template(e, err) < 0)
		return -1;
	if (status != 404)
		return 0;
	if (make_index(e, made, err) < 0 || ask_mapping(e, &status, err) < 0)
		return -1;
	return is_fine(status) ? check_mapping(e, err) : refused(e, status, err);
}

static int elastic_ping(struct search *search, struct err *err)
{
	struct elastic *e = elastic_of(search);

	index_url(e, "/_search?size=0&terminate_after=1&track_total_hits=false&allow_partial_search_results=false&filter_path=took");
	return ask_index(e, "GET", NULL, err);
}

static int delete(struct elastic *e, struct err *err)
{
	int status;

	if (ask(e, "DELETE", NULL, &status, err) < 0)
		return -1;
	return is_fine(status) || status == 404 ? 0 : refused(e, status, err);
}

static int elastic_drop(struct search *search, struct err *err)
{
	struct elastic *e = elastic_of(search);

	e->index_seen = false;
	index_url(e, "");
	if (delete(e, err) < 0)
		return -1;
	template_url(e);
	return delete(e, err);
}

/* ---- documents in */

static int look_for_index(struct elastic *e, struct err *err)
{
	if (e->index_seen)
		return 0;
	index_url(e, "");
	if (ask_index(e, "HEAD", NULL, err) < 0)
		return -1;
	e->index_seen = true;
	return 0;
}

/* As many as one body takes, at least one; returns how many. */
static size_t write_bulk(struct elastic *e, const struct search_document *documents, size_t count)
{
	size_t n = 0;

	buf_reset(&e->body);
	do
		bulk_write(&e->body, &documents[n++]);
	while (n < count && e->body.len < BULK_BYTES);
	return n;
}

static void too_large(struct search_document *document)
{
	document->result = SEARCH_WRONG;
	snprintf(document->why, sizeof(document->why), "larger than the search engine takes in one request (HTTP 413)");
}

/* Sends the first documents, at most *most, and says in *sent how many have their results. Too large a body goes again with half
 * of them, and so many are the most from then on: each that is refused was sent for nothing. */
static int send_bulk(struct elastic *e, struct search_document *documents, size_t count, size_t *most, size_t *sent, struct err *err)
{
	char path[160];
	int status;

	/* The engine gives up waiting for a shard before we give up waiting for the engine. */
	snprintf(path, sizeof(path), "/_bulk?timeout=%" PRId64 "ms&filter_path=%s", e->timeout_ms / 2 + 1, BULK_FILTER);
	for (*sent = count < *most ? count : *most;; *sent = *most = (*sent + 1) / 2) {
		*sent = write_bulk(e, documents, *sent);
		index_url(e, path);
		if (ask(e, "POST", NDJSON_TYPE, &status, err) < 0)
			return -1;
		if (status != 413)
			break;
		if (*sent == 1) {
			too_large(documents);
			return 0;
		}
	}
	if (!is_fine(status))
		return index_refused(e, status, err);
	return bulk_read((struct slice){ e->answer.data, e->answer.len }, e->index, documents, *sent, err);
}

static int elastic_add(struct search *search, struct search_document *documents, size_t count, struct err *err)
{
	struct elastic *e = elastic_of(search);
	size_t most = count;
	int rc = 0;

	if (look_for_index(e, err) < 0)
		return -1;
	for (size_t done = 0, sent; done < count && rc == 0; done += sent)
		rc = send_bulk(e, documents + done, count - done, &most, &sent, err);
	if (rc < 0)
		e->index_seen = false;
	buf_reset_to(&e->body, KEPT_BYTES);
	buf_reset_to(&e->answer, KEPT_BYTES);
	return rc;
}

/* ---- senders out */

/* Keywords up to WORDS_MAX words; what stands behind them is not searched for. A run of ASCII letters and digits counts as one
 * word (and as one more each RUN_MAX of them), any other character that is not ASCII as one: an engine's standard analyser
 * never makes more of a text. */
static struct slice cut_words(struct slice keywords)
{
	size_t words = 0;
	size_t run = 0;

	for (size_t i = 0; i < keywords.len; i++) {
		unsigned char c = (unsigned char)keywords.data[i];
		bool begins_character = (c & 0xc0) == 0xc0;

		run = c < 0x80 && isalnum(c) ? run + 1 : 0;
		if (begins_character || run % RUN_MAX == 1)
			words++;
		if (words > WORDS_MAX)
			return (struct slice){ keywords.data, i };
	}
	return keywords;
}

/* The best post of each sender, in order of score; only the senders are wanted. */
static void write_query(struct elastic *e, struct slice keywords, size_t room)
{
	struct json_writer w = JSON_WRITER(&e->body);

	buf_reset(&e->body);
	json_open(&w, NULL, '{');
	json_open(&w, "query", '{');
	json_open(&w, "match", '{');
	json_open(&w, "story", '{');
	json_put_string(&w, "query", cut_words(keywords));
	json_put_string(&w, "operator", slice_of("or"));
	json_close(&w, '}');
	json_close(&w, '}');
	json_close(&w, '}');
	json_open(&w, "collapse", '{');
	json_put_string(&w, "field", slice_of("sender"));
	json_close(&w, '}');
	json_put_int(&w, "size", (int64_t)(room < SENDERS_MAX ? room : SENDERS_MAX));
	json_put_bool(&w, "_source", false);
	json_put_bool(&w, "track_total_hits", false);
	json_close(&w, '}');
}

/* {"hits":{"hits":[{"fields":{"sender":[N]}},…]}}, or {} when nothing was found */
static int read_senders(const struct json *answer, int64_t *senders, size_t room, size_t *count, struct err *err)
{
	const struct json *hits = json_get(json_get(answer, "hits"), "hits");
	const struct json *hit = hits != NULL && json_type(hits) == JSON_ARRAY ? json_first(hits) : NULL;

	for (size_t n = 0; hit != NULL && n < room; hit = json_next(hit), n++) {
		const struct json *field = json_get(json_get(hit, "fields"), "sender");
		const struct json *value = field != NULL && json_type(field) == JSON_ARRAY ? json_first(field) : NULL;

		if (value == NULL || !json_int64(value, &senders[n]))
			return err_set(err, ERR_UNAVAILABLE, "search: a hit has no sender");
		*count = n + 1;
	}
	return 0;
}

static int elastic_senders(struct search *search, struct slice keywords, int64_t *senders, size_t room, size_t *count, struct err *err)
{
	struct elastic *e = elastic_of(search);
	struct json *answer;
	int rc;

	*count = 0;
	if (!str_utf8_valid(keywords))
		return err_set(err, ERR_INVALID, "search: the keywords are not UTF-8");
	write_query(e, keywords, room);
	index_url(e, "/_search?allow_partial_search_results=false&filter_path=hits.hits.fields.sender");
	if (ask_index(e, "POST", JSON_TYPE, err) < 0)
		return -1;
	answer = json_parse((struct slice){ e->answer.data, e->answer.len }, err);
	if (answer == NULL) {
		err->kind = ERR_UNAVAILABLE;
		return err_wrap(err, "search: the answer to _search");
	}
	rc = read_senders(answer, senders, room, count, err);
	json_free(answer);
	return rc;
}

/* ---- open and close */

static char *without_slashes(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return mem_dup(url, len);
}

static int elastic_open(const struct settings *settings, struct search **out, struct err *err)
{
	struct elastic *e = mem_zalloc(sizeof(*e));

	(void)err; /* connects later */
	e->server = without_slashes(settings->search.url);
	e->index = mem_strdup(settings->search.index);
	e->timeout_ms = settings->search.timeout_ms;
	e->client = http_client_new(e->timeout_ms, ANSWER_MAX);
	e->url = e->body = e->answer = (struct buf)BUF_INIT;
	*out = &e->search;
	return 0;
}

static void elastic_close(struct search *search)
{
	struct elastic *e = elastic_of(search);

	http_client_free(e->client);
	buf_release(&e->url);
	buf_release(&e->body);
	buf_release(&e->answer);
	free(e->server);
	free(e->index);
	free(e);
}

#define ELASTIC_OPS(begins)                  \
	{                                    \
		.type = "elastic",           \
		.scheme = begins,            \
		.open = elastic_open,        \
		.close = elastic_close,      \
		.migrate = elastic_migrate,  \
		.ping = elastic_ping,        \
		.add = elastic_add,          \
		.senders = elastic_senders,  \
		.drop = elastic_drop,        \
	}

const struct search_ops search_elastic_http = ELASTIC_OPS("http://");
const struct search_ops search_elastic_https = ELASTIC_OPS("https://");
