/* Posts go in at either end of a list, and come out at its beginning. */
#include "workers/celery/post_list.h"

#include <stddef.h>

void post_list_init(struct post_list *list)
{
	*list = (struct post_list){ NULL, NULL, 0 };
	list->last = &list->first;
}

void post_list_add(struct post_list *list, struct post *post)
{
	post->next = NULL;
	*list->last = post;
	list->last = &post->next;
	list->count++;
}

struct post *post_list_take(struct post_list *list)
{
	struct post *post = list->first;

	if (post == NULL)
		return NULL;
	list->first = post->next;
	if (list->first == NULL)
		list->last = &list->first;
	list->count--;
	post->next = NULL;
	return post;
}

void post_list_push(struct post_list *list, struct post *post)
{
	post->next = list->first;
	if (list->first == NULL)
		list->last = &post->next;
	list->first = post;
	list->count++;
}

void post_list_prepend(struct post_list *to, struct post_list *from)
{
	if (from->first == NULL)
		return;
	*from->last = to->first;
	if (to->first == NULL)
		to->last = from->last;
	to->first = from->first;
	to->count += from->count;
	post_list_init(from);
}

void post_list_append(struct post_list *to, struct post_list *from)
{
	if (from->first == NULL)
		return;
	*to->last = from->first;
	to->last = from->last;
	to->count += from->count;
	post_list_init(from);
}

void post_list_free(struct post_list *list)
{
	struct post *post;

	while ((post = post_list_take(list)) != NULL)
		post_free(post);
}
