/* uuid: command ids, RFC 9562. Uses clock, rand, sha256.
 *
 * A post's command id is a UUIDv8 that carries the post id, so that its state is read from the post's own rows:
 *   custom_a (48 bits) = post id >> 5, custom_b (12 bits) = 0xfed, custom_c top 5 of 62 bits = post id & 31, rest 0.
 * All other command ids are UUIDv7: 48 bits of Unix milliseconds, then random bits. Jobs that follow another have a UUIDv8 as well, of a
 * digest (RFC 9562, B.2). */
#ifndef FEEDMILL_BASE_UUID_H
#define FEEDMILL_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

#define UUID_TEXT 37 /* 36 characters, lower case, and a NUL */

void uuid_v7(char out[UUID_TEXT]);
void uuid_of_post(int64_t post_id, char out[UUID_TEXT]);

/* The same for the same two: the first 128 bits of SHA-256(parent's bytes, name), six of them overwritten by version 8 and variant. false: parent is no UUID of any version. */
bool uuid_derive(struct slice parent, struct slice name, char out[UUID_TEXT]);

bool uuid_is_v7(struct slice text, int64_t *wall_ms); /* well-formed, lower or upper case, version 7 */
bool uuid_is_post(struct slice text, int64_t *post_id);

#endif
