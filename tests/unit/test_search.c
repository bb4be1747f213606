/* Search: one suite for every back end, written against search.h alone; then what the Elasticsearch back end makes of answers that
 * only a stub gives, and what is special to the one in a file. Where the suite needs a real engine it runs when SEARCH_URL is set,
 * and is shown as skipped when not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/folder.h"
#include "common/base/mem.h"
#include "common/http/http_client.h"
#include "common/store/search.h"
#include "common/store/store_sqlite_db.h"
#include "tests/unit/stub_http.h"

#define AT_MS INT64_C(1769860800123)
#define VISIBLE_MS 20000 /* within which what was added must be found */

struct bench {
	struct settings settings;
	char index[64];
	struct search *search;
	struct err err;
};

static struct search_document document(int64_t id, int64_t sender, const char *story)
{
	return (struct search_document){ .id = id, .sender = sender, .subject = slice_of("subject"), .story = slice_of(story), .posted_at_ms = AT_MS };
}

/* ---- the suite */

/* A back end to run it on: where it is, or NULL when this machine has none. */
static const char *suite_type, *suite_url;

static int open_index(void **state, const char *type, const char *url, int64_t timeout_ms)
{
	static struct bench bench;
	static int number;

	if (url == NULL) {
		*state = NULL;
		return 0;
	}
	bench = (struct bench){ .err = ERR_INIT };
	snprintf(bench.index, sizeof(bench.index), "feedmill-test-%d-%d", (int)getpid(), number++);
	bench.settings.search.type = (char *)(uintptr_t)type;
	bench.settings.search.url = mem_strdup(url);
	bench.settings.embedded.folder = (char *)FOLDER_MEMORY;
	bench.settings.embedded.lock_wait_ms = 1000;
	bench.settings.search.index = bench.index;
	bench.settings.search.timeout_ms = timeout_ms;
	*state = &bench;
	return search_open(&bench.settings, &bench.search, &bench.err);
}

static int set_up_empty(void **state)
{
	return open_index(state, suite_type, suite_url, 10000);
}

static int set_up(void **state)
{
	struct bench *bench;
	bool made = false;

	if (set_up_empty(state) < 0)
		return -1;
	bench = *state;
	return bench == NULL ? 0 : search_migrate(bench->search, &made, &bench->err);
}

static int tear_down(void **state)
{
	struct bench *bench = *state;
	int rc;

	if (bench == NULL)
		return 0;
	rc = search_drop(bench->search, &bench->err);
	search_close(bench->search);
	free(bench->settings.search.url);
	return rc;
}

static struct bench *bench_of(void **state)
{
	if (*state == NULL) {
		print_message("SEARCH_URL is not set: ");
		skip();
	}
	return *state;
}

static void add(struct bench *bench, struct search_document *documents, size_t count)
{
	if (search_add(bench->search, documents, count, &bench->err) < 0)
		fail_msg("search_add: %s", bench->err.message);
	for (size_t i = 0; i < count; i++) {
		if (documents[i].result != SEARCH_STORED)
			fail_msg("document %zu: %s", i, documents[i].why);
	}
}

static void add_one(struct bench *bench, int64_t id, int64_t sender, const char *story)
{
	struct search_document one = document(id, sender, story);

	add(bench, &one, 1);
}

static size_t find(struct bench *bench, struct slice keywords, int64_t *senders, size_t room)
{
	size_t count = 99;

	if (search_senders(bench->search, keywords, senders, room, &count, &bench->err) < 0)
		fail_msg("search_senders: %s", bench->err.message);
	return count;
}

static size_t find_text(struct bench *bench, const char *keywords)
{
	int64_t senders[100];

	return find(bench, slice_of(keywords), senders, 100);
}

/* What was added is found some time later: waits for a word that is in `wanted` senders' stories. */
static void wait_for(struct bench *bench, const char *word, size_t wanted)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	int64_t deadline = clock_mono_ms() + VISIBLE_MS;

	while (find_text(bench, word) != wanted) {
		if (clock_mono_ms() > deadline)
			fail_msg("\"%s\": %zu senders after %d ms, not %zu", word, find_text(bench, word), VISIBLE_MS, wanted);
		nanosleep(&pause, NULL);
	}
}

/* A last document: once it is found, so is all that was added before. */
static void wait_for_all(struct bench *bench)
{
	static int64_t id = ID_MAX;
	char word[32];

	snprintf(word, sizeof(word), "marker%d", (int)(ID_MAX - id));
	add_one(bench, id--, ID_MAX, word);
	wait_for(bench, word, 1);
}

static void migrate_makes_the_index_once(void **state)
{
	struct bench *bench = bench_of(state);
	bool made = false;

	assert_int_equal(search_ping(bench->search, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.message, "feedctl migrate"));
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), 0);
	assert_true(made);
	assert_int_equal(search_ping(bench->search, &bench->err), 0);
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), 0);
	assert_false(made);
}

static void check_missing(struct bench *bench)
{
	struct search_document one = document(1, 7, "word");

	err_clear(&bench->err);
	assert_int_equal(search_add(bench->search, &one, 1, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.message, "feedctl migrate"));
	assert_int_equal(search_ping(bench->search, &bench->err), -1); /* it did not come into being */
}

static void no_index_no_document(void **state)
{
	struct bench *bench = bench_of(state);
	bool made = false;

	check_missing(bench);
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), 0);
	add_one(bench, 1, 7, "word");
	assert_int_equal(search_drop(bench->search, &bench->err), 0);
	check_missing(bench);
}

