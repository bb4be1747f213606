/* Settings go in, a gateway runs until it is told to stop; what it is made of is opened here in order, and closed in reverse. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api-gateway/contract.h"
#include "api-gateway/documents.h"
#include "api-gateway/gateway.h"
#include "api-gateway/events.h"
#include "api-gateway/known.h"
#include "api-gateway/lease_keeper.h"
#include "api-gateway/meters.h"
#include "api-gateway/pending.h"
#include "api-gateway/progress.h"
#include "api-gateway/publish.h"
#include "api-gateway/readers.h"
#include "api-gateway/request_log.h"
#include "api-gateway/results.h"
#include "api-gateway/router.h"
#include "api-gateway/server.h"
#include "api-gateway/watch.h"
#include "api-gateway/yaml.h"
#include "common/base/clock.h"
#include "common/base/descriptors.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/base/packages.h"
#include "common/base/program.h"
#include "common/base/stop.h"
#include "common/http/admin.h"
#include "common/http/http_client.h"
#include "common/http/http_listen.h"
#include "common/queue/job_message.h"
#include "common/queue/queue.h"
#include "common/queue/topics.h"
#include "common/store/store.h"

#define EXIT_RUN_FAILED 1
#define EXIT_CONTRACT 2      /* like a wrong setting: nothing was opened */
#define FLUSH_MS 5000
#define LAST_ANSWERS_MS 2000 /* for what was answered when the drain's time was up */
#define LAST_JOBS_MS 500     /* for RabbitMQ to confirm what nobody waits for any more */
#define GIVE_BACK_MS 30000   /* between two returns of freed memory to the system */
#define MEMORY_POOLS 4       /* of malloc: one a thread, its default, would waste more than it saves */
#define LARGE_BYTES 32768    /* such pieces go back to the system at once: few posts are that long, and they come in waves */
#define SHORTEST_READ_MS 1000
#define LEAVE_MS 3000        /* for what is closed at the end, when all is answered and flushed */
#define INHERITED_WAIT_MS 10000
#define LOOK_MS 50
#define OWN_DESCRIPTORS 256       /* files, Kafka's brokers, refused clients that still talk */
#define THREAD_DESCRIPTORS 4      /* of an HTTP thread, or of a reader with its two connections */
#define SIGN_LOOK_MS 250     /* how often we look whether the service manager is due a sign of life */

static atomic_bool has_failed;

/* A thread that can't go on says so here: the process drains and exits with 1. */
static void fail(void *arg)
{
	(void)arg;
	atomic_store(&has_failed, true);
	stop_request();
}

/* ---- what /readyz asks */

static bool queue_is_ready(void *arg, struct err *why)
{
	return producer_ready(((struct gateway *)arg)->producer, why);
}

static bool lease_is_held(void *arg, struct err *why)
{
	return lease_keeper_held(((struct gateway *)arg)->lease, why);
}

static bool schema_is_right(void *arg, struct err *why)
{
	return watch_schema(((struct gateway *)arg)->watch, why);
}

static bool results_are_ready(void *arg, struct err *why)
{
	return results_ready(((struct gateway *)arg)->results, why);
}

static bool jobs_can_go(void *arg, struct err *why)
{
	const struct gateway *gateway = arg;

	return gateway->jobs == NULL || amqp_publisher_ready(gateway->jobs, why) == 0;
}

static bool store_is_there(void *arg, struct err *why)
{
	return watch_store(((struct gateway *)arg)->watch, why);
}

static bool search_is_there(void *arg, struct err *why)
{
	return watch_search(((struct gateway *)arg)->watch, why);
}

/* A database that is away is shown only: posts go on as long as the lease lasts. */
static const struct health_check checks[] = {
	{ .name = NULL /* of the back end: queue.type */, .fatal = true, .ask = queue_is_ready },
	{ .name = "lease", .fatal = true, .ask = lease_is_held },
	{ .name = "schema", .fatal = true, .ask = schema_is_right },
	{ .name = "results", .fatal = true, .ask = results_are_ready },
	{ .name = "store", .ask = store_is_there },
	{ .name = "search", .ask = search_is_there },
	{ .name = "jobs", .ask = jobs_can_go },
};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

static bool is_ready(struct gateway *gateway)
{
	struct err why = ERR_INIT;

	for (size_t i = 0; i < CHECKS; i++)
		if (checks[i].fatal && !checks[i].ask(gateway, &why))
			return false;
	return true;
}

/* ---- opening */

