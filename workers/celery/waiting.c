/* Tasks go in as they come, and out by priority. */
#include "workers/celery/waiting.h"

#include "workers/celery/task.h"

static int priority(const struct task *task)
{
	return task->request->priority > 0 ? task->request->priority : 0;
}

/* The last that has at least that priority; NULL: none. */
static struct task *last_of(const struct waiting *w, int least)
{
	struct task *found = NULL;

	if (w->last != NULL && priority(w->last) >= least)
		return w->last; /* where all are equal */
	for (struct task *t = w->first; t != NULL && priority(t) >= least; t = t->wait_next)
		found = t;
	return found;
}

static struct task **behind(struct waiting *w, struct task *before)
{
	return before != NULL ? &before->wait_next : &w->first;
}

static void insert(struct waiting *w, struct task *before, struct task *task)
{
	struct task **at = behind(w, before);

	task->wait_next = *at;
	*at = task;
	if (task->wait_next == NULL)
		w->last = task;
	w->count++;
}

void waiting_add(struct waiting *w, struct task *task)
{
	insert(w, last_of(w, priority(task)), task);
}

void waiting_put_back(struct waiting *w, struct task *list)
{
	struct task *reversed = NULL, *next;

	for (; list != NULL; list = next) {
		next = list->wait_next;
		list->wait_next = reversed;
		reversed = list;
	}
	for (; reversed != NULL; reversed = next) {
		next = reversed->wait_next;
		insert(w, last_of(w, priority(reversed) + 1), reversed);
	}
}

struct task *waiting_next(const struct waiting *w, const struct task *before)
{
	return before != NULL ? before->wait_next : w->first;
}

struct task *waiting_take(struct waiting *w, struct task *before)
{
	struct task **at = behind(w, before), *task = *at;

	if (task == NULL)
		return NULL;
	*at = task->wait_next;
	task->wait_next = NULL;
	if (w->last == task)
		w->last = before;
	w->count--;
	return task;
}
