/* Questions of `celery inspect` and Flower go in, what this node is and does comes out. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/program.h"
#include "workers/celery/arguments.h"
#include "workers/celery/control.h"

static void put_double(struct json_writer *w, const char *key, double value)
{
	char text[40];

	snprintf(text, sizeof(text), "%.6f", value);
	json_put_raw(w, key, slice_of(text));
}

void inspect_ping(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	control_ok(out, "pong");
}

void inspect_clock(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	buf_addf(out, "{\"clock\":%llu}", (unsigned long long)node->clock);
}

/* ---- tasks */

static void put_info(struct json_writer *w, const char *key, const struct node *node, const struct task *task)
{
	const struct request *r = task->request;
	char type[REQUEST_NAME_MAX + 1];

	json_open(w, key, '{');
	json_put_string(w, "id", r->id);
	json_put_string(w, "name", r->task);
	json_put_node(w, "args", r->args);
	json_put_node(w, "kwargs", r->kwargs);
	snprintf(type, sizeof(type), "%.*s", (int)r->task.len, r->task.data);
	json_put_string(w, "type", slice_of(type));
	json_put_string(w, "hostname", slice_of(node->name));
	if (task->started_wall_ms > 0)
		put_double(w, "time_start", (double)task->started_wall_ms / 1000);
	else
		json_put_raw(w, "time_start", slice_of("null"));
	json_put_bool(w, "acknowledged", task->is_acked);
	json_open(w, "delivery_info", '{');
	json_put_string(w, "exchange", r->exchange);
	json_put_string(w, "routing_key", task->queue != NULL ? slice_of(task->queue->name) : r->routing_key);
	json_put_int(w, "priority", r->priority > 0 ? r->priority : 0);
	json_put_bool(w, "redelivered", r->redelivered);
	json_close(w, '}');
	if (task->worker_pid > 0)
		json_put_int(w, "worker_pid", task->worker_pid);
	else
		json_put_raw(w, "worker_pid", slice_of("null"));
	json_close(w, '}');
}

/* As clients of Celery name them. */
static const char *state_word(const struct task *task)
{
	if (task->state == TASK_RUNNING)
		return "active";
	return task_is_reserved(task) ? "reserved" : "ready";
}

static void write_tasks(const struct node *node, const char *word, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '[');
	for (const struct task *t = node->tasks; t != NULL; t = t->next)
		if (strcmp(state_word(t), word) == 0)
			put_info(&w, NULL, node, t);
	json_close(&w, ']');
}

void inspect_active(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	write_tasks(node, "active", out);
}

void inspect_reserved(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	write_tasks(node, "reserved", out);
}

/* What is for later waits in RabbitMQ, and is nobody's until then. */
void inspect_scheduled(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	buf_add_str(out, "[]");
}

void inspect_revoked(struct node *node, const struct json *arguments, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	(void)arguments;
	revoked_write_ids(&node->revoked, &w, NULL);
}

static void query_one(struct json_writer *w, const struct node *node, struct slice id)
{
	const struct task *task = id.len > 0 ? node_find(node, id) : NULL; /* none: of messages that could not be read */

	if (task == NULL)
		return;
	json_open(w, task->request->id.data, '[');
	json_put_string(w, NULL, slice_of(state_word(task)));
	put_info(w, NULL, node, task);
	json_close(w, ']');
}

void inspect_query_task(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct json *ids = json_get(arguments, "ids");
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	if (ids != NULL && json_type(ids) == JSON_STRING)
		query_one(&w, node, json_string(ids));
	for (const struct json *id = ids != NULL && json_type(ids) == JSON_ARRAY ? json_first(ids) : NULL; id != NULL; id = json_next(id))
		query_one(&w, node, json_string(id));
	json_close(&w, '}');
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct job_entry *const *)a)->name, (*(const struct job_entry *const *)b)->name);
}