static void words_are_found(void **state)
{
	static const char *const found[] = { "harbour", "HARBOUR", "harbour!", "  (harbour)  ", "storm harbour", "\"harbour\"", "harbour,ship", "nothing of it but harbour" };
	static const char *const not[] = { "harb", "subject", "7", "arbour", "harbours" };
	struct bench *bench = bench_of(state);
	int64_t senders[10];

	add_one(bench, 1, 7, "The Harbour, at night.");
	add_one(bench, 2, 8, "Quiet hills");
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
		if (find(bench, slice_of(found[i]), senders, 10) != 1 || senders[0] != 7)
			fail_msg("not found: %s", found[i]);
	}
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++) {
		if (find_text(bench, not[i]) != 0)
			fail_msg("found: %s", not[i]);
	}
}

static void a_sender_comes_once_and_the_best_first(void **state)
{
	struct bench *bench = bench_of(state);
	int64_t senders[10];

	add_one(bench, 1, 7, "copper and many other words that make this story a long one, in which the word counts less");
	add_one(bench, 2, 7, "copper");
	add_one(bench, 3, 7, "copper copper");
	add_one(bench, 4, 8, "copper and many other words that make this story a long one, in which the word counts less");
	add_one(bench, 5, 9, "copper tin");
	wait_for_all(bench);
	assert_int_equal(find(bench, slice_of("copper"), senders, 10), 3);
	assert_int_equal(senders[0], 7);
	assert_int_equal(senders[1], 9);
	assert_int_equal(senders[2], 8);
	assert_int_equal(find(bench, slice_of("copper tin"), senders, 10), 3);
	assert_int_equal(senders[0], 9); /* both words */
	assert_int_equal(find(bench, slice_of("copper"), senders, 2), 2);
	assert_int_equal(senders[0], 7);
	assert_int_equal(find(bench, slice_of("copper"), senders, 0), 0);
}

static void the_room_is_kept(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document documents[120];
	int64_t senders[101];

	for (int i = 0; i < 120; i++)
		documents[i] = document(i + 1, i + 1, "crowd");
	add(bench, documents, 120);
	wait_for_all(bench);
	senders[100] = -1;
	assert_int_equal(find(bench, slice_of("crowd"), senders, 100), 100);
	assert_int_equal(senders[100], -1);
	for (int i = 0; i < 100; i++) {
		for (int j = 0; j < i; j++)
			assert_true(senders[i] != senders[j]);
	}
}

static void query_syntax_is_plain_text(void **state)
{
	static const char *const texts[] = { "story: harbour~", "harbour AND absent", "-harbour", "+harbour +absent", "NOT harbour", "harbour\\",
		"/harbour/", "((harbour", "harbour\"}}}", "harbour^9", "[1 TO harbour]", "\"absent harbour", "harbour && absent", "!harbour",
		"{\"match_all\":{}} harbour", "harbour\n\t\x01" };
	static const char *const nothing[] = { "*", "harb*", "har?our", "_exists_:story", "id:1", "harbuor~", "*:*", "sender:[1 TO 9]", "{\"match_all\":{}}" };
	struct bench *bench = bench_of(state);

	add_one(bench, 1, 7, "harbour");
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (find_text(bench, texts[i]) != 1)
			fail_msg("not plain: %s", texts[i]);
	}
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
		if (find_text(bench, nothing[i]) != 0)
			fail_msg("found something: %s", nothing[i]);
	}
}

static void nothing_asked_nothing_found(void **state)
{
	static const char *const texts[] = { "", " ", "\t\n", ".,;:!?", "---", "()", "\"\"", "_", "\xe2\x80\xa6\xe2\x80\x94" };
	struct bench *bench = bench_of(state);
	int64_t senders[1];
	size_t count = 9;

	add_one(bench, 1, 7, "some words. And _ others -- here \xe2\x80\xa6");
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (find_text(bench, texts[i]) != 0)
			fail_msg("found something: \"%s\"", texts[i]);
	}
	assert_int_equal(find(bench, SLICE_NONE, senders, 1), 0);
	assert_int_equal(search_senders(bench->search, slice_of("\xff"), senders, 1, &count, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_INVALID);
}

static void many_words_are_no_error(void **state)
{
	struct bench *bench = bench_of(state);
	int64_t senders[1];

	add_one(bench, 1, 7, "first");
	wait_for_all(bench);
	for (int kind = 0; kind < 3; kind++) {
		struct buf words = BUF_INIT;

		buf_add_str(&words, "first ");
		for (int i = 0; i < 5000; i++) {
			if (kind == 0)
				buf_addf(&words, "w%d ", i);
			else if (kind == 1) /* a character a word: U+4E00 and those behind it */
				buf_addf(&words, "%c%c%c", 0xe4 + i / 4096, 0xb8 + i / 64 % 8, 0x80 + i % 64);
			else
				buf_addf(&words, "%c", 'a' + i % 26);
		}
		assert_int_equal(find(bench, (struct slice){ words.data, words.len }, senders, 1), 1);
		buf_release(&words);
	}
}

static void texts_of_all_kinds(void **state)
{
	static const struct {
		const char *story, *word;
	} samples[] = {
		{ "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d \xd7\xa2\xd7\x95\xd7\x9c\xd7\x9d", "\xd7\xa2\xd7\x95\xd7\x9c\xd7\x9d" },
		{ "\xc3\x89t\xc3\xa9 \xc3\xa0 la plage", "\xc3\xa9T\xc3\x89" },
		{ "quote \" backslash \\ tab \t line \n <b>bold</b> \x01 zebra", "zebra" },
		{ "\xf0\x9f\x98\x80 smiles", "smiles" },
		{ "\xf0\x9f\x9a\x80", "\xf0\x9f\x9a\x80" },
		{ "{\"index\":{}}\n{\"delete\":{\"_id\":\"1\"}}\ninjected", "injected" },
	};
	struct bench *bench = bench_of(state);

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct search_document one = document((int64_t)i + 1, ID_MAX - (int64_t)i, samples[i].story);

		one.subject = one.story;
		add(bench, &one, 1);
	}
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		int64_t senders[2];

		if (find(bench, slice_of(samples[i].word), senders, 2) != 1 || senders[0] != ID_MAX - (int64_t)i)
			fail_msg("not found: %s", samples[i].story);
	}
}

