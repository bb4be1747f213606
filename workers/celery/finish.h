/* finish: the ways in which a delivery comes to its end. A reply becomes messages, a result, an acknowledgement and an event: in this
 * order, each step when the one before it is safe. */
#ifndef FEEDMILL_WORKERS_CELERY_FINISH_H
#define FEEDMILL_WORKERS_CELERY_FINISH_H

#include <stdbool.h>
#include <stdint.h>

struct amqp_delivery;
struct node;
struct post;
struct task;

void finish_started(struct node *node, struct task *task);
void finish_ran(struct node *node, struct task *task);    /* it has a reply */
void finish_posted(struct node *node, struct task *task);
void finish_stored(struct node *node, struct task *task);

/* Without a run. */
void finish_revoked(struct node *node, struct task *task, const char *why, bool is_terminated, int signal_number);
void finish_unknown(struct node *node, struct task *task);
void finish_cleaned(struct node *node, struct task *task); /* celery.backend_cleanup */
void finish_dead(struct node *node, struct task *task, const char *why); /* delivered too often */
void finish_unreadable(struct node *node, struct task *task, const char *why); /* its request is bare */
void finish_again(struct node *node, struct task *task); /* it was done, or sent on, before: acknowledged, no more */
void finish_succeeded(struct node *node, struct task *task); /* before, with the result in its reply: what follows it is sent, once more or at last */

/* For another time. */
void finish_later(struct node *node, struct task *task, int64_t delay_s); /* it is for then */
void finish_counted(struct node *node, struct task *task);   /* again at once, with one delivery more on its count */
void finish_uncounted(struct node *node, struct task *task); /* again at once, with the count that its request has: lower than the broker's */
void finish_return(struct node *node, struct task *task);    /* back to its queue, and counted there */
void finish_unstarted(struct node *node, struct task *task); /* back to its queue as if it had not been delivered */

/* Its copy for job.dead_letter_queue, with the reason; NULL: that is empty. */
struct post *dead_letter(const struct node *node, const struct amqp_delivery *delivery, const char *why);

#endif
