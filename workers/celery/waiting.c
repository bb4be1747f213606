/* Tasks go in as they come, and out by priority, or by age where they have waited long. */
#include "workers/celery/waiting.h"

#include "workers/celery/task.h"

static int priority(const struct task *task)
{
	return task->request->priority > 0 ? task->request->priority : 0;
}

/* Below 0: one starts before other, whichever came to the list first; 0: that decides. */
static int compare(const struct task *one, const struct task *other)
{
	if (one->is_aged != other->is_aged)
		return one->is_aged ? -1 : 1;
	if (one->is_aged)
		return (one->received_us > other->received_us) - (one->received_us < other->received_us);
	return priority(other) - priority(one);
}

/* The last that stays before task: its equals, too, unless it goes first of them. Looked for behind from, which stays before it. NULL: none. */
static struct task *last_before(const struct waiting *w, struct task *from, const struct task *task, bool goes_first)
{
	const int most = goes_first ? -1 : 0;

	if (w->last != NULL && compare(w->last, task) <= most)
		return w->last; /* where all are equal */
	for (struct task *t = waiting_next(w, from); t != NULL && compare(t, task) <= most; t = t->wait_next)
		from = t;
	return from;
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
	insert(w, last_before(w, NULL, task, false), task);
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
		insert(w, last_before(w, NULL, reversed, true), reversed);
	}
}

/* Those of one priority are mostly in order: each is looked for a place behind the one before it, not from the first on. */
void waiting_age(struct waiting *w, int64_t since_us)
{
	struct task *before = NULL, *moved = NULL, *task;

	while ((task = waiting_next(w, before)) != NULL) {
		if (task->is_aged || task->received_us > since_us) {
			before = task;
			continue;
		}
		waiting_take(w, before);
		task->is_aged = true;
		insert(w, last_before(w, moved != NULL && compare(moved, task) <= 0 ? moved : NULL, task, false), task);
		moved = task;
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