/* The zone of `occurred` dates. Before any thread is made: the environment has no lock. */
static void set_zone(const char *zone)
{
	if (zone[0] != '\0')
		setenv("TZ", zone, 1);
	tzset();
}

/* Nobody waits longer for a read than for a command: a database or search engine that hangs would hold all readers, and at
 * the end this process too. */
static void bound_waits(struct settings *settings)
{
	int64_t limit_ms = settings->gateway.wait_ms > SHORTEST_READ_MS ? settings->gateway.wait_ms : SHORTEST_READ_MS;

	if (settings->mysql.connect_timeout_ms > limit_ms)
		settings->mysql.connect_timeout_ms = limit_ms;
	if (settings->mysql.read_timeout_ms > limit_ms)
		settings->mysql.read_timeout_ms = limit_ms;
	if (settings->search.timeout_ms > limit_ms)
		settings->search.timeout_ms = limit_ms;
}

static int read_contract(struct gateway *gateway)
{
	struct err err = ERR_INIT;

	if (contract_load(gateway->settings->gateway.contract, &gateway->contract, &err) == 0 &&
		router_new(gateway->contract, route_table, route_count, &gateway->router, &err) == 0)
		return 0;
	log_error("contract refused", log_str("file", gateway->settings->gateway.contract), log_err(&err));
	return -1;
}

/* What the settings' table can't know: which topics there are, and what jobs need. */
static int check_settings(const struct settings *settings)
{
	struct err err = ERR_INIT;
	struct topic topic;

	if (settings->gateway.jobs[0] != '\0' && settings->amqp.url[0] == '\0')
		err_set(&err, ERR_FATAL, "setting gateway.jobs: \"%.40s\" needs amqp.url: jobs go to RabbitMQ", settings->gateway.jobs);
	else if (topic_of_request_log(settings, &topic, &err) == 0)
		return 0;
	log_error("settings refused", log_err(&err));
	return -1;
}

/* Jobs are signed where settings name files for that; what is wrong with these is wrong with the settings. */
static int read_keys(struct gateway *gateway)
{
	struct err err = ERR_INIT;

	if (gateway->settings->gateway.jobs[0] == '\0' || signer_open(gateway->settings, &gateway->signer, &err) == 0)
		return 0;
	log_error("settings refused", log_err(&err));
	return -1;
}

/* A gateway without its page works as well; /docs says how to get it. */
static void read_documents(struct gateway *gateway)
{
	struct err why = ERR_INIT;

	gateway->documents = documents_new(gateway->contract, gateway->settings->gateway.docs);
	if (!documents_complete(gateway->documents, &why))
		log_warn("no API page", log_str("setting", "gateway.docs"), log_err(&why));
}

static void follow_number(void *arg, int number)
{
	results_follow(((struct gateway *)arg)->results, number);
}

static int declare_mailbox(struct amqp *amqp, void *arg, struct err *err)
{
	(void)arg;
	return job_message_declare(amqp, err);
}

/* Each message that waits belongs to a request that does: gateway.max_in_flight bounds their bytes. */
static int open_jobs(struct gateway *gateway, struct err *err)
{
	const struct amqp_publisher_options options = { .purpose = "jobs of feed-gateway", .declare = declare_mailbox, .window = 256, .room = 4096 };

	if (gateway->settings->gateway.jobs[0] == '\0')
		return 0;
	return amqp_publisher_open(gateway->settings, &options, &gateway->jobs, err);
}

static int open_parts(struct gateway *gateway, struct err *err)
{
	const struct settings *settings = gateway->settings;

	read_documents(gateway);
	gateway->known = known_new((size_t)settings->gateway.known_participants);
	if (watch_open(settings, fail, gateway, &gateway->watch, err) < 0)
		return -1;
	if (queue_open(settings, &gateway->queue, err) < 0)
		return -1;
	if (producer_open(gateway->queue, 0, &gateway->producer, err) < 0)
		return -1;
	if (request_log_open(settings, gateway->queue, &gateway->request_log, err) < 0)
		return -1;
	if (open_jobs(gateway, err) < 0 || readers_open(settings, &gateway->readers, err) < 0)
		return -1;
	gateway->pending = pending_new(publish_expired);
	if (results_open(gateway->queue, publish_outcome, fail, gateway, &gateway->results, err) < 0)
		return -1;
	if (events_open(settings, gateway->queue, &gateway->events, err) < 0)
		return -1;
	if (lease_keeper_open(settings, follow_number, gateway, &gateway->lease, err) < 0)
		return -1;
	meters_init(gateway);
	return 0;
}