void inspect_registered(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct job_entry **entries = calloc(node->total_count + 1, sizeof(struct job_entry *));
	struct json_writer w = JSON_WRITER(out);

	(void)arguments;
	if (entries == NULL)
		abort();
	for (size_t i = 0; i < node->total_count; i++)
		entries[i] = node->totals[i].entry;
	qsort(entries, node->total_count, sizeof(struct job_entry *), by_name);
	json_open(&w, NULL, '[');
	for (size_t i = 0; i < node->total_count; i++) {
		const char *limit = rates_text(&node->rates, slice_of(entries[i]->name));
		char text[512];

		snprintf(text, sizeof(text), limit != NULL ? "%s [rate_limit=%s]" : "%s", entries[i]->name, limit);
		json_put_string(&w, NULL, slice_of(text));
	}
	json_close(&w, ']');
	free(entries);
}

/* ---- queues */

static void put_exchange(struct json_writer *w, const struct queue_entry *q)
{
	json_open(w, "exchange", '{');
	json_put_string(w, "name", slice_of(q->exchange));
	json_put_string(w, "type", slice_of(q->type));
	json_put_raw(w, "arguments", slice_of("null"));
	json_put_bool(w, "durable", true);
	json_put_bool(w, "passive", false);
	json_put_bool(w, "auto_delete", false);
	json_put_int(w, "delivery_mode", 2);
	json_put_bool(w, "no_declare", false);
	json_close(w, '}');
}

/* What it is declared with here, and its priorities once more, where clients look for them. */
static void put_arguments(struct json_writer *w, const struct amqp_table *table)
{
	const struct amqp_value *priorities = amqp_table_value(table, "x-max-priority");

	if (table->count == 0)
		json_put_raw(w, "queue_arguments", slice_of("null"));
	else
		json_open(w, "queue_arguments", '{');
	for (size_t i = 0; i < table->count; i++) {
		const struct amqp_field *field = &table->fields[i];

		if (field->value.type == AMQP_VALUE_INT)
			json_put_int(w, field->name, field->value.number);
		else if (field->value.type == AMQP_VALUE_BOOL)
			json_put_bool(w, field->name, field->value.truth);
		else
			json_put_string(w, field->name, field->value.text);
	}
	if (table->count > 0)
		json_close(w, '}');
	if (priorities != NULL)
		json_put_int(w, "max_priority", priorities->number);
	else
		json_put_raw(w, "max_priority", slice_of("null"));
}

void inspect_active_queues(struct node *node, const struct json *arguments, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);
	struct arguments own;

	(void)arguments;
	json_open(&w, NULL, '[');
	for (const struct queue_entry *q = node->queues; q != NULL; q = q->next) {
		if (!q->is_wanted)
			continue;
		arguments_of(node->settings, q->name, &own);
		json_open(&w, NULL, '{');
		json_put_string(&w, "name", slice_of(q->name));
		put_exchange(&w, q);
		json_put_string(&w, "routing_key", slice_of(q->key));
		put_arguments(&w, &own.table);
		json_put_raw(&w, "binding_arguments", slice_of("null"));
		json_put_raw(&w, "consumer_arguments", slice_of("null"));
		json_put_bool(&w, "durable", true);
		json_put_bool(&w, "exclusive", false);
		json_put_bool(&w, "auto_delete", false);
		json_put_bool(&w, "no_ack", false);
		json_put_raw(&w, "alias", slice_of("null"));
		json_put_raw(&w, "bindings", slice_of("[]"));
		json_put_raw(&w, "no_declare", slice_of("null"));
		json_put_raw(&w, "expires", slice_of("null"));
		json_put_raw(&w, "message_ttl", slice_of("null"));
		json_put_raw(&w, "max_length", slice_of("null"));
		json_put_raw(&w, "max_length_bytes", slice_of("null"));
		json_close(&w, '}');
	}
	json_close(&w, ']');
}

/* ---- the node */