static void a_document_is_stored_once(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document twice[] = { document(1, 7, "original"), document(1, 8, "changed"), document(2, 9, "original") };

	add(bench, twice, 3);
	add(bench, twice, 3);
	add_one(bench, 1, 10, "changed again");
	wait_for_all(bench);
	assert_int_equal(find_text(bench, "changed"), 0);
	assert_int_equal(find_text(bench, "original"), 2);
}

static void a_large_batch(void **state)
{
	enum { COUNT = 3000 };
	struct bench *bench = bench_of(state);
	struct search_document *documents = mem_array(COUNT, sizeof(*documents));

	for (int i = 0; i < COUNT; i++)
		documents[i] = document(i + 1, i % 90 + 1, i == COUNT - 1 ? "many last" : "many");
	add(bench, documents, COUNT);
	add(bench, documents, COUNT);
	wait_for(bench, "last", 1);
	assert_int_equal(find_text(bench, "many"), 90);
	assert_int_equal(search_add(bench->search, NULL, 0, &bench->err), 0);
	free(documents);
}

/* 40 stories of a quarter of a megabyte: more than one request should take. */
static void large_stories(void **state)
{
	enum { COUNT = 40 };
	struct bench *bench = bench_of(state);
	struct search_document documents[COUNT];
	struct buf story = BUF_INIT;

	while (str_utf8_length((struct slice){ story.data, story.len }) < 65000)
		buf_add_str(&story, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80 \xf0\x9f\x98\x80 \xf0\x9f\x98\x81\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
	buf_add_str(&story, " end");
	for (int i = 0; i < COUNT; i++) {
		documents[i] = document(i + 1, i + 1, "");
		documents[i].story = (struct slice){ story.data, story.len };
	}
	add(bench, documents, COUNT);
	wait_for(bench, "end", COUNT);
	buf_release(&story);
}

static void two_connections_see_the_same(void **state)
{
	struct bench *bench = bench_of(state);
	struct bench other = *bench;

	assert_int_equal(search_open(&other.settings, &other.search, &other.err), 0);
	add_one(bench, 1, 7, "shared");
	add_one(&other, 1, 8, "shared");
	add_one(&other, 2, 9, "shared");
	wait_for(bench, "shared", 2);
	wait_for(&other, "shared", 2);
	search_close(other.search);
}

static void words_of_all_scripts(void **state)
{
	static const struct {
		const char *story;
		const char *found[6], *not[6];
	} samples[] = {
		{ "\xe4\xb8\x9c\xe4\xba\xac\xe3\x82\xbf\xe3\x83\xaf\xe3\x83\xbc", /* two ideographs, and a run of katakana */
			{ "\xe4\xba\xac", "\xe4\xb8\x9c", "\xe3\x82\xbf\xe3\x83\xaf\xe3\x83\xbc" }, { "\xe3\x82\xbf", "\xe6\xb5\xb7" } },
		{ "go\xf0\x9f\x9a\x80\xe2\x9d\xa4\xef\xb8\x8fnow", { "go", "NOW", "\xf0\x9f\x9a\x80", "\xe2\x9d\xa4\xef\xb8\x8f" }, { "gonow", "\xf0\x9f\x98\x80" } },
		{ "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80", /* with vowel signs and a virama */
			{ "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80" }, { "\xe0\xa4\xb9", "\xe0\xa4\xa6" } },
		{ "\xc3\x9c" "ber caf\xc3\xa9", { "\xc3\xbc" "BER", "CAF\xc3\x89" }, { "uber", "cafe" } },
		{ "snake_case _lead __ 12_a", { "snake_case", "_lead", "12_a" }, { "snake", "case", "lead", "__", "_" } },
	};
	struct bench *bench = bench_of(state);

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
		add_one(bench, (int64_t)i + 1, (int64_t)i + 7, samples[i].story);
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		for (size_t k = 0; k < 6 && samples[i].found[k] != NULL; k++)
			if (find_text(bench, samples[i].found[k]) != 1)
				fail_msg("not found: %s in %s", samples[i].found[k], samples[i].story);
		for (size_t k = 0; k < 6 && samples[i].not[k] != NULL; k++)
			if (find_text(bench, samples[i].not[k]) != 0)
				fail_msg("found: %s in %s", samples[i].not[k], samples[i].story);
	}
}

static void joints_within_words(void **state)
{
	static const char *const found[] = { "don't", "DON'T!", "it\xe2\x80\x99s", "3.14", "1,000", "(example.org)", "a:b", "end", "next", "x", "5" };
	static const char *const not[] = { "don", "t", "3", "14", "000", "example", "org", "b" };
	struct bench *bench = bench_of(state);

	add_one(bench, 1, 7, "Don't: it\xe2\x80\x99s 3.14 or 1,000 at example.org a:b end, next x.5 .");
	add_one(bench, 2, 8, "end. Next");
	wait_for_all(bench);
	for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++)
		if (find_text(bench, found[i]) == 0)
			fail_msg("not found: %s", found[i]);
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++)
		if (find_text(bench, not[i]) != 0)
			fail_msg("found: %s", not[i]);
	assert_int_equal(find_text(bench, "end,next"), 2); /* two words */
	assert_int_equal(find_text(bench, "x.5"), 1);      /* a letter and a digit do not join */
}

