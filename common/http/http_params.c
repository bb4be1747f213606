/* A query string goes in, decoded names and values come out. */
#include "common/http/http_params.h"

#include <stdlib.h>

#include "common/base/mem.h"

void http_params_release(struct http_params *params)
{
	free(params->list);
	buf_release(&params->text);
	*params = (struct http_params){ .text = BUF_INIT };
}

/* In place: what is decoded is never longer than what it came from. The separator behind it becomes the NUL. */
static bool decode(struct slice raw, struct slice *out)
{
	char *text = (char *)(uintptr_t)raw.data;
	ptrdiff_t len = str_percent_decode(raw, true, text);

	*out = (struct slice){ text, len < 0 ? 0 : (size_t)len };
	if (len >= 0 && str_utf8_valid(*out))
		return true;
	text[0] = '\0';
	out->len = 0;
	return false;
}

static void add_param(struct http_params *params, struct slice raw)
{
	struct http_param param = { .broken = false };
	struct slice name = slice_cut(&raw, '=');

	if (raw.data == NULL) /* "name" alone: an empty value, the NUL that the name will end with */
		raw = (struct slice){ name.data + name.len, 0 };
	if (!decode(name, &param.name) || param.name.len == 0)
		return;
	param.broken = !decode(raw, &param.value);
	if (params->count == params->size) {
		params->size = params->size > 0 ? params->size * 2 : 8;
		params->list = mem_grow(params->list, params->size, sizeof(*params->list));
	}
	params->list[params->count++] = param;
}

void http_params_read(struct http_params *params, struct slice query)
{
	struct slice rest;

	buf_reset(&params->text);
	buf_add(&params->text, query.data, query.len);
	params->count = 0;
	rest = (struct slice){ params->text.data, params->text.len };
	while (rest.len > 0)
		add_param(params, slice_cut(&rest, '&'));
}

const struct http_param *http_params_find(const struct http_params *params, const char *name)
{
	for (size_t i = 0; i < params->count; i++)
		if (slice_is(params->list[i].name, name))
			return &params->list[i];
	return NULL;
}