/* A socket that others accept from as well is not touched before we can answer well; but it may be ours alone, so not for ever. */
static void wait_ready(struct gateway *gateway, int64_t limit_ms)
{
	int64_t until_ms = clock_mono_ms() + limit_ms;

	while (!is_ready(gateway) && clock_mono_ms() < until_ms && !stop_wait(LOOK_MS))
		;
}

/* What is beyond the limit of descriptors is not accepted: clients can wait, but a database that can't be reached because
 * clients have taken every descriptor fails them all. */
static int64_t connections_allowed(const struct gateway_settings *s)
{
	const int64_t own = OWN_DESCRIPTORS + THREAD_DESCRIPTORS * (s->threads + s->readers);
	const int64_t limit = descriptors_allow(s->max_connections + own);
	const int64_t room = limit > 2 * own ? limit - own : limit / 2;

	if (limit >= s->max_connections + own)
		return s->max_connections;
	log_warn("fewer connections than set", log_int("max_connections", s->max_connections), log_int("accepted", room),
		log_int("descriptors", limit), log_str("remedy", "raise the hard limit of open files: LimitNOFILE=, ulimit -Hn"));
	return room;
}

static int open_servers(struct gateway *gateway, struct err *err)
{
	const struct gateway_settings *s = &gateway->settings->gateway;
	const struct http_options options = {
		.listen = s->listen,
		.inherited_fd = http_listen_handed_down(),
		.threads = s->threads,
		.max_connections = connections_allowed(s),
		.max_body = s->max_body,
		.max_bodies = s->max_in_flight,
		.answer_bytes = &gateway->answer_bytes,
		.max_header = s->max_header,
		.header_timeout_ms = s->header_timeout_ms,
		.idle_timeout_ms = s->idle_timeout_ms,
		.body_min_rate = s->body_min_rate,
		.cors_origin = s->cors_origin,
		.handle = server_handle,
		.arg = gateway,
	};
	struct health_check mine[CHECKS];

	if (options.inherited_fd >= 0)
		wait_ready(gateway, INHERITED_WAIT_MS);
	memcpy(mine, checks, sizeof(checks));
	for (size_t i = 0; i < CHECKS; i++) {
		mine[i].arg = gateway;
		if (mine[i].name == NULL)
			mine[i].name = gateway->settings->queue.type;
	}
	if (http_server_start(&options, &gateway->server, err) < 0)
		return -1;
	return admin_start(s->admin, mine, CHECKS, &gateway->admin, err);
}

/* ---- closing */

/* Requests that wait may end by themselves while the drain lasts; then they get the answer that is true by now. The admin
 * port looks at all parts, so it goes first. */
static void drain_and_stop(struct gateway *gateway)
{
	int64_t until_ms = clock_mono_ms() + gateway->settings->drain_timeout_ms;
	const struct timespec look = { .tv_nsec = LOOK_MS * 1000000L };

	http_server_drain(gateway->server);
	events_stop(gateway->events);
	FAULT_POINT("gateway.draining");
	while (http_server_connections(gateway->server) > 0 && clock_mono_ms() < until_ms)
		nanosleep(&look, NULL);
	readers_stop(gateway->readers);
	pending_close(gateway->pending);
	if (gateway->admin != NULL)
		admin_stop(gateway->admin);
	http_server_stop(gateway->server, LAST_ANSWERS_MS);
}

static int exit_code(int code)
{
	return atomic_load(&has_failed) ? EXIT_RUN_FAILED : code;
}

static void *leave_late(void *code)
{
	int last = exit_code((int)(intptr_t)code);

	nanosleep(&(struct timespec){ .tv_sec = LEAVE_MS / 1000, .tv_nsec = LEAVE_MS % 1000 * 1000000L }, NULL);
	log_warn("not waited for a server that does not answer");
	log_info("stopped", log_int("code", last));
	_exit(last);
}

/* The parts that ask servers may hang on one for each of its timeouts in turn. */
static void leave_in_time(int code)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, leave_late, (void *)(intptr_t)code) == 0)
		pthread_detach(thread);
}