/* ---- the Elasticsearch back end on a real engine: what needs a look behind search.h */

static int raw(struct bench *bench, const char *method, const char *path, const char *body, struct buf *answer)
{
	struct http_client *client = http_client_new(10000, 1024 * 1024);
	char url[300];
	int status = 0;

	snprintf(url, sizeof(url), "%s/%s%s", bench->settings.search.url, bench->index, path);
	assert_int_equal(http_client_send(client, method, url, body != NULL ? "application/json" : NULL, slice_of(body), &status, answer, &bench->err), 0);
	http_client_free(client);
	return status;
}

static void elastic_document_is_the_contract_s(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document one = document(ID_MAX, 7, "a \"story\"\n");
	struct buf answer = BUF_INIT;

	add(bench, &one, 1);
	assert_int_equal(raw(bench, "GET", "/_source/9007199254740991", NULL, &answer), 200);
	assert_string_equal(answer.data, "{\"id\":\"9007199254740991\",\"sender\":7,\"subject\":\"subject\",\"story\":\"a \\\"story\\\"\\n\","
					 "\"posted_at\":\"2026-01-31T12:00:00.123Z\"}");
	buf_release(&answer);
}

static void elastic_another_mapping_is_told(void **state)
{
	struct bench *bench = bench_of(state);
	struct buf answer = BUF_INIT;
	bool made = true;

	assert_int_equal(raw(bench, "PUT", "", "{\"mappings\":{\"properties\":{\"id\":{\"type\":\"keyword\"},\"sender\":{\"type\":\"text\"},"
					       "\"subject\":{\"type\":\"text\"},\"story\":{\"type\":\"text\"}}}}", &answer), 200);
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), -1);
	assert_false(made);
	assert_int_equal(bench->err.kind, ERR_FATAL);
	assert_non_null(strstr(bench->err.message, "dynamic is missing, not strict"));
	assert_non_null(strstr(bench->err.message, "sender is text, not long"));
	assert_non_null(strstr(bench->err.message, "posted_at is missing, not date"));
	assert_null(strstr(bench->err.message, "story is"));
	assert_int_equal(raw(bench, "DELETE", "", NULL, &answer), 200);

	assert_int_equal(raw(bench, "PUT", "", NULL, &answer), 200); /* no mapping at all */
	err_clear(&bench->err);
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_FATAL);
	assert_non_null(strstr(bench->err.message, "story is missing, not text"));
	buf_release(&answer);
}

/* Deleted by somebody else while we run: it must not come back with a guessed mapping. */
static void elastic_deleted_index_stays_deleted(void **state)
{
	struct bench *bench = bench_of(state);
	struct buf answer = BUF_INIT;

	add_one(bench, 1, 7, "word");
	assert_int_equal(raw(bench, "DELETE", "", NULL, &answer), 200);
	check_missing(bench);
	assert_int_equal(raw(bench, "HEAD", "", NULL, &answer), 404);
	buf_release(&answer);
}

static void elastic_closed_index_stops_all(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document one = document(1, 7, "word");
	struct buf answer = BUF_INIT;

	assert_int_equal(raw(bench, "POST", "/_close", "", &answer), 200);
	assert_int_equal(search_add(bench->search, &one, 1, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.message, "is closed"));
	assert_int_equal(search_ping(bench->search, &bench->err), -1);
	assert_int_equal(raw(bench, "POST", "/_open", "", &answer), 200);
	add(bench, &one, 1);
	buf_release(&answer);
}

