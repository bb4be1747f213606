/* Documents go into a file with a full-text index, senders of matching stories come out: the search for one machine.
 *
 * One file an index, search-<index>.db: the table `document` says whose a story is, and that it is there; `words` has the words of
 * the stories, and not the stories themselves. Both are written in one transaction. What a word is, search_words.h says; stories and
 * keywords go the same way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/store/search_ops.h"
#include "common/store/search_words.h"
#include "common/store/store_sqlite_db.h"

#define TOKENIZER "feedmill"
#define WORDS_MAX 1000 /* of one question; what stands behind them is not searched for */

struct sqlite_search {
	struct search search; /* first */
	struct sqlite_db db;
	fts5_api *fts;        /* of the link */
	struct buf question;
};

static struct sqlite_search *of(struct search *search)
{
	return (struct sqlite_search *)search;
}

/* A search that is away, whatever the reason, stops nobody but those who search. */
static int away(struct err *err)
{
	if (err->kind == ERR_FATAL)
		err->kind = ERR_UNAVAILABLE;
	return -1;
}

/* ---- the tokenizer: unicode61 makes pieces, search_words.c words of them */

struct tokenizer {
	fts5_tokenizer inner;
	Fts5Tokenizer *state;
};

static void tokenizer_delete(Fts5Tokenizer *arg)
{
	struct tokenizer *t = (struct tokenizer *)arg;

	t->inner.xDelete(t->state);
	free(t);
}

/* The index was made with these: other ones would need another index. */
static int tokenizer_create(void *arg, const char **unused, int count, Fts5Tokenizer **out)
{
	static const char *options[] = { "remove_diacritics", "0", "categories", "L* M* N* Co So", "tokenchars", "_" };
	fts5_api *fts = arg;
	struct tokenizer *t = mem_zalloc(sizeof(*t));
	void *inner_arg = NULL;
	int code = fts->xFindTokenizer(fts, "unicode61", &inner_arg, &t->inner);

	(void)unused;
	(void)count;
	if (code == SQLITE_OK)
		code = t->inner.xCreate(inner_arg, options, sizeof(options) / sizeof(options[0]), &t->state);
	if (code == SQLITE_OK)
		*out = (Fts5Tokenizer *)t;
	else
		free(t);
	return code;
}

typedef int token_fn(void *arg, int flags, const char *token, int len, int start, int end);

struct tokens {
	struct search_words words; /* first */
	token_fn *token;
	void *arg;
};

static int take_piece(void *arg, int flags, const char *token, int len, int start, int end)
{
	struct tokens *tokens = arg;

	(void)flags;
	return search_words_piece(&tokens->words, (struct slice){ token, (size_t)len }, (size_t)start, (size_t)end);
}

static int give_token(void *arg, struct slice word, size_t start, size_t end)
{
	struct tokens *tokens = arg;

	return tokens->token(tokens->arg, 0, word.data, (int)word.len, (int)start, (int)end);
}

static int tokenizer_run(Fts5Tokenizer *arg, void *token_arg, int flags, const char *text, int len, token_fn *token)
{
	struct tokenizer *t = (struct tokenizer *)arg;
	struct tokens tokens = { .token = token, .arg = token_arg };
	int code;

	tokens.words.text = (struct slice){ text, (size_t)len };
	tokens.words.word = give_token;
	tokens.words.arg = &tokens;
	code = t->inner.xTokenize(t->state, &tokens, flags, text, len, take_piece);
	return code == SQLITE_OK ? search_words_end(&tokens.words) : code;
}

static fts5_api *fts_of(sqlite3 *link)
{
	sqlite3_stmt *handle = NULL;
	fts5_api *fts = NULL;

	if (sqlite3_prepare_v2(link, "SELECT fts5(?)", -1, &handle, NULL) == SQLITE_OK) {
		sqlite3_bind_pointer(handle, 1, &fts, "fts5_api_ptr", NULL);
		sqlite3_step(handle);
	}
	sqlite3_finalize(handle);
	return fts;
}

static int connected(struct sqlite_db *db, struct err *err)
{
	static const fts5_tokenizer tokenizer = { tokenizer_create, tokenizer_delete, tokenizer_run };
	struct sqlite_search *s = (struct sqlite_search *)(void *)((char *)db - offsetof(struct sqlite_search, db));
	int code;

	s->fts = fts_of(db->link);
	if (!s->fts)
		return err_set(err, ERR_FATAL, "search: this SQLite was built without full-text search (FTS5)");
	code = s->fts->xCreateTokenizer(s->fts, TOKENIZER, s->fts, (fts5_tokenizer *)&tokenizer, NULL);
	return code == SQLITE_OK ? 0 : sqlite_db_fail(db, code, err);
}

/* ---- the index */

static const struct {
	const char *name, *sql;
} tables[] = {
	{ "document", "CREATE TABLE document (id INTEGER PRIMARY KEY, sender INTEGER NOT NULL) STRICT" },
	{ "words", "CREATE VIRTUAL TABLE words USING fts5 (story, content = '', tokenize = '" TOKENIZER "')" },
};
#define TABLES (sizeof(tables) / sizeof(tables[0]))

