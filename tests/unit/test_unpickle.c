/* Pickles as Python writes them, read as JSON; and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/json.h"
#include "common/model/unpickle.h"
#include "workers/celery/pickle.h"

static int read(const char *bytes, size_t len, struct buf *out)
{
	struct err err = ERR_INIT;
	int rc = unpickle((struct slice){ bytes, len }, out, &err);

	assert_int_equal(rc == 0 ? ERR_NONE : ERR_INVALID, err.kind);
	return rc;
}

#define EXPECT(pickle, json) expect(pickle, sizeof(pickle) - 1, json)
static void expect(const char *bytes, size_t len, const char *json)
{
	struct buf out = BUF_INIT;

	assert_int_equal(0, read(bytes, len, &out));
	assert_string_equal(json, out.data);
	buf_release(&out);
}

#define REFUSE(pickle) refuse(pickle, sizeof(pickle) - 1)
static void refuse(const char *bytes, size_t len)
{
	struct buf out = BUF_INIT;

	assert_int_equal(-1, read(bytes, len, &out));
	assert_int_equal(0, out.len);
	buf_release(&out);
}

/* pickle.dumps(…) of Python 3.11, protocols 2 and 4. */
static void what_python_writes(void **state)
{
	(void)state;
	EXPECT("\x80\x04N.", "null");
	EXPECT("\x80\x04\x88.", "true");
	EXPECT("\x80\x02K\x07.", "7");
	EXPECT("\x80\x04M\xe8\x03.", "1000");
	EXPECT("\x80\x04J\xff\xff\xff\xff.", "-1");
	EXPECT("\x80\x04\x8a\x05\x00\x00\x00\x00\x80.", "-549755813888");
	EXPECT("\x80\x04\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", "9223372036854775807");
	EXPECT("\x80\x04\x8a\x00.", "0");
	EXPECT("\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00G?\xf8\x00\x00\x00\x00\x00\x00.", "1.5");
	EXPECT("\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00G\x7f\xf0\x00\x00\x00\x00\x00\x00.", "null");
	/* {'a': [1, 'a', None], 'b': (True, 2.5), 3: {}} */
	EXPECT("\x80\x04\x95(\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01"
	       "a\x94]\x94(K\x01h\x01Ne\x8c\x01"
	       "b\x94\x88G@\x04\x00\x00\x00\x00\x00\x00\x86\x94K\x03}\x94u.",
		"{\"a\":[1,\"a\",null],\"b\":[true,2.5],\"3\":{}}");
	EXPECT("\x80\x02}q\x00(X\x01\x00\x00\x00"
	       "aq\x01]q\x02(K\x01h\x01NeX\x01\x00\x00\x00"
	       "bq\x03\x88G@\x04\x00\x00\x00\x00\x00\x00\x86q\x04K\x03}q\x05u.",
		"{\"a\":[1,\"a\",null],\"b\":[true,2.5],\"3\":{}}");
	/* (1, 2, 3, 4), [[5]], {'k': 'v'} */
	EXPECT("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00(K\x01K\x02K\x03K\x04t\x94.", "[1,2,3,4]");
	EXPECT("\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00]\x94]\x94K\x05"
	       "aa.",
		"[[5]]");
	EXPECT("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01k\x94\x8c\x01v\x94s.", "{\"k\":\"v\"}");
	EXPECT("\x80\x04\x8c\x04\"\\\n\x01.", "\"\\\"\\\\\\n\\u0001\"");
}

static void what_our_worker_writes(void **state)
{
	static const char *const texts[] = { "null", "[]", "{}", "\"\"", "-2147483648", "12345678901234567890", "[1,[2,{\"a\":\"\xc3\xa9\"}],false]",
		"{\"exc_type\":\"ValueError\",\"exc_message\":[\"boom\"],\"exc_module\":\"builtins\"}",
		"[{\"__type__\":\"decimal\",\"__value__\":\"1.10\"},{\"a\":{\"__type__\":\"uuid\",\"__value__\":{\"hex\":\"07\"}}}]" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct err err = ERR_INIT;
		struct json *node = json_parse(slice_of(texts[i]), &err);
		struct buf pickle = BUF_INIT;

		assert_non_null(node);
		pickle_write(&pickle, node);
		expect(pickle.data, pickle.len, texts[i]);
		buf_release(&pickle);
		json_free(node);
	}
}

static void what_is_refused(void **state)
{
	(void)state;
	REFUSE("");
	REFUSE("\x80\x04");
	REFUSE("\x80\x04.");
	REFUSE("\x80\x04(.");
	REFUSE("\x80\x04NN.");
	REFUSE("\x80\x04\x8c\x05"
	       "abc.");
	REFUSE("\x80\x04\x8c\x01\xff.");                                   /* no UTF-8 */
	REFUSE("cos\nsystem\n(S'true'\ntR.");                              /* calls */
	REFUSE("\x80\x02" "ckombu.utils.json\nloads\nX\x02\x00\x00\x00{}\x85R.");
	REFUSE("\x80\x02" "cos\nobject_hook\n}\x85R.");
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n.");              /* not called */
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n}\x94R.");
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n})R.");
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n)R.");
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n}}\x86R.");         /* two */
	REFUSE("\x80\x02" "ckombu.utils.json\nobject_hook\n]\x85R.");          /* no dict */
	REFUSE("\x80\x02" "](ckombu.utils.json\nobject_hook\ne.");
	REFUSE("\x80\x02" "}\x85R.");
	REFUSE("\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.");      /* STACK_GLOBAL */
	REFUSE("\x80\x04\x43\x01x.");                                      /* bytes */
	REFUSE("\x80\x04]\x94h\x00.");                                     /* two values */
	REFUSE("\x80\x04]\x94(h\x00" "e.");                                /* a list in itself */
	REFUSE("\x80\x04h\x00.");
	REFUSE("\x80\x04" "e.");
	REFUSE("\x80\x04}(K\x01u.");
	REFUSE("\x80\x04}(]K\x01u.");
	REFUSE("\x80\x04}K\x01" "a.");
	REFUSE("\x80\x04(\x87.");
	REFUSE("\x80\x04\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.");
	REFUSE("L01L\n.");
	REFUSE("I1e5\n.");
}

/* A text that is named again and again: 2^30 bytes from a few dozen. */
static void a_pickle_does_not_grow_without_end(void **state)
{
	struct buf pickle = BUF_INIT;

	(void)state;
	buf_add(&pickle, "\x80\x04\x8c\x08xxxxxxxx\x94", 13);
	for (int i = 0; i < 27; i++) { /* (previous, previous) */
		buf_add_char(&pickle, 'h');
		buf_add_char(&pickle, (char)i);
		buf_add_char(&pickle, 'h');
		buf_add_char(&pickle, (char)i);
		buf_add(&pickle, "\x86\x94", 2);
	}
	buf_add_char(&pickle, '.');
	refuse(pickle.data, pickle.len);
	buf_release(&pickle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_python_writes),
		cmocka_unit_test(what_our_worker_writes),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(a_pickle_does_not_grow_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
