/* publisher: the thread that sends, with a connection of its own, because RabbitMQ stops those that publish when it runs short.
 *
 * Every message is confirmed. One with a task is reported to the inbox when all of that task's messages are (NOTICE_POSTED);
 * one that no queue takes is tried again after its queue was declared, and then task->post_failed is set. Lasting messages that
 * are not confirmed when the connection is lost are sent again on the next: a client may see a message twice, never not at all.
 *
 * A message that RabbitMQ refuses (no such exchange, no right, too large), or that does not fit in a frame, fails alone: its task
 * gets it back in task->unsent with post_failed and post_refused. RabbitMQ answers with the end of the channel and does not say for
 * which: it is the one whose exchange the answer names, or else those under way go one by one, until one is refused alone. One that
 * RabbitMQ could not keep (a full queue) goes again, later and later. */
#ifndef FEEDMILL_WORKERS_CELERY_PUBLISHER_H
#define FEEDMILL_WORKERS_CELERY_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/settings.h"
#include "workers/celery/inbox.h"
#include "workers/celery/post.h"

struct publisher;

struct publisher *publisher_start(const struct settings *settings, const struct signer *signer, struct inbox *inbox); /* signer: may be NULL */
void publisher_stop(struct publisher *publisher, int64_t wait_ms); /* what is confirmed within the time is; NULL is fine */

void publisher_send(struct publisher *publisher, struct post *post); /* takes it; any thread */
/* All of a task's messages at once, a list by post->next, not empty; the task is the publisher's until NOTICE_POSTED. */
void publisher_send_for(struct publisher *publisher, struct task *task, struct post *posts);

/* An exchange of the node's own (of the delay, of events) was gone: true once each time, so that somebody declares it again. */
bool publisher_misses_exchange(struct publisher *publisher);

size_t publisher_depth(struct publisher *publisher); /* waiting or not confirmed */
bool publisher_is_connected(const struct publisher *publisher);
bool publisher_is_blocked(const struct publisher *publisher);

#endif
