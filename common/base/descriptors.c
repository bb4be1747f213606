/* A number of descriptors goes in; the process's limit, raised when it was lower, comes out. */
#include "common/base/descriptors.h"

#include <sys/resource.h>

static int64_t number_of(rlim_t limit)
{
	return limit == RLIM_INFINITY || limit > INT64_MAX ? INT64_MAX : (int64_t)limit;
}

int64_t descriptors_allow(int64_t wanted)
{
	struct rlimit limit, raised;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return INT64_MAX; /* nobody knows: accept() will tell */
	if (number_of(limit.rlim_cur) >= wanted)
		return number_of(limit.rlim_cur);
	raised = limit;
	raised.rlim_cur = number_of(limit.rlim_max) < wanted ? limit.rlim_max : (rlim_t)wanted;
	if (setrlimit(RLIMIT_NOFILE, &raised) < 0)
		return number_of(limit.rlim_cur);
	return number_of(raised.rlim_cur);
}
