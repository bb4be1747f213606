/* An expression and a name go in, whether it matches from the name's start comes out. */
#include "workers/celery/pattern.h"

#include <stdint.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define STEPS_MAX 100000  /* PCRE2's default is a hundred times that; an honest expression needs some hundred */
#define MEMORY_MAX 1024   /* KiB */
#define WORDS_MAX 160

static int refuse(struct err *err, int number)
{
	PCRE2_UCHAR words[WORDS_MAX];

	if (pcre2_get_error_message(number, words, WORDS_MAX) == PCRE2_ERROR_BADDATA)
		return err_set(err, ERR_INVALID, "error %d", number);
	return err_set(err, ERR_INVALID, "%s", (const char *)words);
}

static pcre2_code *compile(struct slice pattern, struct err *err)
{
	const uint32_t options = PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
	int number;
	PCRE2_SIZE at;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)(pattern.len > 0 ? pattern.data : ""), pattern.len, options, &number, &at, NULL);

	if (code == NULL) {
		refuse(err, number);
		err_wrap(err, "at byte %zu: ", (size_t)at);
	}
	return code;
}

static pcre2_match_context *limits(void)
{
	pcre2_match_context *context = pcre2_match_context_create(NULL);

	if (context == NULL)
		abort(); /* no memory: as everywhere */
	pcre2_set_match_limit(context, STEPS_MAX);
	pcre2_set_heap_limit(context, MEMORY_MAX);
	return context;
}

int pattern_matches(struct slice pattern, struct slice name, struct err *err)
{
	pcre2_code *code = compile(pattern, err);
	pcre2_match_context *context;
	pcre2_match_data *data;
	int number;

	if (code == NULL)
		return -1;
	context = limits();
	data = pcre2_match_data_create_from_pattern(code, NULL);
	if (data == NULL)
		abort();
	number = pcre2_match(code, (PCRE2_SPTR)(name.len > 0 ? name.data : ""), name.len, 0, 0, data, context);
	pcre2_match_data_free(data);
	pcre2_match_context_free(context);
	pcre2_code_free(code);
	if (number < 0 && number != PCRE2_ERROR_NOMATCH)
		return refuse(err, number);
	return number >= 0;
}