/* Any part may be missing. Nobody may be left to answer when the table goes, nor to send when the producer does. */
static void close_parts(struct gateway *gateway, int code)
{
	if (gateway->server != NULL)
		drain_and_stop(gateway);
	if (gateway->producer != NULL && producer_flush(gateway->producer, FLUSH_MS) < 0)
		log_warn("records not confirmed at the end", log_int("count", producer_pending(gateway->producer)));
	leave_in_time(code);
	FAULT_POINT("gateway.flushed");
	amqp_publisher_close(gateway->jobs, LAST_JOBS_MS);
	lease_keeper_close(gateway->lease);
	events_close(gateway->events);
	results_close(gateway->results);
	readers_close(gateway->readers);
	signer_close(gateway->signer);
	producer_close(gateway->producer);
	request_log_close(gateway->request_log);
	pending_free(gateway->pending);
	queue_close(gateway->queue);
	watch_close(gateway->watch);
	known_free(gateway->known);
	router_free(gateway->router);
	documents_free(gateway->documents);
	contract_free(gateway->contract);
}

/* ---- running */

static void log_start(const struct settings *settings)
{
	struct buf queue = BUF_INIT, database = BUF_INIT;

	queue_describe(settings, &queue);
	store_describe(settings, &database);
	log_info("start", log_str("version", FEEDMILL_VERSION), log_str("contract", settings->gateway.contract),
		log_str(settings->queue.type, queue.data),
		log_str("topic_prefix", settings->kafka.topic_prefix[0] != '\0' ? settings->kafka.topic_prefix : NULL),
		log_str("database", database.data), log_str("index", strcmp(settings->search.type, "elastic") == 0 ? settings->search.index : NULL),
		log_str("request_log", settings->gateway.request_log_topic[0] != '\0' ? settings->gateway.request_log_topic : "off"),
		log_int("wait_ms", settings->gateway.wait_ms));
	buf_release(&queue);
	buf_release(&database);
	packages_warn();
}

static void give_signs_until_stop(struct gateway *gateway)
{
	int64_t since_ms, give_back_at = clock_mono_ms() + GIVE_BACK_MS;

	while (!stop_wait(SIGN_LOOK_MS)) {
		if (notify_is_due(&since_ms) && progress_since(gateway, since_ms))
			notify_alive();
		if (clock_mono_ms() < give_back_at)
			continue;
		mem_give_back();
		give_back_at = clock_mono_ms() + GIVE_BACK_MS;
	}
}

static void run_until_stop(struct gateway *gateway)
{
	const struct log_field port = log_int("port", http_server_port(gateway->server));
	const struct log_field admin = log_int("admin_port", admin_port(gateway->admin));

	log_info("listening", port, admin, log_str("version", FEEDMILL_VERSION), log_int("threads", gateway->settings->gateway.threads),
		log_int("readers", gateway->settings->gateway.readers));
	wait_ready(gateway, INT64_MAX / 2);
	if (!stop_requested()) {
		notify_ready();
		log_info("ready", port, admin);
	}
	give_signs_until_stop(gateway);
	notify_stopping();
	log_info("stopping", log_int("pending", (int64_t)pending_count(gateway->pending)));
}

static int run(const struct settings *settings, int argc, char **argv)
{
	struct settings mine = *settings; /* borrows its texts */
	struct gateway gateway = { .settings = &mine };
	struct err err = ERR_INIT;
	int code = EXIT_RUN_FAILED;

	if (argc > 0)
		return program_usage("%s is not understood: feed-gateway takes options alone", argv[0]);
	log_start(settings);
	bound_waits(&mine);
	mem_keep_little(MEMORY_POOLS, LARGE_BYTES);
	set_zone(settings->gateway.zone);
	http_client_global_init();
	if (check_settings(settings) < 0 || read_keys(&gateway) < 0 || read_contract(&gateway) < 0) {
		code = EXIT_CONTRACT;
	} else if (open_parts(&gateway, &err) < 0 || open_servers(&gateway, &err) < 0) {
		log_error("not started", log_err(&err));
	} else {
		run_until_stop(&gateway);
		code = 0;
	}
	close_parts(&gateway, code);
	log_info("stopped", log_int("code", exit_code(code)));
	return exit_code(code);
}

static const char *libraries(void)
{
	static char names[256];

	snprintf(names, sizeof(names), "%s, %s, %s, %s, %s", http_server_library(), queue_library(), store_library(), http_client_library(),
		yaml_library());
	return names;
}

static const struct program feed_gateway = {
	.name = "feed-gateway",
	.summary = "takes posts and commands over HTTP to the queue, and answers from the store",
	.synopsis = "",
	.libraries = libraries,
	.run = run,
};

int main(int argc, char **argv)
{
	return program_main(&feed_gateway, argc, argv);
}
