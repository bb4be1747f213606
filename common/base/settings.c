/* THE TABLE of all settings, and what must hold between them: a file and the environment go in, struct settings comes out. */
#include "common/base/settings.h"

#include <stddef.h>
#include <string.h>

#include "common/base/conf.h"
#include "common/base/delays.h"

#define FIELD(member) offsetof(struct settings, member)
#define TEXT(name, member, initial, min, max, help) { name, CONF_TEXT, FIELD(member), initial, min, max, NULL, help }
#define INT(name, member, initial, min, max, help) { name, CONF_INT, FIELD(member), initial, min, max, NULL, help }
#define SECRET(name, member, help) { name, CONF_SECRET, FIELD(member), "", 0, 1024, NULL, help }
#define BOOL(name, member, initial, help) { name, CONF_BOOL, FIELD(member), initial, 0, 0, NULL, help }
#define CHOICE(name, member, initial, choices, help) { name, CONF_CHOICE, FIELD(member), initial, 0, 0, choices, help }

#define MINUTE_MS 60000
#define MIB (INT64_C(1) << 20)
#define TABLE_NAME_MAX 64 /* bytes: MySQL's */

/* What each worker has, under its own name. */
#define WORKER(name, threads_, batch_, linger_) \
	INT(#name ".threads", name.threads, threads_, 1, 64, "consumers in one process, each with its own connections"), \
	INT(#name ".batch", name.batch, batch_, 1, 10000, "records a transaction or a bulk request at most"), \
	INT(#name ".linger_ms", name.linger_ms, linger_, 0, 10000, "how long a batch that is not full waits for more, when the last one had several records, milliseconds")

static const struct conf_row rows[] = {
	TEXT("instance", instance, "", 0, 128, "stable name of this process among replicas: static group membership; empty: none"),

	CHOICE("log.level", log_level, "info", "error|warn|info|debug", "what is logged"),

	CHOICE("queue.type", queue.type, "kafka", "kafka|sqlite", "where the topics are: a Kafka cluster, or files in embedded.folder"),

	TEXT("kafka.brokers", kafka.brokers, "127.0.0.1:9092", 1, 4096, "host:port,host:port"),
	TEXT("kafka.topic_prefix", kafka.topic_prefix, "", 0, 64, "before every topic and group: several Feedmills on one Kafka"),
	INT("kafka.replication", kafka.replication, "0", 0, 32, "of the topics that feedctl makes; 0: the broker's default"),
	INT("kafka.partitions", kafka.partitions, "8", 1, 4096, "of the topics that feedctl makes and that have no fixed number"),
	INT("kafka.message_timeout_ms", kafka.message_timeout_ms, "60000", 1000, 15 * MINUTE_MS,
		"after which a record without acknowledgement is given up, milliseconds"),
	INT("kafka.linger_ms", kafka.linger_ms, "1", 0, 900, "how long the gateway waits to fill a batch, milliseconds"),
	INT("kafka.session_timeout_ms", kafka.session_timeout_ms, "10000", 1000, 5 * MINUTE_MS,
		"after which a silent consumer loses its partitions, milliseconds"),

	CHOICE("store.type", store.type, "mysql", "mysql|sqlite", "where the tables are: a MySQL or MariaDB server, or a file in embedded.folder"),

	TEXT("mysql.host", mysql.host, "127.0.0.1", 1, 255, "name or address of the server"),
	INT("mysql.port", mysql.port, "3306", 1, 65535, "TCP port"),
	TEXT("mysql.user", mysql.user, "feed", 1, 80, "account that owns the tables, or may use them"),
	SECRET("mysql.password", mysql.password, "of that account"),
	TEXT("mysql.database", mysql.database, "feedmill", 1, 64, "name of the database"),
	TEXT("mysql.ca_file", mysql.ca_file, "", 0, 4096, "set: TLS, and the server's certificate must be signed by this CA"),
	INT("mysql.connect_timeout_ms", mysql.connect_timeout_ms, "5000", 100, 5 * MINUTE_MS, "of connecting, milliseconds"),
	INT("mysql.read_timeout_ms", mysql.read_timeout_ms, "30000", 1000, 60 * MINUTE_MS,
		"after which a silent server counts as lost, milliseconds"),
	INT("mysql.lock_wait_s", mysql.lock_wait_s, "5", 1, 3600, "how long a statement waits for a row lock, seconds"),
	INT("mysql.idle_transaction_s", mysql.idle_transaction_s, "8", 1, 3600,
		"after which the server ends a transaction that does nothing, seconds; below kafka.session_timeout_ms"),

	CHOICE("search.type", search.type, "elastic", "elastic|sqlite", "what searches: an engine at search.url, or a file in embedded.folder"),
	TEXT("search.url", search.url, "http://127.0.0.1:9200", 1, 2048, "Elasticsearch or OpenSearch, http or https"),
	TEXT("search.index", search.index, "feed", 1, 255, "name of the index"),
	INT("search.timeout_ms", search.timeout_ms, "10000", 100, 10 * MINUTE_MS, "of one request, milliseconds"),

	TEXT("embedded.folder", embedded.folder, ".feedmill", 1, 4000, "where the embedded back ends keep their files; :memory: is for tests"),
	INT("embedded.lock_wait_ms", embedded.lock_wait_ms, "5000", 0, 10 * MINUTE_MS,
		"how long one that writes waits for another that does, milliseconds"),

	SECRET("amqp.url", amqp.url, "amqp://user:password@host:port/vhost of RabbitMQ, amqps for TLS; empty: nothing uses it"),
	TEXT("amqp.ca_file", amqp.ca_file, "", 0, 4096, "of amqps: the server's certificate must be signed by this CA"),
	INT("amqp.heartbeat_s", amqp.heartbeat_s, "20", 5, 600, "a server that is silent twice as long counts as lost, seconds"),
	INT("amqp.connect_timeout_ms", amqp.connect_timeout_ms, "5000", 100, 5 * MINUTE_MS, "of connecting and logging in, milliseconds"),
	INT("amqp.answer_timeout_ms", amqp.answer_timeout_ms, "10000", 100, 5 * MINUTE_MS, "after which an answer that does not come ends the connection, milliseconds"),

	SECRET("redis.url", redis.url, "redis://user:password@host:port of Redis; empty: nothing uses it"),
	INT("redis.timeout_ms", redis.timeout_ms, "5000", 100, 5 * MINUTE_MS, "of connecting, and of one answer, milliseconds"),

	TEXT("gateway.listen", gateway.listen, "127.0.0.1:8080", 1, 255, "address:port of the public API; port 0: any free one"),
	TEXT("gateway.admin", gateway.admin, "127.0.0.1:8081", 1, 255, "address:port of /healthz, /readyz and /metrics"),
	TEXT("gateway.contract", gateway.contract, "config/api/feedmill.openapi.yaml", 1, 4096, "the OpenAPI file, read at launch"),
	TEXT("gateway.docs", gateway.docs, "build/docs", 0, 4096, "folder of the page at /docs, as `make docs` makes it; empty: no page"),
	INT("gateway.threads", gateway.threads, "2", 1, 256, "HTTP threads"),
	INT("gateway.readers", gateway.readers, "4", 1, 256, "threads that ask store and search, each with its own connection"),
	INT("gateway.reader_queue", gateway.reader_queue, "1024", 1, 1000000, "requests that wait for a reader; more: 503"),
	INT("gateway.wait_ms", gateway.wait_ms, "5000", 1, 10 * MINUTE_MS,
		"how long a request waits for a result or a delivery report, milliseconds; below kafka.message_timeout_ms"),
	INT("gateway.max_connections", gateway.max_connections, "10000", 1, 1000000, "open at once; more are not accepted"),
	INT("gateway.max_listeners", gateway.max_listeners, "1000", 0, 1000000, "clients that listen for product events at once; more: 503"),
	INT("gateway.max_body", gateway.max_body, "1048576", 1, 64 * MIB, "bytes of a request's body; more: 413"),
	INT("gateway.max_in_flight", gateway.max_in_flight, "67108864", 4 * MIB, MIB * 1048576,
		"bytes of all bodies being received, and likewise of all lists being sent; more: 503"),
	INT("gateway.max_header", gateway.max_header, "16384", 1024, MIB, "bytes of a request's line and headers; more: 431"),
	INT("gateway.header_timeout_ms", gateway.header_timeout_ms, "10000", 100, 10 * MINUTE_MS,
		"in which all headers must be here, milliseconds"),
	INT("gateway.idle_timeout_ms", gateway.idle_timeout_ms, "60000", 100, 60 * MINUTE_MS,
		"after which a silent connection is closed, milliseconds"),
	INT("gateway.body_min_rate", gateway.body_min_rate, "1024", 0, MIB, "bytes a second that a body must bring; 0: any"),
	TEXT("gateway.jobs", gateway.jobs, "", 0, 8000,
		"jobs that POST /jobs/{name} takes, by whoever reaches it: name,name; *: all; empty: none"),
	INT("gateway.key_keep_s", gateway.key_keep_s, "86400", 60, 7 * 86400,
		"how long an Idempotency-Key gets the same answer, seconds; no longer than the topics keep records"),
	INT("gateway.known_participants", gateway.known_participants, "1000000", 1, 100000000, "how many the cache remembers"),
	TEXT("gateway.cors_origin", gateway.cors_origin, "*", 0, 255, "Access-Control-Allow-Origin; empty: none"),
	TEXT("gateway.zone", gateway.zone, "", 0, 64, "time zone of `occurred` dates, as TZ; empty: the system's"),
	TEXT("gateway.request_log_topic", gateway.request_log_topic, "", 0, 184,
		"topic that gets a line for each request answered well, time in gateway.zone; empty: none"),

	TEXT("worker.admin", worker_admin, "127.0.0.1:0", 1, 255, "address:port of a worker's /healthz, /readyz and /metrics"),
	INT("worker.drain_timeout_ms", drain_timeout_ms, "25000", 0, 60 * MINUTE_MS,
		"how long a stop signal waits for work under way, milliseconds"),
	TEXT("worker.retry_delays", retry_delays, DELAYS_INITIAL, 1, 100,
		"after which a record that can't be done is tried again, one after another; then it is a dead letter"),
	INT("worker.crash_limit", crash_limit, "5", 3, 1000, "how often a record may end its worker's process, before it is a dead letter"),

	INT("worker.backlog_ms", worker_backlog_ms, "30000", 0, 60 * MINUTE_MS,
		"how often the age of the oldest record is asked for that the group has not done, milliseconds; 0: never"),

	WORKER(command, "1", "200", "0"),
	INT("command.prune_s", command_prune_s, "3600", 0, 30 * 86400, "how often rows that nobody asks for any more are deleted, seconds; 0: never"),

	WORKER(fanout, "2", "100", "2"),
	INT("fanout.chunk", fanout_chunk, "5000", 1, 100000, "a friend list longer than this is planned in chunks of this length"),

	WORKER(chunk, "2", "1", "0"),

	WORKER(index, "1", "500", "200"),

	WORKER(relay, "1", "200", "0"),
	TEXT("relay.exchange", sink.exchange, "product_events", 1, 255, "topic exchange of RabbitMQ that gets product events"),
	TEXT("relay.channel", sink.channel, "product_events", 1, 255, "channel of Redis that gets product events"),
	INT("relay.webhook_senders", sink.webhook_senders, "4", 1, 64, "threads that call webhooks; each calls one at a time"),
	INT("relay.webhook_timeout_ms", sink.webhook_timeout_ms, "15000", 100, 5 * MINUTE_MS, "of one call, milliseconds"),
	INT("relay.webhook_retry_ms", sink.webhook_retry_ms, "5000", 1, 60 * MINUTE_MS, "longest wait before the second try; it doubles, with jitter, milliseconds"),
	INT("relay.webhook_retry_max_ms", sink.webhook_retry_max_ms, "3600000", 1, 24 * 60 * MINUTE_MS, "up to this, milliseconds"),
	INT("relay.webhook_give_up_s", sink.webhook_give_up_s, "86400", 1, 30 * 86400, "a webhook that fails for so long is disabled, seconds"),
	CHOICE("relay.webhook_addresses", sink.webhook_addresses, "public", "public|any", "whom webhooks may call: public addresses by ports 80 and 443, or also your own network"),
	INT("relay.window", sink.window, "10000", 0, 10000000, "event ids that a thread remembers, to drop repeats"),

	TEXT("job.node", job.node, "feed-%p@%h", 3, 200, "name of the job worker among Celery's nodes, no two alike: %h host, %n its first part, %d the rest, %p process id, %i instance"),
	TEXT("job.queues", job.queues, "celery", 1, 2000, "RabbitMQ queues that it consumes: name,name; the first is where what names no queue is sent"),
	CHOICE("job.queue_type", job.queue_type, "classic", "classic|quorum", "of queues that it declares; must be what Celery clients declare"),
	CHOICE("job.exchange_type", job.exchange_type, "direct", "direct|topic", "of the exchanges of those queues; likewise (topic with quorum queues and countdowns)"),
	INT("job.max_priority", job.max_priority, "0", 0, 255, "x-max-priority of those queues; 0: no priorities"),
	TEXT("job.queue_arguments", job.queue_arguments, "", 0, 8000, "arguments that queues are declared with, in the place of all others: queue: x-max-priority=10, x-message-ttl=60000; other: …"),
	BOOL("job.inherit_priority", job.inherit_priority, "false", "what follows a job has its priority, where it has none of its own"),
	CHOICE("job.delay_queue_type", job.delay_queue_type, "quorum", "quorum|classic", "of the queues celery_delayed_*, where countdowns wait"),
	TEXT("job.dead_letter_queue", job.dead_letter_queue, "feed.jobs.dead", 0, 200, "where messages go that can't be read or were lost too often; empty: they are rejected"),
	CHOICE("job.pool", job.pool, "children", "children|threads", "where handlers run that are safe in threads; the others run in children"),
	INT("job.concurrency", job.concurrency, "4", 1, 512, "child processes; with threads, also the number of those"),
	INT("job.prefetch_multiplier", job.prefetch_multiplier, "4", 1, 1000, "deliveries taken ahead of time, for each of job.concurrency"),
	CHOICE("job.acks", job.acks, "late", "late|early", "a job is acknowledged when its result is safe, or before it runs"),
	BOOL("job.acks_on_failure", job.acks_on_failure, "true", "late: a job that failed is acknowledged; else rejected, for the queue's dead letters"),
	CHOICE("job.acks_on_timeout", job.acks_on_timeout, "as_failure", "as_failure|true|false", "late: a job that its hard time limit has ended goes by job.acks_on_failure, is acknowledged, or runs again until job.delivery_limit"),
	BOOL("job.reject_on_worker_lost", job.reject_on_worker_lost, "true", "late: a job whose child died goes back, until job.delivery_limit"),
	BOOL("job.deduplicate_successful", job.deduplicate_successful, "false", "late: a job that is delivered again and is a SUCCESS in the database does not run again"),
	INT("job.delivery_limit", job.delivery_limit, "5", 1, 1000, "how often a late job may be delivered without an end; then it goes to job.dead_letter_queue"),
	INT("job.soft_time_limit_ms", job.soft_time_limit_ms, "0", 0, 7 * 24 * 60 * MINUTE_MS, "a job is asked to end, milliseconds; 0: never; a message's own limit wins"),
	INT("job.hard_time_limit_ms", job.hard_time_limit_ms, "0", 0, 7 * 24 * 60 * MINUTE_MS, "its child is killed, milliseconds; 0: never; a message's own limit wins"),
	INT("job.soft_shutdown_ms", job.soft_shutdown_ms, "0", 0, 24 * 60 * MINUTE_MS, "how long SIGQUIT waits for jobs before it ends them, milliseconds"),
	INT("job.max_tasks_per_child", job.max_tasks_per_child, "0", 0, 1000000000, "after so many jobs a child is replaced; 0: never"),
	INT("job.max_memory_per_child_kib", job.max_memory_per_child_kib, "0", 0, 1 << 30, "a child that used more is replaced after its job, KiB; 0: never"),
	CHOICE("job.results", job.results, "rpc", "rpc|database|both|none", "where results go: to the client's own queue, to the table job.result_table of store.type"),
	TEXT("job.result_table", job.result_table, "celery_taskmeta", 1, 2 * TABLE_NAME_MAX + 1, "of results, as clients name it (database_table_names, task); with MySQL also database.name"),
	TEXT("job.group_table", job.group_table, "celery_tasksetmeta", 1, 2 * TABLE_NAME_MAX + 1, "where clients save groups of results, for deleting old ones (database_table_names, group); likewise"),
	CHOICE("job.database_format", job.database_format, "pickle", "pickle|json|auth", "of results in that table; every Celery reads pickle, json is for 5.7 and later, auth for those that sign results"),
	CHOICE("job.result_serializer", job.result_serializer, "json", "json|msgpack", "what jobs and remote control that came as MessagePack are answered in; all others in JSON"),
	INT("job.result_expires_s", job.result_expires_s, "86400", 0, 3650 * 86400, "after which results in the table are deleted, seconds; 0: never"),
	BOOL("job.result_extended", job.result_extended, "false", "results tell name, arguments, worker, retries and queue too"),
	BOOL("job.result_persistent", job.result_persistent, "false", "results to a client's own queue are kept on disk (where the client's queue is durable)"),
	BOOL("job.track_started", job.track_started, "false", "the state STARTED is stored"),
	BOOL("job.events", job.events, "false", "events of tasks are sent (worker -E); else when `enable_events` asks"),
	CHOICE("job.control", job.control, "all", "all|inspect|none", "remote control that is obeyed: whoever may publish on RabbitMQ can send it"),
	BOOL("job.mingle", job.mingle, "true", "other nodes are asked for their revoked tasks and clock at start"),
	TEXT("job.state_file", job.state_file, "", 0, 4096, "keeps revoked tasks over a restart; empty: none"),
	INT("job.revokes_kept_s", job.revokes_kept_s, "604800", 1, 3650 * 86400, "how long a revoke holds, seconds: longer than jobs are delayed; at most 50,000 are kept in memory"),
	BOOL("job.durable_revokes", job.durable_revokes, "false", "revoked tasks are kept in the table job_revoked of store.type, which every node reads"),
	INT("job.retry_first_ms", job.retry_first_ms, "1000", 1, 24 * 60 * MINUTE_MS, "most that the first retry of a handler waits, milliseconds; doubles each time, full jitter"),
	INT("job.retry_limit_ms", job.retry_limit_ms, "600000", 1, 7 * 24 * 60 * MINUTE_MS, "most that any retry waits, milliseconds"),
	TEXT("job.rate_limits", job.rate_limits, "", 0, 4000, "of this node: task=10/m,other=2/s"),
	TEXT("job.exec", job.exec, "", 0, 8000, "jobs that programs do: task=/path/program argument; other=/path/program"),
	TEXT("job.http", job.http, "", 0, 8000, "jobs that HTTP endpoints do: task=https://host/path; other=http://host/path"),
	TEXT("job.files", job.files, "", 0, 4096, "folder of the files that handlers read and write; empty: they have none"),
	INT("job.file_max", job.file_max, "20971520", 1, 1 << 30, "of such a file, and of what a handler fetches from a URL, bytes"),
	INT("job.image_max_pixels", job.image_max_pixels, "100000000", 1, INT64_C(10000000000), "of a picture that is resized"),
	BOOL("job.local_urls", job.local_urls, "false", "handlers may fetch from this host and private networks too: for tests, and where all clients are trusted"),
	TEXT("job.gateway_url", job.gateway_url, "", 0, 2048, "http://host:port of the gateway, for feed.post and feed.befriend; empty: they are off"),
	TEXT("job.security_key", job.security_key, "", 0, 4096, "private RSA key (PEM) of messages signed as by app.setup_security(): then no others are taken; empty: none are signed"),
	SECRET("job.security_key_password", job.security_key_password, "of that key, where it is encrypted"),
	TEXT("job.security_certificate", job.security_certificate, "", 0, 4096, "certificate (PEM) of that key; it must be in job.security_cert_store too"),
	TEXT("job.security_cert_store", job.security_cert_store, "", 0, 4096, "folder, or pattern of files, with the certificates (PEM) of all whose messages are taken"),
	CHOICE("job.security_digest", job.security_digest, "sha256", "sha256|sha224|sha384|sha512|sha3_224|sha3_256|sha3_384|sha3_512", "of the signatures; the same for all"),
	BOOL("job.security_events", job.security_events, "false", "events are signed too, which none but clients with keys can read"),

	TEXT("smtp.url", smtp.url, "", 0, 2048, "smtp://host:port of the mail server, smtps for TLS at once; empty: email.send is off"),
	TEXT("smtp.user", smtp.user, "", 0, 320, "to log in with; empty: no login"),
	SECRET("smtp.password", smtp.password, "of that user"),
	TEXT("smtp.sender", smtp.sender, "", 0, 1000, "whom mails are from that do not say it: a@b or Name <a@b>"),
	TEXT("smtp.ca_file", smtp.ca_file, "", 0, 4096, "the server's certificate must be signed by this CA; empty: by one that the system knows"),
	BOOL("smtp.tls", smtp.tls, "true", "smtp://: nothing is sent before STARTTLS has worked"),
	INT("smtp.timeout_ms", smtp.timeout_ms, "30000", 1000, 10 * MINUTE_MS, "of sending one mail, milliseconds"),
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static bool is_name(const char *text, size_t len)
{
	return len > 0 && len <= TABLE_NAME_MAX && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") >= len;
}

static bool is_table(const char *name, bool has_databases)
{
	const char *dot = has_databases ? strchr(name, '.') : NULL;

	if (dot == NULL)
		return is_name(name, strlen(name));
	return is_name(name, (size_t)(dot - name)) && is_name(dot + 1, strlen(dot + 1));
}

/* They become parts of statements. */
static int check_tables(const struct settings *s, struct err *err)
{
	const struct {
		const char *setting, *name;
	} tables[] = { { "job.result_table", s->job.result_table }, { "job.group_table", s->job.group_table } };
	const bool has_databases = strcmp(s->store.type, "mysql") == 0;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (!is_table(tables[i].name, has_databases))
			return err_set(err, ERR_FATAL, "setting %s: \"%s\" is no name of a table: letters, digits and _, at most %d%s", tables[i].setting,
				tables[i].name, TABLE_NAME_MAX, has_databases ? ", perhaps behind the name of its database and a dot" : "");
	return 0;
}

/* Each value is in its own range here; this is what a range does not say, and the pairs that can't work together. */
static int check_pairs(const struct settings *s, struct err *err)
{
	struct delays delays;
	struct err why = ERR_INIT;

	if (delays_parse(s->retry_delays, &delays, &why) < 0)
		return err_set(err, ERR_FATAL, "setting worker.retry_delays: %s", why.message);
	if (s->mysql.idle_transaction_s * 1000 >= s->kafka.session_timeout_ms)
		return err_set(err, ERR_FATAL, "setting mysql.idle_transaction_s: %lld s is not below kafka.session_timeout_ms: %lld "
			"(a worker that lost its partitions must not come back to an open transaction)",
			(long long)s->mysql.idle_transaction_s, (long long)s->kafka.session_timeout_ms);
	if (s->mysql.lock_wait_s * 1000 >= s->mysql.read_timeout_ms)
		return err_set(err, ERR_FATAL, "setting mysql.lock_wait_s: %lld s is not below mysql.read_timeout_ms: %lld "
			"(a lock wait must not look like a lost server)",
			(long long)s->mysql.lock_wait_s, (long long)s->mysql.read_timeout_ms);
	if (s->gateway.wait_ms >= s->kafka.message_timeout_ms)
		return err_set(err, ERR_FATAL, "setting gateway.wait_ms: %lld is not below kafka.message_timeout_ms: %lld "
			"(an answer must not wait longer than the record lives)",
			(long long)s->gateway.wait_ms, (long long)s->kafka.message_timeout_ms);
	if (strcmp(s->job.queue_type, "quorum") == 0 && s->job.max_priority > 0)
		return err_set(err, ERR_FATAL, "setting job.max_priority: %lld with job.queue_type \"quorum\": such queues have no priorities",
			(long long)s->job.max_priority);
	return check_tables(s, err);
}

int settings_load(struct settings *out, const char *file, struct err *err)
{
	struct settings settings = { 0 };

	if (conf_load(&settings, rows, ROWS, file, err) < 0)
		return -1;
	if (check_pairs(&settings, err) < 0) {
		conf_release(&settings, rows, ROWS);
		return -1;
	}
	*out = settings;
	return 0;
}

void settings_release(struct settings *settings)
{
	conf_release(settings, rows, ROWS);
}

void settings_write(const struct settings *settings, struct buf *out)
{
	conf_write(settings, rows, ROWS, out);
}
