/* Arguments of queues: which one is declared with what, and what the setting may not say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "workers/celery/arguments.h"

static struct settings settings_with(char *arguments)
{
	return (struct settings){ .job = { .queues = "celery", .queue_arguments = arguments, .queue_type = "classic", .dead_letter_queue = "dead" } };
}

/* As "name=value name=value ": 5, true, "text". */
static void assert_arguments(const struct settings *settings, const char *queue, const char *wanted)
{
	struct arguments arguments;
	struct buf text = BUF_INIT;

	arguments_of(settings, queue, &arguments);
	for (size_t i = 0; i < arguments.table.count; i++) {
		const struct amqp_field *field = &arguments.table.fields[i];

		buf_addf(&text, "%s=", field->name);
		if (field->value.type == AMQP_VALUE_INT)
			buf_addf(&text, "%lld ", (long long)field->value.number);
		else if (field->value.type == AMQP_VALUE_BOOL)
			buf_addf(&text, "%s ", field->value.truth ? "true" : "false");
		else
			buf_addf(&text, "\"%.*s\" ", (int)field->value.text.len, field->value.text.data);
	}
	assert_string_equal(wanted, text.data);
	buf_release(&text);
}

static void queues_that_are_not_named_are_as_the_settings_say(void **state)
{
	struct settings settings = settings_with("");
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, arguments_check(&settings, &err));
	assert_arguments(&settings, "celery", "");
	settings.job.max_priority = 7;
	assert_arguments(&settings, "celery", "x-max-priority=7 ");
	assert_arguments(&settings, "dead", "");
	settings.job.max_priority = 0;
	settings.job.queue_type = "quorum";
	assert_arguments(&settings, "celery", "x-queue-type=\"quorum\" ");
	assert_arguments(&settings, "dead", "");
}

static void a_queue_of_dead_letters_that_is_consumed_is_like_the_others(void **state)
{
	struct settings settings = settings_with("");

	(void)state;
	settings.job.queue_type = "quorum";
	settings.job.queues = "celery, dead ,more";
	assert_arguments(&settings, "dead", "x-queue-type=\"quorum\" ");
	settings.job.queues = "celery,deadly,more";
	assert_arguments(&settings, "dead", "");
	settings.job.queues = "celery,dead";
	settings.job.queue_arguments = "dead: x-max-length=5";
	assert_arguments(&settings, "dead", "x-max-length=5 ");
}

static void queues_that_are_named_have_their_own_alone(void **state)
{
	struct settings settings = settings_with(" high: x-max-priority=10, x-message-ttl=60000,; low: ;; \t"
		"a:b: x-queue-type = quorum, x-dead-letter-exchange=, x-dead-letter-routing-key = a : b ,x-single-active-consumer=true;"
		"dead:x-max-length=9223372036854775807; other: x-own=5, x-more=-0.5, x-most=false, x-text=a=b c");
	struct err err = ERR_INIT;

	(void)state;
	settings.job.max_priority = 7;
	if (arguments_check(&settings, &err) < 0)
		fail_msg("%s", err.message);
	assert_arguments(&settings, "high", "x-max-priority=10 x-message-ttl=60000 ");
	assert_arguments(&settings, "low", "");
	assert_arguments(&settings, "a:b", "x-queue-type=\"quorum\" x-dead-letter-exchange=\"\" x-dead-letter-routing-key=\"a : b\" x-single-active-consumer=true ");
	assert_arguments(&settings, "dead", "x-max-length=9223372036854775807 ");
	assert_arguments(&settings, "other", "x-own=5 x-more=\"-0.5\" x-most=false x-text=\"a=b c\" ");
	assert_arguments(&settings, "a", "x-max-priority=7 ");
	assert_arguments(&settings, "hig", "x-max-priority=7 ");
}

