/* command: something to be done to participants, friendships or products; the value of feed.commands:
 *   {"v":1,"command":"UUID","type":"product.create","id":N,"data":{"name":"…","price":1.5}}
 * and what came of it; the value of feed.results:
 *   {"v":1,"command":"UUID","outcome":"done","body":{…}}  or  {…,"outcome":"failed","problem":{"title","status","detail"}}
 * No I/O. */
#ifndef FEEDMILL_MODEL_COMMAND_H
#define FEEDMILL_MODEL_COMMAND_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/uuid.h"
#include "common/model/friendship.h"
#include "common/model/participant.h"
#include "common/model/product.h"

/* type               data                       record key */
#define COMMAND_TYPES(C)                                               \
	C(PARTICIPANT_CREATE, "participant.create") /* {"name"}: its id */       \
	C(FRIEND_CREATE, "friend.create")           /* {"from","to"}: smaller id */ \
	C(PRODUCT_CREATE, "product.create")         /* {"name","price"}: its id */ \
	C(PRODUCT_DELETE, "product.delete")         /* {}: its id */

#define COMMAND_ENUM(symbol, name) COMMAND_##symbol,
enum command_type { COMMAND_TYPES(COMMAND_ENUM) COMMAND_TYPE_COUNT };

struct command {
	char id[UUID_TEXT];
	enum command_type type;
	union {
		struct participant participant;
		struct friendship friendship;
		struct product product;
	} data;
	char price[PRICE_TEXT]; /* what data.product.price points at after decoding */
	struct json *source;    /* owned, or NULL */
};

const char *command_type_name(enum command_type type);
int64_t command_entity(const struct command *command); /* the id of the thing changed */
int64_t command_key(const struct command *command);    /* the record key */

void command_encode(const struct command *command, struct buf *out);
int command_decode(struct command *out, struct slice value, struct err *err); /* ERR_INVALID. `out` must not move afterwards */
/* Of a value that command_decode() refuses: its command id, if that much can be read. */
bool command_read_id(struct slice value, char out[UUID_TEXT]);
/* As post_check(), what passes is never refused by command_decode(). */
int command_data_check(const struct command *command, const char **member, struct err *err);
void command_release(struct command *command);

struct result {
	char command[UUID_TEXT];
	bool is_done;       /* else failed */
	struct slice body;  /* JSON text: the entity, or the problem document. Empty for a post's fan-out */
	struct json *source; /* owned, or NULL */
	struct buf text;    /* owned: what body points at after decoding */
};

void result_encode(const struct result *result, struct buf *out);
int result_decode(struct result *out, struct slice value, struct err *err);
void result_release(struct result *result);

#endif
