/* Lists of packages go in; which of them lack security fixes comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/packages.h"

static void note(void *arg, const char *package, const char *installed, const char *wanted)
{
	buf_addf(arg, "%s %s %s\n", package, installed, wanted);
}

/* What is said of a list with that paragraph between two others. */
static void told(const char *paragraph, const char *expected)
{
	char path[] = "/tmp/feedmill-packages-XXXXXX";
	struct buf seen = BUF_INIT;
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	assert_true(fd >= 0);
	assert_non_null(file);
	fprintf(file, "Package: adduser\nStatus: install ok installed\nVersion: 3.134\n\n%s\nPackage: zlib1g\nStatus: install ok installed\n"
		"Version: 1:1.2.13\n", paragraph);
	fclose(file);
	assert_int_equal(expected[0] != '\0', packages_check(path, note, &seen));
	assert_string_equal(expected, seen.data);
	buf_release(&seen);
	unlink(path);
}

#define CJSON(status, version) "Package: libcjson1\nStatus: " status "\nPriority: optional\nVersion: " version "\nDescription: x\n"

static void an_old_revision_is_told(void **state)
{
	(void)state;
	told(CJSON("install ok installed", "1.7.15-1"), "libcjson1 1.7.15-1 1.7.15-1+deb12u4\n");
	told(CJSON("install ok installed", "1.7.15-1+deb12u3"), "libcjson1 1.7.15-1+deb12u3 1.7.15-1+deb12u4\n");
	told(CJSON("hold ok installed", "1.7.15-1+deb12u1"), "libcjson1 1.7.15-1+deb12u1 1.7.15-1+deb12u4\n");
}

static void others_are_left_alone(void **state)
{
	(void)state;
	told(CJSON("install ok installed", "1.7.15-1+deb12u4"), "");
	told(CJSON("install ok installed", "1.7.15-1+deb12u10"), "");
	told(CJSON("install ok installed", "1.7.18-3"), "");
	told(CJSON("install ok installed", "1.7.15-1ubuntu2"), "");
	told(CJSON("deinstall ok config-files", "1.7.15-1"), "");
	told("Package: libcjson1-doc\nStatus: install ok installed\nVersion: 1.7.15-1\n", "");
	told("", "");
}

static void no_list_is_no_complaint(void **state)
{
	struct buf seen = BUF_INIT;

	(void)state;
	assert_int_equal(0, packages_check("/nonexistent/status", note, &seen));
	assert_string_equal("", seen.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_old_revision_is_told),
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(no_list_is_no_complaint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