static void elastic_blocked_index_stops_all(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document one = document(1, 7, "word");
	struct buf answer = BUF_INIT;

	assert_int_equal(raw(bench, "PUT", "/_block/write", "", &answer), 200);
	assert_int_equal(search_add(bench->search, &one, 1, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(bench->err.message, "is blocked"));
	assert_int_equal(raw(bench, "PUT", "/_settings", "{\"index.blocks.write\":false}", &answer), 200);
	add(bench, &one, 1);
	buf_release(&answer);
}

/* An engine refuses one document: the others are stored. */
static void elastic_wrong_document_alone(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document documents[] = { document(1, 7, "word"), document(2, 800, "word"), document(3, 9, "word") };
	struct buf answer = BUF_INIT;

	/* An index by somebody else, whose senders end at 127. */
	assert_int_equal(raw(bench, "DELETE", "", "", &answer), 200);
	assert_int_equal(raw(bench, "PUT", "", "{\"mappings\":{\"properties\":{\"sender\":{\"type\":\"byte\"}}}}", &answer), 200);
	assert_int_equal(search_add(bench->search, documents, 3, &bench->err), 0);
	assert_int_equal(documents[0].result, SEARCH_STORED);
	assert_int_equal(documents[1].result, SEARCH_WRONG);
	assert_non_null(strstr(documents[1].why, "sender"));
	assert_int_equal(documents[2].result, SEARCH_STORED);
	wait_for(bench, "word", 2);
	buf_release(&answer);
}

/* ---- the back end in a file */

static void file_of_another_making_is_told(void **state)
{
	struct bench *bench = bench_of(state);
	struct settings settings = bench->settings;
	struct sqlite_db db;
	char name[100];
	bool made = true;

	snprintf(name, sizeof(name), "search-%s.db", bench->index);
	sqlite_db_init(&db, &settings, "other", name);
	assert_int_equal(sqlite_db_create(&db, &made, &bench->err), 0);
	assert_int_equal(sqlite_db_run(&db, "CREATE TABLE words (story TEXT)", &bench->err), 0);
	assert_int_equal(search_migrate(bench->search, &made, &bench->err), -1);
	assert_false(made);
	assert_int_equal(bench->err.kind, ERR_FATAL);
	assert_non_null(strstr(bench->err.message, "another table words"));
	assert_non_null(strstr(bench->err.message, name));
	sqlite_db_release(&db);
}

static void file_wrong_document_alone(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document documents[] = { document(1, 7, "word"), document(2, 8, "word \xff"), document(3, 9, "word") };

	assert_int_equal(search_add(bench->search, documents, 3, &bench->err), 0);
	assert_int_equal(documents[0].result, SEARCH_STORED);
	assert_int_equal(documents[1].result, SEARCH_WRONG);
	assert_non_null(strstr(documents[1].why, "UTF-8"));
	assert_int_equal(documents[2].result, SEARCH_STORED);
	assert_int_equal(find_text(bench, "word"), 2);
}

static void file_is_searched_while_it_is_written(void **state)
{
	struct bench *bench = bench_of(state);
	struct search_document one = document(2, 8, "word");
	struct sqlite_db writer;
	char name[100];

	add_one(bench, 1, 7, "word");
	snprintf(name, sizeof(name), "search-%s.db", bench->index);
	bench->settings.embedded.lock_wait_ms = 50;
	sqlite_db_init(&writer, &bench->settings, "writer", name);
	assert_int_equal(sqlite_db_begin(&writer, &bench->err), 0);
	assert_int_equal(find_text(bench, "word"), 1);
	assert_int_equal(search_ping(bench->search, &bench->err), 0);
	assert_int_equal(search_add(bench->search, &one, 1, &bench->err), -1);
	assert_int_equal(bench->err.kind, ERR_CONFLICT);
	sqlite_db_rollback(&writer);
	add(bench, &one, 1);
	assert_int_equal(find_text(bench, "word"), 2);
	sqlite_db_release(&writer);
}

/* ---- the Elasticsearch back end on a stub */

struct scene {
	struct bench *bench;
	struct stub *stub;
	/* how the stub answers */
	_Atomic enum stub_action action; /* changed while the stub may still be at a connection that it reset */
	int bulk_status;
	const char *bulk_answer;
	size_t most_documents; /* more a body is 413; 0: any number */
	size_t huge;           /* bytes of the answer, instead of the others */
	bool is_opensearch;
	/* what it saw */
	size_t bulks, templates;
	size_t documents; /* in bodies that were taken */
	struct buf body;  /* of the last request with one */
};

static size_t lines_of(struct slice body)
{
	size_t lines = 0;

	for (size_t i = 0; i < body.len; i++)
		lines += body.data[i] == '\n';
	return lines;
}

static void answer_bulk(struct scene *scene, const struct stub_request *request, struct stub_reply *reply)
{
	size_t documents = lines_of(request->body) / 2;

	scene->bulks++;
	reply->action = scene->action;
	reply->status = scene->bulk_status;
	if (scene->most_documents > 0 && documents > scene->most_documents) {
		reply->status = 413;
		return;
	}
	scene->documents += documents;
	if (scene->bulk_answer != NULL) {
		buf_add_str(&reply->body, scene->bulk_answer);
		return;
	}
	while (reply->body.len < scene->huge) /* white space, before JSON */
		buf_addf(&reply->body, "%65536s", "");
	buf_add_str(&reply->body, "{\"errors\":false,\"took\":1,\"items\":[");
	for (size_t i = 0; i < documents; i++)
		buf_addf(&reply->body, "%s{\"create\":{\"status\":201}}", i > 0 ? "," : "");
	buf_add_str(&reply->body, "]}");
}

static void answer(void *arg, const struct stub_request *request, struct stub_reply *reply)
{
	struct scene *scene = arg;

	if (request->body.len > 0) {
		buf_reset(&scene->body);
		buf_add(&scene->body, request->body.data, request->body.len);
	}
	if (strstr(request->target, "/_bulk?") != NULL) {
		answer_bulk(scene, request, reply);
	} else if (strncmp(request->target, "/_index_template/", 17) == 0 && strcmp(request->method, "PUT") == 0) {
		scene->templates++;
		if (scene->is_opensearch && strstr(scene->body.data, "allow_auto_create") != NULL) {
			reply->status = 400;
			buf_add_str(&reply->body, "{\"error\":{\"type\":\"x_content_parse_exception\",\"reason\":\"[index_template] unknown field [allow_auto_create]\"},\"status\":400}");
		}
	} else if (strstr(request->target, "/_mapping?") != NULL && scene->templates == 0) {
		reply->status = 404;
	} else if (strstr(request->target, "/_mapping?") != NULL) {
		buf_add_str(&reply->body, "{\"x\":{\"mappings\":{\"dynamic\":\"strict\",\"properties\":{\"id\":{\"type\":\"keyword\"},\"sender\":{\"type\":\"long\"},"
					  "\"subject\":{\"type\":\"text\"},\"story\":{\"type\":\"text\"},\"posted_at\":{\"type\":\"date\"}}}}}");
	} else if (strstr(request->target, "/_search?") != NULL) {
		reply->action = scene->action;
		reply->status = scene->bulk_status;
		buf_add_str(&reply->body, scene->bulk_answer != NULL ? scene->bulk_answer : "{}");
	}
}

static int open_stub(void **state, int64_t timeout_ms)
{
	static struct scene scene;
	void *bench;

	scene = (struct scene){ .bulk_status = 200, .body = BUF_INIT };
	scene.stub = stub_start(answer, &scene);
	if (open_index(&bench, "elastic", stub_url(scene.stub), timeout_ms) < 0)
		return -1;
	scene.bench = bench;
	*state = &scene;
	return 0;
}

static int set_up_stub(void **state)
{
	return open_stub(state, 300);
}

/* For what takes its time, and must not end by that. */
static int set_up_patient_stub(void **state)
{
	return open_stub(state, 20000);
}

static int tear_down_stub(void **state)
{
	struct scene *scene = *state;

	search_close(scene->bench->search);
	stub_stop(scene->stub);
	free(scene->bench->settings.search.url);
	buf_release(&scene->body);
	return 0;
}

#define DOCUMENTS 3
static void make_documents(struct search_document *documents, size_t count)
{
	for (size_t i = 0; i < count; i++)
		documents[i] = document((int64_t)i + 1, (int64_t)i + 7, "story");
}

static int add_some(struct scene *scene, struct search_document documents[DOCUMENTS])
{
	make_documents(documents, DOCUMENTS);
	err_clear(&scene->bench->err);
	return search_add(scene->bench->search, documents, DOCUMENTS, &scene->bench->err);
}

static void stub_body_is_exact(void **state)
{
	struct scene *scene = *state;
	struct search_document one = document(5, 7, "a \"b\"\n");

	assert_int_equal(search_add(scene->bench->search, &one, 1, &scene->bench->err), 0);
	assert_string_equal(scene->body.data, "{\"create\":{\"_id\":\"5\"}}\n"
					      "{\"id\":\"5\",\"sender\":7,\"subject\":\"subject\",\"story\":\"a \\\"b\\\"\\n\","
					      "\"posted_at\":\"2026-01-31T12:00:00.123Z\"}\n");
}

static void stub_whole_refusals(void **state)
{
	static const int statuses[] = { 400, 401, 403, 429, 500, 502, 503, 504, 301 };
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		char wanted[32];

		snprintf(wanted, sizeof(wanted), "HTTP %d", statuses[i]);
		scene->bulk_status = statuses[i];
		scene->bulk_answer = i % 2 == 0 ? "<html>busy</html>" : "{\"error\":{\"type\":\"es_rejected_execution_exception\",\"reason\":\"full\"}}";
		assert_int_equal(add_some(scene, documents), -1);
		assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
		assert_non_null(strstr(scene->bench->err.message, wanted));
		if (i % 2 == 1)
			assert_non_null(strstr(scene->bench->err.message, "es_rejected_execution_exception: full"));
	}
	scene->bulk_status = 404;
	assert_int_equal(add_some(scene, documents), -1);
	assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(scene->bench->err.message, "feedctl migrate"));
}