static void what_is_wrong_is_said_with_queue_and_argument(void **state)
{
	static const struct {
		char *text;
		const char *words;
	} rows[] = {
		{ "celery: x-max-priority=ten", "job.queue_arguments: queue celery: x-max-priority: \"ten\" is not a whole number from 0 to 255" },
		{ "celery: x-max-priority=256", "queue celery: x-max-priority: \"256\" is not" },
		{ "a: x-expires=1000; high: x-message-ttl=-1", "queue high: x-message-ttl: \"-1\" is not" },
		{ "a: x-expires=0", "queue a: x-expires: \"0\" is not" },
		{ "a: x-max-length=", "queue a: x-max-length: \"\" is not" },
		{ "a: x-max-length=1.5", "queue a: x-max-length: \"1.5\" is not" },
		{ "a: x-queue-type=stream", "queue a: x-queue-type: \"stream\" is not one of classic|quorum" },
		{ "a: x-overflow=reject", "queue a: x-overflow: \"reject\" is not one of" },
		{ "a: x-single-active-consumer=yes", "queue a: x-single-active-consumer: \"yes\" is neither true nor false" },
		{ "a: x-max-priority=1, x-queue-type=quorum", "queue a: x-max-priority: a quorum queue has no priorities" },
		{ "a: x-max-priority=1, x-max-priority=2", "queue a: x-max-priority is there twice" },
		{ "a: x-max-priority", "queue a: \"x-max-priority\" is not name=value" },
		{ "a: x-max-priority=1, max-length=5", "queue a: \"max-length=5\" is not name=value, with a name that begins with x-" },
		{ "a: max-length=5", "\"a: max-length=5\" is not queue: name=value" },
		{ "x-max-priority=10", "\"x-max-priority=10\" is not queue: name=value" },
		{ ": x-max-priority=10", "\": x-max-priority=10\" is not queue: name=value" },
		{ "a: x-expires=5;\nb: x-expires=5", "b: x-expires=5\" is not queue: name=value" },
		{ "a: x-expires=5; b: x-expires=5; a:", "queue a is there twice" },
		{ "a: x-1=1,x-2=1,x-3=1,x-4=1,x-5=1,x-6=1,x-7=1,x-8=1,x-9=1,x-10=1,x-11=1,x-12=1,x-13=1,x-14=1,x-15=1,x-16=1,x-17=1", "queue a: more than 16 arguments" },
		{ "a: x-23456789012345678901234567890123456789012345678901234567890123=1", "is not name=value" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct settings settings = settings_with(rows[i].text);
		struct err err = ERR_INIT;

		assert_int_equal(-1, arguments_check(&settings, &err));
		assert_int_equal(ERR_FATAL, err.kind);
		if (strstr(err.message, rows[i].words) == NULL)
			fail_msg("%s: %s", rows[i].text, err.message);
	}
}

static void sixteen_arguments_of_63_bytes_fit(void **state)
{
	const struct settings settings = settings_with("a: x-1=1,x-2=1,x-3=1,x-4=1,x-5=1,x-6=1,x-7=1,x-8=1,x-9=1,x-10=1,x-11=1,x-12=1,x-13=1,x-14=1,x-15=1,"
		"x-2345678901234567890123456789012345678901234567890123456789012=1");
	struct err err = ERR_INIT;
	struct arguments arguments;

	(void)state;
	if (arguments_check(&settings, &err) < 0)
		fail_msg("%s", err.message);
	arguments_of(&settings, "a", &arguments);
	assert_int_equal(16, arguments.table.count);
	assert_int_equal(63, strlen(arguments.table.fields[15].name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues_that_are_not_named_are_as_the_settings_say),
		cmocka_unit_test(a_queue_of_dead_letters_that_is_consumed_is_like_the_others),
		cmocka_unit_test(queues_that_are_named_have_their_own_alone),
		cmocka_unit_test(what_is_wrong_is_said_with_queue_and_argument),
		cmocka_unit_test(sixteen_arguments_of_63_bytes_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
