/* control: remote control and inspection, by pidbox; and its verbs, behind control.c's table. */
#ifndef FEEDMILL_WORKERS_CELERY_CONTROL_H
#define FEEDMILL_WORKERS_CELERY_CONTROL_H

#include "workers/celery/node.h"

int control_open(struct node *node, struct err *err); /* queue and consumer, on node->control */
int control_keep(struct node *node, struct err *err); /* of a mailbox that is open: its exchange and its binding, which can go without a word */
void control_message(struct node *node, const struct amqp_delivery *delivery);
void control_mingle(struct node *node);
bool control_is_alone(struct node *node); /* no node has a mailbox on this broker, before ours is there; false: not known */

/* ---- verbs. Each writes its value, a JSON text, to out: {"ok": …} or {"error": …} for what changes something, the bare value for what
 * tells. arguments is an object. */
typedef void verb_fn(struct node *node, const struct json *arguments, struct buf *out);

verb_fn inspect_ping, inspect_clock, inspect_stats, inspect_active, inspect_reserved, inspect_scheduled, inspect_revoked, inspect_registered,
	inspect_active_queues, inspect_query_task, inspect_conf, inspect_report, inspect_hello, inspect_memsample, inspect_memdump;
verb_fn command_revoke, command_terminate, command_revoke_by_stamps, command_rate_limit, command_time_limit, command_enable_events,
	command_disable_events, command_heartbeat, command_pool_grow, command_pool_shrink, command_pool_restart, command_shutdown,
	command_add_consumer, command_cancel_consumer, command_autoscale, command_election;

void control_ok(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void control_error(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct slice control_text(const struct json *arguments, const char *name); /* SLICE_NONE: missing, or no text */

#endif
