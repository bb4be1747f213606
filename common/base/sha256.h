/* sha256: the digest of FIPS 180-4, of bytes that come in pieces. Uses libc only. */
#ifndef FEEDMILL_BASE_SHA256_H
#define FEEDMILL_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_TEXT (2 * SHA256_BYTES + 1) /* lower-case hex and a NUL */

struct sha256 {
	uint32_t state[8];
	uint64_t length;        /* bytes so far */
	unsigned char part[64]; /* length % 64 bytes that fill no block yet */
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *bytes, size_t len);
void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_BYTES]); /* sha is used up */
void sha256_finish_text(struct sha256 *sha, char out[SHA256_TEXT]);

#endif
