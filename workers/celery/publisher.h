/* publisher: the thread that sends, with a connection of its own, because RabbitMQ stops those that publish when it runs short.
 *
 * Every message is confirmed. One with a task is reported to the inbox when all of that task's messages are (NOTICE_POSTED);
 * one that no queue takes is tried again after its queue was declared, and then task->post_failed is set. Lasting messages that
 * are not confirmed when the connection is lost are sent again on the next: a client may see a message twice, never not at all. */
#ifndef FEEDMILL_WORKERS_CELERY_PUBLISHER_H
#define FEEDMILL_WORKERS_CELERY_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/settings.h"
#include "workers/celery/inbox.h"
#include "workers/celery/post.h"

struct publisher;

struct publisher *publisher_start(const struct settings *settings, struct inbox *inbox);
void publisher_stop(struct publisher *publisher, int64_t wait_ms); /* what is confirmed within the time is; NULL is fine */

void publisher_send(struct publisher *publisher, struct post *post); /* takes it; any thread */
/* All of a task's messages at once, a list by post->next, not empty; the task is the publisher's until NOTICE_POSTED. */
void publisher_send_for(struct publisher *publisher, struct task *task, struct post *posts);

size_t publisher_depth(struct publisher *publisher); /* waiting or not confirmed */
bool publisher_is_connected(const struct publisher *publisher);
bool publisher_is_blocked(const struct publisher *publisher);

#endif
