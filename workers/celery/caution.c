/* Tasks that were delivered again and again go in as they start; whether this node takes others ahead comes out. When the worker dies, all
 * that it was delivered counts as delivered once more: what waits behind a job that takes its worker along would be given up with it, unrun. */
#include <string.h>

#include "common/base/clock.h"
#include "workers/celery/node.h"

#define SUSPECT 2    /* deliveries before this one; fewer where the limit is that low */
#define CALM_MS 1000 /* so long after the last such task jobs are taken ahead again */

static bool is_suspect(const struct node *node, const struct task *task)
{
	const struct job_settings *s = &node->settings->job;
	const int64_t many = s->delivery_limit > SUSPECT ? SUSPECT : 1;

	return strcmp(s->acks, "late") == 0 && task->request->deliveries >= many;
}

bool caution_holds(const struct node *node)
{
	return node->suspects > 0 || clock_mono_ms() < node->calm_at;
}

void caution_starts(struct node *node, struct task *task)
{
	if (!is_suspect(node, task) || task->is_suspect)
		return;
	task->is_suspect = true;
	node->suspects++;
}

void caution_waits(struct node *node, const struct task *task)
{
	if (caution_holds(node) && task->request->delivery->consumer.len > 0)
		node->gives_back = true; /* it came by a consumer, and not because a slot is free */
}

void caution_ends(struct node *node, const struct task *task)
{
	if (!task->is_suspect)
		return;
	node->suspects--;
	node->calm_at = clock_mono_ms() + CALM_MS;
}

/* Once, and for what a consumer still brings: else what waits for its rate would go round and round. */
void caution_turn(struct node *node)
{
	const bool holds = caution_holds(node);

	node->gives_back = holds && (node->gives_back || !node->was_careful);
	node->was_careful = holds;
	if (!node->gives_back || !publisher_is_connected(node->publisher) || publisher_is_blocked(node->publisher))
		return;
	node->gives_back = false;
	node_return_waiting(node, false);
}
