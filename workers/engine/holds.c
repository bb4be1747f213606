/* Partitions and times go in; which of them stand still comes out. */
#include "workers/engine/holds.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void holds_release(struct holds *holds)
{
	free(holds->list);
	*holds = (struct holds){ NULL, 0, 0 };
}

static bool is_of(const struct hold *hold, const char *topic, int32_t partition)
{
	return hold->partition == partition && (hold->topic == topic || strcmp(hold->topic, topic) == 0);
}

struct hold *holds_find(const struct holds *holds, const char *topic, int32_t partition)
{
	for (size_t i = 0; i < holds->count; i++)
		if (is_of(&holds->list[i], topic, partition))
			return &holds->list[i];
	return NULL;
}

bool holds_on(const struct holds *holds, const char *topic, int32_t partition)
{
	const struct hold *hold = holds_find(holds, topic, partition);

	return hold != NULL && hold->is_on;
}

void holds_put(struct holds *holds, const struct hold *hold)
{
	struct hold *place = holds_find(holds, hold->topic, hold->partition);

	if (place == NULL && holds->count == holds->size) {
		holds->size = holds->size > 0 ? holds->size * 2 : 8;
		holds->list = mem_grow(holds->list, holds->size, sizeof(*holds->list));
	}
	if (place == NULL)
		place = &holds->list[holds->count++];
	*place = *hold;
}

static void drop(struct holds *holds, struct hold *hold)
{
	*hold = holds->list[--holds->count];
}

const struct hold *holds_pass(struct holds *holds, const struct record *record)
{
	struct hold *hold = holds_find(holds, record->topic, record->partition);

	if (hold == NULL || hold->offset == record->offset)
		return hold;
	if (record->offset > hold->offset)
		drop(holds, hold);
	return NULL;
}

void holds_forget(struct holds *holds, const struct topic_partition *gone, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct hold *hold = holds_find(holds, gone[i].topic, gone[i].partition);

		if (hold != NULL)
			drop(holds, hold);
	}
}
