/* settings and program: the table is sound, pairs that can't work are refused, and main's exit codes. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/program.h"
#include "common/base/settings.h"
#include "common/base/str.h"

static int empty_environment(void **state)
{
	(void)state;
	return clearenv();
}

static void the_defaults_are_sound(void **state)
{
	struct settings s;
	struct err err = ERR_INIT;

	(void)state;
	if (settings_load(&s, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal("127.0.0.1:9092", s.kafka.brokers);
	assert_int_equal(3306, s.mysql.port);
	assert_string_equal("feed", s.search.index);
	assert_int_equal(16384, s.gateway.max_header);
	assert_string_equal("127.0.0.1:0", s.worker_admin);
	assert_int_equal(25000, s.drain_timeout_ms);
	assert_int_equal(5000, s.fanout_chunk);
	assert_int_equal(200, s.command.batch);
	assert_int_equal(2, s.fanout.linger_ms);
	assert_int_equal(2, s.chunk.threads);
	assert_int_equal(500, s.index.batch);
	assert_string_equal("", s.gateway.zone); /* each text is there, if empty */
	settings_release(&s);
	assert_null(s.kafka.brokers);
}

static void the_sample_file_is_the_table(void **state)
{
	struct settings s, again;
	struct err err = ERR_INIT;
	struct buf a = BUF_INIT, b = BUF_INIT;

	(void)state;
	assert_int_equal(0, settings_load(&s, NULL, &err));
	settings_write(&s, &a);
	if (settings_load(&again, "config/feedmill.cfg", &err) < 0)
		fail_msg("%s", err.message);
	settings_write(&again, &b);
	assert_string_equal(a.data, b.data);
	settings_release(&s);
	settings_release(&again);
	buf_release(&a);
	buf_release(&b);
}

static char *written(struct err *err)
{
	struct settings s;
	struct buf out = BUF_INIT;

	if (settings_load(&s, NULL, err) < 0)
		return NULL;
	settings_write(&s, &out);
	settings_release(&s);
	return buf_detach(&out);
}

static size_t lines_that_differ(const char *a, const char *b)
{
	struct slice left = slice_of(a), right = slice_of(b);
	size_t count = 0;

	while (left.data != NULL || right.data != NULL) {
		struct slice x = slice_cut(&left, '\n'), y = slice_cut(&right, '\n');

		count += !slice_equal(x, y);
	}
	return count;
}

/* Sets the variable to value: one line must change, or (a bound that another setting forbids) none and false comes back. */
static bool changes_one_line(const char *variable, const char *value, const char *before)
{
	struct err err = ERR_INIT;
	char *after;
	size_t differ = 0;

	setenv(variable, value, 1);
	after = written(&err);
	unsetenv(variable);
	if (after == NULL && strstr(err.message, "is not below") == NULL)
		fail_msg("%s=%s: %s", variable, value, err.message);
	if (after != NULL)
		differ = lines_that_differ(before, after);
	if (differ > 1)
		fail_msg("%s=%s changed %zu lines", variable, value, differ);
	free(after);
	return differ == 1;
}

static void variable_of(struct slice group, struct slice key, char *out, size_t size)
{
	snprintf(out, size, "FEEDMILL_%.*s%s%.*s", (int)group.len, group.len > 0 ? group.data : "", group.len > 0 ? "_" : "", (int)key.len, key.data);
	for (char *c = out; *c != '\0'; c++)
		*c = (char)toupper((unsigned char)*c);
}

/* Another text than the default: of "(one|two|three; default …" the last, else anything. */
static void other_text(const char *range, char out[32])
{
	const struct slice choices = { range + 1, strcspn(range + 1, "; )") };
	const char *last = memrchr(choices.data, '|', choices.len);

	if (last)
		snprintf(out, 32, "%.*s", (int)(choices.data + choices.len - last - 1), last + 1);
	else
		snprintf(out, 32, "99s"); /* also a list of delays */
}

