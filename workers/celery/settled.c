/* Ids go in as they are acknowledged, those of the last minute come out. */
#include "workers/celery/settled.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct settled_id {
	int64_t at;
	char *id;
};

void settled_init(struct settled *s)
{
	*s = (struct settled){ .ids = mem_array(SETTLED_MAX, sizeof(*s->ids)) };
}

static struct settled_id drop_first(struct settled *s)
{
	const struct settled_id old = s->ids[s->first];

	s->first = (s->first + 1) % SETTLED_MAX;
	s->count--;
	return old;
}

void settled_release(struct settled *s)
{
	while (s->count > 0)
		free(drop_first(s).id);
	free(s->ids);
	s->ids = NULL;
}

void settled_add(struct settled *s, struct slice id, int64_t now)
{
	char *copy = mem_alloc(id.len + 1);

	if (id.len > 0)
		memcpy(copy, id.data, id.len);
	copy[id.len] = '\0';
	if (s->count == SETTLED_MAX)
		free(drop_first(s).id);
	s->ids[(s->first + s->count++) % SETTLED_MAX] = (struct settled_id){ now, copy };
}

char *settled_take(struct settled *s, int64_t now)
{
	while (s->count > 0) {
		const struct settled_id old = drop_first(s);

		if (now - old.at <= SETTLED_FLIGHT_MS)
			return old.id;
		free(old.id);
	}
	return NULL;
}
