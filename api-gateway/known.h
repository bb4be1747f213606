/* known: participants that were seen to exist, so that a post by one of them needs no store. Uses mem.
 *
 * Participants are never deleted, so nothing in it can become wrong; it is bounded, and forgets when it is full. Any thread
 * may ask and add; nobody waits for anybody. */
#ifndef FEEDMILL_API_GATEWAY_KNOWN_H
#define FEEDMILL_API_GATEWAY_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct known;

struct known *known_new(size_t room); /* remembers about that many: the next power of two */
void known_free(struct known *known); /* NULL is fine */
bool known_has(const struct known *known, int64_t id);
void known_add(struct known *known, int64_t id); /* id > 0 */
size_t known_count(const struct known *known);

#endif
