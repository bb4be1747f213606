/* inbox: how other threads tell the node's thread that something of a job is done. A job is in it at most once. */
#ifndef FEEDMILL_WORKERS_CELERY_INBOX_H
#define FEEDMILL_WORKERS_CELERY_INBOX_H

#include <pthread.h>
#include <stdbool.h>

struct task;

enum notice {
	NOTICE_RAN,    /* a thread has its reply */
	NOTICE_POSTED, /* all its messages are confirmed, or one could not be sent (task->post_failed) */
	NOTICE_STORED, /* its result is in the database, or will not be (task->store_failed) */
	NOTICE_ASKED,  /* the results' table has said whether it has succeeded before */
};

struct inbox {
	pthread_mutex_t lock;
	struct task *first, **last;
	int fd; /* readable while something is there */
};

void inbox_open(struct inbox *inbox);
void inbox_close(struct inbox *inbox);
void inbox_add(struct inbox *inbox, struct task *task, enum notice notice); /* any thread */
struct task *inbox_take(struct inbox *inbox); /* all of it, a list by task->inbox_next, oldest first; the node's thread */

#endif
