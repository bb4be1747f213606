/* A post or a chunk of its friends goes in, the value of a record comes out, and back; and a post's JSON for lists. */
#include "common/model/post.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/model/fields.h"
#include "common/model/participant.h"

static void put_posted_at(struct json_writer *w, int64_t wall_ms)
{
	char text[CLOCK_TEXT];

	clock_rfc3339(wall_ms, text);
	json_put_string(w, "posted_at", slice_of(text));
}

void post_encode(const struct post *post, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_int(&w, "v", RECORD_VERSION);
	json_put_int(&w, "id", post->id);
	json_put_int(&w, "from", post->from);
	put_posted_at(&w, post->posted_at_ms);
	json_put_string(&w, "subject", post->subject);
	json_put_string(&w, "story", post->story);
	json_close(&w, '}');
}

static int64_t read_time(struct fields *f, const char *name)
{
	const struct json *member = fields_member(f, name, JSON_STRING);
	int64_t wall_ms = 0;

	if (member != NULL && !clock_parse_rfc3339(json_string(member), &wall_ms))
		fields_wrong(f, "%s must be an RFC 3339 date-time", name);
	return wall_ms;
}

int post_check(const struct post *post, const char **member, struct err *err)
{
	*member = "subject";
	if (text_check(*member, post->subject, 0, POST_SUBJECT_MAX, err) < 0)
		return -1;
	*member = "story";
	return text_check(*member, post->story, 0, POST_STORY_MAX, err);
}

int post_decode(struct post *out, struct slice value, struct err *err)
{
	struct fields f;
	struct post post;
	struct err why = ERR_INIT;
	const char *member;

	if (fields_open(&f, "post", value, err) < 0)
		return -1;
	post.id = fields_id(&f, "id");
	post.from = fields_id(&f, "from");
	post.posted_at_ms = read_time(&f, "posted_at");
	post.subject = fields_string(&f, "subject");
	post.story = fields_string(&f, "story");
	if (!f.is_wrong && post_check(&post, &member, &why) < 0)
		fields_wrong(&f, "%s", why.message);
	if (fields_done(&f) < 0)
		return -1;
	post.source = f.root;
	*out = post;
	return 0;
}

void post_release(struct post *post)
{
	json_free(post->source);
	post->source = NULL;
	post->subject = SLICE_NONE;
	post->story = SLICE_NONE;
}

static void write_element(struct json_writer *w, const struct post *post, const int64_t *to)
{
	char date[CLOCK_TEXT];

	clock_date(post->posted_at_ms, date);
	json_open(w, NULL, '{');
	json_put_int(w, "id", post->id);
	json_put_link(w, "from", post->from);
	if (to != NULL)
		json_put_link(w, "to", *to);
	json_put_string(w, "occurred", slice_of(date));
	put_posted_at(w, post->posted_at_ms);
	json_put_string(w, "subject", post->subject);
	json_put_string(w, "story", post->story);
	json_close(w, '}');
}

void post_write_outbound(struct json_writer *w, const struct post *post)
{
	write_element(w, post, NULL);
}

void post_write_inbound(struct json_writer *w, const struct post *post, int64_t to)
{
	write_element(w, post, &to);
}

void chunk_encode(const struct chunk *chunk, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_int(&w, "v", RECORD_VERSION);
	json_put_int(&w, "post", chunk->post);
	json_put_int(&w, "from", chunk->from);
	json_put_int(&w, "chunk", chunk->number);
	json_close(&w, '}');
}

int chunk_decode(struct chunk *out, struct slice value, struct err *err)
{
	struct fields f;
	struct chunk chunk;

	if (fields_open(&f, "chunk", value, err) < 0)
		return -1;
	chunk.post = fields_id(&f, "post");
	chunk.from = fields_id(&f, "from");
	chunk.number = fields_int(&f, "chunk", 0, ID_MAX);
	if (fields_done(&f) < 0)
		return -1;
	json_free(f.root);
	*out = chunk;
	return 0;
}

void chunk_key(const struct chunk *chunk, char out[CHUNK_KEY])
{
	snprintf(out, CHUNK_KEY, "%" PRId64 ".%" PRId64, chunk->post, chunk->number);
}