static void check_setting(const char *variable, struct slice comment, struct slice value, const char *before)
{
	char low[32] = "", high[32] = "";
	const char *range;

	for (range = comment.data + comment.len; *range != '('; range--)
		continue;
	if (value.data[0] == '"') {
		other_text(range, low);
		assert_true(changes_one_line(variable, low, before));
		return;
	}
	if (value.data[0] == 't' || value.data[0] == 'f') {
		assert_true(changes_one_line(variable, value.data[0] == 't' ? "false" : "true", before));
		return;
	}
	assert_int_equal(2, sscanf(range, "(%31[-0-9] to %31[-0-9];", low, high));
	if (!changes_one_line(variable, low, before) && !changes_one_line(variable, high, before))
		fail_msg("%s changes nothing", variable);
}

/* What is written names all settings; each one's variable changes its own line alone: no two share a field or a name. */
static void every_setting_has_its_own_field_and_variable(void **state)
{
	struct err err = ERR_INIT;
	char *before = written(&err);
	struct slice rest = slice_of(before), group = SLICE_NONE, comment = SLICE_NONE;
	int count = 0;

	(void)state;
	while (rest.data != NULL) {
		struct slice line = slice_trim(slice_cut(&rest, '\n'));
		struct slice key = slice_cut(&line, '=');
		char variable[128];

		key = slice_trim(key);
		if (key.len > 0 && key.data[0] == '#') {
			comment = key;
		} else if (key.len > 0 && key.data[key.len - 1] == ':') {
			group = (struct slice){ key.data, key.len - 1 };
		} else if (line.data != NULL) {
			variable_of(group, key, variable, sizeof(variable));
			check_setting(variable, comment, slice_trim(line), before);
			count++;
		}
	}
	assert_true(count > 50);
	free(before);
}

static void refused_pair(const char *variable, const char *value, const char *why)
{
	struct settings s;
	struct err err = ERR_INIT;

	setenv(variable, value, 1);
	assert_int_equal(-1, settings_load(&s, NULL, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, err.message);
	unsetenv(variable);
}

static void pairs_that_cannot_work_are_refused(void **state)
{
	(void)state;
	refused_pair("FEEDMILL_MYSQL_IDLE_TRANSACTION_S", "10", "mysql.idle_transaction_s: 10 s is not below kafka.session_timeout_ms: 10000");
	refused_pair("FEEDMILL_KAFKA_SESSION_TIMEOUT_MS", "8000", "mysql.idle_transaction_s: 8 s is not below");
	refused_pair("FEEDMILL_MYSQL_LOCK_WAIT_S", "30", "mysql.lock_wait_s: 30 s is not below mysql.read_timeout_ms: 30000");
	refused_pair("FEEDMILL_GATEWAY_WAIT_MS", "60000", "gateway.wait_ms: 60000 is not below kafka.message_timeout_ms: 60000");
	setenv("FEEDMILL_JOB_QUEUE_TYPE", "quorum", 1);
	refused_pair("FEEDMILL_JOB_MAX_PRIORITY", "10", "job.max_priority: 10 with job.queue_type \"quorum\"");
	unsetenv("FEEDMILL_JOB_QUEUE_TYPE");
}

#define LETTERS_64 "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789_abcdefghijklmnopqrstuvwxyz"

static void names_of_tables_are_part_of_statements(void **state)
{
	static const char *const good[] = { "t", "0", "_", LETTERS_64, "other.t", LETTERS_64 "." LETTERS_64 };
	static const char *const bad[] = { "a-b", "a`b", "a b", "t;", "\xc3\xa4", ".t", "t.", ".", "a.b.c", "a..b", LETTERS_64 "x", "t." LETTERS_64 "x", LETTERS_64 "x.t" };
	struct settings s;
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		setenv("FEEDMILL_JOB_RESULT_TABLE", good[i], 1);
		if (settings_load(&s, NULL, &err) < 0)
			fail_msg("%s", err.message);
		assert_string_equal(good[i], s.job.result_table);
		settings_release(&s);
	}
	unsetenv("FEEDMILL_JOB_RESULT_TABLE");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refused_pair("FEEDMILL_JOB_RESULT_TABLE", bad[i], "setting job.result_table: \"");
		refused_pair("FEEDMILL_JOB_GROUP_TABLE", bad[i], "is no name of a table: letters, digits and _, at most 64, perhaps behind");
	}
	setenv("FEEDMILL_STORE_TYPE", "sqlite", 1); /* which has one database */
	refused_pair("FEEDMILL_JOB_RESULT_TABLE", "other.t", "setting job.result_table: \"other.t\" is no name of a table: letters, digits and _, at most 64");
	unsetenv("FEEDMILL_STORE_TYPE");
}

