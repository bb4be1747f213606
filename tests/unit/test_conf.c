/* conf: every way a file or a variable can be wrong says where; numbers never wrap; what is written reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/conf.h"

struct target {
	char *name;
	int64_t port, big;
	bool on;
	char *level;
	char *password;
	char *mode;
};

#define AT(field) offsetof(struct target, field)
static const struct conf_row rows[] = {
	{ "name", CONF_TEXT, AT(name), "none", 1, 8, NULL, "a name" },
	{ "net.port", CONF_INT, AT(port), "80", 1, 65535, NULL, "a port" },
	{ "net.big", CONF_INT, AT(big), "5", INT64_MIN, INT64_MAX, NULL, "a big number" },
	{ "net.on", CONF_BOOL, AT(on), "true", 0, 0, NULL, "a switch" },
	{ "net.level", CONF_CHOICE, AT(level), "low", 0, 0, "low|high", "a choice" },
	{ "net.password", CONF_SECRET, AT(password), "", 0, 100, NULL, "a secret" },
	{ "net.mode", CONF_CHOICE, AT(mode), "as_ever", 0, 0, "as_ever|true|false", "a switch of three" },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static char file[] = "/tmp/feedmill-conf-XXXXXX", secret[] = "/tmp/feedmill-conf-XXXXXX";

static void put(const char *path, const char *text, size_t len)
{
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	assert_int_equal(len, fwrite(text, 1, len, out));
	assert_int_equal(0, fclose(out));
}

static int load(struct target *t, const char *text, struct err *err)
{
	memset(t, 0, sizeof(*t));
	err_clear(err);
	if (text != NULL)
		put(file, text, strlen(text));
	return conf_load(t, rows, ROWS, text != NULL ? file : NULL, err);
}

static struct target good(const char *text)
{
	struct target t;
	struct err err;

	if (load(&t, text, &err) < 0)
		fail_msg("%s: %s", text, err.message);
	return t;
}

static void release(struct target *t)
{
	conf_release(t, rows, ROWS);
	assert_null(t->name);
}

/* where: with % for the file's name. */
static void bad(const char *text, const char *where)
{
	struct target t;
	struct err err;
	char wanted[400];

	if (load(&t, text, &err) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(ERR_FATAL, err.kind);
	snprintf(wanted, sizeof(wanted), "%s%s", where[0] == '%' ? file : "", where + (where[0] == '%'));
	if (strncmp(err.message, wanted, strlen(wanted)) != 0)
		fail_msg("%s\nexpected: %s\ngot:      %s", text, wanted, err.message);
	assert_null(t.name); /* nothing is left behind */
}

static void defaults_come_from_the_table(void **state)
{
	struct target t = good(NULL);

	(void)state;
	assert_string_equal("none", t.name);
	assert_int_equal(80, t.port);
	assert_true(t.on);
	assert_string_equal("low", t.level);
	assert_string_equal("", t.password);
	release(&t);
}

static void the_file_stands_over_the_defaults(void **state)
{
	struct target t = good("# c\nname = \"x\\\"y\"; net: { port = 8080; on = false; level = \"high\"; password = \"p w\" };\n");

	(void)state;
	assert_string_equal("x\"y", t.name);
	assert_int_equal(8080, t.port);
	assert_false(t.on);
	assert_string_equal("high", t.level);
	assert_string_equal("p w", t.password);
	assert_int_equal(5, t.big);
	release(&t);
}

static void a_choice_may_be_true_or_false(void **state)
{
	static const struct {
		const char *text, *mode;
	} read[] = {
		{ "", "as_ever" }, { "mode = true;", "true" }, { "mode = FALSE;", "false" }, { "mode = \"true\";", "true" }, { "mode = \"as_ever\";", "as_ever" },
	};
	char text[100];

	(void)state;
	for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++) {
		struct target t;

		snprintf(text, sizeof(text), "net: { %s };", read[i].text);
		t = good(text);
		assert_string_equal(read[i].mode, t.mode);
		release(&t);
	}
}

