/* log: a line's form, that values can't forge one, that a full pipe never holds us up; and stop, seen from outside. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/stop.h"

static int saved_stderr, pipe_out;

/* What is logged goes into a pipe. */
static int catch_stderr(void **state)
{
	int ends[2];

	(void)state;
	if (pipe(ends) < 0)
		return -1;
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	pipe_out = ends[0];
	fcntl(pipe_out, F_SETFL, O_NONBLOCK);
	log_open("tester", NULL);
	return log_set_level("info");
}

static int give_stderr_back(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	return close(pipe_out);
}

static size_t take(char *out, size_t size)
{
	ssize_t len = read(pipe_out, out, size - 1);

	out[len > 0 ? len : 0] = '\0';
	return len > 0 ? (size_t)len : 0;
}

/* The one line that was logged, from level= on. */
static const char *line_of(char *out, size_t size)
{
	int64_t wall_ms;
	size_t len = take(out, size);

	assert_true(len > 31);
	assert_ptr_equal(out + len - 1, strchr(out, '\n')); /* one line, whole */
	assert_memory_equal("time=", out, 5);
	assert_true(clock_parse_rfc3339((struct slice){ out + 5, 24 }, &wall_ms));
	assert_memory_equal(" level=", out + 29, 7);
	return out + 30;
}

static void a_line_is_logfmt(void **state)
{
	char out[8192];
	struct err err;

	(void)state;
	err_set(&err, ERR_INVALID, "not \"so\"");
	log_warn("record rejected", log_str("topic", "feed.posts"), log_int("offset", -7), log_err(&err));
	assert_string_equal("level=warn program=tester event=\"record rejected\" topic=feed.posts offset=-7 error=\"not \\\"so\\\"\"\n",
		line_of(out, sizeof(out)));
	log_open("tester", "fanout");
	log_error("ready");
	assert_string_equal("level=error program=tester worker=fanout event=ready\n", line_of(out, sizeof(out)));
}

static void values_that_are_not_there(void **state)
{
	char out[8192];

	(void)state;
	log_info("x", log_str("left_out", NULL), log_slice("empty", SLICE_NONE), log_str("also", ""));
	assert_string_equal("level=info program=tester event=x empty=\"\" also=\"\"\n", line_of(out, sizeof(out)));
}

static void values_cannot_forge_a_line(void **state)
{
	static const struct {
		struct slice value;
		const char *shown;
	} rows[] = {
		{ { "a\nlevel=error", 13 }, "\"a\\nlevel=error\"" },
		{ { "a\r\x1b[31m\0", 8 }, "\"a\\x0d\\x1b[31m\\x00\"" },
		{ { "a=b", 3 }, "\"a=b\"" },
		{ { "a\\b", 3 }, "\"a\\\\b\"" },
		{ { "\xc3\xa9", 2 }, "\"\xc3\xa9\"" },
		{ { "\xc3", 1 }, "\"\\xc3\"" },                   /* no character */
		{ { "\xc2\x85", 2 }, "\"\\xc2\\x85\"" },          /* a line end to some */
		{ { "\xe2\x80\xa8", 3 }, "\"\\xe2\\x80\\xa8\"" }, /* likewise */
		{ { "\xe2\x80\xae", 3 }, "\"\\xe2\\x80\\xae\"" }, /* turns the direction */
		{ { "\xe2\x82\xac", 3 }, "\"\xe2\x82\xac\"" },
	};
	char out[8192], wanted[256];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		log_info("x", log_slice("v", rows[i].value));
		snprintf(wanted, sizeof(wanted), "level=info program=tester event=x v=%s\n", rows[i].shown);
		assert_string_equal(wanted, line_of(out, sizeof(out)));
	}
}