/* --- program --- */

static int give_words(const struct settings *settings, int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[0], "verb") == 0 && strcmp(argv[1], "--not-ours") == 0)
		return settings->mysql.port == 3307 ? 33 : 34;
	return program_usage("expected %d words", 2);
}

static const struct program tester = {
	.name = "tester", .summary = "tests", .synopsis = "VERB", .run = give_words,
};

/* Exit code of the program with these words; what it said comes back in said. */
static int outcome(char **argv, char *said, size_t size)
{
	int ends[2], argc = 0, status;
	ssize_t len;
	size_t got = 0;
	pid_t pid;

	while (argv[argc] != NULL)
		argc++;
	assert_int_equal(0, pipe(ends));
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		exit(program_main(&tester, argc, argv));
	}
	close(ends[1]);
	while ((len = read(ends[0], said + got, size - 1 - got)) > 0)
		got += (size_t)len;
	said[got] = '\0';
	close(ends[0]);
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define WORDS(...) ((char *[]){ "tester", __VA_ARGS__, NULL })

static void main_reads_options_up_to_the_first_word(void **state)
{
	char said[4096];

	(void)state;
	setenv("FEEDMILL_MYSQL_PORT", "3307", 1);
	assert_int_equal(33, outcome(WORDS("verb", "--not-ours"), said, sizeof(said)));
	assert_int_equal(33, outcome(WORDS("-c", "config/feedmill.cfg", "verb", "--not-ours"), said, sizeof(said)));
	assert_int_equal(2, outcome(WORDS("verb"), said, sizeof(said)));
	assert_string_equal("tester: expected 2 words\ntester --help tells more\n", said);
	assert_int_equal(2, outcome(WORDS("--nonsense"), said, sizeof(said)));
	assert_non_null(strstr(said, "--nonsense"));
	assert_int_equal(2, outcome(WORDS("--config"), said, sizeof(said)));
}

static void main_tells_about_itself(void **state)
{
	char said[4096];

	(void)state;
	assert_int_equal(0, outcome(WORDS("--version"), said, sizeof(said)));
	assert_string_equal("tester " FEEDMILL_VERSION "\n", said);
	assert_int_equal(0, outcome(WORDS("-h"), said, sizeof(said)));
	assert_non_null(strstr(said, "usage: tester [OPTION…] VERB"));
}

static void wrong_settings_are_exit_code_2(void **state)
{
	char said[4096];

	(void)state;
	assert_int_equal(2, outcome(WORDS("-c", "/nonexistent.cfg", "verb"), said, sizeof(said)));
	assert_string_equal("tester: can't read /nonexistent.cfg: No such file or directory\n", said);
	assert_int_equal(0, outcome(WORDS("--check-config"), said, sizeof(said)));
	assert_string_equal("settings are right: defaults and environment\n", said);
	setenv("FEEDMILL_CONFIG", "/nonexistent.cfg", 1);
	assert_int_equal(2, outcome(WORDS("--check-config"), said, sizeof(said)));
	assert_int_equal(0, outcome(WORDS("--check-config", "-c", "config/feedmill.cfg"), said, sizeof(said)));
	setenv("FEEDMILL_CONFIG", "", 1);
	assert_int_equal(0, outcome(WORDS("--check-config"), said, sizeof(said)));
	setenv("FEEDMILL_MYSQL_PORT", "0", 1);
	assert_int_equal(2, outcome(WORDS("--check-config"), said, sizeof(said)));
	assert_string_equal("tester: environment: FEEDMILL_MYSQL_PORT: 0 is not between 1 and 65535\n", said);
}

#define TEST(name) cmocka_unit_test_setup(name, empty_environment)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_defaults_are_sound),
		TEST(the_sample_file_is_the_table),
		TEST(every_setting_has_its_own_field_and_variable),
		TEST(pairs_that_cannot_work_are_refused),
		TEST(names_of_tables_are_part_of_statements),
		TEST(main_reads_options_up_to_the_first_word),
		TEST(main_tells_about_itself),
		TEST(wrong_settings_are_exit_code_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
