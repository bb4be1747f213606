/* The outcome of a command goes in, a record for the gateway that waits comes out. */
#include "workers/reply.h"

#include "common/base/id.h"
#include "common/queue/topics.h"

bool reply_wanted(const struct record *record, int32_t *gateway)
{
	int64_t number;

	if (!str_int64(record_header_get(record, HEADER_REPLY), &number) || number < 0 || number >= ID_GATEWAYS)
		return false;
	*gateway = (int32_t)number;
	return true;
}

void reply_emit(struct batch *batch, size_t i, const struct result *result)
{
	struct record record = { .topic = TOPIC_RESULTS };
	struct buf value = BUF_INIT;

	if (!reply_wanted(batch->items[i].record, &record.partition))
		return;
	result_encode(result, &value);
	record.value = (struct slice){ value.data, value.len };
	batch_emit(batch, i, &record);
	buf_release(&value);
}

void reply_post_done(struct batch *batch, size_t i, int64_t post)
{
	struct result result = { .is_done = true, .text = BUF_INIT };

	uuid_of_post(post, result.command);
	reply_emit(batch, i, &result);
}