/* Of a URL: everything but the password. */
static void put_broker(struct json_writer *w, const struct settings *settings)
{
	const char *url = settings->amqp.url;
	struct slice rest = slice_of(url), host, user = SLICE_NONE, port;
	const char *start = strstr(url, "://"), *at = strrchr(url, '@');
	int64_t number = 5672;
	const bool is_tls = strncmp(url, "amqps", 5) == 0;

	if (start != NULL)
		rest = slice_of(start + 3);
	if (at != NULL && start != NULL) {
		user = (struct slice){ start + 3, (size_t)(at - start - 3) };
		user = slice_cut(&user, ':');
		rest = slice_of(at + 1);
	}
	port = slice_cut(&rest, '/');
	host = slice_cut(&port, ':');
	str_int64(port, &number);
	json_open(w, "broker", '{');
	json_put_string(w, "hostname", host);
	json_put_int(w, "port", number);
	json_put_string(w, "userid", user);
	json_put_string(w, "virtual_host", rest.len > 0 ? rest : slice_of("/"));
	json_put_string(w, "transport", slice_of("amqp"));
	json_put_bool(w, "ssl", is_tls);
	json_put_bool(w, "insist", false);
	json_put_string(w, "login_method", slice_of("PLAIN"));
	json_put_raw(w, "alternates", slice_of("[]"));
	json_put_raw(w, "transport_options", slice_of("{}"));
	json_put_int(w, "heartbeat", settings->amqp.heartbeat_s);
	json_close(w, '}');
}

static void put_pool(struct json_writer *w, const struct node *node)
{
	const struct job_settings *s = &node->settings->job;
	int pids[CHILDREN_MAX];
	const size_t count = children_pids(node->children, pids, CHILDREN_MAX);

	json_open(w, "pool", '{');
	json_put_string(w, "implementation", slice_of(node->threads != NULL ? "feedmill:threads" : "feedmill:children"));
	json_put_int(w, "max-concurrency", (int64_t)children_count(node->children));
	json_open(w, "processes", '[');
	for (size_t i = 0; i < count; i++)
		json_put_int(w, NULL, pids[i]);
	json_close(w, ']');
	if (s->max_tasks_per_child > 0)
		json_put_int(w, "max-tasks-per-child", s->max_tasks_per_child);
	else
		json_put_string(w, "max-tasks-per-child", slice_of("N/A"));
	json_put_bool(w, "put-guarded-by-semaphore", true);
	json_open(w, "timeouts", '[');
	put_double(w, NULL, (double)s->soft_time_limit_ms / 1000);
	put_double(w, NULL, (double)s->hard_time_limit_ms / 1000);
	json_close(w, ']');
	json_open(w, "writes", '{');
	json_put_int(w, "total", node->processed);
	json_close(w, '}');
	json_close(w, '}');
}

