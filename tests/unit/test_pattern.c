/* Expressions that name nodes: as Python's re.match() takes them, and none takes long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "workers/celery/pattern.h"

static int matches(const char *pattern, const char *name)
{
	struct err err = ERR_INIT;

	return pattern_matches(slice_of(pattern), slice_of(name), &err);
}

/* Each answer is that of re.match() in Python 3.11. */
static void as_pythons_match(void **state)
{
	static const struct {
		const char *pattern, *name;
		int answer;
	} rows[] = {
		{ "feed", "feed1@host", 1 },
		{ "", "feed1@host", 1 },
		{ "eed", "feed1@host", 0 },
		{ "eed|feed", "feed1@host", 1 },
		{ "feed\\d@", "feed1@host", 1 },
		{ "feed\\D", "feed1@host", 0 },
		{ "[\\w]{4}[\\d@]+", "feed1@host", 1 },
		{ "[]f]eed", "feed1@host", 1 },
		{ "[[:alpha]", ":", 1 },
		{ "feed(?=\\d)", "feed1@host", 1 },
		{ "feed(?!\\d)", "feed1@host", 0 },
		{ "feed1(?<=d1)@", "feed1@host", 1 },
		{ "feed1(?<!d1)@", "feed1@host", 0 },
		{ "f.+?@host$", "feed1@host", 1 },
		{ "f.*?d\\b", "feed1@host", 0 },
		{ "(?P<e>e)", "eed", 1 },
		{ "f(?P<letter>e)(?P=letter)d", "feed1@host", 1 },
		{ "f(?P<letter>e)(?P=letter)d", "fexd1@host", 0 },
		{ "(f)(e)\\2d", "feed1@host", 1 },
		{ "(?i)FEED", "feed1@host", 1 },
		{ "(?i:FE)ED", "feed1@host", 0 },
		{ "(?x) fe  ed # a comment", "feed1@host", 1 },
		{ "(?:food|feed)\\d", "feed1@host", 1 },
		{ "x*", "feed1@host", 1 },
		{ "f{1}e{2,}d", "feed1@host", 1 },
		{ "^feed1@host\\Z", "feed1@host", 1 },
		{ "^feed1@hos$", "feed1@host", 0 },
		{ "\\w+", "\xc3\xa9\xc3\xa9@host", 1 },
		{ ".@", "\xc3\xa9@host", 1 },
		{ "(fe)?(?(1)ed|x)", "feed1@host", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (matches(rows[i].pattern, rows[i].name) != rows[i].answer)
			fail_msg("%s on %s is not %d", rows[i].pattern, rows[i].name, rows[i].answer);
}

static void what_is_none_is_said(void **state)
{
	static const char *const wrong[] = { "fee[", "(feed", "feed)", "*", "fe(?<=e+)d", "\\", "(?P<e>e)(?P<e>d)", "\xff", "f\\C", "a{2}{70000}" };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (matches(wrong[i], "feed1@host") != -1)
			fail_msg("%s is taken", wrong[i]);
	assert_int_equal(-1, pattern_matches(slice_of("feed(1"), slice_of("feed1"), &err));
	assert_int_equal(ERR_INVALID, err.kind);
	assert_non_null(strstr(err.message, "at byte 6: "));
	assert_int_equal(-1, pattern_matches(slice_of("."), slice_of("\xff"), &err));
}

/* Whoever may publish may send these. Each would take the loop away: for a third of a second with PCRE2's own limit, for ever without one. */
static void none_takes_long(void **state)
{
	static const char *const patterns[] = { "(a+)+$", "(a|a)*$", "(a*)*b", "(?:a?){60}a{60}$", "(?R)?a(?R)?b", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x", "((a{1,40}){1,40}){1,40}$" };
	const clock_t start = clock(); /* of this process alone */
	char name[251];

	(void)state;
	memset(name, 'a', 249);
	name[249] = '@';
	name[250] = '\0';
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		assert_true(matches(patterns[i], name) <= 0);
	assert_int_equal(-1, matches("(a+)+$", name));
	assert_true(clock() - start < CLOCKS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_pythons_match),
		cmocka_unit_test(what_is_none_is_said),
		cmocka_unit_test(none_takes_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
