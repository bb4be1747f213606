/* The header Idempotency-Key: what is a key, and which texts are the same one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api-gateway/idempotency_key.h"

static void expect(const char *header, const char *wanted)
{
	char key[IDEMPOTENCY_KEY];

	if (wanted == NULL) {
		if (idempotency_key_read(slice_of(header), key))
			fail_msg("%s is taken as %s", header, key);
		return;
	}
	if (!idempotency_key_read(slice_of(header), key))
		fail_msg("%s is refused", header);
	assert_string_equal(wanted, key);
}

static void keys_with_and_without_quotes(void **state)
{
	(void)state;
	expect("\"8e03978e-40d5-43dd-bc93-6cc0f6b3b0e8\"", "8e03978e-40d5-43dd-bc93-6cc0f6b3b0e8");
	expect("8e03978e-40d5-43dd-bc93-6cc0f6b3b0e8", "8e03978e-40d5-43dd-bc93-6cc0f6b3b0e8");
	expect("\"a\"", "a");
	expect("!#$%&'()*+-./:<=>?@^_`{|}~", "!#$%&'()*+-./:<=>?@^_`{|}~");
	expect("\"[,;]\"", "[,;]");
	expect("\"\\\"\\\\\"", "\"\\");
}

static void what_is_no_key(void **state)
{
	static const char *const headers[] = { "", "\"\"", "\"", "\"a", "a\"", "\"a\"b\"", "\"a\\\"", "\"\\a\"", "a b", "\"a b\"", "a,b",
		"a;b", "[a]", "a\\b", "\"a\";p=1", "\"a\", \"b\"", "\xc3\xa9", "\"\xc3\xa9\"", "\"\x7f\"", "a\tb" };

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		expect(headers[i], NULL);
}

static void long_keys(void **state)
{
	char text[258];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[255] = '\0';
	expect(text, text);
	text[255] = 'x';
	text[256] = '\0';
	expect(text, NULL);
	text[0] = text[255] = '"';
	expect(text, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_with_and_without_quotes),
		cmocka_unit_test(what_is_no_key),
		cmocka_unit_test(long_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