static int step_once(struct sqlite_db *db, sqlite3_stmt *handle, struct err *err)
{
	int code = sqlite3_step(handle);

	return code == SQLITE_DONE || code == SQLITE_ROW ? code : sqlite_db_fail(db, code, err);
}

/* Whether the table is there; another one of its name is an error. */
static int look_for_table(struct sqlite_search *s, size_t i, bool *found, struct err *err)
{
	static const char sql[] = "SELECT sql FROM sqlite_schema WHERE name = ?";
	sqlite3_stmt *handle;
	const char *is;
	int rc;

	if (sqlite_db_prepare(&s->db, sql, sizeof(sql) - 1, &handle, err) < 0 ||
		sqlite_db_bind_text(&s->db, handle, 1, slice_of(tables[i].name), err) < 0)
		return -1;
	rc = step_once(&s->db, handle, err);
	*found = rc == SQLITE_ROW;
	is = *found ? (const char *)sqlite3_column_text(handle, 0) : NULL;
	if (is && strcmp(is, tables[i].sql) != 0)
		rc = err_set(err, ERR_FATAL, "search: the index %s is there with another table %s: %.160s (delete %s, or choose another search.index)",
			s->db.settings->search.index, tables[i].name, is, s->db.file);
	sqlite3_reset(handle);
	return rc < 0 ? -1 : 0;
}

static int make_table(struct sqlite_search *s, size_t i, bool *made, struct err *err)
{
	bool found;

	if (look_for_table(s, i, &found, err) < 0)
		return -1;
	*made = *made || !found;
	return found ? 0 : sqlite_db_run(&s->db, tables[i].sql, err);
}

static int sqlite_search_migrate(struct search *search, bool *made, struct err *err)
{
	struct sqlite_search *s = of(search);
	bool made_file;

	*made = false;
	if (sqlite_db_create(&s->db, &made_file, err) < 0 || sqlite_db_begin(&s->db, err) < 0)
		return -1;
	for (size_t i = 0; i < TABLES; i++) {
		if (make_table(s, i, made, err) < 0) {
			sqlite_db_rollback(&s->db);
			*made = false;
			return -1;
		}
	}
	return sqlite_db_commit(&s->db, err);
}

static int sqlite_search_ping(struct search *search, struct err *err)
{
	struct sqlite_search *s = of(search);

	if (sqlite_db_enter(&s->db, err) < 0 ||
		sqlite_db_run(&s->db, "SELECT (SELECT 1 FROM document LIMIT 1), (SELECT 1 FROM words ('x') LIMIT 1)", err) < 0)
		return away(err);
	return 0;
}

static int sqlite_search_drop(struct search *search, struct err *err)
{
	struct sqlite_search *s = of(search);

	if (sqlite_db_enter(&s->db, err) < 0) {
		if (err->kind != ERR_FATAL)
			return -1;
		err_clear(err); /* there is no file */
		return 0;
	}
	if (sqlite_db_begin(&s->db, err) < 0)
		return -1;
	if (sqlite_db_run(&s->db, "DROP TABLE IF EXISTS words", err) == 0 && sqlite_db_run(&s->db, "DROP TABLE IF EXISTS document", err) == 0)
		return sqlite_db_commit(&s->db, err);
	sqlite_db_rollback(&s->db);
	return -1;
}

/* ---- documents in */

static int insert(struct sqlite_db *db, sqlite3_stmt *handle, struct err *err)
{
	int code = step_once(db, handle, err);

	sqlite3_reset(handle);
	sqlite3_clear_bindings(handle);
	return code < 0 ? -1 : 0;
}

static int insert_document(struct sqlite_db *db, const struct search_document *document, struct err *err)
{
	static const char sql[] = "INSERT INTO document (id, sender) VALUES (?, ?) ON CONFLICT DO NOTHING";
	sqlite3_stmt *handle;

	if (sqlite_db_prepare(db, sql, sizeof(sql) - 1, &handle, err) < 0)
		return -1;
	sqlite3_bind_int64(handle, 1, document->id);
	sqlite3_bind_int64(handle, 2, document->sender);
	return insert(db, handle, err);
}

static int insert_words(struct sqlite_db *db, const struct search_document *document, struct err *err)
{
	static const char sql[] = "INSERT INTO words (rowid, story) VALUES (?, ?)";
	sqlite3_stmt *handle;

	if (sqlite_db_prepare(db, sql, sizeof(sql) - 1, &handle, err) < 0)
		return -1;
	sqlite3_bind_int64(handle, 1, document->id);
	if (sqlite_db_bind_text(db, handle, 2, document->story, err) < 0)
		return -1;
	return insert(db, handle, err);
}

static int add_document(struct sqlite_db *db, struct search_document *document, struct err *err)
{
	document->result = SEARCH_STORED;
	if (!str_utf8_valid(document->story)) {
		document->result = SEARCH_WRONG;
		snprintf(document->why, sizeof(document->why), "the story is not UTF-8");
		return 0;
	}
	if (insert_document(db, document, err) < 0)
		return -1;
	return sqlite3_changes64(db->link) == 0 ? 0 : insert_words(db, document, err); /* 0: it is there */
}

