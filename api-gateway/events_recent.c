/* Texts of product events go in; those that a client lacks come out, while they are kept. */
#include "api-gateway/events_recent.h"

#include <stdlib.h>
#include <string.h>

#include "api-gateway/events_message.h"
#include "common/base/mem.h"

static void forget_oldest(struct events_recent *recent)
{
	struct events_kept *kept = &recent->kept[recent->oldest];

	recent->base[kept->partition] = kept->offset + 1;
	recent->bytes -= kept->len;
	free(kept->text);
	kept->text = NULL;
	recent->oldest = (recent->oldest + 1) % EVENTS_RECENT;
	recent->count--;
}

void events_recent_release(struct events_recent *recent)
{
	while (recent->count > 0)
		forget_oldest(recent);
}

void events_recent_begin(struct events_recent *recent, const int64_t *next, size_t partitions)
{
	events_recent_release(recent);
	recent->partitions = partitions;
	memcpy(recent->base, next, partitions * sizeof(*next));
	memcpy(recent->next, next, partitions * sizeof(*next));
}

void events_recent_add(struct events_recent *recent, int32_t partition, int64_t offset, struct slice text)
{
	struct events_kept *kept;

	recent->next[partition] = offset + 1;
	if (text.data == NULL)
		return;
	while (recent->count > 0 && (recent->count == EVENTS_RECENT || recent->bytes + text.len > EVENTS_RECENT_BYTES))
		forget_oldest(recent);
	kept = &recent->kept[(recent->oldest + recent->count++) % EVENTS_RECENT];
	*kept = (struct events_kept){ partition, offset, mem_alloc(text.len), text.len };
	memcpy(kept->text, text.data, text.len);
	recent->bytes += text.len;
	if (recent->bytes > EVENTS_RECENT_BYTES)
		forget_oldest(recent); /* it is more by itself */
}

bool events_recent_covers(const struct events_recent *recent, const int64_t *at)
{
	for (size_t p = 0; p < recent->partitions; p++)
		if (at[p] < recent->base[p])
			return false;
	return true;
}

static bool lacks(const struct events_recent *recent, const struct events_kept *kept, const int64_t *at)
{
	return at[kept->partition] >= recent->base[kept->partition] && at[kept->partition] <= kept->offset;
}

bool events_recent_serve(const struct events_recent *recent, int64_t *at, struct http_stream *stream)
{
	struct buf message = BUF_INIT;
	bool is_there = true, takes = true;

	for (size_t i = 0; i < recent->count && is_there && takes; i++) {
		const struct events_kept *kept = &recent->kept[(recent->oldest + i) % EVENTS_RECENT];

		if (!lacks(recent, kept, at))
			continue;
		takes = http_stream_waiting(stream) <= EVENTS_WAITING / 2;
		if (!takes)
			continue;
		at[kept->partition] = kept->offset + 1;
		buf_reset(&message);
		events_message_place(&message, at, recent->partitions);
		buf_add(&message, kept->text, kept->len);
		is_there = http_stream_send(stream, message.data, message.len);
	}
	buf_release(&message);
	for (size_t p = 0; p < recent->partitions && is_there && takes; p++)
		if (at[p] >= recent->base[p] && at[p] < recent->next[p])
			at[p] = recent->next[p]; /* the rest is what nobody is told of */
	return is_there;
}
