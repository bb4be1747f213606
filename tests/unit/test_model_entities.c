/* Participants, links, friendships, products and their events as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/model/friendship.h"
#include "common/model/participant.h"
#include "common/model/product.h"

static void links(void **state)
{
	static const char *const refused[] = { "", "0", "-1", "01", "1.0", "1 ", " 1", "+1", "/participant/", "/participant/0", "/participant/01",
		"/participant/7/", "/participant/7x", "participant/7", "/Participant/7", "/participant//7", "//participant/7", "9007199254740992",
		"/participant/9007199254740992", "/participant/99999999999999999999", "/participant/\xd9\xa7", "/participants/7" };
	char text[LINK_TEXT];
	int64_t id = 0;

	(void)state;
	link_format(ID_MAX, text);
	assert_string_equal(text, "/participant/9007199254740991");
	assert_true(link_parse(slice_of(text), &id) && id == ID_MAX);
	assert_true(link_parse(slice_of("7"), &id) && id == 7);
	assert_true(link_parse(slice_of("/participant/7"), &id) && id == 7);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (link_parse(slice_of(refused[i]), &id))
			fail_msg("taken: \"%s\"", refused[i]);
	}
	assert_false(link_parse(SLICE_NONE, &id));
	assert_int_equal(id, 7);
}

static void participants(void **state)
{
	struct participant participant = { .id = 5, .name = slice_of("\xc3\x89va\n") };
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);

	(void)state;
	participant_write(&w, NULL, &participant);
	assert_string_equal(out.data, "{\"id\":5,\"name\":\"\xc3\x89va\\n\",\"link\":\"/participant/5\"}");
	buf_release(&out);
}

static void friendships(void **state)
{
	struct friendship one = { .id = 5, .from = 9, .to = 3 };
	struct friendship other = { .id = 6, .from = 3, .to = 9 };
	struct buf out = BUF_INIT;
	struct json_writer w = JSON_WRITER(&out);

	(void)state;
	json_open(&w, NULL, '[');
	friendship_write(&w, NULL, &one);
	friendship_write(&w, NULL, &other);
	json_close(&w, ']');
	assert_string_equal(out.data, "[{\"id\":5,\"from\":\"/participant/9\",\"to\":\"/participant/3\"},"
				      "{\"id\":6,\"from\":\"/participant/3\",\"to\":\"/participant/9\"}]");
	assert_int_equal(friendship_key(&one), 3);
	assert_int_equal(friendship_key(&other), 3);
	buf_release(&out);
}

static void products(void **state)
{
	static const char *const prices[][2] = { { "1.50", "1.5" }, { "2.00", "2" }, { "0.00", "0" }, { "9999999999.99", "9999999999.99" } };

	(void)state;
	for (size_t i = 0; i < sizeof(prices) / sizeof(prices[0]); i++) {
		struct product product = { .id = 5, .name = slice_of("Tea"), .price = slice_of(prices[i][0]) };
		struct buf out = BUF_INIT;
		struct buf wanted = BUF_INIT;
		struct json_writer w = JSON_WRITER(&out);

		product_write(&w, NULL, &product);
		buf_addf(&wanted, "{\"id\":5,\"name\":\"Tea\",\"price\":%s}", prices[i][1]);
		assert_string_equal(out.data, wanted.data);
		buf_release(&out);
		buf_release(&wanted);
	}
}

static void events(void **state)
{
	struct product product = { .id = 9007199254740991, .name = slice_of("a\"b\\c\xe2\x80\xa8"), .price = slice_of("1") };
	struct buf out = BUF_INIT;

	(void)state;
	product_event_created(&product, &out);
	assert_string_equal(out.data, "{\"action\":\"created\",\"id\":9007199254740991,\"name\":\"a\\\"b\\\\c\xe2\x80\xa8\"}");
	buf_reset(&out);
	product_event_deleted(9007199254740991, &out);
	assert_string_equal(out.data, "{\"action\":\"deleted\",\"id\":9007199254740991}");
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links),
		cmocka_unit_test(participants),
		cmocka_unit_test(friendships),
		cmocka_unit_test(products),
		cmocka_unit_test(events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
