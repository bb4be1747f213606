/* A command or a result goes in, the value of a record comes out, and back. */
#include "common/model/command.h"

#include "common/model/fields.h"

/* ---- one row a type: how its data is written, read and checked, and what its record key is */

static void write_participant(struct json_writer *w, const struct command *command)
{
	json_put_string(w, "name", command->data.participant.name);
}

static void read_participant(struct fields *f, struct command *out)
{
	out->data.participant.name = fields_string(f, "name");
}

static int check_participant(const struct command *command, const char **member, struct err *err)
{
	return participant_check(&command->data.participant, member, err);
}

static void write_friendship(struct json_writer *w, const struct command *command)
{
	json_put_int(w, "from", command->data.friendship.from);
	json_put_int(w, "to", command->data.friendship.to);
}

static void read_friendship(struct fields *f, struct command *out)
{
	struct friendship *friendship = &out->data.friendship;

	friendship->from = fields_id(f, "from");
	friendship->to = fields_id(f, "to");
}

static int check_friendship(const struct command *command, const char **member, struct err *err)
{
	return friendship_check(&command->data.friendship, member, err);
}

static void write_product(struct json_writer *w, const struct command *command)
{
	json_put_string(w, "name", command->data.product.name);
	json_put_raw(w, "price", command->data.product.price);
}

static void read_product(struct fields *f, struct command *out)
{
	out->data.product.name = fields_string(f, "name");
	out->data.product.price = json_number(fields_member(f, "price", JSON_NUMBER));
}

static int check_product(const struct command *command, const char **member, struct err *err)
{
	return product_check(&command->data.product, member, err);
}

static void write_nothing(struct json_writer *w, const struct command *command)
{
	(void)w;
	(void)command;
}

static void read_nothing(struct fields *f, struct command *out)
{
	(void)f;
	(void)out;
}

static int check_nothing(const struct command *command, const char **member, struct err *err)
{
	(void)command;
	(void)member;
	(void)err;
	return 0;
}

static int64_t friendship_command_key(const struct command *command)
{
	return friendship_key(&command->data.friendship);
}

struct type_ops {
	void (*write)(struct json_writer *w, const struct command *command);
	void (*read)(struct fields *f, struct command *out);
	int (*check)(const struct command *command, const char **member, struct err *err);
	int64_t (*key)(const struct command *command);
};

static const struct type_ops types[COMMAND_TYPE_COUNT] = {
	[COMMAND_PARTICIPANT_CREATE] = { write_participant, read_participant, check_participant, command_entity },
	[COMMAND_FRIEND_CREATE] = { write_friendship, read_friendship, check_friendship, friendship_command_key },
	[COMMAND_PRODUCT_CREATE] = { write_product, read_product, check_product, command_entity },
	[COMMAND_PRODUCT_DELETE] = { write_nothing, read_nothing, check_nothing, command_entity },
};

#define TYPE_NAME(symbol, name) [COMMAND_##symbol] = name,
static const char *const type_names[COMMAND_TYPE_COUNT] = { COMMAND_TYPES(TYPE_NAME) };

const char *command_type_name(enum command_type type)
{
	return type_names[type];
}

/* The id is the first member of every struct in the union, so any of them reads it. */
int64_t command_entity(const struct command *command)
{
	return command->data.participant.id;
}

int command_data_check(const struct command *command, const char **member, struct err *err)
{
	return types[command->type].check(command, member, err);
}

int64_t command_key(const struct command *command)
{
	return types[command->type].key(command);
}

void command_encode(const struct command *command, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_int(&w, "v", RECORD_VERSION);
	json_put_string(&w, "command", slice_of(command->id));
	json_put_string(&w, "type", slice_of(type_names[command->type]));
	json_put_int(&w, "id", command_entity(command));
	json_open(&w, "data", '{');
	types[command->type].write(&w, command);
	json_close(&w, '}');
	json_close(&w, '}');
}

/* ---- decoding */

/* UUIDs compare as texts from here on: one letter case. */
static void copy_uuid(char out[UUID_TEXT], struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		out[i] = text.data[i] >= 'A' && text.data[i] <= 'F' ? (char)(text.data[i] + ('a' - 'A')) : text.data[i];
	out[text.len] = '\0';
}

static void read_command_id(struct fields *f, char out[UUID_TEXT])
{
	struct slice text = fields_text(f, "command", UUID_TEXT - 1, UUID_TEXT - 1);
	int64_t wall_ms;

	if (f->is_wrong)
		return;
	if (uuid_is_v7(text, &wall_ms))
		copy_uuid(out, text);
	else
		fields_wrong(f, "command must be a UUID of version 7");
}

