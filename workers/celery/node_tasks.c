/* Ids and names go in; the tasks, queues and counts that this node has of them come out. */
#include "workers/celery/node.h"

static size_t bucket(struct slice id)
{
	size_t hash = 5381;

	for (size_t i = 0; i < id.len; i++)
		hash = hash * 33 + (unsigned char)id.data[i];
	return hash % NODE_IDS;
}

void node_add(struct node *node, struct task *task)
{
	struct task **head = &node->ids[bucket(task->request->id)];

	task->id_next = *head;
	*head = task;
	task->next = node->tasks;
	if (node->tasks != NULL)
		node->tasks->prev = task;
	node->tasks = task;
	node->task_count++;
}

void node_remove(struct node *node, struct task *task)
{
	struct task **at = &node->ids[bucket(task->request->id)];

	caution_ends(node, task);
	while (*at != task)
		at = &(*at)->id_next;
	*at = task->id_next;
	if (task->next != NULL)
		task->next->prev = task->prev;
	if (task->prev != NULL)
		task->prev->next = task->next;
	else
		node->tasks = task->next;
	node->task_count--;
	task_free(task);
}

struct task *node_find(const struct node *node, struct slice id)
{
	for (struct task *t = node->ids[bucket(id)]; t != NULL; t = t->id_next)
		if (slice_equal(t->request->id, id))
			return t;
	return NULL;
}

struct task_total *node_total(struct node *node, const struct job_entry *entry)
{
	for (size_t i = 0; i < node->total_count; i++)
		if (node->totals[i].entry == entry)
			return &node->totals[i];
	return NULL;
}

struct queue_entry *node_queue(struct node *node, struct slice name)
{
	for (struct queue_entry *q = node->queues; q != NULL; q = q->next)
		if (slice_is(name, q->name))
			return q;
	return NULL;
}

struct queue_entry *node_queue_of_consumer(struct node *node, struct slice consumer)
{
	slice_cut(&consumer, ' '); /* its number: deliveries of an earlier consumer of that queue may still be on their way */
	return node_queue(node, consumer);
}
