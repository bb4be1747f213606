/* Commands and results: the values of feed.commands and feed.results, byte by byte, and every way in which one can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "common/model/command.h"

#define ID "018d3c2e-5f00-7abc-8def-0123456789ab"

static struct command participant_command(const char *name)
{
	struct command command = { .id = ID, .type = COMMAND_PARTICIPANT_CREATE };

	command.data.participant = (struct participant){ .id = 5, .name = slice_of(name) };
	return command;
}

static struct command friend_command(int64_t from, int64_t to)
{
	struct command command = { .id = ID, .type = COMMAND_FRIEND_CREATE };

	command.data.friendship = (struct friendship){ .id = 5, .from = from, .to = to };
	return command;
}

static struct command product_command(enum command_type type)
{
	struct command command = { .id = ID, .type = type };

	command.data.product = (struct product){ .id = 5, .name = slice_of("Tea"), .price = slice_of("1.5") };
	return command;
}

static void values_are_exact(void **state)
{
	const struct {
		struct command command;
		const char *value;
		int64_t key;
	} samples[] = {
		{ participant_command("Ann \"A\""), "{\"v\":1,\"command\":\"" ID "\",\"type\":\"participant.create\",\"id\":5,\"data\":{\"name\":\"Ann \\\"A\\\"\"}}", 5 },
		{ friend_command(9, 3), "{\"v\":1,\"command\":\"" ID "\",\"type\":\"friend.create\",\"id\":5,\"data\":{\"from\":9,\"to\":3}}", 3 },
		{ product_command(COMMAND_PRODUCT_CREATE), "{\"v\":1,\"command\":\"" ID "\",\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\",\"price\":1.5}}", 5 },
		{ product_command(COMMAND_PRODUCT_DELETE), "{\"v\":1,\"command\":\"" ID "\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", 5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct buf out = BUF_INIT;
		struct buf again = BUF_INIT;
		struct command back;
		struct err err = ERR_INIT;

		command_encode(&samples[i].command, &out);
		assert_string_equal(out.data, samples[i].value);
		assert_int_equal(command_key(&samples[i].command), samples[i].key);
		assert_int_equal(command_decode(&back, slice_of(out.data), &err), 0);
		assert_int_equal(back.type, samples[i].command.type);
		assert_int_equal(command_entity(&back), 5);
		assert_int_equal(command_key(&back), samples[i].key);
		command_encode(&back, &again);
		assert_string_equal(again.data, out.data);
		command_release(&back);
		command_release(&back);
		buf_release(&out);
		buf_release(&again);
	}
}

static void every_type_has_a_name(void **state)
{
	(void)state;
	for (int type = 0; type < COMMAND_TYPE_COUNT; type++)
		assert_non_null(strchr(command_type_name((enum command_type)type), '.'));
}

static void prices_come_out_normal(void **state)
{
	struct command command;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(command_decode(&command,
		slice_of("{\"v\":1,\"command\":\"" ID "\",\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\",\"price\":1250e-2}}"), &err), 0);
	assert_string_equal(command.price, "12.5");
	assert_ptr_equal(command.data.product.price.data, command.price);
	command_release(&command);
}

/* What is stored and compared is lower case, whatever came. */
static void ids_are_lower_case(void **state)
{
	struct command command;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(command_decode(&command,
		slice_of("{\"v\":1,\"command\":\"018D3C2E-5F00-7ABC-8DEF-0123456789AB\",\"type\":\"product.delete\",\"id\":5,\"data\":{\"x\":1}}"), &err), 0);
	assert_string_equal(command.id, ID);
	command_release(&command);
}

struct wrong {
	const char *value;
	const char *says;
};

#define HEAD "{\"v\":1,\"command\":\"" ID "\","