static void stub_each_item_has_its_verdict(void **state)
{
	static const struct {
		const char *item;
		int result;
		const char *why;
	} samples[] = {
		{ "{\"create\":{\"status\":200}}", SEARCH_STORED, "" },
		{ "{\"create\":{\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\",\"reason\":\"there\"}}}", SEARCH_STORED, "" },
		{ "{\"create\":{\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\",\"reason\":\"queue full\"}}}", SEARCH_BUSY,
			"es_rejected_execution_exception: queue full" },
		{ "{\"create\":{\"status\":503,\"error\":{\"type\":\"unavailable_shards_exception\"}}}", SEARCH_BUSY, "unavailable_shards_exception: no reason given" },
		{ "{\"create\":{\"status\":502}}", SEARCH_BUSY, "error: no reason given" },
		{ "{\"create\":{\"status\":504,\"error\":null}}", SEARCH_BUSY, "error: no reason given" },
		{ "{\"create\":{\"status\":500,\"error\":{\"type\":\"x\",\"reason\":\"y\"}}}", SEARCH_BUSY, "x: y" },
		{ "{\"create\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":\"failed to parse\"}}}", SEARCH_WRONG,
			"mapper_parsing_exception: failed to parse" },
		{ "{ \"create\" : { \"error\" : { \"reason\" : \"a, } ] \\\" b\", \"type\" : \"t\" } , \"status\" : 400 } }", SEARCH_WRONG, "t: a, } ] \" b" },
	};
	struct scene *scene = *state;

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct search_document documents[DOCUMENTS];
		struct buf text = BUF_INIT;

		buf_addf(&text, "{\"took\":1,\"errors\":true,\"items\":[{\"create\":{\"status\":201}},%s,{\"create\":{\"status\":201}}]}", samples[i].item);
		scene->bulk_answer = text.data;
		if (add_some(scene, documents) < 0)
			fail_msg("%s: %s", samples[i].item, scene->bench->err.message);
		assert_int_equal(documents[0].result, SEARCH_STORED);
		assert_int_equal(documents[1].result, samples[i].result);
		assert_string_equal(documents[1].why, samples[i].why);
		assert_int_equal(documents[2].result, SEARCH_STORED);
		buf_release(&text);
	}
}

static void stub_a_long_reason_is_cut_between_characters(void **state)
{
	struct scene *scene = *state;

	for (size_t shift = 0; shift < 4; shift++) {
		struct search_document documents[DOCUMENTS];
		struct buf text = BUF_INIT;

		buf_addf(&text, "{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":400,\"error\":{\"type\":\"t\",\"reason\":\"%.*s", (int)shift, "xxx");
		for (int i = 0; i < 200; i++)
			buf_add_str(&text, "\xf0\x9f\x98\x80");
		buf_add_str(&text, "\"}}},{\"create\":{\"status\":201}}]}");
		scene->bulk_answer = text.data;
		assert_int_equal(add_some(scene, documents), 0);
		assert_int_equal(documents[1].result, SEARCH_WRONG);
		assert_in_range(strlen(documents[1].why), 190, 199);
		assert_true(str_utf8_valid(slice_of(documents[1].why)));
		buf_release(&text);
	}
}

