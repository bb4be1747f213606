/* Ids go in, whether one was among the last so many comes out: a ring of them, and a hash table of places in the ring. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "workers/relay.h"

struct slot {
	char id[RELAY_ID_MAX + 1];
	uint32_t next; /* in the chain of its bucket; 0: the last. Places are counted from 1 */
};

struct relay_window {
	size_t room, used, oldest;
	struct slot *slots;
	uint32_t *buckets;
	size_t bucket_count;
};

struct relay_window *relay_window_new(size_t room)
{
	struct relay_window *window = mem_zalloc(sizeof(*window));

	window->room = room;
	window->slots = mem_array(room + 1, sizeof(*window->slots));
	window->bucket_count = room + 1;
	window->buckets = mem_array(window->bucket_count, sizeof(*window->buckets));
	return window;
}

void relay_window_free(struct relay_window *window)
{
	if (window == NULL)
		return;
	free(window->slots);
	free(window->buckets);
	free(window);
}

static uint32_t *bucket_of(const struct relay_window *window, struct slice id)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < id.len; i++)
		hash = (hash ^ (unsigned char)id.data[i]) * UINT64_C(1099511628211);
	return &window->buckets[hash % window->bucket_count];
}

bool relay_window_has(const struct relay_window *window, struct slice id)
{
	for (uint32_t at = *bucket_of(window, id); at != 0; at = window->slots[at - 1].next)
		if (slice_is(id, window->slots[at - 1].id))
			return true;
	return false;
}

static void forget(struct relay_window *window, uint32_t place)
{
	struct slot *slot = &window->slots[place - 1];
	uint32_t *at = bucket_of(window, slice_of(slot->id));

	while (*at != place)
		at = &window->slots[*at - 1].next;
	*at = slot->next;
}

void relay_window_add(struct relay_window *window, struct slice id)
{
	uint32_t place, *bucket;

	if (window->room == 0 || id.len > RELAY_ID_MAX || memchr(id.data, '\0', id.len) != NULL || relay_window_has(window, id))
		return;
	if (window->used < window->room) {
		place = (uint32_t)++window->used;
	} else {
		place = (uint32_t)window->oldest + 1;
		window->oldest = (window->oldest + 1) % window->room;
		forget(window, place);
	}
	memcpy(window->slots[place - 1].id, id.data, id.len);
	window->slots[place - 1].id[id.len] = '\0';
	bucket = bucket_of(window, id);
	window->slots[place - 1].next = *bucket;
	*bucket = place;
}