static void integers_never_wrap(void **state)
{
	static const struct {
		const char *text;
		int64_t number;
	} read[] = {
		{ "3000000000", INT64_C(3000000000) }, { "3000000000L", INT64_C(3000000000) }, { "4294967296", INT64_C(4294967296) },
		{ "2147483648", INT64_C(2147483648) }, { "-2147483649", INT64_C(-2147483649) }, { "0x80000000", INT64_C(0x80000000) },
		{ "0XffffffffffL", INT64_C(0xffffffffff) }, { "9223372036854775807", INT64_MAX }, { "-9223372036854775808", INT64_MIN },
		{ "+7", 7 }, { "-7", -7 }, { "7LL", 7 }, { "0x7fffffffffffffff", INT64_MAX }, { "0", 0 },
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++) {
		struct target t;

		snprintf(text, sizeof(text), "/* 3000000000 */ net: { big = %s; }; // 99999999999999999999", read[i].text);
		t = good(text);
		if (t.big != read[i].number)
			fail_msg("%s was read as %lld", read[i].text, (long long)t.big);
		release(&t);
	}
	bad("net:\n{\n big = 99999999999999999999;\n};", "%:3: 99999999999999999999 does not fit into 64 bits");
	bad("net: { big = 9223372036854775808L; };", "%:1: 9223372036854775808L does not fit");
	bad("net: { big = -9223372036854775809; };", "%:1: -9223372036854775809 does not fit");
	bad("net: { big = 0x8000000000000000; };", "%:1: 0x8000000000000000 does not fit");
	bad("net: { big = 111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111; };", "%:1: 1111");
	bad("net:\n{ port = 4294967376; };", "%:2: setting net.port: 4294967376 is not between 1 and 65535");
}

static void texts_and_comments_are_left_alone(void **state)
{
	struct target t = good("name = \"1 2\\\"3 \"; # 99999999999999999999 \" @\n/* \" 99999999999999999999 @include */ net: { port = 8 }; // \"\n");

	(void)state;
	assert_string_equal("1 2\"3 ", t.name);
	assert_int_equal(8, t.port);
	release(&t);
}

static void what_is_wrong_in_a_file_says_where(void **state)
{
	(void)state;
	bad("net:\n{\n\tport = 70000;\n};\n", "%:3: setting net.port: 70000 is not between 1 and 65535");
	bad("net: { port = 0; };", "%:1: setting net.port: 0 is not between 1 and 65535");
	bad("net: { port = -1; };", "%:1: setting net.port: -1 is not between");
	bad("\n\nnet: { prot = 80; };", "%:3: setting net.prot: there is no such setting; group net has: port big on level password");
	bad("\nnett: { port = 80; };", "%:2: setting nett: there is no such setting; the file has: name net");
	bad("port = 80;", "%:1: setting port: there is no such setting; the file has: name net");
	bad("net: { deep: { port = 1; }; };", "%:1: setting net.deep: there is no such setting");
	bad("net = 5;", "%:1: setting net: expected a group, found a whole number");
	bad("name: { };", "%:1: setting name: expected a text in quotes, found a group");
	bad("name = 5;", "%:1: setting name: expected a text in quotes, found a whole number");
	bad("name = \"\";", "%:1: setting name: a text of 0 bytes is not between 1 and 8 long");
	bad("name = \"123456789\";", "%:1: setting name: a text of 9 bytes is not between 1 and 8 long");
	bad("net: { port = \"80\"; };", "%:1: setting net.port: expected a whole number, found a text in quotes");
	bad("net: { port = 80.0; };", "%:1: setting net.port: expected a whole number, found a number with a fraction");
	bad("net: { port = +8e1; };", "%:1: setting net.port: expected a whole number, found a number with a fraction");
	bad("net: { port = true; };", "%:1: setting net.port: expected a whole number, found true or false");
	bad("net: { port = [ 80 ]; };", "%:1: setting net.port: expected a whole number, found a list");
	bad("net: { port = ( 80 ); };", "%:1: setting net.port: expected a whole number, found a list");
	bad("net: { on = 1; };", "%:1: setting net.on: expected true or false, found a whole number");
	bad("net: { level = \"middle\"; };", "%:1: setting net.level: \"middle\" is not one of low|high");
	bad("net: { level = true; };", "%:1: setting net.level: expected a text in quotes, found true or false");
	bad("net: { mode = 1; };", "%:1: setting net.mode: expected a text in quotes, found a whole number");
	bad("net: { level = \"\"; };", "%:1: setting net.level: \"\" is not one of low|high");
	bad("net: { level = \"low|high\"; };", "%:1: setting net.level: \"low|high\" is not one of");
}