static int sqlite_search_add(struct search *search, struct search_document *documents, size_t count, struct err *err)
{
	struct sqlite_search *s = of(search);

	if (sqlite_db_begin(&s->db, err) < 0)
		return away(err);
	for (size_t i = 0; i < count; i++) {
		if (add_document(&s->db, &documents[i], err) < 0) {
			sqlite_db_rollback(&s->db);
			return away(err);
		}
	}
	return sqlite_db_commit(&s->db, err);
}

/* ---- senders out */

struct question {
	struct buf *text;
	size_t words;
};

/* Each word in quotes, so that it is nothing but a word. No word has a quote in it. */
static int ask_word(void *arg, int flags, const char *token, int len, int start, int end)
{
	struct question *question = arg;

	(void)flags;
	(void)start;
	(void)end;
	if (question->words++ > 0)
		buf_add_str(question->text, " OR ");
	buf_add_char(question->text, '"');
	buf_add(question->text, token, (size_t)len);
	buf_add_char(question->text, '"');
	return question->words < WORDS_MAX ? SQLITE_OK : SQLITE_DONE;
}

/* The question is empty when the keywords have no word. */
static int write_question(struct sqlite_search *s, struct slice keywords, struct err *err)
{
	struct question question = { .text = &s->question };
	Fts5Tokenizer *tokenizer = NULL;
	int code;

	buf_reset(&s->question);
	code = tokenizer_create(s->fts, NULL, 0, &tokenizer);
	if (code != SQLITE_OK)
		return sqlite_db_fail(&s->db, code, err);
	code = tokenizer_run(tokenizer, &question, FTS5_TOKENIZE_QUERY, keywords.data, (int)keywords.len, ask_word);
	tokenizer_delete(tokenizer);
	return code == SQLITE_OK || code == SQLITE_DONE ? 0 : sqlite_db_fail(&s->db, code, err);
}

static int read_senders(struct sqlite_db *db, sqlite3_stmt *handle, int64_t *senders, size_t *count, struct err *err)
{
	int code;

	while ((code = step_once(db, handle, err)) == SQLITE_ROW)
		senders[(*count)++] = sqlite3_column_int64(handle, 0);
	return code < 0 ? -1 : 0;
}

/* The best post of each sender, in order of score (low is good); of equals the older. */
static int find_senders(struct sqlite_search *s, int64_t *senders, size_t room, size_t *count, struct err *err)
{
	static const char sql[] =
		"SELECT sender FROM (SELECT d.id AS id, d.sender AS sender, w.rank AS score FROM words w JOIN document d ON d.id = w.rowid "
		"WHERE words MATCH ?) GROUP BY sender ORDER BY MIN(score), MIN(id) LIMIT ?";
	sqlite3_stmt *handle;
	int rc;

	if (sqlite_db_prepare(&s->db, sql, sizeof(sql) - 1, &handle, err) < 0)
		return -1;
	rc = sqlite_db_bind_text(&s->db, handle, 1, (struct slice){ s->question.data, s->question.len }, err);
	sqlite3_bind_int64(handle, 2, (int64_t)room);
	if (rc == 0)
		rc = read_senders(&s->db, handle, senders, count, err);
	sqlite3_reset(handle);
	sqlite3_clear_bindings(handle);
	return rc;
}

static int sqlite_search_senders(
	struct search *search, struct slice keywords, int64_t *senders, size_t room, size_t *count, struct err *err)
{
	struct sqlite_search *s = of(search);

	*count = 0;
	if (!str_utf8_valid(keywords))
		return err_set(err, ERR_INVALID, "search: the keywords are not UTF-8");
	if (sqlite_db_enter(&s->db, err) < 0)
		return away(err);
	if (keywords.len == 0)
		return 0;
	if (write_question(s, keywords, err) < 0)
		return away(err);
	if (s->question.len > 0 && find_senders(s, senders, room, count, err) < 0)
		return away(err);
	return 0;
}

/* ---- open and close */

static int sqlite_search_open(const struct settings *settings, struct search **out, struct err *err)
{
	struct sqlite_search *s = mem_zalloc(sizeof(*s));
	struct buf file = BUF_INIT;

	(void)err; /* connects later */
	buf_addf(&file, "search-%s.db", settings->search.index);
	sqlite_db_init(&s->db, settings, "search", file.data);
	s->db.connected = connected;
	s->question = (struct buf)BUF_INIT;
	buf_release(&file);
	*out = &s->search;
	return 0;
}

static void sqlite_search_close(struct search *search)
{
	struct sqlite_search *s = of(search);

	sqlite_db_release(&s->db);
	buf_release(&s->question);
	free(s);
}

const struct search_ops search_sqlite = {
	.type = "sqlite",
	.scheme = "",
	.open = sqlite_search_open,
	.close = sqlite_search_close,
	.migrate = sqlite_search_migrate,
	.ping = sqlite_search_ping,
	.add = sqlite_search_add,
	.senders = sqlite_search_senders,
	.drop = sqlite_search_drop,
};
