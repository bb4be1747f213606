/* Jobs that tests and first steps use: echo, add, sleep, fail, flaky, reject, ignore, crash: arguments go in, small results come out. */
#include "workers/jobs/handlers.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

static int return_node(struct job_reply *reply, const struct json *node)
{
	struct buf text = BUF_INIT;
	int rc;

	json_write_node(&text, node);
	rc = job_return(reply, (struct slice){ text.data, text.len });
	buf_release(&text);
	return rc;
}

int job_echo(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	const struct json *x = job_argument(call, "x");

	(void)err;
	return x != NULL ? return_node(reply, x) : job_return_null(reply);
}

/* Whole numbers stay whole, as long as 64 bits hold them. */
int job_add(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	const struct json *x = job_argument(call, "x"), *y = job_argument(call, "y");
	int64_t a, b, sum;
	double c, d;
	char text[40];

	(void)err;
	if (!job_real(x, &c) || !job_real(y, &d))
		return job_fail(reply, "TypeError", "builtins", "add() takes two numbers, x and y");
	if (json_int64(x, &a) && json_int64(y, &b) && !__builtin_add_overflow(a, b, &sum))
		snprintf(text, sizeof(text), "%lld", (long long)sum);
	else if (isfinite(c + d))
		snprintf(text, sizeof(text), "%.17g", c + d);
	else
		return job_fail(reply, "OverflowError", "builtins", "the sum is out of range");
	return job_return(reply, slice_of(text));
}

int job_sleep(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	const struct json *seconds = job_argument(call, "seconds");
	int64_t until;
	double s;

	(void)err;
	if (!job_real(seconds, &s) || s < 0 || s > 86400)
		return job_fail(reply, "ValueError", "builtins", "sleep() takes seconds, 0 to 86400");
	until = clock_mono_ms() + (int64_t)(s * 1000);
	while (clock_mono_ms() < until) {
		const int64_t left = until - clock_mono_ms();

		if (job_is_over(call))
			return job_over(call, reply);
		poll(NULL, 0, (int)job_left_ms(call, left < 100 ? left : 100)); /* short: a thread is not woken by the limit */
	}
	return return_node(reply, seconds);
}

int job_fail_always(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct slice message;

	(void)err;
	if (!job_text(call, "message", true, &message, reply))
		return 0;
	return job_fail(reply, "ValueError", "builtins", "%.*s", (int)message.len, message.len > 0 ? message.data : "");
}

/* Fails n times, is tried again each time, and then returns n. */
int job_flaky(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	char text[24];
	int64_t n;

	(void)err;
	if (!job_number(call, "n", 1, 0, 1000, &n, reply))
		return 0;
	if (call->retries < n)
		return job_again(reply, 0, -1, "flaky: not yet");
	snprintf(text, sizeof(text), "%lld", (long long)n);
	return job_return(reply, slice_of(text));
}

int job_reject_always(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct slice message;

	(void)err;
	if (!job_text(call, "message", true, &message, reply))
		return 0;
	return job_reject(reply, message.len > 0 ? message.data : "");
}

int job_ignore_always(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	(void)call;
	(void)err;
	return job_ignore(reply);
}

/* Takes its process with it: for tests of what happens then. */
int job_crash(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	(void)call;
	(void)reply;
	(void)err;
	_Exit(77);
}
