/* nursery: a small process that does nothing but fork: it is made before this process has threads, connections or libraries in
 * use, so its children start clean. It dies with this process, however that dies, and its children with it. */
#ifndef FEEDMILL_WORKERS_CELERY_NURSERY_H
#define FEEDMILL_WORKERS_CELERY_NURSERY_H

#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/settings.h"

struct nursery_news {
	enum { NURSERY_NOTHING, NURSERY_BORN, NURSERY_DIED } what;
	int slot;     /* as asked for */
	pid_t pid;
	int fd;       /* NURSERY_BORN: our end of its socket, the caller's now */
	int status;   /* NURSERY_DIED: of waitpid(); with pid -1, none could be made: an errno */
};

int nursery_start(const struct settings *settings, int *fd, struct err *err); /* call it before the first thread */
int nursery_ask(int fd, int slot);                            /* for one child; -1: the nursery is gone */
int nursery_next(int fd, struct nursery_news *news);          /* does not wait; -1: the nursery is gone */

#endif