static void what_libconfig_refuses_says_where(void **state)
{
	(void)state;
	bad("net:\n{ port = 80\n", "%:");
	bad("name = \"a\";\nname = \"b\";", "%:2: ");
	bad("\n=", "%:2: ");
	bad("name = \"open", "%:"); /* at the end of the file */
	bad("net: { port = 80abc; };", "%:1: ");
	bad("name = \"a\";\n@include \"other.cfg\"\n", "%:2: @include is not supported");
}

static void files_that_cannot_be_read(void **state)
{
	struct target t = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(-1, conf_load(&t, rows, ROWS, "/nonexistent/x.cfg", &err));
	assert_string_equal("can't read /nonexistent/x.cfg: No such file or directory", err.message);
	assert_int_equal(-1, conf_load(&t, rows, ROWS, "/", &err));
	assert_string_equal("can't read /: Is a directory", err.message);
	put(file, "net: { port = 1; };\0net: { nonsense = 1; };", 42);
	assert_int_equal(-1, conf_load(&t, rows, ROWS, file, &err));
	assert_non_null(strstr(err.message, "NUL byte"));
}

static void the_environment_stands_over_the_file(void **state)
{
	struct target t;

	(void)state;
	setenv("FEEDMILL_NET_PORT", "81", 1);
	setenv("FEEDMILL_NET_BIG", "3000000000", 1);
	setenv("FEEDMILL_NET_ON", "false", 1);
	setenv("FEEDMILL_NAME", "env=x", 1);
	setenv("FEEDMILL_NET_LEVEL", "high", 1);
	setenv("FEEDMILL_CONFIG", "is no setting", 1);
	t = good("net: { port = 8080; };");
	assert_int_equal(81, t.port);
	assert_true(t.big == INT64_C(3000000000));
	assert_false(t.on);
	assert_string_equal("env=x", t.name);
	assert_string_equal("high", t.level);
	release(&t);
}

static void bad_variable(const char *name, const char *value, const char *why)
{
	setenv(name, value, 1);
	bad(NULL, why);
	unsetenv(name);
}

static void what_is_wrong_in_a_variable_says_which(void **state)
{
	(void)state;
	bad_variable("FEEDMILL_NET_PORT", "70000", "environment: FEEDMILL_NET_PORT: 70000 is not between 1 and 65535");
	bad_variable("FEEDMILL_NET_PORT", "80x", "environment: FEEDMILL_NET_PORT: \"80x\" is not a whole number");
	bad_variable("FEEDMILL_NET_PORT", "", "environment: FEEDMILL_NET_PORT: \"\" is not a whole number");
	bad_variable("FEEDMILL_NET_PORT", "080", "environment: FEEDMILL_NET_PORT: \"080\" is not a whole number");
	bad_variable("FEEDMILL_NET_BIG", "9223372036854775808", "environment: FEEDMILL_NET_BIG: \"9223372036854775808\" is not");
	bad_variable("FEEDMILL_NET_ON", "yes", "environment: FEEDMILL_NET_ON: \"yes\" is neither true nor false");
	bad_variable("FEEDMILL_NET_LEVEL", "middle", "environment: FEEDMILL_NET_LEVEL: \"middle\" is not one of low|high");
	bad_variable("FEEDMILL_NET_PROT", "80", "environment: FEEDMILL_NET_PROT: there is no such setting");
	bad_variable("FEEDMILL_net_port", "80", "environment: FEEDMILL_net_port: there is no such setting");
	bad_variable("FEEDMILL_", "80", "environment: FEEDMILL_: there is no such setting");
	bad_variable("FEEDMILL_NAME_FILE", "x", "environment: FEEDMILL_NAME_FILE: there is no such setting");
}

