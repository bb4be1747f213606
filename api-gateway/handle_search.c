/* Words go in, links of those who wrote about them come out. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/reply.h"
#include "common/model/participant.h"

#define SENDERS 100

static void write_links(const int64_t *senders, size_t count, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '[');
	for (size_t i = 0; i < count; i++)
		json_put_link(&w, NULL, senders[i]);
	json_close(&w, ']');
}

static void read_senders(struct call *call, const struct reader *reader)
{
	struct buf body = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t senders[SENDERS];
	size_t count = 0;

	if (search_senders(reader->search, call->want.keywords, senders, SENDERS, &count, &err) < 0) {
		reply_away(call, &err);
		return;
	}
	write_links(senders, count, &body);
	reply_json(call, &body);
}

void search_outbound(struct call *call)
{
	call->want.keywords = http_query(call->exchange, "keywords", NULL);
	if (slice_trim(call->want.keywords).len == 0)
		reply_static(call, 200, JSON_TYPE, slice_of("[]"));
	else
		call_read(call, READ_SEARCH, read_senders);
}
