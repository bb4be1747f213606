/* The settings go in; a process that serves Celery's clients runs until it is asked to stop. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/notify.h"
#include "common/base/packages.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/http/admin.h"
#include "workers/celery/node.h"
#include "workers/celery/nursery.h"
#include "workers/celery/result.h"

#define STUCK_MS 60000 /* the loop must have turned: its longest call waits for an answer of RabbitMQ */

int job_worker_run(const struct settings *settings);

static bool is_consuming(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (atomic_load(&node->is_consuming))
		return true;
	err_set(why, ERR_UNAVAILABLE, "no connection to RabbitMQ");
	return false;
}

static bool is_publishing(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (publisher_is_connected(node->publisher) && !publisher_is_blocked(node->publisher))
		return true;
	err_set(why, ERR_UNAVAILABLE, publisher_is_blocked(node->publisher) ? "RabbitMQ takes no messages" : "no connection to RabbitMQ");
	return false;
}

static bool has_children(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (!atomic_load(&node->is_childless))
		return true;
	err_set(why, ERR_UNAVAILABLE, "no child process can be made");
	return false;
}

static bool is_storing(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (node->table == NULL || result_table_is_well(node->table))
		return true;
	err_set(why, ERR_UNAVAILABLE, "the results' table is away");
	return false;
}

static bool is_turning(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (clock_mono_ms() - atomic_load(&node->beat_ms) < STUCK_MS)
		return true;
	err_set(why, ERR_FATAL, "the loop hangs");
	return false;
}

static bool is_delivered(void *arg, struct err *why)
{
	const struct node *node = arg;

	if (!atomic_load(&node->is_stalled))
		return true;
	err_set(why, ERR_UNAVAILABLE, "messages are ready and none is delivered");
	return false;
}

static void on_quit(int number)
{
	(void)number;
	node_quit();
}

/* As with Celery, for those who can send SIGTERM alone: it may mean SIGQUIT. */
static void hear_quit(void)
{
	const struct sigaction quit = { .sa_handler = on_quit, .sa_flags = SA_RESTART };
	const char *remapped = getenv("REMAP_SIGTERM");

	sigaction(SIGQUIT, &quit, NULL);
	if (remapped != NULL && strcmp(remapped, "SIGQUIT") == 0)
		sigaction(SIGTERM, &quit, NULL);
}

static int open_admin(const struct settings *settings, struct node *node, struct admin **admin, struct err *err)
{
	const struct health_check checks[] = {
		{ "consumer", true, false, is_consuming, node },
		{ "publisher", true, false, is_publishing, node },
		{ "results", true, false, is_storing, node },
		{ "children", true, false, has_children, node },
		{ "loop", true, true, is_turning, node },
		{ "deliveries", true, true, is_delivered, node },
	};

	return admin_start(settings->worker_admin, checks, sizeof(checks) / sizeof(checks[0]), admin, err);
}

int job_worker_run(const struct settings *settings)
{
	static struct node node; /* large */
	struct signer *signer = NULL;
	struct admin *admin = NULL;
	struct err err = ERR_INIT;
	int nursery, code = EXIT_FAILURE;

	log_open("feed-worker", "job");
	if (settings->amqp.url[0] == '\0') {
		log_error("can't start", log_str("error", "setting amqp.url is empty: jobs come by RabbitMQ"));
		return 2;
	}
	/* The nursery before the key: no child has that in its memory. */
	if (jobs_open(settings, &err) < 0 || nursery_start(settings, &nursery, &err) < 0 || signer_open(settings, &signer, &err) < 0) {
		log_error("can't start", log_err(&err));
		return 2;
	}
	signer_forget_password(settings);
	hear_quit();
	packages_warn();
	if (strcmp(settings->job.pool, "threads") == 0 && settings->job.hard_time_limit_ms > 0)
		log_warn("threads can't be ended: with job.hard_time_limit_ms jobs run in children");
	if (settings->job.deduplicate_successful && !result_has_table(settings))
		log_warn("job.deduplicate_successful does nothing: job.results names no database to ask");
	if (node_open(&node, settings, signer, nursery, &err) < 0 || open_admin(settings, &node, &admin, &err) < 0) {
		log_error("can't start", log_err(&err));
		_exit(EXIT_FAILURE);
	}
	log_info("start", log_str("version", FEEDMILL_VERSION), log_str("node", node.name), log_str("queues", settings->job.queues),
		log_str("pool", settings->job.pool), log_int("concurrency", settings->job.concurrency),
		log_str("email", settings->smtp.url[0] != '\0' ? "on" : "off"), log_str("files", settings->job.files[0] != '\0' ? "on" : "off"), log_str("signed", signer != NULL ? "on" : "off"),
		log_int("admin_port", admin_port(admin)));
	node.admin_port = admin_port(admin);
	code = node_run(&node);
	notify_stopping();
	admin_stop(admin);
	node_close(&node);
	signer_close(signer);
	jobs_close();
	log_info("stop", log_int("code", code), log_int("processed", node.processed));
	return code;
}