static void wrong_commands(void **state)
{
	static const struct wrong wrong[] = {
		{ NULL, "no value" },
		{ "null", "must be an object, not null" },
		{ "{\"v\":2}", "v must be a whole number from 1 to 1" },
		{ "{\"v\":1}", "command is missing" },
		{ "{\"v\":1,\"command\":7,\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "command must be of type string" },
		{ "{\"v\":1,\"command\":\"x\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "command must have 36" },
		{ "{\"v\":1,\"command\":\"018d3c2e-5f00-4abc-8def-0123456789ab\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "UUID of version 7" },
		{ "{\"v\":1,\"command\":\"018d3c2e-5f00-7abc-cdef-0123456789ab\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "UUID of version 7" },
		{ "{\"v\":1,\"command\":\"018d3c2e-5f00-7abc-8def-0123456789ag\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "UUID of version 7" },
		{ "{\"v\":1,\"command\":\"\xc3\xa9\x31\x38\x64\x33\x63-5f00-7abc-8def-0123456789abcd\",\"type\":\"product.delete\",\"id\":5,\"data\":{}}", "command" },
		{ HEAD "\"id\":5,\"data\":{}}", "type is missing" },
		{ HEAD "\"type\":\"product.paint\",\"id\":5,\"data\":{}}", "\"product.paint\" is not known" },
		{ HEAD "\"type\":\"Product.delete\",\"id\":5,\"data\":{}}", "is not known" },
		{ HEAD "\"type\":\"product.delete\",\"data\":{}}", "id is missing" },
		{ HEAD "\"type\":\"product.delete\",\"id\":9007199254740992,\"data\":{}}", "id must be" },
		{ HEAD "\"type\":\"product.delete\",\"id\":5}", "data is missing" },
		{ HEAD "\"type\":\"product.delete\",\"id\":5,\"data\":[]}", "data must be of type object, not array" },
		{ HEAD "\"type\":\"participant.create\",\"id\":5,\"data\":{}}", "data.name is missing" },
		{ HEAD "\"type\":\"participant.create\",\"id\":5,\"data\":{\"name\":\"\"}}", "data.name must have 1 to 50 characters, not 0" },
		{ HEAD "\"type\":\"participant.create\",\"id\":5,\"data\":{\"name\":\"123456789012345678901234567890123456789012345678901\"}}",
			"data.name must have 1 to 50 characters, not 51" },
		{ HEAD "\"type\":\"friend.create\",\"id\":5,\"data\":{\"from\":1}}", "data.to is missing" },
		{ HEAD "\"type\":\"friend.create\",\"id\":5,\"data\":{\"from\":1,\"to\":1}}", "the same participant" },
		{ HEAD "\"type\":\"friend.create\",\"id\":5,\"data\":{\"from\":0,\"to\":1}}", "data.from must be" },
		{ HEAD "\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\"}}", "data.price is missing" },
		{ HEAD "\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\",\"price\":\"1.5\"}}", "data.price must be of type number, not string" },
		{ HEAD "\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\",\"price\":-1}}", "data.price must be 0 to" },
		{ HEAD "\"type\":\"product.create\",\"id\":5,\"data\":{\"name\":\"Tea\",\"price\":1e40}}", "data.price must be 0 to" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct command command = { .source = NULL };
		struct err err = ERR_INIT;

		if (command_decode(&command, slice_of(wrong[i].value), &err) != -1)
			fail_msg("taken: %s", wrong[i].value);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_null(command.source);
		if (strstr(err.message, wrong[i].says) == NULL)
			fail_msg("%s: says \"%s\", not \"%s\"", wrong[i].value, err.message, wrong[i].says);
	}
}

/* The gateway asks before it sends what a worker decodes: the two must be of one mind. */
static void what_the_check_says_is_what_decoding_says(void **state)
{
	static char name[257];
	static const struct {
		enum command_type type;
		size_t len;
		const char *price, *member; /* NULL: all is well */
	} cases[] = {
		{ COMMAND_PARTICIPANT_CREATE, 0, NULL, "name" },  { COMMAND_PARTICIPANT_CREATE, 50, NULL, NULL },
		{ COMMAND_PARTICIPANT_CREATE, 51, NULL, "name" }, { COMMAND_PRODUCT_CREATE, 0, "1", "name" },
		{ COMMAND_PRODUCT_CREATE, 255, "1.5", NULL },     { COMMAND_PRODUCT_CREATE, 256, "1", "name" },
		{ COMMAND_PRODUCT_CREATE, 1, "1.555", "price" },  { COMMAND_PRODUCT_DELETE, 0, NULL, NULL },
	};

	(void)state;
	memset(name, 'x', sizeof(name));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command command = { .id = ID, .type = cases[i].type }, back;
		struct buf value = BUF_INIT;
		struct err err = ERR_INIT;
		const char *member = NULL;

		command.data.product = (struct product){ 5, { name, cases[i].len }, slice_of(cases[i].price) };
		assert_int_equal(command_data_check(&command, &member, &err), cases[i].member != NULL ? -1 : 0);
		if (cases[i].member != NULL)
			assert_string_equal(member, cases[i].member);
		command_encode(&command, &value);
		assert_int_equal(command_decode(&back, (struct slice){ value.data, value.len }, &err), cases[i].member != NULL ? -1 : 0);
		if (cases[i].member == NULL)
			command_release(&back);
		buf_release(&value);
	}
}

static void a_text_that_is_none_is_refused(void **state)
{
	struct command command = { .id = ID, .type = COMMAND_PARTICIPANT_CREATE };
	const char *member = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(command_data_check(&command, &member, &err), -1);
	assert_string_equal(err.message, "name must be a text");
}

static void results(void **state)
{
	const struct {
		struct result result;
		const char *value;
	} samples[] = {
		{ { .command = ID, .is_done = true, .body = slice_of("{\"id\":9007199254740993,\"price\":1.50}") },
			"{\"v\":1,\"command\":\"" ID "\",\"outcome\":\"done\",\"body\":{\"id\":9007199254740993,\"price\":1.50}}" },
		{ { .command = ID, .is_done = false, .body = slice_of("{\"title\":\"Not Found\",\"status\":404}") },
			"{\"v\":1,\"command\":\"" ID "\",\"outcome\":\"failed\",\"problem\":{\"title\":\"Not Found\",\"status\":404}}" },
		{ { .command = ID, .is_done = true }, "{\"v\":1,\"command\":\"" ID "\",\"outcome\":\"done\"}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct buf out = BUF_INIT;
		struct result back;
		struct err err = ERR_INIT;

		result_encode(&samples[i].result, &out);
		assert_string_equal(out.data, samples[i].value);
		assert_int_equal(result_decode(&back, slice_of(out.data), &err), 0);
		assert_string_equal(back.command, ID);
		assert_int_equal(back.is_done, samples[i].result.is_done);
		assert_true(slice_equal(back.body, samples[i].result.body));
		result_release(&back);
		result_release(&back);
		buf_release(&out);
	}
}

/* The command id of a post carries the post's id, and is one too. */
static void results_of_posts(void **state)
{
	struct result result = { .is_done = true };
	struct result back;
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	int64_t post = 0;

	(void)state;
	uuid_of_post(ID_MAX, result.command);
	result_encode(&result, &out);
	assert_int_equal(result_decode(&back, slice_of(out.data), &err), 0);
	assert_true(uuid_is_post(slice_of(back.command), &post));
	assert_true(post == ID_MAX);
	result_release(&back);
	buf_release(&out);
}

static void wrong_results(void **state)
{
	static const struct wrong wrong[] = {
		{ NULL, "no value" },
		{ "{\"v\":1,\"outcome\":\"done\"}", "command is missing" },
		{ "{\"v\":1,\"command\":\"018d3c2e-5f00-1abc-8def-0123456789ab\",\"outcome\":\"done\"}", "UUID of version 7, or of a post" },
		{ HEAD "\"body\":{}}", "outcome is missing" },
		{ HEAD "\"outcome\":\"maybe\"}", "outcome must be \"done\" or \"failed\"" },
		{ HEAD "\"outcome\":\"failed\"}", "problem is missing" },
		{ HEAD "\"outcome\":\"failed\",\"body\":{}}", "problem is missing" },
		{ HEAD "\"outcome\":\"done\",\"body\":\"x\"}", "body must be of type object, not string" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct result result;
		struct err err = ERR_INIT;

		if (result_decode(&result, slice_of(wrong[i].value), &err) != -1)
			fail_msg("taken: %s", wrong[i].value);
		assert_int_equal(err.kind, ERR_INVALID);
		if (strstr(err.message, wrong[i].says) == NULL)
			fail_msg("%s: says \"%s\", not \"%s\"", wrong[i].value, err.message, wrong[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_exact),
		cmocka_unit_test(every_type_has_a_name),
		cmocka_unit_test(prices_come_out_normal),
		cmocka_unit_test(ids_are_lower_case),
		cmocka_unit_test(wrong_commands),
		cmocka_unit_test(what_the_check_says_is_what_decoding_says),
		cmocka_unit_test(a_text_that_is_none_is_refused),
		cmocka_unit_test(results),
		cmocka_unit_test(results_of_posts),
		cmocka_unit_test(wrong_results),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