static void stub_senseless_answers(void **state)
{
	static const char *const answers[] = { "", "{", "[]", "null", "{}", "{\"errors\":false}", "not json", "<html></html>",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201}}]",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201}}]}}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":\"201\"}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"index\":{\"status\":201}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},7]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201,}}]}",
		"{\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":201}},{\"create\":{\"status\":201}]}", "{\"items\":{\"create\":{\"status\":201}}}",
		"{\"items\":[],\"items\":[]}", "{\"items\":\"\\\"", "{\"items\":[\"\\", "{\"took\"" };
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		scene->bulk_answer = answers[i];
		if (add_some(scene, documents) != -1)
			fail_msg("taken: %s", answers[i]);
		assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
		assert_non_null(strstr(scene->bench->err.message, "search: "));
	}
}

static void stub_missing_and_closed_index(void **state)
{
	static const char *const samples[][2] = {
		{ "{\"create\":{\"status\":404,\"error\":{\"type\":\"index_not_found_exception\",\"reason\":\"no such index\"}}}", "feedctl migrate" },
		{ "{\"create\":{\"status\":400,\"error\":{\"type\":\"index_closed_exception\",\"reason\":\"closed\"}}}", "is closed" },
		{ "{\"create\":{\"status\":403,\"error\":{\"type\":\"cluster_block_exception\",\"reason\":\"disk is nearly full\"}}}", "is blocked: disk is nearly full" },
		{ "{\"create\":{\"status\":429,\"error\":{\"type\":\"cluster_block_exception\",\"reason\":\"r\"}}}", "is blocked: r" },
	};
	struct scene *scene = *state;

	for (size_t i = 0; i < 2; i++) {
		struct search_document documents[DOCUMENTS];
		struct buf text = BUF_INIT;

		buf_addf(&text, "{\"errors\":true,\"items\":[%s,%s,%s]}", samples[i][0], samples[i][0], samples[i][0]);
		scene->bulk_answer = text.data;
		assert_int_equal(add_some(scene, documents), -1);
		assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
		assert_non_null(strstr(scene->bench->err.message, samples[i][1]));
		buf_release(&text);
	}
}

static void stub_too_large_is_halved(void **state)
{
	struct scene *scene = *state;
	struct search_document documents[25];

	scene->most_documents = 4;
	make_documents(documents, 25);
	assert_int_equal(search_add(scene->bench->search, documents, 25, &scene->bench->err), 0);
	for (size_t i = 0; i < 25; i++)
		assert_int_equal(documents[i].result, SEARCH_STORED);
	assert_int_equal(scene->documents, 25); /* each went in once */
	assert_int_equal(scene->bulks, 3 + 7);  /* 25, 13 and 7 are refused; what is too large is learned once */
}

static void stub_too_large_alone_is_wrong(void **state)
{
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];

	scene->bulk_status = 413;
	assert_int_equal(add_some(scene, documents), 0);
	for (size_t i = 0; i < DOCUMENTS; i++) {
		assert_int_equal(documents[i].result, SEARCH_WRONG);
		assert_non_null(strstr(documents[i].why, "413"));
	}
}

/* However it ends without an answer: nothing is known, all may go again, and then does. */
static void stub_no_answer(void **state)
{
	static const enum stub_action actions[] = { STUB_RESET, STUB_SILENCE, STUB_HALF };
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];

	for (size_t i = 0; i < 3; i++) {
		int64_t start = clock_mono_ms();

		scene->action = actions[i];
		assert_int_equal(add_some(scene, documents), -1);
		assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
		assert_true(clock_mono_ms() - start < 10000);
		scene->action = STUB_ANSWER;
		assert_int_equal(add_some(scene, documents), 0);
		assert_int_equal(documents[0].result, SEARCH_STORED);
	}
}

static void stub_a_huge_answer_is_left(void **state)
{
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];

	search_close(scene->bench->search);
	scene->bench->settings.search.timeout_ms = 20000; /* a slow machine takes its time for so much */
	assert_int_equal(search_open(&scene->bench->settings, &scene->bench->search, &scene->bench->err), 0);
	scene->huge = 17 * 1024 * 1024;
	assert_int_equal(add_some(scene, documents), -1);
	assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
	assert_non_null(strstr(scene->bench->err.message, "larger than"));
	scene->huge = 0;
	assert_int_equal(add_some(scene, documents), 0);
}

