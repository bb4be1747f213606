/* post_list: messages on their way out, one behind the other by post->next. Not for several threads at once. Uses post. */
#ifndef FEEDMILL_WORKERS_CELERY_POST_LIST_H
#define FEEDMILL_WORKERS_CELERY_POST_LIST_H

#include "workers/celery/post.h"

struct post_list {
	struct post *first, **last;
	size_t count;
};

void post_list_init(struct post_list *list);
void post_list_free(struct post_list *list);                    /* its posts, too */
void post_list_add(struct post_list *list, struct post *post);  /* at the end; takes it */
void post_list_push(struct post_list *list, struct post *post); /* at the beginning; takes it */
struct post *post_list_take(struct post_list *list);            /* the first; NULL: none */
void post_list_prepend(struct post_list *to, struct post_list *from); /* from's posts, in front of to's; from is empty then */
void post_list_append(struct post_list *to, struct post_list *from);  /* behind them */

#endif
