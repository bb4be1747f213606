/* The package manager's list goes in, the packages that lack security fixes come out. */
#include "common/base/packages.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/str.h"

/* One row a package that we run with: its version in Debian 12 begins with base, and fix is the first good "+deb12uN". */
struct floor {
	const char *package;
	const char *base;
	int64_t fix;
};

static const struct floor floors[] = {
	{ "libcjson1", "1.7.15-1", 4 }, /* CVE-2023-26819, -50471, -50472, -53154, 2024-31755, 2025-57052 */
};

#define FIX_MARK "+deb12u"

/* Another base is another release: its numbers mean something else. */
static bool is_below(const struct floor *floor, const char *version)
{
	const char *rest = version + strlen(floor->base);
	int64_t fix = 0;

	if (strncmp(version, floor->base, strlen(floor->base)) != 0)
		return false;
	if (rest[0] == '\0')
		return true;
	if (strncmp(rest, FIX_MARK, strlen(FIX_MARK)) != 0 || !str_int64(slice_of(rest + strlen(FIX_MARK)), &fix))
		return false;
	return fix < floor->fix;
}

static const struct floor *find(const char *package)
{
	for (size_t i = 0; i < sizeof(floors) / sizeof(floors[0]); i++)
		if (strcmp(floors[i].package, package) == 0)
			return &floors[i];
	return NULL;
}

/* The value of a line "Name: value\n", NUL-terminated; NULL: another line. */
static char *field(char *line, const char *name)
{
	const size_t len = strlen(name);

	if (strncmp(line, name, len) != 0)
		return NULL;
	line[strcspn(line, "\n")] = '\0';
	return line + len;
}

/* Paragraphs of "Package:", "Status:", "Version:" in this order, as dpkg writes them. */
size_t packages_check(const char *status_file, package_fn *old, void *arg)
{
	FILE *list = fopen(status_file, "re");
	const struct floor *floor = NULL;
	bool is_installed = false;
	char *line = NULL, *value, wanted[64];
	size_t size = 0, count = 0;

	if (list == NULL)
		return 0;
	while (getline(&line, &size, list) > 0) {
		if ((value = field(line, "Package: ")) != NULL) {
			floor = find(value);
		} else if (floor != NULL && (value = field(line, "Status: ")) != NULL) {
			is_installed = strcmp(value, "install ok installed") == 0 || strcmp(value, "hold ok installed") == 0;
		} else if (floor != NULL && is_installed && (value = field(line, "Version: ")) != NULL && is_below(floor, value)) {
			snprintf(wanted, sizeof(wanted), "%s" FIX_MARK "%lld", floor->base, (long long)floor->fix);
			old(arg, floor->package, value, wanted);
			count++;
		}
	}
	free(line);
	fclose(list);
	return count;
}

static void warn(void *arg, const char *package, const char *installed, const char *wanted)
{
	(void)arg;
	log_warn("package lacks security fixes", log_str("package", package), log_str("installed", installed), log_str("wanted", wanted));
}

void packages_warn(void)
{
	packages_check(PACKAGES_STATUS, warn, NULL);
}
