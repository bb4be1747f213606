/* search_ops: what a search back end is. search.c alone calls it; search.h says what each function must do. */
#ifndef FEEDMILL_STORE_SEARCH_OPS_H
#define FEEDMILL_STORE_SEARCH_OPS_H

#include "common/store/search.h"

struct search_ops {
	const char *type;   /* the value of search.type that chooses it */
	const char *scheme; /* how an address of its kind begins: "http://"; "": it needs none */
	int (*open)(const struct settings *settings, struct search **out, struct err *err);
	void (*close)(struct search *search);
	int (*migrate)(struct search *search, bool *made, struct err *err);
	int (*ping)(struct search *search, struct err *err);
	int (*add)(struct search *search, struct search_document *documents, size_t count, struct err *err);
	int (*senders)(struct search *search, struct slice keywords, int64_t *senders, size_t room, size_t *count, struct err *err);
	int (*drop)(struct search *search, struct err *err);
};

/* A back end's own struct begins with this. */
struct search {
	const struct search_ops *ops;
};

extern const struct search_ops search_elastic_http;
extern const struct search_ops search_elastic_https;
extern const struct search_ops search_sqlite;

#endif