static void levels_are_kept(void **state)
{
	char out[8192];

	(void)state;
	log_debug("quiet");
	assert_int_equal(0, take(out, sizeof(out)));
	assert_int_equal(-1, log_set_level("loud"));
	assert_int_equal(0, log_set_level("error"));
	assert_true(log_enabled(LOG_LEVEL_ERROR));
	assert_false(log_enabled(LOG_LEVEL_WARN));
	log_warn("quiet");
	assert_int_equal(0, take(out, sizeof(out)));
	assert_int_equal(0, log_set_level("debug"));
	log_debug("seen");
	assert_string_equal("level=debug program=tester event=seen\n", line_of(out, sizeof(out)));
	assert_string_equal("error|warn|info|debug", log_level_names());
}

static void long_lines_are_cut(void **state)
{
	char big[6000], out[16384];

	(void)state;
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_info("x", log_str("a", big), log_str("b", big), log_str("c", big), log_str("d", big), log_str("e", big));
	assert_true(strlen(line_of(out, sizeof(out))) <= 4096);
}

static void a_full_pipe_drops_and_says_so_later(void **state)
{
	static char out[1 << 20];
	char text[1000];
	int64_t start = clock_mono_ms();

	(void)state;
	memset(text, 't', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 2000; i++) /* a pipe holds 64 KiB */
		log_info("x", log_str("text", text));
	assert_true(clock_mono_ms() - start < 10000);
	assert_true(take(out, sizeof(out)) > 32768);
	assert_null(strstr(out, "dropped_lines"));
	log_info("again");
	assert_non_null(strstr(line_of(out, sizeof(out)), "event=again dropped_lines=19"));
	log_info("more");
	assert_string_equal("level=info program=tester event=more\n", line_of(out, sizeof(out)));
}

/* --- stop --- */

static pid_t child_that(void (*run)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		run();
		_exit(99);
	}
	return pid;
}

static int ready_pipe[2];

static void drain_for_ever(void)
{
	stop_install();
	raise(SIGPIPE); /* ignored */
	if (write(ready_pipe[1], "i", 1) != 1 || !stop_wait(60000) || !stop_requested() || write(ready_pipe[1], "d", 1) != 1)
		_exit(98);
	for (;;)
		pause();
}

static char ready(void)
{
	char c = 0;

	return read(ready_pipe[0], &c, 1) == 1 ? c : '?';
}

static void the_second_signal_leaves_at_once(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(0, pipe(ready_pipe));
	pid = child_that(drain_for_ever);
	assert_int_equal('i', ready());
	assert_int_equal(0, kill(pid, SIGTERM));
	assert_int_equal('d', ready()); /* the first one woke the waiter */
	assert_int_equal(0, kill(pid, SIGINT));
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_true(WIFEXITED(status));
	assert_int_equal(130, WEXITSTATUS(status));
}

static void request_by_a_thread(void)
{
	int64_t start = clock_mono_ms();

	stop_install();
	if (stop_requested() || stop_wait(20) || clock_mono_ms() - start < 20)
		_exit(1);
	stop_request();
	stop_request(); /* asking twice is not a second signal */
	_exit(stop_wait(60000) && stop_requested() ? 0 : 2);
}

static void a_thread_may_ask_too(void **state)
{
	int status;
	pid_t pid = child_that(request_by_a_thread);

	(void)state;
	assert_int_equal(pid, waitpid(pid, &status, 0));
	assert_true(WIFEXITED(status));
	assert_int_equal(0, WEXITSTATUS(status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_line_is_logfmt, catch_stderr, give_stderr_back),
		cmocka_unit_test_setup_teardown(values_that_are_not_there, catch_stderr, give_stderr_back),
		cmocka_unit_test_setup_teardown(values_cannot_forge_a_line, catch_stderr, give_stderr_back),
		cmocka_unit_test_setup_teardown(levels_are_kept, catch_stderr, give_stderr_back),
		cmocka_unit_test_setup_teardown(long_lines_are_cut, catch_stderr, give_stderr_back),
		cmocka_unit_test_setup_teardown(a_full_pipe_drops_and_says_so_later, catch_stderr, give_stderr_back),
		cmocka_unit_test(the_second_signal_leaves_at_once),
		cmocka_unit_test(a_thread_may_ask_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
