/* Orders come in over a socket, handlers run, answers go out. */
#include "workers/celery/child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

/* ---- one job */

static bool may_go_again(const struct err *err)
{
	return err->kind == ERR_UNAVAILABLE || err->kind == ERR_FULL || err->kind == ERR_CONFLICT || err->kind == ERR_UNKNOWN;
}

void child_handle(const struct job_call *call, struct job_reply *reply)
{
	struct err err = ERR_INIT;

	if (call->entry->run(call, reply, &err) == 0)
		return;
	if (may_go_again(&err) && job_is_over(call)) { /* most likely why */
		job_over(call, reply);
		return;
	}
	if (may_go_again(&err) && call->retries < call->entry->max_retries) {
		job_again(reply, 0, -1, err.message);
		return;
	}
	job_fail(reply, "RuntimeError", "builtins", "%s", err.message);
}

static void handle(const struct child_order *order, const char *texts, const struct settings *settings, struct job_reply *reply)
{
	struct job_call call = {
		.task = { texts, order->task_len },
		.id = { texts + order->task_len, order->id_len },
		.retries = order->retries,
		.settings = settings,
		.soft_limit_ms = order->soft_ms,
		.deadline_mono_ms = order->soft_ms > 0 ? clock_mono_ms() + order->soft_ms : 0,
	};
	struct err err = ERR_INIT;
	struct json *body = json_parse_answer((struct slice){ texts + order->task_len + order->id_len, order->body_len }, &err);

	call.entry = job_find(call.task);
	if (body == NULL || call.entry == NULL) {
		job_fail(reply, "RuntimeError", "builtins", "the job can't be read: %s", err.message);
	} else {
		call.args = json_first(body);
		call.kwargs = json_next(call.args);
		child_handle(&call, reply);
	}
	json_free(body);
}

/* ---- bytes */

static int read_all(int fd, void *out, size_t len)
{
	char *at = out;

	while (len > 0) {
		const ssize_t got = read(fd, at, len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		at += got;
		len -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const char *at, size_t len)
{
	while (len > 0) {
		const ssize_t put = write(fd, at, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return -1;
		at += put;
		len -= (size_t)put;
	}
	return 0;
}

void child_write_order(struct buf *out, const struct request *request, int64_t soft_ms)
{
	const struct child_order order = { (uint32_t)request->task.len, (uint32_t)request->id.len, (uint32_t)request->body.len, request->retries, soft_ms };

	buf_add(out, &order, sizeof(order));
	buf_add(out, request->task.data, request->task.len);
	buf_add(out, request->id.data, request->id.len);
	buf_add(out, request->body.data, request->body.len);
}

static int64_t memory_kib(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss : 0;
}

static void write_answer(struct buf *out, const struct job_reply *reply)
{
	const struct child_answer answer = { (uint32_t)reply->outcome, (uint32_t)reply->result.len, (uint32_t)reply->type.len,
		(uint32_t)reply->module.len, (uint32_t)reply->arguments.len, (uint32_t)reply->trace.len, reply->delay_ms, reply->max_retries,
		memory_kib() };

	buf_add(out, &answer, sizeof(answer));
	buf_add(out, reply->result.data, reply->result.len);
	buf_add(out, reply->type.data, reply->type.len);
	buf_add(out, reply->module.data, reply->module.len);
	buf_add(out, reply->arguments.data, reply->arguments.len);
	buf_add(out, reply->trace.data, reply->trace.len);
}

static const char *take(struct buf *out, const char *at, uint32_t len)
{
	buf_reset(out);
	buf_add(out, at, len);
	return at + len;
}

int child_read_answer(struct slice bytes, struct job_reply *reply, size_t *used)
{
	struct child_answer answer;
	const char *at = bytes.data + sizeof(answer);

	if (bytes.len < sizeof(answer))
		return 0;
	memcpy(&answer, bytes.data, sizeof(answer));
	if (answer.outcome >= JOB_LOST)
		return -1;
	*used = sizeof(answer) + answer.result_len + answer.type_len + answer.module_len + answer.arguments_len + answer.trace_len;
	if (bytes.len < *used)
		return 0;
	reply->outcome = (enum job_outcome)answer.outcome;
	at = take(&reply->result, at, answer.result_len);
	at = take(&reply->type, at, answer.type_len);
	at = take(&reply->module, at, answer.module_len);
	at = take(&reply->arguments, at, answer.arguments_len);
	take(&reply->trace, at, answer.trace_len);
	reply->delay_ms = answer.delay_ms;
	reply->max_retries = answer.max_retries;
	reply->memory_kib = answer.memory_kib;
	return 1;
}

/* ---- the process */

/* A process group of its own, so that a job's programs end with it; and it does not outlive the nursery. */
static void settle_in(void)
{
	struct sigaction interrupt = { .sa_handler = job_interrupt }; /* no SA_RESTART: what waits is to look up */
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGINT, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&interrupt.sa_mask);
	sigaction(SIGUSR1, &interrupt, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int serve_one(int fd, const struct settings *settings)
{
	struct job_reply reply = JOB_REPLY_INIT;
	struct buf answer = BUF_INIT;
	struct child_order order;
	char *texts;
	int rc = -1;

	if (read_all(fd, &order, sizeof(order)) < 0)
		return -1;
	texts = mem_alloc((size_t)order.task_len + order.id_len + order.body_len + 1);
	if (read_all(fd, texts, (size_t)order.task_len + order.id_len + order.body_len) < 0)
		goto out;
	job_interrupt_reset();
	FAULT_POINT("child.begun");
	handle(&order, texts, settings, &reply);
	FAULT_POINT("child.ran");
	write_answer(&answer, &reply);
	rc = write_all(fd, answer.data, answer.len);
	FAULT_POINT("child.answered");
out:
	buf_release(&answer);
	job_reply_release(&reply);
	free(texts);
	return rc;
}

int child_run(int fd, const struct settings *settings)
{
	settle_in();
	while (serve_one(fd, settings) == 0)
		continue;
	return 0;
}