static void secrets_come_from_private_files(void **state)
{
	struct target t;
	char text[200];

	(void)state;
	put(secret, "hush\r\nsecond line\n", 18);
	chmod(secret, 0600);
	snprintf(text, sizeof(text), "net: { password_file = \"%s\"; };", secret);
	t = good(text);
	assert_string_equal("hush", t.password);
	release(&t);
	setenv("FEEDMILL_NET_PASSWORD", "louder", 1);
	t = good(text);
	assert_string_equal("louder", t.password);
	release(&t);
	unsetenv("FEEDMILL_NET_PASSWORD");
	setenv("FEEDMILL_NET_PASSWORD_FILE", secret, 1);
	t = good("net: { password = \"in the file\"; };");
	assert_string_equal("hush", t.password);
	release(&t);
	put(secret, "no newline", 10);
	t = good(NULL);
	assert_string_equal("no newline", t.password);
	release(&t);
}

static void secrets_that_are_not_private_are_refused(void **state)
{
	static const mode_t modes[] = { 0640, 0604, 0620, 0601, 0644, 0610 };
	char text[200], longer[10000];

	(void)state;
	put(secret, "hush\n", 5);
	snprintf(text, sizeof(text), "net: {\n password_file = \"%s\"; };", secret);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		chmod(secret, modes[i]);
		bad(text, "%:2: setting net.password_file: others may use /tmp/");
	}
	chmod(secret, 0600);
	put(secret, "", 0);
	bad(text, "%:2: setting net.password_file: /tmp/");
	memset(longer, 'p', sizeof(longer));
	put(secret, longer, sizeof(longer));
	bad(text, "%:2: setting net.password_file: a text of 4095 bytes is not between 0 and 100 long");
	bad("net: { password_file = \"/nonexistent\"; };", "%:1: setting net.password_file: can't read /nonexistent: No such");
	bad("net: { password_file = \"/tmp\"; };", "%:1: setting net.password_file: /tmp is not a file");
	bad("net: { password_file = 5; };", "%:1: setting net.password_file: expected a text");
	put(secret, "hush\n", 5);
	snprintf(text, sizeof(text), "net: { password = \"a\"; password_file = \"%s\"; };", secret);
	bad(text, "%:1: setting net.password_file: net.password is given twice");
}

static void what_is_written_reads_back(void **state)
{
	struct target t = good("name = \"\\\\\\\"\\n\"; net: { port = 1; big = -3000000000; on = false; level = \"high\"; password = \"hush\"; };");
	struct buf out = BUF_INIT;
	struct target back;

	(void)state;
	conf_write(&t, rows, ROWS, &out);
	assert_null(strstr(out.data, "hush"));
	assert_non_null(strstr(out.data, "\t# password = \"***\";\n"));
	assert_non_null(strstr(out.data, "\t# a port (1 to 65535; default 80)\n\tport = 1;\n"));
	assert_non_null(strstr(out.data, "\tbig = -3000000000L;\n"));
	back = good(out.data);
	assert_string_equal(t.name, back.name);
	assert_int_equal(t.port, back.port);
	assert_true(t.big == back.big);
	assert_int_equal(t.on, back.on);
	assert_string_equal(t.level, back.level);
	assert_string_equal("", back.password);
	release(&t);
	release(&back);
	buf_release(&out);
}

static int make_files(void **state)
{
	(void)state;
	return close(mkstemp(file)) + close(mkstemp(secret));
}

static int remove_files(void **state)
{
	(void)state;
	return unlink(file) + unlink(secret);
}

static int empty_environment(void **state)
{
	(void)state;
	return clearenv();
}

#define TEST(name) cmocka_unit_test_setup(name, empty_environment)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(defaults_come_from_the_table),
		TEST(the_file_stands_over_the_defaults),
		TEST(a_choice_may_be_true_or_false),
		TEST(integers_never_wrap),
		TEST(texts_and_comments_are_left_alone),
		TEST(what_is_wrong_in_a_file_says_where),
		TEST(what_libconfig_refuses_says_where),
		TEST(files_that_cannot_be_read),
		TEST(the_environment_stands_over_the_file),
		TEST(what_is_wrong_in_a_variable_says_which),
		TEST(secrets_come_from_private_files),
		TEST(secrets_that_are_not_private_are_refused),
		TEST(what_is_written_reads_back),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
