/* packages: whether the libraries of the distribution have the security fixes that we count on. Uses libc, log.
 *
 * A library's version number stays when a distribution fixes it, so this reads what the package manager has installed. It
 * speaks of Debian 12's packages alone; on other systems, and where there is no such file, it says nothing. */
#ifndef FEEDMILL_BASE_PACKAGES_H
#define FEEDMILL_BASE_PACKAGES_H

#include <stddef.h>

#define PACKAGES_STATUS "/var/lib/dpkg/status"

typedef void package_fn(void *arg, const char *package, const char *installed, const char *wanted);

size_t packages_check(const char *status_file, package_fn *old, void *arg); /* how many are too old; each is told */
void packages_warn(void);                                                   /* a line in the log for each */

#endif
