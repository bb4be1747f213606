/* A participant goes in, its JSON comes out; an id goes in, a link comes out, and back. */
#include "common/model/participant.h"

#include <string.h>

#include "common/model/fields.h"

static const char link_path[] = "/participant/";

void link_format(int64_t id, char out[LINK_TEXT])
{
	memcpy(out, link_path, sizeof(link_path) - 1);
	str_put_int64(id, out + sizeof(link_path) - 1);
}

bool link_parse(struct slice text, int64_t *id)
{
	const size_t path_len = sizeof(link_path) - 1;

	if (text.len > path_len && memcmp(text.data, link_path, path_len) == 0) {
		text.data += path_len;
		text.len -= path_len;
	}
	return str_id(text, id);
}

void json_put_link(struct json_writer *w, const char *key, int64_t id)
{
	char text[LINK_TEXT];

	link_format(id, text);
	json_put_string(w, key, slice_of(text));
}

int participant_check(const struct participant *participant, const char **member, struct err *err)
{
	*member = "name";
	return text_check(*member, participant->name, 1, PARTICIPANT_NAME_MAX, err);
}

void participant_write(struct json_writer *w, const char *key, const struct participant *participant)
{
	json_open(w, key, '{');
	json_put_int(w, "id", participant->id);
	json_put_string(w, "name", participant->name);
	json_put_link(w, "link", participant->id);
	json_close(w, '}');
}