static void put_usage(struct json_writer *w)
{
	struct rusage u = { 0 };

	getrusage(RUSAGE_SELF, &u);
	json_open(w, "rusage", '{');
	put_double(w, "utime", (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6);
	put_double(w, "stime", (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6);
	json_put_int(w, "maxrss", u.ru_maxrss);
	json_put_int(w, "ixrss", u.ru_ixrss);
	json_put_int(w, "idrss", u.ru_idrss);
	json_put_int(w, "isrss", u.ru_isrss);
	json_put_int(w, "minflt", u.ru_minflt);
	json_put_int(w, "majflt", u.ru_majflt);
	json_put_int(w, "nswap", u.ru_nswap);
	json_put_int(w, "inblock", u.ru_inblock);
	json_put_int(w, "oublock", u.ru_oublock);
	json_put_int(w, "msgsnd", u.ru_msgsnd);
	json_put_int(w, "msgrcv", u.ru_msgrcv);
	json_put_int(w, "nsignals", u.ru_nsignals);
	json_put_int(w, "nvcsw", u.ru_nvcsw);
	json_put_int(w, "nivcsw", u.ru_nivcsw);
	json_close(w, '}');
}

void inspect_stats(struct node *node, const struct json *arguments, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);
	char clock[24];

	(void)arguments;
	snprintf(clock, sizeof(clock), "%llu", (unsigned long long)node->clock);
	json_open(&w, NULL, '{');
	json_open(&w, "total", '{');
	for (size_t i = 0; i < node->total_count; i++)
		if (node->totals[i].count > 0)
			json_put_int(&w, node->totals[i].entry->name, node->totals[i].count);
	json_close(&w, '}');
	json_put_int(&w, "pid", getpid());
	json_put_string(&w, "clock", slice_of(clock));
	json_put_int(&w, "uptime", (clock_mono_ms() - node->started_mono_ms) / 1000);
	json_put_int(&w, "prefetch_count", node_prefetch(node));
	put_broker(&w, node->settings);
	put_pool(&w, node);
	put_usage(&w);
	json_close(&w, '}');
}

void inspect_conf(struct node *node, const struct json *arguments, struct buf *out)
{
	const struct job_settings *s = &node->settings->job;
	const bool is_signed = node->signer != NULL;
	struct json_writer w = JSON_WRITER(out);

	(void)arguments;
	json_open(&w, NULL, '{');
	json_put_string(&w, "task_default_queue", slice_of(node->outgoing.queue));
	json_put_string(&w, "task_default_queue_type", slice_of(s->queue_type));
	json_put_string(&w, "task_default_exchange_type", slice_of(s->exchange_type));
	json_put_int(&w, "worker_concurrency", s->concurrency);
	json_put_int(&w, "worker_prefetch_multiplier", s->prefetch_multiplier);
	json_put_string(&w, "worker_pool", slice_of(s->pool));
	json_put_bool(&w, "task_acks_late", strcmp(s->acks, "late") == 0);
	json_put_bool(&w, "task_acks_on_failure", s->acks_on_failure);
	json_put_bool(&w, "task_acks_on_timeout", strcmp(s->acks_on_timeout, "as_failure") == 0 ? s->acks_on_failure : s->acks_on_timeout[0] == 't');
	json_put_bool(&w, "task_reject_on_worker_lost", s->reject_on_worker_lost);
	json_put_bool(&w, "task_track_started", s->track_started);
	json_put_bool(&w, "worker_send_task_events", node->task_events);
	json_put_string(&w, "result_backend", slice_of(s->results));
	json_put_bool(&w, "result_extended", s->result_extended);
	json_put_bool(&w, "result_persistent", s->result_persistent);
	json_put_int(&w, "result_expires", s->result_expires_s);
	json_put_string(&w, "task_serializer", slice_of(is_signed ? "auth" : "json"));
	json_put_string(&w, "result_serializer", slice_of(is_signed ? "auth" : s->result_serializer));
	json_put_raw(&w, "accept_content", slice_of(is_signed ? "[\"auth\"]" : "[\"json\",\"msgpack\"]"));
	json_put_bool(&w, "enable_utc", true);
	json_put_string(&w, "timezone", slice_of("UTC"));
	json_close(&w, '}');
}

void inspect_report(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)arguments;
	control_ok(out, "\nsoftware -> feedmill:%s %s json:cJSON\nplatform -> system:Linux\nsettings -> transport:amqp results:%s pool:%s\n",
		FEEDMILL_VERSION, amqp_library(), node->settings->job.results, node->settings->job.pool);
}

void inspect_hello(struct node *node, const struct json *arguments, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	if (slice_is(control_text(arguments, "from_node"), node->name))
		return; /* our own */
	revoked_merge(&node->revoked, json_get(arguments, "revoked"));
	json_open(&w, NULL, '{');
	revoked_write(&node->revoked, &w, "revoked");
	json_put_int(&w, "clock", (int64_t)node_tick(node));
	json_close(&w, '}');
}

static double resident_mib(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (file != NULL) {
		if (fscanf(file, "%*s %ld", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

void inspect_memsample(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	buf_addf(out, "\"%.1fMB\"", resident_mib());
}

void inspect_memdump(struct node *node, const struct json *arguments, struct buf *out)
{
	(void)node;
	(void)arguments;
	buf_addf(out, "\"- rss (now): %.1fMB\"", resident_mib());
}
