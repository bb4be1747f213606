/* Prices: the digits of a JSON number in, the normal form or a refusal out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/mem.h"
#include "common/model/product.h"

struct sample {
	const char *number;
	const char *price; /* NULL: refused */
};

static void check(const struct sample *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char price[PRICE_TEXT] = "";
		bool taken = price_read(slice_of(samples[i].number), price);

		if (taken != (samples[i].price != NULL))
			fail_msg("%s was %s", samples[i].number, taken ? price : "refused");
		if (taken)
			assert_string_equal(price, samples[i].price);
	}
}
#define CHECK(samples) check(samples, sizeof(samples) / sizeof((samples)[0]))

static void normal_form(void **state)
{
	static const struct sample samples[] = {
		{ "0", "0" }, { "-0", "0" }, { "0.0", "0" }, { "-0.00", "0" }, { "0.000000", "0" },
		{ "2", "2" }, { "2.00", "2" }, { "1.5", "1.5" }, { "1.50", "1.5" }, { "0.05", "0.05" }, { "10", "10" }, { "100.10", "100.1" },
		{ "0.1000000000000000000000000", "0.1" }, { "9999999999.99", "9999999999.99" }, { "9999999999.990", "9999999999.99" },
		{ "9999999999", "9999999999" }, { "0.01", "0.01" }, { "1000000000", "1000000000" },
	};

	(void)state;
	CHECK(samples);
}

static void exponents(void **state)
{
	static const struct sample samples[] = {
		{ "15e-1", "1.5" }, { "1e3", "1000" }, { "1E+3", "1000" }, { "1.234e2", "123.4" }, { "0.00001e3", "0.01" },
		{ "100000e-7", "0.01" }, { "123456e-5", NULL }, { "1e9", "1000000000" }, { "1e10", NULL }, { "1e-2", "0.01" }, { "1e-3", NULL },
		{ "10e-3", "0.01" }, { "99999999999900e-4", "9999999999.99" }, { "0.99999999999901e10", NULL }, { "0e99999999999999999999999", "0" },
		{ "0e-99999999999999999999999", "0" }, { "1e400", NULL }, { "1e-400", NULL }, { "1e99999999999999999999999999", NULL },
		{ "1e-99999999999999999999999999", NULL }, { "1e9223372036854775807", NULL }, { "1e-9223372036854775808", NULL },
		{ "1e00000000000000000000000000002", "100" },
	};

	(void)state;
	CHECK(samples);
}

static void refused(void **state)
{
	static const struct sample samples[] = {
		{ "-1", NULL }, { "-0.01", NULL }, { "0.001", NULL }, { "1.555", NULL }, { "9999999999.991", NULL }, { "10000000000", NULL },
		{ "", NULL }, { "-", NULL }, { ".5", NULL }, { "1.", NULL }, { "01", NULL }, { "00", NULL }, { "+1", NULL }, { "1e", NULL }, { "1e+", NULL },
		{ "1e-+2", NULL }, { "1.5.5", NULL }, { "0x10", NULL }, { "1 ", NULL }, { " 1", NULL }, { "NaN", NULL }, { "1,5", NULL }, { "e5", NULL },
	};

	(void)state;
	CHECK(samples);
}

/* A body of a megabyte can be one number: read in one go, no digit kept that does not count. */
static void long_numbers(void **state)
{
	const size_t zeros = 1000000;
	char *text = mem_alloc(zeros + 32);
	char price[PRICE_TEXT];
	struct slice number;

	(void)state;
	memcpy(text, "0.", 2);
	memset(text + 2, '0', zeros);
	memcpy(text + 2 + zeros, "5e1000000", 10);
	number = slice_of(text);
	assert_true(price_read(number, price));
	assert_string_equal(price, "0.5");

	text[0] = '5';
	memset(text + 1, '0', zeros);
	memcpy(text + 1 + zeros, "e-1000000", 10);
	assert_true(price_read(slice_of(text), price));
	assert_string_equal(price, "5");

	memset(text, '9', zeros);
	text[zeros] = '\0';
	assert_false(price_read(slice_of(text), price));
	free(text);
}

/* Every price with up to two decimals stays what it is, however it is written. */
static void cents_survive(void **state)
{
	(void)state;
	for (int cents = 0; cents <= 100000; cents += 7) {
		struct buf plain = BUF_INIT;
		struct buf power = BUF_INIT;
		char a[PRICE_TEXT], b[PRICE_TEXT], again[PRICE_TEXT];

		buf_addf(&plain, "%d.%02d", cents / 100, cents % 100);
		buf_addf(&power, "%de-2", cents);
		assert_true(price_read(slice_of(plain.data), a));
		assert_true(price_read(slice_of(power.data), b));
		assert_true(price_read(slice_of(a), again));
		assert_string_equal(a, b);
		assert_string_equal(a, again);
		assert_true(strtod(a, NULL) * 100 - cents < 0.001 && cents - strtod(a, NULL) * 100 < 0.001);
		buf_release(&plain);
		buf_release(&power);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(normal_form),
		cmocka_unit_test(exponents),
		cmocka_unit_test(refused),
		cmocka_unit_test(long_numbers),
		cmocka_unit_test(cents_survive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
