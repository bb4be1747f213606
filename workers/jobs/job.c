/* What a handler has to say goes in, a reply comes out; and arguments by position or keyword. */
#include "workers/jobs/job.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

static volatile sig_atomic_t interrupted;

void job_interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

void job_interrupt_reset(void)
{
	interrupted = 0;
}

bool job_is_over(const struct job_call *call)
{
	return interrupted || (call->deadline_mono_ms != 0 && clock_mono_ms() >= call->deadline_mono_ms);
}

int64_t job_left_ms(const struct job_call *call, int64_t most_ms)
{
	int64_t left = most_ms;

	if (call->deadline_mono_ms != 0 && call->deadline_mono_ms - clock_mono_ms() < left)
		left = call->deadline_mono_ms - clock_mono_ms();
	return interrupted || left < 0 ? 0 : left;
}

int job_over(const struct job_call *call, struct job_reply *reply)
{
	job_fail(reply, "SoftTimeLimitExceeded", "billiard.exceptions", "%s", "");
	buf_reset(&reply->arguments);
	buf_add_str(&reply->arguments, "[]");
	if (call->soft_limit_ms > 0) {
		buf_reset(&reply->arguments);
		buf_addf(&reply->arguments, "[%.15g]", (double)call->soft_limit_ms / 1000);
	}
	return 0;
}

void job_reply_release(struct job_reply *reply)
{
	buf_release(&reply->result);
	buf_release(&reply->type);
	buf_release(&reply->module);
	buf_release(&reply->arguments);
	buf_release(&reply->trace);
}

int job_return(struct job_reply *reply, struct slice json)
{
	reply->outcome = JOB_DONE;
	buf_reset(&reply->result);
	buf_add(&reply->result, json.data, json.len);
	return 0;
}

int job_return_null(struct job_reply *reply)
{
	return job_return(reply, slice_of("null"));
}

static void set_exception(struct job_reply *reply, const char *type, const char *module, struct slice message)
{
	struct json_writer w = JSON_WRITER(&reply->arguments);

	buf_reset(&reply->type);
	buf_reset(&reply->module);
	buf_reset(&reply->arguments);
	buf_reset(&reply->trace);
	buf_add_str(&reply->type, type);
	buf_add_str(&reply->module, module);
	json_open(&w, NULL, '[');
	json_put_string(&w, NULL, message);
	json_close(&w, ']');
	buf_addf(&reply->trace, "%s: %.*s", type, (int)message.len, message.data);
}

int job_fail(struct job_reply *reply, const char *type, const char *module, const char *format, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	reply->outcome = JOB_FAILED;
	set_exception(reply, type, module, slice_of(text));
	return 0;
}

int job_again(struct job_reply *reply, int64_t delay_ms, int64_t max_retries, const char *why)
{
	reply->outcome = JOB_AGAIN;
	reply->delay_ms = delay_ms;
	reply->max_retries = max_retries;
	set_exception(reply, "Retry", "celery.exceptions", slice_of(why));
	return 0;
}

int job_ignore(struct job_reply *reply)
{
	reply->outcome = JOB_IGNORED;
	return 0;
}

int job_reject(struct job_reply *reply, const char *why)
{
	reply->outcome = JOB_REJECTED;
	set_exception(reply, "Reject", "celery.exceptions", slice_of(why));
	return 0;
}

/* ---- arguments */

const struct json *job_argument(const struct job_call *call, const char *name)
{
	const struct json *given = json_get(call->kwargs, name);
	struct slice names = slice_of(call->entry->parameters);
	const struct json *arg = json_first(call->args);

	if (given != NULL)
		return given;
	while (names.len > 0 && arg != NULL) {
		if (slice_is(slice_cut(&names, ' '), name))
			return arg;
		arg = json_next(arg);
	}
	return NULL;
}

const struct json *job_typed(const struct json *given, const char *type)
{
	const struct json *value = json_get(given, "__value__");

	if (value == NULL || !slice_is(json_string(json_get(given, "__type__")), type) || json_next(json_next(json_first(given))) != NULL)
		return NULL;
	return value;
}

const struct json *job_plain(const struct json *given)
{
	static const char *const texts[] = { "bytes", "datetime", "date", "time", "decimal" };
	const struct json *value = NULL;

	if (given == NULL || json_type(given) != JSON_OBJECT)
		return given;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && value == NULL; i++)
		value = job_typed(given, texts[i]);
	if (value == NULL)
		value = json_get(job_typed(given, "uuid"), "hex");
	return value != NULL && json_type(value) == JSON_STRING ? value : given;
}

bool job_real(const struct json *given, double *out)
{
	const struct slice decimal = json_string(job_typed(given, "decimal"));
	char *end;

	if (decimal.len > 0) {
		*out = strtod(decimal.data, &end);
		return *end == '\0' && isfinite(*out);
	}
	if (given == NULL || json_type(given) != JSON_NUMBER)
		return false;
	*out = strtod(json_number(given).data, NULL);
	return true;
}

static bool missing(const struct job_call *call, const char *name, struct job_reply *reply)
{
	job_fail(reply, "TypeError", "builtins", "%.*s() missing required argument: '%s'", (int)call->task.len, call->task.data, name);
	return false;
}

bool job_text(const struct job_call *call, const char *name, bool is_optional, struct slice *out, struct job_reply *reply)
{
	const struct json *given = job_plain(job_argument(call, name));

	*out = SLICE_NONE;
	if (given == NULL || (is_optional && json_type(given) == JSON_NULL))
		return is_optional || missing(call, name, reply);
	*out = json_string(given);
	if (out->data != NULL)
		return true;
	job_fail(reply, "TypeError", "builtins", "%s must be a string, not %s", name, json_type_name(json_type(given)));
	return false;
}

bool job_number(const struct job_call *call, const char *name, int64_t initial, int64_t min, int64_t max, int64_t *out, struct job_reply *reply)
{
	const struct json *given = job_argument(call, name);
	const struct slice decimal = json_string(job_typed(given, "decimal"));

	*out = initial;
	if (given == NULL || json_type(given) == JSON_NULL)
		return true;
	if ((json_int64(given, out) || (decimal.len > 0 && str_int64(decimal, out))) && *out >= min && *out <= max)
		return true;
	job_fail(reply, "ValueError", "builtins", "%s must be a whole number from %lld to %lld", name, (long long)min, (long long)max);
	return false;
}
