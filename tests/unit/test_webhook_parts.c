/* What webhooks are made of: base64, the signature, the window of ids, and which addresses are public. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/http/http_client.h"
#include "common/store/webhooks.h"
#include "workers/relay.h"
#include "workers/webhook_sign.h"

static void base64_both_ways(void **state)
{
	static const char *const pairs[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "\xff\xfe", "//4=" } };
	static const char *const wrong[] = { "Zg=", "Zg", "Z===", "Zh==", "Zm9=", "Z g=", "Zg==Zg==", "Zm\n8", "====" };
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		buf_reset(&out);
		base64_encode(&out, pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(pairs[i][1], out.data);
		buf_reset(&out);
		assert_true(base64_decode(&out, slice_of(pairs[i][1])));
		assert_string_equal(pairs[i][0], out.data);
	}
	buf_reset(&out);
	buf_add_str(&out, "kept");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(base64_decode(&out, slice_of(wrong[i])));
	assert_string_equal("kept", out.data);
	assert_int_equal(4, out.len);
	buf_release(&out);
}

/* Each byte as a digit, each length, and nothing written beside what is there. */
static void base64_of_any_bytes(void **state)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct buf text = BUF_INIT, back = BUF_INIT;
	char raw[300];

	(void)state;
	for (int c = 0; c < 256; c++) {
		const char four[4] = { (char)c, 'A', 'A', 'A' };
		const char *at = c != 0 ? strchr(digits, c) : NULL;

		buf_reset(&back);
		assert_int_equal(at != NULL, base64_decode(&back, (struct slice){ four, 4 }));
		assert_int_equal(at != NULL ? 3 : 0, back.len);
		if (at != NULL)
			assert_int_equal(at - digits, (unsigned char)back.data[0] >> 2);
		raw[c] = (char)(c * 7 + 1);
	}
	for (size_t len = 0; len <= 256; len++) {
		buf_reset(&text);
		buf_reset(&back);
		buf_add_str(&text, "before");
		buf_add_str(&back, "before");
		base64_encode(&text, raw, len);
		assert_int_equal(6 + (len + 2) / 3 * 4, text.len);
		assert_int_equal('\0', text.data[text.len]);
		assert_true(base64_decode(&back, (struct slice){ text.data + 6, text.len - 6 }));
		assert_int_equal(6 + len, back.len);
		assert_int_equal('\0', back.data[back.len]);
		assert_memory_equal("before", back.data, 6);
		assert_memory_equal(raw, back.data + 6, len);
	}
	buf_release(&text);
	buf_release(&back);
}

/* The message and signature of the specification's own libraries. */
static void signature_is_the_standards(void **state)
{
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, webhook_sign(&out, slice_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), slice_of("msg_p5jXN8AQM9LWM0D4loKWxJek"),
		1614265330, slice_of("{\"test\": 2432232314}"), &err));
	assert_string_equal("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", out.data);
	assert_int_equal(-1, webhook_sign(&out, slice_of("whsec_***"), slice_of("m"), 1, slice_of("x"), &err));
	assert_int_equal(-1, webhook_sign(&out, slice_of("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), slice_of("m"), 1, slice_of("x"), &err));
	buf_release(&out);
}

static void window_remembers_the_last(void **state)
{
	struct relay_window *window = relay_window_new(3);
	char id[16], longest[RELAY_ID_MAX + 2];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "id-%d", i);
		assert_false(relay_window_has(window, slice_of(id)));
		relay_window_add(window, slice_of(id));
		relay_window_add(window, slice_of(id)); /* once is enough */
		for (int k = 0; k <= i && k < 6; k++) {
			snprintf(id, sizeof(id), "id-%d", i - k);
			assert_int_equal(k < 3, relay_window_has(window, slice_of(id)));
		}
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	relay_window_add(window, slice_of(longest));
	assert_false(relay_window_has(window, slice_of(longest)));
	relay_window_free(window);
	window = relay_window_new(0);
	relay_window_add(window, slice_of("a"));
	assert_false(relay_window_has(window, slice_of("a")));
	relay_window_free(window);
}

static bool is_public(const char *text)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return http_client_is_public((const struct sockaddr *)&v4);
	assert_int_equal(1, inet_pton(AF_INET6, text, &v6.sin6_addr));
	return http_client_is_public((const struct sockaddr *)&v6);
}

static void addresses_that_are_not_public(void **state)
{
	static const char *const closed[] = { "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
		"127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
		"64:ff9b::169.254.169.254", "fc00::1", "fdff::1", "fe80::1", "febf::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2001::1" };
	static const char *const open[] = { "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
		"169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1" };
	const struct sockaddr_storage other = { .ss_family = AF_UNIX };

	(void)state;
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		if (is_public(closed[i]))
			fail_msg("%s is taken for public", closed[i]);
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		if (!is_public(open[i]))
			fail_msg("%s is taken for closed", open[i]);
	assert_false(http_client_is_public((const struct sockaddr *)&other));
}

/* However the address is spelt; and a public one by two ports alone. No packet leaves: what is refused is not connected to. */
static void guarded_client_calls_no_closed_address(void **state)
{
	static const char *const urls[] = { "http://127.0.0.1/", "http://localhost/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/",
		"http://[::ffff:127.0.0.1]/", "http://0/", "http://10.0.0.1/", "https://169.254.169.254/", "http://127.0.0.1:8080/",
		"http://1.1.1.1:8080/", "https://1.1.1.1:25/" };
	struct http_client *client = http_client_new(2000, 1000);
	struct buf answer = BUF_INIT;
	int status;

	(void)state;
	http_client_guard(client);
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(-1, http_client_send(client, "POST", urls[i], "text/plain", slice_of("x"), &status, &answer, &err));
		assert_int_equal(ERR_UNAVAILABLE, err.kind);
		if (strstr(err.message, "must not be called") == NULL)
			fail_msg("%s: %s", urls[i], err.message);
	}
	buf_release(&answer);
	http_client_free(client);
}

static void urls_and_events_are_checked(void **state)
{
	static const char *const wrong[] = { "", "ftp://x/", "https://", "http:///path", "https://u:p@host/", "http://a b/", "http://host/\n", "http://host/#f",
		"//host/", "http://h\xc3\xa4/" };
	static const char *const right[] = { "https://example.com/hook?x=1", "http://10.0.0.1:8080", "https://[::1]/" };
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (webhook_check(slice_of(wrong[i]), SLICE_NONE, &err) == 0)
			fail_msg("%s is taken", wrong[i]);
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		assert_int_equal(0, webhook_check(slice_of(right[i]), slice_of("product.created,product.deleted"), &err));
	assert_int_equal(-1, webhook_check(slice_of(right[0]), slice_of("product.painted"), &err));
	assert_int_equal(ERR_INVALID, err.kind);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_both_ways),
		cmocka_unit_test(base64_of_any_bytes),
		cmocka_unit_test(signature_is_the_standards),
		cmocka_unit_test(window_remembers_the_last),
		cmocka_unit_test(addresses_that_are_not_public),
		cmocka_unit_test(guarded_client_calls_no_closed_address),
		cmocka_unit_test(urls_and_events_are_checked),
	};

	return cmocka_run_group_tests_name("webhook parts", tests, NULL, NULL);
}