static void stub_nobody_there(void **state)
{
	struct scene *scene = *state;
	struct search_document documents[DOCUMENTS];
	struct settings settings = scene->bench->settings;
	struct search *search;
	struct err err = ERR_INIT;
	int64_t senders[1];
	size_t count;
	bool made;
	char dead[64];

	stub_dead_url(dead);
	settings.search.url = dead;
	assert_int_equal(search_open(&settings, &search, &err), 0); /* connects at the first use */
	make_documents(documents, DOCUMENTS);
	assert_int_equal(search_add(search, documents, DOCUMENTS, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	err_clear(&err);
	assert_int_equal(search_senders(search, slice_of("x"), senders, 1, &count, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	err_clear(&err);
	assert_int_equal(search_migrate(search, &made, &err), -1);
	assert_int_equal(err.kind, ERR_UNAVAILABLE);
	assert_int_equal(search_ping(search, &err), -1);
	search_close(search);
	search_close(NULL);
}

/* OpenSearch knows no allow_auto_create: the same template without it. */
static void stub_templates_of_both_kinds(void **state)
{
	struct scene *scene = *state;
	bool made = false;

	scene->is_opensearch = true;
	if (search_migrate(scene->bench->search, &made, &scene->bench->err) < 0)
		fail_msg("%s", scene->bench->err.message);
	assert_true(made);
	assert_int_equal(scene->templates, 2);
}

static void stub_senseless_hits(void **state)
{
	static const char *const answers[] = { "", "{", "{\"hits\":{\"hits\":[{}]}}", "{\"hits\":{\"hits\":[{\"fields\":{\"sender\":7}}]}}",
		"{\"hits\":{\"hits\":[{\"fields\":{\"sender\":[]}}]}}", "{\"hits\":{\"hits\":[{\"fields\":{\"sender\":[\"7\"]}}]}}",
		"{\"hits\":{\"hits\":[{\"fields\":{\"sender\":[7.5]}}]}}" };
	struct scene *scene = *state;
	int64_t senders[2];
	size_t count;

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		scene->bulk_answer = answers[i];
		if (search_senders(scene->bench->search, slice_of("x"), senders, 2, &count, &scene->bench->err) != -1)
			fail_msg("taken: %s", answers[i]);
		assert_int_equal(scene->bench->err.kind, ERR_UNAVAILABLE);
	}
	scene->bulk_answer = "{\"hits\":{\"hits\":[{\"fields\":{\"sender\":[9007199254740991]}},{\"fields\":{\"sender\":[2]}},{\"fields\":{\"sender\":[3]}}]}}";
	assert_int_equal(search_senders(scene->bench->search, slice_of("x"), senders, 2, &count, &scene->bench->err), 0);
	assert_int_equal(count, 2); /* no more than there is room for */
	assert_true(senders[0] == ID_MAX && senders[1] == 2);
}

static void addresses_and_names_are_checked(void **state)
{
	static const char *const urls[] = { "", "ftp://x", "127.0.0.1:9200", "sqlite:x" };
	static const char *const names[] = { "", "Feed", "a/b", "a,b", "*", "-a", "_a", ".a", "a b", "a?b", "a%2fb", "a\"b", "\xc3\xa9" };
	struct settings settings = { .search = { .type = "elastic", .index = "feed", .timeout_ms = 100 } };
	struct search *search;

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		struct err err = ERR_INIT;

		settings.search.url = (char *)(uintptr_t)urls[i];
		assert_int_equal(search_open(&settings, &search, &err), -1);
		assert_int_equal(err.kind, ERR_FATAL);
		assert_non_null(strstr(err.message, "search.url"));
	}
	settings.search.url = "https://localhost:9200/";
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct err err = ERR_INIT;

		settings.search.index = (char *)(uintptr_t)names[i];
		assert_int_equal(search_open(&settings, &search, &err), -1);
		assert_int_equal(err.kind, ERR_FATAL);
		assert_non_null(strstr(err.message, "search.index"));
	}
}

#define IN_INDEX(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define BEFORE_INDEX(test) cmocka_unit_test_setup_teardown(test, set_up_empty, tear_down)
#define ON_STUB(test) cmocka_unit_test_setup_teardown(test, set_up_stub, tear_down_stub)

static const struct CMUnitTest suite[] = {
	BEFORE_INDEX(migrate_makes_the_index_once),
	BEFORE_INDEX(no_index_no_document),
	IN_INDEX(words_are_found),
	IN_INDEX(a_sender_comes_once_and_the_best_first),
	IN_INDEX(the_room_is_kept),
	IN_INDEX(query_syntax_is_plain_text),
	IN_INDEX(nothing_asked_nothing_found),
	IN_INDEX(many_words_are_no_error),
	IN_INDEX(texts_of_all_kinds),
	IN_INDEX(words_of_all_scripts),
	IN_INDEX(joints_within_words),
	IN_INDEX(a_document_is_stored_once),
	IN_INDEX(a_large_batch),
	IN_INDEX(large_stories),
	IN_INDEX(two_connections_see_the_same),
};

static const struct CMUnitTest elastic[] = {
	IN_INDEX(elastic_document_is_the_contract_s),
	BEFORE_INDEX(elastic_another_mapping_is_told),
	IN_INDEX(elastic_deleted_index_stays_deleted),
	IN_INDEX(elastic_closed_index_stops_all),
	IN_INDEX(elastic_blocked_index_stops_all),
	IN_INDEX(elastic_wrong_document_alone),
};

static const struct CMUnitTest in_file[] = {
	BEFORE_INDEX(file_of_another_making_is_told),
	IN_INDEX(file_wrong_document_alone),
	IN_INDEX(file_is_searched_while_it_is_written),
};

static const struct CMUnitTest stub[] = {
	ON_STUB(stub_body_is_exact),
	ON_STUB(stub_whole_refusals),
	ON_STUB(stub_each_item_has_its_verdict),
	ON_STUB(stub_a_long_reason_is_cut_between_characters),
	ON_STUB(stub_senseless_answers),
	ON_STUB(stub_missing_and_closed_index),
	ON_STUB(stub_too_large_is_halved),
	ON_STUB(stub_too_large_alone_is_wrong),
	ON_STUB(stub_no_answer),
	cmocka_unit_test_setup_teardown(stub_a_huge_answer_is_left, set_up_patient_stub, tear_down_stub),
	ON_STUB(stub_nobody_there),
	ON_STUB(stub_templates_of_both_kinds),
	ON_STUB(stub_senseless_hits),
	cmocka_unit_test(addresses_and_names_are_checked),
};

int main(void)
{
	int failed;

	http_client_global_init();
	suite_type = "sqlite";
	suite_url = "none";
	failed = cmocka_run_group_tests_name("search suite in a file", suite, NULL, NULL);
	failed += cmocka_run_group_tests_name("in a file", in_file, NULL, NULL);
	suite_type = "elastic";
	suite_url = getenv("SEARCH_URL");
	failed += cmocka_run_group_tests_name("search suite on elastic", suite, NULL, NULL);
	failed += cmocka_run_group_tests_name("elastic", elastic, NULL, NULL);
	failed += cmocka_run_group_tests_name("elastic on a stub", stub, NULL, NULL);
	return failed;
}
