/* topology: the queues that this node consumes, their exchanges, and the levels of the delay that lead back to them. */
#ifndef FEEDMILL_WORKERS_CELERY_TOPOLOGY_H
#define FEEDMILL_WORKERS_CELERY_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

#define NODE_QUEUE_NAME_MAX 199 /* bytes: the key of a delay has 56 more, and 255 fit */

struct metric;
struct node;

/* A queue that is consumed. */
struct queue_entry {
	struct queue_entry *next;
	char name[256];
	char exchange[256], type[16], key[256];
	bool is_consumed;  /* on the current connection */
	bool is_wanted;
	bool is_added;     /* by remote control: one that RabbitMQ refuses is not wanted any more */
	char consumer[300];
	unsigned consumers; /* how many there have been */
	int prefetch;       /* that the consumer was made with */
	int64_t deliveries, watched_deliveries;
	unsigned stalls;    /* in a row */
	struct metric *ready; /* messages that wait there; NULL: it was added by remote control, and no label is made of a name from outside */
};

int topology_read(struct node *node, struct err *err); /* job.queues */
int topology_declare(struct node *node, struct err *err); /* all of it, on node->control */
/* One that was added and is refused is 0 as well, and not wanted any more. node->control may be another connection afterwards. */
int topology_queue(struct node *node, struct queue_entry *queue, struct err *err);
void topology_give_up(struct queue_entry *queue, const struct err *why);

#endif
