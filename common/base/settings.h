/* settings: every setting of every program, in one table (settings.c). Uses conf.
 * config/feedmill.cfg is this table written out: `make lint` compares the two. */
#ifndef FEEDMILL_BASE_SETTINGS_H
#define FEEDMILL_BASE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"

struct queue_settings {
	char *type; /* the back end: "kafka", "sqlite" */
};

struct kafka_settings {
	char *brokers;              /* "host:port,host:port" */
	char *topic_prefix;         /* before every topic and group name: several Feedmills on one Kafka */
	int64_t replication;        /* of topics that `feedctl topics` makes; 0: the broker's default */
	int64_t partitions;         /* likewise, of topics without a fixed number */
	int64_t message_timeout_ms; /* after which a record that is not acknowledged is given up */
	int64_t linger_ms;          /* how long the gateway's producer waits to fill a batch */
	int64_t session_timeout_ms;
};

struct mysql_settings {
	char *host;
	int64_t port;
	char *user;
	char *password;
	char *database;
	char *ca_file; /* set: TLS with verification of the server */
	int64_t connect_timeout_ms;
	int64_t read_timeout_ms;
	int64_t lock_wait_s;
	int64_t idle_transaction_s;
};

struct store_settings {
	char *type; /* the back end: "mysql", "sqlite" */
};

struct search_settings {
	char *type; /* the back end: "elastic", "sqlite" */
	char *url;
	char *index;
	int64_t timeout_ms;
};

struct embedded_settings {
	char *folder; /* where the embedded back ends keep their files; ":memory:": see folder.h */
	int64_t lock_wait_ms; /* of one that writes for another that does */
};

struct amqp_settings {
	char *url;     /* amqp://user:password@host:port/vhost, or amqps; empty: nothing uses RabbitMQ */
	char *ca_file; /* of amqps: who must have signed the server's certificate */
	int64_t heartbeat_s;
	int64_t connect_timeout_ms;
	int64_t answer_timeout_ms;
};

struct redis_settings {
	char *url; /* redis://[user:password@]host[:port]; empty: nothing uses Redis */
	int64_t timeout_ms;
};

/* Of the worker relay, beside what every worker has. */
struct sink_settings {
	char *exchange;
	char *channel;
	int64_t window; /* event ids that are remembered, to drop repeats */
	int64_t webhook_senders; /* threads that deliver */
	int64_t webhook_timeout_ms;
	int64_t webhook_retry_ms, webhook_retry_max_ms; /* the first wait, and the longest */
	int64_t webhook_give_up_s;
	char *webhook_addresses; /* "public", "any" */
};

struct job_settings {
	char *node;                 /* name among Celery's nodes */
	char *queues;               /* "a,b": the first is where what names no queue goes */
	char *queue_type;           /* "classic", "quorum" */
	char *queue_arguments;      /* "queue: name=value, name=value; queue: …" */
	char *exchange_type;        /* "direct", "topic" */
	int64_t max_priority;
	bool inherit_priority;
	char *delay_queue_type;
	char *dead_letter_queue;
	char *pool;                 /* "children", "threads" */
	int64_t concurrency;
	int64_t prefetch_multiplier;
	char *acks;                 /* "late", "early" */
	bool acks_on_failure;
	char *acks_on_timeout;
	bool reject_on_worker_lost;
	bool deduplicate_successful;
	int64_t delivery_limit;
	int64_t soft_time_limit_ms;
	int64_t hard_time_limit_ms;
	int64_t soft_shutdown_ms;
	int64_t max_tasks_per_child;
	int64_t max_memory_per_child_kib;
	char *results;              /* "rpc", "database", "both", "none" */
	char *result_table;         /* "name", or "database.name": letters, digits and _ */
	char *group_table;          /* likewise */
	char *database_format;      /* "pickle", "json", "auth" */
	char *result_serializer;    /* "json", "msgpack": of answers to what came as MessagePack */
	int64_t result_expires_s;
	bool result_extended;
	bool result_persistent;
	bool track_started;
	bool events;
	char *control;              /* "all", "inspect", "none" */
	bool mingle;
	char *state_file;
	int64_t revokes_kept_s;
	bool durable_revokes;
	int64_t retry_first_ms;
	int64_t retry_limit_ms;
	char *rate_limits;          /* "task=10/m,other=2/s" */
	char *exec;                 /* "task=/program arg; other=/program" */
	char *http;                 /* "task=https://…; other=…" */
	char *files;                /* folder of handlers' files; empty: none */
	int64_t file_max;           /* bytes of one, and of what a URL gives */
	int64_t image_max_pixels;
	bool local_urls;
	char *gateway_url;          /* of feed.post and feed.befriend; empty: off */
	char *security_key;         /* files, as Celery's settings of these names; all three or none: see signer.h */
	char *security_key_password;
	char *security_certificate;
	char *security_cert_store;  /* folder or pattern */
	char *security_digest;      /* "sha256", … */
	bool security_events;
};

struct smtp_settings {
	char *url; /* empty: off */
	char *user;
	char *password;
	char *sender;
	char *ca_file;
	bool tls;
	int64_t timeout_ms;
};

struct gateway_settings {
	char *listen; /* "address:port"; port 0: any free one, named in the ready line */
	char *admin;
	char *contract;
	char *docs; /* folder of the API page; empty: none */
	int64_t threads; /* HTTP threads */
	int64_t readers; /* threads that ask store and search, each with its own connection */
	int64_t reader_queue;
	int64_t wait_ms; /* for a command's result or a post's delivery report */
	int64_t max_connections;
	int64_t max_listeners; /* of product events */
	int64_t max_body;
	int64_t max_in_flight; /* bytes: of all bodies that come in, and of all lists that go out */
	int64_t max_header;
	int64_t header_timeout_ms;
	int64_t idle_timeout_ms;
	int64_t body_min_rate; /* bytes a second */
	char *jobs; /* names that POST /jobs/{name} takes, "*": all; empty: none */
	int64_t key_keep_s; /* how long an Idempotency-Key counts */
	int64_t known_participants; /* how many the cache remembers */
	char *cors_origin;
	char *zone; /* of `occurred` dates: a TZ name; empty: the system's */
	char *request_log_topic; /* one line a request goes there; empty: none */
};

struct worker_settings {
	int64_t threads;
	int64_t batch;     /* records a transaction or a _bulk request */
	int64_t linger_ms; /* how long a batch that is not full waits for more, when the last one had several records */
};

struct settings {
	char *log_level;
	char *instance; /* set: static membership, group.instance.id = <worker>-<instance>-<thread> */
	struct queue_settings queue;
	struct kafka_settings kafka;
	struct store_settings store;
	struct mysql_settings mysql;
	struct search_settings search;
	struct embedded_settings embedded;
	struct amqp_settings amqp;
	struct redis_settings redis;
	struct sink_settings sink;
	struct gateway_settings gateway;
	char *worker_admin;
	int64_t drain_timeout_ms;
	int64_t worker_backlog_ms; /* between two looks at the age of what is not done; 0: never */
	int64_t command_prune_s;   /* between two rounds of deleting old rows; 0: never */
	char *retry_delays;  /* see delays.h */
	int64_t crash_limit; /* of a record that ends its worker */
	int64_t fanout_chunk; /* a friend list longer than this is planned in chunks */
	struct job_settings job;
	struct smtp_settings smtp;
	struct worker_settings command, fanout, chunk, index, relay;
};

int settings_load(struct settings *out, const char *file, struct err *err);
void settings_release(struct settings *settings);
void settings_write(const struct settings *settings, struct buf *out);

#endif
