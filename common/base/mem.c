/* A size goes in, memory of that size comes out, or the process ends. */
#include "common/base/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *or_abort(void *memory)
{
	static const char message[] = "out of memory\n";

	if (memory == NULL) {
		if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
			abort();
		abort();
	}
	return memory;
}

static size_t at_least_one(size_t size)
{
	return size > 0 ? size : 1; /* malloc(0) may return NULL */
}

void *mem_alloc(size_t size)
{
	return or_abort(malloc(at_least_one(size)));
}

void *mem_zalloc(size_t size)
{
	return or_abort(calloc(1, at_least_one(size)));
}

void *mem_array(size_t count, size_t size)
{
	return or_abort(calloc(at_least_one(count), at_least_one(size))); /* NULL too when the product overflows */
}

void *mem_grow(void *old, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		return or_abort(NULL);
	return or_abort(realloc(old, at_least_one(total)));
}

char *mem_strdup(const char *text)
{
	return mem_dup(text, strlen(text));
}

char *mem_dup(const void *bytes, size_t len)
{
	char *copy = mem_alloc(len + 1);

	if (len > 0)
		memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

void mem_keep_little(int pools, int large)
{
	mallopt(M_ARENA_MAX, pools);
	mallopt(M_MMAP_THRESHOLD, large);
}

void mem_give_back(void)
{
	malloc_trim(0);
}
