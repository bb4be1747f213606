/* An address goes in, the back end that understands it comes out; all else is handed on to it. */
#include <string.h>

#include "common/store/search_ops.h"

static const struct search_ops *const back_ends[] = { &search_elastic_http, &search_elastic_https };
#define BACK_ENDS (sizeof(back_ends) / sizeof(back_ends[0]))

int search_open(const struct settings *settings, struct search **out, struct err *err)
{
	const char *url = settings->search.url;

	for (size_t i = 0; i < BACK_ENDS; i++) {
		const struct search_ops *ops = back_ends[i];

		if (strncmp(url, ops->scheme, strlen(ops->scheme)) != 0)
			continue;
		if (ops->open(settings, out, err) < 0)
			return -1;
		(*out)->ops = ops;
		return 0;
	}
	return err_set(err, ERR_FATAL, "setting search.url: must begin with %s or %s", back_ends[0]->scheme, back_ends[1]->scheme);
}

void search_close(struct search *search)
{
	if (search != NULL)
		search->ops->close(search);
}

int search_migrate(struct search *search, bool *made, struct err *err)
{
	return search->ops->migrate(search, made, err);
}

int search_ping(struct search *search, struct err *err)
{
	return search->ops->ping(search, err);
}

int search_add(struct search *search, struct search_document *documents, size_t count, struct err *err)
{
	return count > 0 ? search->ops->add(search, documents, count, err) : 0;
}

int search_senders(struct search *search, struct slice keywords, int64_t *senders, size_t room, size_t *count, struct err *err)
{
	*count = 0;
	return room > 0 ? search->ops->senders(search, keywords, senders, room, count, err) : 0;
}

int search_drop(struct search *search, struct err *err)
{
	return search->ops->drop(search, err);
}
