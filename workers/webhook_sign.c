/* A secret and a message go in, the value of a signature header comes out. */
#include "workers/webhook_sign.h"

#include <string.h>

#include "common/base/base64.h"
#include "common/base/sha256.h"

#define PREFIX "whsec_"
#define BLOCK 64 /* of SHA-256; RFC 2104 */

static void hmac(struct slice key, struct slice message, unsigned char out[SHA256_BYTES])
{
	unsigned char short_key[SHA256_BYTES], inner[BLOCK], outer[BLOCK];
	struct sha256 sha;

	if (key.len > BLOCK) {
		sha256_init(&sha);
		sha256_add(&sha, key.data, key.len);
		sha256_finish(&sha, short_key);
		key = (struct slice){ (const char *)short_key, sizeof(short_key) };
	}
	for (size_t i = 0; i < BLOCK; i++) {
		const unsigned char byte = i < key.len ? (unsigned char)key.data[i] : 0;

		inner[i] = byte ^ 0x36;
		outer[i] = byte ^ 0x5c;
	}
	sha256_init(&sha);
	sha256_add(&sha, inner, BLOCK);
	sha256_add(&sha, message.data, message.len);
	sha256_finish(&sha, out);
	sha256_init(&sha);
	sha256_add(&sha, outer, BLOCK);
	sha256_add(&sha, out, SHA256_BYTES);
	sha256_finish(&sha, out);
}

int webhook_sign(struct buf *out, struct slice secret, struct slice id, int64_t timestamp_s, struct slice body, struct err *err)
{
	unsigned char digest[SHA256_BYTES];
	struct buf key = BUF_INIT, message = BUF_INIT;
	int rc = -1;

	if (secret.len <= strlen(PREFIX) || memcmp(secret.data, PREFIX, strlen(PREFIX)) != 0 ||
		!base64_decode(&key, (struct slice){ secret.data + strlen(PREFIX), secret.len - strlen(PREFIX) }) || key.len == 0) {
		err_set(err, ERR_INVALID, "the webhook's secret in the table is none");
		goto out;
	}
	buf_add(&message, id.data, id.len);
	buf_addf(&message, ".%lld.", (long long)timestamp_s);
	buf_add(&message, body.data, body.len);
	hmac((struct slice){ key.data, key.len }, (struct slice){ message.data, message.len }, digest);
	buf_add_str(out, "v1,");
	base64_encode(out, digest, sizeof(digest));
	rc = 0;
out:
	buf_release(&key);
	buf_release(&message);
	return rc;
}
