/* Settings go in, a node that has a name and its threads comes out; and it is taken apart again. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "workers/celery/finish.h"
#include "workers/celery/node.h"
#include "workers/celery/result.h"

/* ---- its name */

/* What a sign of job.node means here: as Celery has them, and the process id. false: nothing. */
static bool add_sign(struct buf *out, char sign, const struct node *node)
{
	const size_t name_len = strcspn(node->host, ".");

	switch (sign) {
	case 'h': buf_add_str(out, node->host); return true;
	case 'n': buf_add(out, node->host, name_len); return true;
	case 'd': buf_add_str(out, node->host + name_len + (node->host[name_len] == '.')); return true;
	case 'p': buf_addf(out, "%d", (int)getpid()); return true;
	case 'i': buf_add_str(out, node->settings->instance); return true;
	case '%': buf_add_char(out, '%'); return true;
	default: return false;
	}
}

/* One that is consumed was bound to the delay before. What goes to others straight, with its eta, may come back here: then it is. */
static bool is_behind_delay(void *arg, const char *queue)
{
	const struct queue_entry *entry = node_queue(arg, slice_of(queue));

	return entry != NULL && entry->is_consumed;
}

static int set_name(struct node *node, struct err *err)
{
	struct buf text = BUF_INIT;
	int rc = -1;

	gethostname(node->host, sizeof(node->host) - 1);
	for (const char *c = node->settings->job.node; *c != '\0'; c++) {
		if (*c != '%') {
			buf_add_char(&text, *c);
		} else if (!add_sign(&text, *++c, node)) {
			err_set(err, ERR_FATAL, "setting job.node: %%%.1s means nothing: %%h, %%n, %%d, %%p, %%i and %%%% do", c);
			goto out;
		}
	}
	if (strchr(text.data, '@') == NULL)
		buf_addf(&text, "@%s", node->host);
	snprintf(node->name, sizeof(node->name), "%s", text.data);
	node->outgoing.node = node->name;
	node->outgoing.is_behind_delay = is_behind_delay;
	node->outgoing.arg = node;
	rc = 0;
out:
	buf_release(&text);
	return rc;
}

static void make_metrics(struct node *node)
{
	static const char *const names[] = { "done", "failed", "again", "ignored", "rejected", "lost" };
	char label[32];

	node->received = metric_counter("feedmill_job_deliveries_total", NULL, "Messages taken from RabbitMQ");
	for (size_t i = 0; i <= JOB_LOST; i++) {
		snprintf(label, sizeof(label), "outcome=\"%s\"", names[i]);
		node->outcomes[i] = metric_counter("feedmill_job_runs_total", label, "Runs of handlers by outcome");
	}
	node->run_seconds = metric_histogram("feedmill_job_run_seconds", NULL, "How long handlers ran");
	node->wait_seconds = metric_histogram("feedmill_job_wait_seconds", NULL, "From the delivery to the start of its handler");
	node->reconnects = metric_counter("feedmill_job_reconnects_total", NULL, "Connections for deliveries that were lost");
	node->dead = metric_counter("feedmill_job_dead_letters_total", NULL, "Messages given up");
	node->retries = metric_counter("feedmill_job_retries_total", NULL, "Jobs sent again by a retry");
	node->deduplicated = metric_counter("feedmill_job_deduplicated_total", NULL, "Deliveries of jobs that had succeeded before, and did not run again");
}

static void on_ran(void *arg, struct task *task)
{
	finish_ran(arg, task);
}

int node_open(struct node *node, const struct settings *settings, const struct signer *signer, int nursery, struct err *err)
{
	const bool has_threads = strcmp(settings->job.pool, "threads") == 0;
	const bool has_table = result_has_table(settings) || settings->job.durable_revokes;

	*node = (struct node){ .settings = settings, .signer = signer, .started_mono_ms = clock_mono_ms(), .task_events = settings->job.events,
		.run_ewma_us = NODE_FAST_US };
	node->backoff = node->control_backoff = (struct backoff){ .first_ms = 200, .limit_ms = 5000 };
	if (set_name(node, err) < 0)
		return -1;
	outgoing_uuid4(node->oid);
	revoked_init(&node->revoked, REVOKED_MAX);
	node->revoked.keep_ms = settings->job.revokes_kept_s * 1000;
	revoked_init(&node->unstarted, NODE_REMEMBERED);
	revoked_init(&node->finished, NODE_REMEMBERED);
	node->finished.keep_ms = NODE_FINISHED_MS + settings->amqp.heartbeat_s * 2000;
	settled_init(&node->settled);
	make_metrics(node);
	if (topology_read(node, err) < 0)
		return -1;
	while (job_at(node->total_count) != NULL)
		node->total_count++;
	node->totals = mem_array(node->total_count, sizeof(*node->totals));
	for (size_t i = 0; i < node->total_count; i++)
		node->totals[i] = (struct task_total){ job_at(i), 0, -1, -1 };
	if (rates_read(&node->rates, slice_of(settings->job.rate_limits), err) < 0)
		return -1;
	if (settings->job.state_file[0] != '\0' && revoked_load(&node->revoked, settings->job.state_file, err) < 0)
		return -1;
	inbox_open(&node->inbox);
	node->publisher = publisher_start(settings, signer, &node->inbox);
	if (has_table)
		node->table = result_table_start(settings, &node->inbox);
	if (settings->job.deduplicate_successful && result_has_table(settings) && strcmp(settings->job.acks, "late") == 0)
		node->ask = result_ask_start(settings, signer, &node->inbox);
	if (has_threads)
		node->threads = threads_open(settings, (size_t)settings->job.concurrency, &node->inbox);
	node->children = children_open(settings, nursery, (size_t)settings->job.concurrency, on_ran, node);
	return 0;
}

static void free_queues(struct node *node)
{
	while (node->queues != NULL) {
		struct queue_entry *queue = node->queues;

		node->queues = queue->next;
		free(queue);
	}
}

/* The connections end first: what is not acknowledged goes back to its queue. */
void node_close(struct node *node)
{
	amqp_close(node->amqp);
	amqp_close(node->control);
	children_close(node->children);
	publisher_stop(node->publisher, 2000);
	result_ask_stop(node->ask);
	result_table_stop(node->table, 2000);
	if (!threads_close(node->threads, 1000))
		_exit(EXIT_FAILURE); /* a handler that does not end: its job comes again */
	while (node->tasks != NULL)
		node_remove(node, node->tasks);
	inbox_close(&node->inbox);
	acks_release(&node->acks);
	rates_release(&node->rates);
	revoked_release(&node->revoked);
	revoked_release(&node->unstarted);
	revoked_release(&node->finished);
	settled_release(&node->settled);
	while (node->stamp_count > 0)
		free(node->stamps[--node->stamp_count]);
	free(node->totals);
	free_queues(node);
}
