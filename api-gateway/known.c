/* Ids go in, and whether they were there lately comes out.
 *
 * A hash set in groups of 8 (one cache line): an id may stand in any place of its group, and a new one in a full group
 * takes the place of another. A place is one atomic word, 0 when empty, so no lock is needed: the worst that two writers
 * at once can do is to forget an id, or to keep it twice. */
#include "api-gateway/known.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define WAYS 8

struct known {
	_Atomic int64_t *places;
	size_t group_mask;
	atomic_size_t count;
	atomic_uint turn; /* whose place is taken next */
};

static size_t power_of_two(size_t at_least)
{
	size_t size = WAYS;

	while (size < at_least)
		size *= 2;
	return size;
}

struct known *known_new(size_t room)
{
	struct known *known = mem_zalloc(sizeof(*known));
	size_t size = power_of_two(room);

	known->places = mem_array(size, sizeof(*known->places));
	known->group_mask = size / WAYS - 1;
	return known;
}

void known_free(struct known *known)
{
	if (known == NULL)
		return;
	free(known->places);
	free(known);
}

/* The finalizer of MurmurHash3: ids of one time lie close together, groups should not. */
static uint64_t mix(uint64_t key)
{
	key ^= key >> 33;
	key *= UINT64_C(0xff51afd7ed558ccd);
	key ^= key >> 33;
	key *= UINT64_C(0xc4ceb9fe1a85ec53);
	return key ^ key >> 33;
}

static _Atomic int64_t *group_of(const struct known *known, int64_t id)
{
	return known->places + (mix((uint64_t)id) & known->group_mask) * WAYS;
}

bool known_has(const struct known *known, int64_t id)
{
	_Atomic int64_t *group = group_of(known, id);

	for (size_t i = 0; i < WAYS; i++)
		if (atomic_load_explicit(&group[i], memory_order_relaxed) == id)
			return true;
	return false;
}

void known_add(struct known *known, int64_t id)
{
	_Atomic int64_t *group = group_of(known, id);

	assert(id > 0);
	if (known_has(known, id))
		return;
	for (size_t i = 0; i < WAYS; i++) {
		int64_t there = 0;

		if (atomic_compare_exchange_strong(&group[i], &there, id)) {
			atomic_fetch_add(&known->count, 1);
			return;
		}
		if (there == id)
			return;
	}
	atomic_store_explicit(&group[atomic_fetch_add(&known->turn, 1) % WAYS], id, memory_order_relaxed);
}

size_t known_count(const struct known *known)
{
	return atomic_load(&known->count);
}