static void read_type(struct fields *f, enum command_type *out)
{
	const struct json *member = fields_member(f, "type", JSON_STRING);

	if (member == NULL)
		return;
	for (int type = 0; type < COMMAND_TYPE_COUNT; type++) {
		if (slice_is(json_string(member), type_names[type])) {
			*out = (enum command_type)type;
			return;
		}
	}
	fields_wrong(f, "type \"%.40s\" is not known", json_string(member).data);
}

int command_decode(struct command *out, struct slice value, struct err *err)
{
	struct fields f;
	struct command command = { .source = NULL };
	struct err why = ERR_INIT;
	const char *member;

	if (fields_open(&f, "command", value, err) < 0)
		return -1;
	read_command_id(&f, command.id);
	read_type(&f, &command.type);
	command.data.participant.id = fields_id(&f, "id");
	fields_enter(&f, "data", "data.");
	types[command.type].read(&f, &command);
	if (!f.is_wrong && command_data_check(&command, &member, &why) < 0)
		fields_wrong(&f, "data.%s", why.message);
	if (fields_done(&f) < 0)
		return -1;
	command.source = f.root;
	*out = command;
	if (out->type == COMMAND_PRODUCT_CREATE) {
		price_read(command.data.product.price, out->price);
		out->data.product.price = slice_of(out->price);
	}
	return 0;
}

bool command_read_id(struct slice value, char out[UUID_TEXT])
{
	struct err ignored = ERR_INIT;
	struct json *root = value.data != NULL ? json_parse(value, &ignored) : NULL;
	const struct json *member = root != NULL ? json_get(root, "command") : NULL;
	struct slice text = member != NULL ? json_string(member) : SLICE_NONE;
	int64_t wall_ms;
	bool is_id = text.data != NULL && text.len == UUID_TEXT - 1 && uuid_is_v7(text, &wall_ms);

	if (is_id)
		copy_uuid(out, text);
	json_free(root);
	return is_id;
}

void command_release(struct command *command)
{
	json_free(command->source);
	command->source = NULL;
}

/* ---- results */

static const struct {
	const char *name;
	const char *body; /* the member that carries it */
} outcomes[] = {
	[false] = { "failed", "problem" },
	[true] = { "done", "body" },
};

void result_encode(const struct result *result, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_int(&w, "v", RECORD_VERSION);
	json_put_string(&w, "command", slice_of(result->command));
	json_put_string(&w, "outcome", slice_of(outcomes[result->is_done].name));
	if (result->body.len > 0)
		json_put_raw(&w, outcomes[result->is_done].body, result->body);
	json_close(&w, '}');
}

static void read_result_command(struct fields *f, char out[UUID_TEXT])
{
	struct slice text = fields_text(f, "command", UUID_TEXT - 1, UUID_TEXT - 1);
	int64_t ignored;

	if (f->is_wrong)
		return;
	if (uuid_is_v7(text, &ignored) || uuid_is_post(text, &ignored))
		copy_uuid(out, text);
	else
		fields_wrong(f, "command must be a UUID of version 7, or of a post");
}

static void read_outcome(struct fields *f, bool *is_done)
{
	const struct json *member = fields_member(f, "outcome", JSON_STRING);

	if (member == NULL)
		return;
	*is_done = slice_is(json_string(member), outcomes[true].name);
	if (!*is_done && !slice_is(json_string(member), outcomes[false].name))
		fields_wrong(f, "outcome must be \"%s\" or \"%s\"", outcomes[true].name, outcomes[false].name);
}

int result_decode(struct result *out, struct slice value, struct err *err)
{
	struct fields f;
	struct result result = { .text = BUF_INIT };
	const struct json *body = NULL;

	if (fields_open(&f, "result", value, err) < 0)
		return -1;
	read_result_command(&f, result.command);
	read_outcome(&f, &result.is_done);
	if (!result.is_done || json_get(f.object, outcomes[true].body) != NULL) /* a post's fan-out has no body */
		body = fields_member(&f, outcomes[result.is_done].body, JSON_OBJECT);
	if (fields_done(&f) < 0)
		return -1;
	if (body != NULL)
		json_write_node(&result.text, body);
	result.body = (struct slice){ result.text.data, result.text.len };
	result.source = f.root;
	*out = result;
	return 0;
}

void result_release(struct result *result)
{
	json_free(result->source);
	result->source = NULL;
	buf_release(&result->text);
	result->body = SLICE_NONE;
}
