/* A friendship goes in, its JSON or its record key comes out. */
#include "common/model/friendship.h"

#include "common/model/participant.h"

void friendship_write(struct json_writer *w, const char *key, const struct friendship *friendship)
{
	json_open(w, key, '{');
	json_put_int(w, "id", friendship->id);
	json_put_link(w, "from", friendship->from);
	json_put_link(w, "to", friendship->to);
	json_close(w, '}');
}

/* Both directions of a friendship, asked for at once, land in one partition: the second then finds the first. */
int64_t friendship_key(const struct friendship *friendship)
{
	return friendship->from < friendship->to ? friendship->from : friendship->to;
}
