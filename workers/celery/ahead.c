/* How quick jobs in threads are goes in; how many more threads may be handed than there are comes out, and what they have not begun goes
 * back to those that wait. */
#include <string.h>

#include "common/base/clock.h"
#include "workers/celery/node.h"

#define AHEAD 256
#define SILENCE_MS 50                /* so long no thread is done with one: the rest waits here again, for all to see */
#define SLOW_US (16 * NODE_FAST_US)  /* and it takes some dozen quick ones until threads are trusted again */

static bool is_late(const struct node *node)
{
	return strcmp(node->settings->job.acks, "late") == 0;
}

/* What is handed over counts as begun: nobody may be told so yet, it must be possible to take it back, and it must cost no token of a rate. */
size_t ahead_room(const struct node *node, const struct task *task)
{
	if (node->run_ewma_us >= NODE_FAST_US || !is_late(node) || node->settings->job.track_started || node->task_events)
		return 0;
	return rates_text(&node->rates, task->request->task) == NULL ? AHEAD : 0;
}

void ahead_heard(struct node *node)
{
	node->threads_at = clock_mono_ms();
}

static void make_wait(struct node *node, struct task *first)
{
	for (struct task *t = first; t != NULL; t = t->wait_next) {
		t->state = TASK_WAITING;
		t->is_in_thread = false;
		t->worker_pid = 0;
		t->started_us = t->started_wall_ms = 0;
		node_total(node, t->entry)->count--;
	}
}

void ahead_take_back(struct node *node)
{
	struct task *first = node->threads != NULL && is_late(node) ? threads_take_back(node->threads) : NULL;

	make_wait(node, first);
	waiting_put_back(&node->waiting, first);
}

static bool is_ahead(const struct node *node)
{
	return node->threads != NULL && threads_in_hand(node->threads) > threads_count(node->threads);
}

void ahead_turn(struct node *node, int64_t now)
{
	if (!is_ahead(node) || now - node->threads_at < SILENCE_MS)
		return;
	node->run_ewma_us = SLOW_US;
	ahead_take_back(node);
}

int64_t ahead_next_turn(const struct node *node, int64_t latest)
{
	return is_ahead(node) && node->threads_at + SILENCE_MS < latest ? node->threads_at + SILENCE_MS : latest;
}
