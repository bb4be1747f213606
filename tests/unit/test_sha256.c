/* SHA-256 against the examples of FIPS 180-4 and NIST's long message, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/sha256.h"

static void expect(const char *wanted, const char *text, size_t times, size_t piece)
{
	struct sha256 sha;
	char got[SHA256_TEXT];

	sha256_init(&sha);
	for (size_t i = 0; i < times; i++)
		for (size_t at = 0; at < strlen(text); at += piece)
			sha256_add(&sha, text + at, strlen(text) - at < piece ? strlen(text) - at : piece);
	sha256_finish_text(&sha, got);
	assert_string_equal(wanted, got);
}

static void known_digests(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 70; piece += 17) {
		expect("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", 1, piece);
		expect("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc", 1, piece);
		expect("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
			"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, piece);
		expect("cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
			"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu", 1,
			piece);
	}
	expect("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "aaaaaaaaaa", 100000, 10);
}

/* 55 bytes leave room for the length in their block, 56 do not. */
static void lengths_around_a_block(void **state)
{
	(void)state;
	expect("9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318", "a", 55, 1);
	expect("b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a", "a", 56, 1);
	expect("ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb", "a", 64, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_digests),
		cmocka_unit_test(lengths_around_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
