/* result: what a client reads of a task: a message to its own queue (rpc), a row of the results' table, or both. */
#ifndef FEEDMILL_WORKERS_CELERY_RESULT_H
#define FEEDMILL_WORKERS_CELERY_RESULT_H

#include "workers/celery/node.h"

bool result_has_table(const struct settings *settings); /* results go to the database, perhaps not only there */

/* What came as MessagePack is answered so, if the settings say it. */
bool result_is_packed(const struct node *node, bool is_msgpack);

/* Of task->status and task->reply. Each stays NULL where there is none to make. */
void result_make(const struct node *node, const struct task *task, struct post **post, struct result_row **row);

/* Every later element of the chain has failed too, and what is inside of it: each is told so, at its own reply_to. */
void result_fail_chain(struct node *node, const struct task *task, const struct json *chain);

/* FAILURE for a task that could not be sent, and for what would have followed it. */
void result_fail_post(struct node *node, const struct task *task, const struct post *post);

/* FAILURE for a message that was not read, where its headers say whose. */
void result_fail_delivery(struct node *node, const struct amqp_delivery *delivery, const char *why);

/* FAILURE for the body of a chord: its client has sent celery.chord_unlock, [group, body], to wait for the header. */
void result_fail_chord(struct node *node, const struct task *task);

/* REVOKED for an id that may never come here. */
void result_revoked(struct node *node, struct slice id);

#endif
