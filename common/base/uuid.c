/* The time, random bytes, a post id or another UUID go in, a UUID as text comes out, and back. */
#include "common/base/uuid.h"

#include <assert.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "common/base/sha256.h"

#define UUID_BYTES 16
#define CUSTOM_B 0xfed /* "feed", as far as 12 bits go */

static bool dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

static void format(const uint8_t bytes[UUID_BYTES], char out[UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < UUID_BYTES; i++) {
		if (dash_before(i))
			*out++ = '-';
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse(struct slice text, uint8_t bytes[UUID_BYTES])
{
	const char *at = text.data;

	if (text.len != UUID_TEXT - 1)
		return false;
	for (size_t i = 0; i < UUID_BYTES; i++) {
		int high, low;

		if (dash_before(i) && *at++ != '-')
			return false;
		high = hex_digit(*at++);
		low = hex_digit(*at++);
		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void put_48(uint8_t *at, int64_t number)
{
	for (int i = 0; i < 6; i++)
		at[i] = (uint8_t)(number >> (40 - 8 * i));
}

static int64_t get_48(const uint8_t *at)
{
	int64_t number = 0;

	for (int i = 0; i < 6; i++)
		number = number << 8 | at[i];
	return number;
}

static bool has_form(const uint8_t bytes[UUID_BYTES], int version)
{
	return bytes[6] >> 4 == version && bytes[8] >> 6 == 2; /* variant 10 */
}

void uuid_v7(char out[UUID_TEXT])
{
	uint8_t bytes[UUID_BYTES];

	rand_bytes(bytes, sizeof(bytes));
	put_48(bytes, clock_wall_ms());
	bytes[6] = (uint8_t)(0x70 | (bytes[6] & 0x0f));
	bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
	format(bytes, out);
}

bool uuid_derive(struct slice parent, struct slice name, char out[UUID_TEXT])
{
	unsigned char digest[SHA256_BYTES];
	uint8_t bytes[UUID_BYTES];
	struct sha256 sha;

	if (!parse(parent, bytes))
		return false;
	sha256_init(&sha);
	sha256_add(&sha, bytes, sizeof(bytes));
	sha256_add(&sha, name.data, name.len);
	sha256_finish(&sha, digest);
	memcpy(bytes, digest, sizeof(bytes));
	bytes[6] = (uint8_t)(0x80 | (bytes[6] & 0x0f));
	bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
	format(bytes, out);
	return true;
}

bool uuid_is_v7(struct slice text, int64_t *wall_ms)
{
	uint8_t bytes[UUID_BYTES];

	if (!parse(text, bytes) || !has_form(bytes, 7))
		return false;
	*wall_ms = get_48(bytes);
	return true;
}

static void post_bytes(int64_t post_id, uint8_t bytes[UUID_BYTES])
{
	memset(bytes, 0, UUID_BYTES);
	put_48(bytes, post_id >> 5);
	bytes[6] = 0x80 | CUSTOM_B >> 8;
	bytes[7] = CUSTOM_B & 0xff;
	bytes[8] = (uint8_t)(0x80 | (post_id & 31) << 1);
}

void uuid_of_post(int64_t post_id, char out[UUID_TEXT])
{
	uint8_t bytes[UUID_BYTES];

	assert(post_id >= 1 && post_id <= ID_MAX);
	post_bytes(post_id, bytes);
	format(bytes, out);
}

bool uuid_is_post(struct slice text, int64_t *post_id)
{
	uint8_t bytes[UUID_BYTES];
	uint8_t wanted[UUID_BYTES];
	int64_t id;

	if (!parse(text, bytes) || !has_form(bytes, 8))
		return false;
	id = get_48(bytes) << 5 | (bytes[8] >> 1 & 31);
	if (id < 1 || id > ID_MAX)
		return false;
	post_bytes(id, wanted);
	if (memcmp(bytes, wanted, sizeof(wanted)) != 0) /* every bit that is not the id's is fixed */
		return false;
	*post_id = id;
	return true;
}
