/* A type and an address go in, the back end that understands them comes out; all else is handed on to it. */
#include <string.h>

#include "common/base/fault.h"
#include "common/store/search_ops.h"

/* THE TABLE of back ends. */
static const struct search_ops *const back_ends[] = { &search_elastic_http, &search_elastic_https, &search_sqlite };
#define BACK_ENDS (sizeof(back_ends) / sizeof(back_ends[0]))

/* Names that engines take, and that stand in a path as they are. */
static bool is_index_name(const char *name)
{
	static const char begin[] = "abcdefghijklmnopqrstuvwxyz0123456789";

	return *name != '\0' && strchr(begin, *name) != NULL && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(name);
}

static const struct search_ops *chosen(const struct settings *settings)
{
	for (size_t i = 0; i < BACK_ENDS; i++)
		if (strcmp(back_ends[i]->type, settings->search.type) == 0 &&
			strncmp(settings->search.url, back_ends[i]->scheme, strlen(back_ends[i]->scheme)) == 0)
			return back_ends[i];
	return NULL;
}

int search_open(const struct settings *settings, struct search **out, struct err *err)
{
	const struct search_ops *ops = chosen(settings);

	if (ops == NULL)
		return err_set(err, ERR_FATAL, "setting search.url: must begin with %s or %s", search_elastic_http.scheme,
			search_elastic_https.scheme);
	if (!is_index_name(settings->search.index))
		return err_set(err, ERR_FATAL, "setting search.index: must be of a-z, 0-9, '.', '_', '-', and begin with a letter or digit");
	if (ops->open(settings, out, err) < 0)
		return -1;
	(*out)->ops = ops;
	return 0;
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
	if (count == 0)
		return 0;
	FAULT_POINT("search.adding");
	if (search->ops->add(search, documents, count, err) < 0)
		return -1;
	if (FAULT_FAILS("search.added"))
		return err_set(err, ERR_UNKNOWN, "fault: the answer to _bulk is lost");
	return 0;
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
