/* supervise: keeps the processes of one Feedmill running until it is told to stop. Uses child, settings, log, stop, backoff.
 *
 * SIGTERM, SIGINT: gateways drain and end, then workers; a second one ends all at once. SIGHUP: a rolling restart: the settings
 * are read again, and each process is replaced, one after another. The next one is ready before the one before it is asked to
 * stop; but a worker with a name of its own (setting `instance`) stops first, since Kafka holds its place for it, and would
 * put out the one before it when both are there. A process that ends unasked is started again, backed off. */
#ifndef FEEDMILL_CTL_SUPERVISE_H
#define FEEDMILL_CTL_SUPERVISE_H

#include <stddef.h>

#include "common/base/settings.h"

#define SUPERVISE_REPLICAS 64 /* of one kind */

/* One kind of process. */
struct kind {
	char name[32]; /* the worker's, or "gateway" */
	int replicas;
};

struct supervised {
	const struct settings *settings;
	const char *config;        /* the file they come from, or NULL */
	const char *gateway, *worker; /* the programs: a path, or a name that PATH knows */
	int socket;                /* what gateways listen on */
	const struct kind *kinds;  /* in the order in which they are started and replaced; gateways last */
	size_t kind_count;
};

#define KIND_GATEWAY "gateway"

int supervise(const struct supervised *what); /* the exit code: 0, 1: not all ended well, 2: the settings are refused */

#endif
