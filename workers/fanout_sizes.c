/* Authors and sizes go in, sizes come out: a table in which each author has one place, and takes it from whoever was there. */
#include "workers/fanout_sizes.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define PLACES 32768 /* a power of two */
#define AGE_S 30

struct place {
	int64_t author; /* 0: nobody */
	uint32_t size;
	uint32_t read_s;
};

struct fanout_sizes {
	struct place places[PLACES];
};

struct fanout_sizes *fanout_sizes_new(void)
{
	return mem_zalloc(sizeof(struct fanout_sizes));
}

void fanout_sizes_free(struct fanout_sizes *sizes)
{
	free(sizes);
}

/* Ids are times with a counter below: the product's high bits depend on all of theirs. */
static size_t place_of(int64_t author)
{
	return (size_t)((uint64_t)author * 0x9e3779b97f4a7c15u >> 48) % PLACES;
}

bool fanout_sizes_get(const struct fanout_sizes *sizes, int64_t author, int64_t now_ms, size_t *size)
{
	const struct place *place = &sizes->places[place_of(author)];

	*size = place->size;
	return place->author == author && now_ms / 1000 - place->read_s < AGE_S;
}

void fanout_sizes_put(struct fanout_sizes *sizes, int64_t author, int64_t now_ms, size_t size)
{
	sizes->places[place_of(author)] = (struct place){ author, size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, (uint32_t)(now_ms / 1000) };
}
