/* A friendship goes in, its JSON or its record key comes out. */
#include "common/model/friendship.h"

#include "common/model/participant.h"

int friendship_check(const struct friendship *friendship, const char **member, struct err *err)
{
	*member = "to";
	if (friendship->from == friendship->to)
		return err_set(err, ERR_INVALID, "from and to are the same participant");
	return 0;
}

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
