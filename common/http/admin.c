/* Questions of operators and of Prometheus go in; health, readiness and metrics come out. */
#include "common/http/admin.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/http/http_server.h"
#include "common/http/problem.h"

#define STOP_MS 1000 /* for an answer that is on its way */

struct admin {
	struct http_server *server;
	struct health_check *checks;
	size_t count;
};

/* --- health and readiness --- */

static bool is_live_check(const struct health_check *check)
{
	return check->live;
}

static bool is_any_check(const struct health_check *check)
{
	(void)check;
	return true;
}

/* Writes one check; true when it is well. */
static bool write_check(const struct health_check *check, struct json_writer *w)
{
	struct err why = ERR_INIT;
	bool is_well = check->ask(check->arg, &why);
	const char *text = why.message[0] != '\0' ? why.message : "failed";

	json_put_string(w, check->name, slice_of(is_well ? "ok" : text));
	return is_well;
}

static bool write_checks(const struct admin *admin, bool (*concerns)(const struct health_check *), struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);
	bool all_well = true;

	json_open(&w, NULL, '{');
	for (size_t i = 0; i < admin->count; i++) {
		const struct health_check *check = &admin->checks[i];

		if (concerns(check) && !write_check(check, &w) && (check->fatal || concerns == is_live_check))
			all_well = false;
	}
	json_close(&w, '}');
	return all_well;
}

static void answer_checks(struct http_exchange *exchange, bool all_well, const char *status, struct buf *checks)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);

	json_open(&w, NULL, '{');
	json_put_string(&w, "status", slice_of(status));
	json_put_raw(&w, "checks", (struct slice){ checks->data, checks->len });
	json_close(&w, '}');
	buf_release(checks);
	http_answer_header(exchange, "Cache-Control", "no-store");
	http_answer(exchange, all_well ? 200 : 503, "application/json", &body);
}

static void answer_healthz(struct http_exchange *exchange, const struct admin *admin)
{
	struct buf checks = BUF_INIT;
	bool all_well = write_checks(admin, is_live_check, &checks);

	answer_checks(exchange, all_well, all_well ? "alive" : "not alive", &checks);
}

static void answer_readyz(struct http_exchange *exchange, const struct admin *admin)
{
	struct buf checks = BUF_INIT;
	bool all_well = write_checks(admin, is_any_check, &checks);

	answer_checks(exchange, all_well, all_well ? "ready" : "not ready", &checks);
}

static void answer_metrics(struct http_exchange *exchange, const struct admin *admin)
{
	struct buf body = BUF_INIT;

	(void)admin;
	metrics_render(&body);
	http_answer(exchange, 200, "text/plain; version=0.0.4", &body);
}

/* --- routes --- */

static const struct {
	const char *path;
	void (*answer)(struct http_exchange *exchange, const struct admin *admin);
} pages[] = {
	{ "/healthz", answer_healthz },
	{ "/readyz", answer_readyz },
	{ "/metrics", answer_metrics },
};

static void refuse_method(struct http_exchange *exchange)
{
	struct problem problem;

	problem_set(&problem, 405, "", "only GET and HEAD");
	http_answer_header(exchange, "Allow", "GET, HEAD");
	problem_answer(exchange, &problem);
}

static void refuse_path(struct http_exchange *exchange)
{
	struct problem problem;

	problem_set(&problem, 404, "", "here are /healthz, /readyz and /metrics");
	problem_answer(exchange, &problem);
}

static void on_request(struct http_exchange *exchange, void *arg)
{
	const struct http_request *request = http_request_of(exchange);
	size_t i = 0, count = sizeof(pages) / sizeof(pages[0]);

	while (i < count && !slice_is(request->path, pages[i].path))
		i++;
	if (i == count)
		refuse_path(exchange);
	else if (!slice_is(request->method, "GET") && !slice_is(request->method, "HEAD"))
		refuse_method(exchange);
	else
		pages[i].answer(exchange, arg);
}

/* --- life --- */

int admin_start(const char *listen, const struct health_check *checks, size_t count, struct admin **out, struct err *err)
{
	struct admin *admin = mem_zalloc(sizeof(*admin));
	struct http_options options = {
		.listen = listen,
		.inherited_fd = -1,
		.threads = 1,
		.max_connections = 64,
		.max_body = 4096,
		.max_header = 8192,
		.header_timeout_ms = 10000,
		.idle_timeout_ms = 60000,
		.body_min_rate = 1024,
		.handle = on_request,
		.arg = admin,
	};

	admin->checks = mem_array(count > 0 ? count : 1, sizeof(*checks));
	admin->count = count;
	if (count > 0)
		memcpy(admin->checks, checks, count * sizeof(*checks));
	if (http_server_start(&options, &admin->server, err) < 0) {
		err_wrap(err, "admin port");
		free(admin->checks);
		free(admin);
		return -1;
	}
	*out = admin;
	return 0;
}

int admin_port(const struct admin *admin)
{
	return http_server_port(admin->server);
}

void admin_stop(struct admin *admin)
{
	if (admin == NULL)
		return;
	http_server_stop(admin->server, STOP_MS);
	free(admin->checks);
	free(admin);
}
