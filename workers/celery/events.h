/* events: what happens to tasks and to this node, for whoever watches the exchange celeryev. */
#ifndef FEEDMILL_WORKERS_CELERY_EVENTS_H
#define FEEDMILL_WORKERS_CELERY_EVENTS_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/json.h"

struct node;
struct task;

/* One that is being written: members are put by w. */
struct event {
	struct buf body;
	struct json_writer w;
};

bool event_begin(struct node *node, struct event *event, const char *type, const struct task *task); /* false: nobody wants it */
void event_send(struct node *node, struct event *event, const char *type);

void event_worker(struct node *node, const char *type);
void event_received(struct node *node, const struct task *task);
void event_started(struct node *node, const struct task *task);
void event_settled(struct node *node, const struct task *task);

#endif
