/* arguments: what queues of tasks are declared with. RabbitMQ refuses a second declaration that is not the same, so whoever declares one
 * asks here: at start and on each new connection, for add_consumer, and when a message goes to a queue that is not there.
 *
 * A queue that job.queue_arguments names has those and no others; the others have what job.queue_type and job.max_priority say, and
 * job.dead_letter_queue has none, unless it is one of job.queues too. The setting is "queue: name=value, name=value; queue: …". Names begin with "x-"; what
 * RabbitMQ itself knows must have a value of its kind; any other's is a whole number, true or false, or else a text. */
#ifndef FEEDMILL_WORKERS_CELERY_ARGUMENTS_H
#define FEEDMILL_WORKERS_CELERY_ARGUMENTS_H

#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/queue/amqp.h"

#define ARGUMENTS_MAX 16      /* of one queue */
#define ARGUMENTS_NAME_MAX 63 /* bytes */

struct arguments {
	struct amqp_table table; /* points into the rest and, for texts, into the settings: a copy of it is of no use */
	struct amqp_field fields[ARGUMENTS_MAX];
	char names[ARGUMENTS_MAX][ARGUMENTS_NAME_MAX + 1];
};

int arguments_check(const struct settings *settings, struct err *err); /* ERR_FATAL: names queue and argument */
void arguments_of(const struct settings *settings, const char *queue, struct arguments *out); /* of settings that were checked */

#endif
