/* Commands go in; participants, friendships, products and the ledger row of each command come out in one transaction, then
 * product events and the results that gateways wait for.
 *
 * A command that has its ledger row is not applied again: its events and its result are made from that row, so that they are
 * the same each time. A command whose id is in the ledger with another type or entity is refused.
 *
 * Order counts, so a RETRY is done in place, its partition waiting: a command is one when it loses its race for a row again and again
 * while it is alone. The database that is away, full or read-only is waited for. A command that is wrong is a dead letter, and if its
 * id can be read, also a row of the ledger and a result: whoever asked for it hears that it failed, and why. That row gives way when the
 * record is sent again and can be applied then. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/http/problem.h"
#include "common/model/command.h"
#include "common/queue/topics.h"
#include "common/store/ledger.h"
#include "common/store/people.h"
#include "common/store/products.h"
#include "common/store/schema.h"
#include "common/store/store.h"
#include "workers/command_prune.h"
#include "workers/reply.h"
#include "workers/worker.h"

#define EVENT_SOURCE "/feedmill/products"

/* A command of the batch and its ledger row. */
struct job {
	struct command command;
	size_t item;
	struct ledger_row *row; /* shared by jobs with the same id */
	bool is_first;          /* of that id: the one that is applied */
	bool is_refused;
	bool is_unreadable;     /* all that is known is its id */
};

struct commander {
	struct store *store;
	size_t room;
	struct job *jobs;
	size_t count;
	struct ledger_row *rows;
	size_t row_count;
	size_t *order;         /* scratch, as are the following */
	struct ledger_row *fresh;
	struct participant *participants;
	struct product *products;
	int64_t *ids;
	bool *known;
	/* The last batch ended in a conflict: perhaps an id of ours is taken. Looked at one by one then, so that one forged
	 * command can't hold up its partition. */
	bool is_careful;
};

/* ---- life cycle */

static const struct worker_settings *command_settings(const struct settings *settings)
{
	return &settings->command;
}

static int command_open(const struct settings *settings, void **state, struct err *err)
{
	struct commander *c = mem_zalloc(sizeof(*c));

	if (store_open(settings, &c->store, err) < 0) {
		free(c);
		return -1;
	}
	c->room = (size_t)settings->command.batch;
	c->jobs = mem_array(c->room, sizeof(*c->jobs));
	c->rows = mem_array(c->room, sizeof(*c->rows));
	c->order = mem_array(c->room, sizeof(*c->order));
	c->fresh = mem_array(c->room, sizeof(*c->fresh));
	c->participants = mem_array(c->room, sizeof(*c->participants));
	c->products = mem_array(c->room, sizeof(*c->products));
	c->ids = mem_array(2 * c->room, sizeof(*c->ids));
	c->known = mem_array(2 * c->room, sizeof(*c->known));
	*state = c;
	return 0;
}

static void command_close(void *state)
{
	struct commander *c = state;

	store_close(c->store);
	free(c->jobs);
	free(c->rows);
	free(c->order);
	free(c->fresh);
	free(c->participants);
	free(c->products);
	free(c->ids);
	free(c->known);
	free(c);
}

static int command_check(void *state, struct err *err)
{
	struct commander *c = state;

	return schema_check(c->store, err);
}

/* ---- outcomes, as they go into the ledger */

typedef void write_fn(struct json_writer *w, const struct command *command);

static void set_done(struct job *job, write_fn *write)
{
	struct json_writer w = JSON_WRITER(&job->row->body);

	buf_reset(&job->row->body);
	write(&w, &job->command);
	job->row->is_done = true;
}

static void set_missing(struct job *job, const char *what, int64_t id)
{
	struct problem problem;

	problem_set(&problem, 404, "", "there is no %s %lld", what, (long long)id);
	buf_reset(&job->row->body);
	problem_write(&problem, &job->row->body);
	job->row->is_done = false;
}

static void write_participant(struct json_writer *w, const struct command *command)
{
	participant_write(w, NULL, &command->data.participant);
}

static void write_friendship(struct json_writer *w, const struct command *command)
{
	friendship_write(w, NULL, &command->data.friendship);
}

static void write_product(struct json_writer *w, const struct command *command)
{
	product_write(w, NULL, &command->data.product);
}

static void write_deleted(struct json_writer *w, const struct command *command)
{
	(void)command;
	json_open(w, NULL, '{');
	json_put_string(w, "status", slice_of("deleted"));
	json_close(w, '}');
}

static void refuse(struct batch *batch, struct job *job, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_INVALID, "command %s, %s of %lld: %s", job->command.id, command_type_name(job->command.type),
		(long long)command_entity(&job->command), why);
	batch_reject(batch, job->item, &err);
	job->is_refused = true;
}

/* As its outcome, which whoever asked for it hears. */
static void set_rejected(struct job *job, int status, const char *why)
{
	struct problem problem;

	problem_set(&problem, status, "", "%s", why);
	buf_reset(&job->row->body);
	problem_write(&problem, &job->row->body);
	job->row->is_done = false;
	job->row->is_rejected = true;
}

/* ---- one function for each type: applies a run of new commands of that type, in order */

typedef int apply_fn(struct commander *c, struct batch *batch, struct job **run, size_t count, struct err *err);

/* With care: an id that somebody else's command has taken, or an earlier one of this run. */
static int refuse_taken(struct commander *c, struct batch *batch, struct job **run, size_t count,
	int (*is_taken)(struct commander *c, int64_t id, bool *taken, struct err *err), struct err *err)
{
	for (size_t i = 0; i < count && c->is_careful; i++) {
		const int64_t id = command_entity(&run[i]->command);
		bool taken = false;

		if (is_taken(c, id, &taken, err) < 0)
			return -1;
		for (size_t k = 0; k < i && !taken; k++)
			taken = !run[k]->is_refused && command_entity(&run[k]->command) == id;
		if (taken) {
			refuse(batch, run[i], "the id belongs to another command");
			set_rejected(run[i], 409, "the id belongs to another command");
		}
	}
	return 0;
}

static int participant_taken(struct commander *c, int64_t id, bool *taken, struct err *err)
{
	return people_known(c->store, &id, 1, taken, err);
}

static int apply_participant_create(struct commander *c, struct batch *batch, struct job **run, size_t count, struct err *err)
{
	size_t rows = 0;

	if (refuse_taken(c, batch, run, count, participant_taken, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (run[i]->is_refused)
			continue;
		c->participants[rows++] = run[i]->command.data.participant;
		set_done(run[i], write_participant);
	}
	return rows > 0 ? people_insert(c->store, c->participants, rows, err) : 0;
}

static int apply_friend_create(struct commander *c, struct batch *batch, struct job **run, size_t count, struct err *err)
{
	(void)batch;
	for (size_t i = 0; i < count; i++) {
		c->ids[2 * i] = run[i]->command.data.friendship.from;
		c->ids[2 * i + 1] = run[i]->command.data.friendship.to;
	}
	if (people_known(c->store, c->ids, 2 * count, c->known, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (!c->known[2 * i] || !c->known[2 * i + 1]) {
			set_missing(run[i], "participant", c->ids[c->known[2 * i] ? 2 * i + 1 : 2 * i]);
			continue;
		}
		/* Its id becomes that of the friendship that is, when there is one. */
		if (friends_insert(c->store, &run[i]->command.data.friendship, err) < 0)
			return -1;
		set_done(run[i], write_friendship);
	}
	return 0;
}

static int product_found(void *arg, const struct product *product)
{
	int64_t *id = arg;

	*id = product->id;
	return 0;
}

static int product_taken(struct commander *c, int64_t id, bool *taken, struct err *err)
{
	int64_t found = 0;

	if (products_list(c->store, id - 1, 1, product_found, &found, err) < 0)
		return -1;
	*taken = found == id;
	return 0;
}

static int apply_product_create(struct commander *c, struct batch *batch, struct job **run, size_t count, struct err *err)
{
	size_t rows = 0;

	if (refuse_taken(c, batch, run, count, product_taken, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (run[i]->is_refused)
			continue;
		c->products[rows++] = run[i]->command.data.product;
		set_done(run[i], write_product);
	}
	return rows > 0 ? products_insert(c->store, c->products, rows, err) : 0;
}

static int apply_product_delete(struct commander *c, struct batch *batch, struct job **run, size_t count, struct err *err)
{
	(void)batch;
	for (size_t i = 0; i < count; i++) {
		const int64_t id = run[i]->command.data.product.id;
		bool found = false;

		if (products_delete(c->store, id, &found, err) < 0)
			return -1;
		if (found)
			set_done(run[i], write_deleted);
		else
			set_missing(run[i], "product", id);
	}
	return 0;
}

/* ---- one function for each type that has an event: made from the ledger row alone */

struct event {
	const char *type; /* CloudEvents type; NULL: no event */
	const char *sequence;
	int (*write)(const struct ledger_row *row, struct buf *out, struct err *err);
};

static int write_created(const struct ledger_row *row, struct buf *out, struct err *err)
{
	struct json *body = json_parse((struct slice){ row->body.data, row->body.len }, err);
	struct product product = { .id = row->entity };

	if (body == NULL)
		return -1;
	product.name = json_string(json_get(body, "name"));
	product_event_created(&product, out);
	json_free(body);
	return 0;
}

static int write_gone(const struct ledger_row *row, struct buf *out, struct err *err)
{
	(void)err;
	product_event_deleted(row->entity, out);
	return 0;
}

static const struct {
	apply_fn *apply;
	struct event event;
} types[COMMAND_TYPE_COUNT] = {
	[COMMAND_PARTICIPANT_CREATE] = { apply_participant_create, { NULL, NULL, NULL } },
	[COMMAND_FRIEND_CREATE] = { apply_friend_create, { NULL, NULL, NULL } },
	[COMMAND_PRODUCT_CREATE] = { apply_product_create, { "product.created", "1", write_created } },
	[COMMAND_PRODUCT_DELETE] = { apply_product_delete, { "product.deleted", "2", write_gone } },
};

/* ---- the batch */

static void decode(struct commander *c, struct batch *batch)
{
	c->count = 0;
	for (size_t i = 0; i < batch->count; i++) {
		struct job *job = &c->jobs[c->count];
		struct err why = ERR_INIT;

		*job = (struct job){ .item = i };
		if (command_decode(&job->command, batch->items[i].record->value, &why) == 0) {
			c->count++;
			continue;
		}
		batch_reject(batch, i, &why);
		*job = (struct job){ .item = i, .is_refused = true, .is_unreadable = true, .command.type = COMMAND_TYPE_COUNT };
		c->count += command_read_id(batch->items[i].record->value, job->command.id);
	}
}

static int compare_ids(const void *left, const void *right, void *arg)
{
	const struct job *jobs = arg;
	const size_t a = *(const size_t *)left, b = *(const size_t *)right;
	int order = strcmp(jobs[a].command.id, jobs[b].command.id);

	if (order == 0)
		order = jobs[a].is_unreadable - jobs[b].is_unreadable; /* the row is that of one that can be read */
	return order != 0 ? order : a < b ? -1 : a > b;
}

/* One ledger row for each id of the batch. */
static void assign_rows(struct commander *c)
{
	c->row_count = 0;
	for (size_t j = 0; j < c->count; j++)
		c->order[j] = j;
	qsort_r(c->order, c->count, sizeof(*c->order), compare_ids, c->jobs);
	for (size_t k = 0; k < c->count; k++) {
		struct job *job = &c->jobs[c->order[k]];

		if (c->row_count == 0 || strcmp(c->rows[c->row_count - 1].id, job->command.id) != 0) {
			struct ledger_row *row = &c->rows[c->row_count++];

			*row = (struct ledger_row){ .type = job->command.type, .entity = command_entity(&job->command), .body = BUF_INIT };
			memcpy(row->id, job->command.id, sizeof(row->id));
			job->is_first = true;
		}
		job->row = &c->rows[c->row_count - 1];
	}
}

static void refuse_other_content(struct commander *c, struct batch *batch)
{
	for (size_t j = 0; j < c->count; j++) {
		struct job *job = &c->jobs[j];

		if (job->is_unreadable && job->is_first && !job->row->found)
			set_rejected(job, 400, batch->items[job->item].why.message);
		else if (job->is_unreadable)
			continue;
		else if (job->row->type != job->command.type || job->row->entity != command_entity(&job->command))
			refuse(batch, job, "the command id was used for something else");
	}
}

static bool is_due(const struct job *job)
{
	return job->is_first && !job->row->found && !job->is_refused;
}

/* A command that was rejected, and comes again after a fix: as if it had never been. */
static int forget_rejected(struct commander *c, struct err *err)
{
	for (size_t j = 0; j < c->count; j++) {
		const struct job *job = &c->jobs[j];
		struct ledger_row *row = job->row;

		if (!job->is_first || !row->found || !row->is_rejected)
			continue;
		if (ledger_forget(c->store, row->id, err) < 0)
			return -1;
		row->found = row->is_rejected = false;
		row->type = job->command.type;
		row->entity = command_entity(&job->command);
		buf_reset(&row->body);
	}
	return 0;
}

/* In order; commands of one type that follow each other go together. */
static int apply_runs(struct commander *c, struct batch *batch, struct job **run, struct err *err)
{
	size_t count = 0;

	for (size_t j = 0; j < c->count; j++) {
		struct job *job = &c->jobs[j];

		if (!is_due(job))
			continue;
		if (count > 0 && run[0]->command.type != job->command.type) {
			if (types[run[0]->command.type].apply(c, batch, run, count, err) < 0)
				return -1;
			count = 0;
		}
		run[count++] = job;
	}
	return count > 0 ? types[run[0]->command.type].apply(c, batch, run, count, err) : 0;
}

static int insert_ledger(struct commander *c, struct err *err)
{
	size_t fresh = 0;

	for (size_t j = 0; j < c->count; j++)
		if (is_due(&c->jobs[j]) || (c->jobs[j].is_first && c->jobs[j].row->is_rejected))
			c->fresh[fresh++] = *c->jobs[j].row;
	return fresh > 0 ? ledger_insert(c->store, c->fresh, fresh, err) : 0;
}

static int apply(struct commander *c, struct batch *batch, struct err *err)
{
	struct job **run = mem_array(c->count, sizeof(struct job *));
	int rc = -1;

	if (store_begin(c->store, err) < 0)
		goto out;
	if (ledger_find(c->store, c->rows, c->row_count, err) < 0 || forget_rejected(c, err) < 0)
		goto undo;
	refuse_other_content(c, batch);
	if (apply_runs(c, batch, run, err) < 0)
		goto undo;
	FAULT_POINT("command.applied");
	if (insert_ledger(c, err) < 0)
		goto undo;
	if (!batch_still_owned(batch)) {
		err_set(err, ERR_CONFLICT, "a partition of the batch is not ours any more");
		goto undo;
	}
	rc = store_commit(c->store, err);
undo:
	if (rc < 0)
		store_rollback(c->store);
out:
	free(run);
	return rc;
}

/* ---- what is sent after the commit */

/* CloudEvents 1.0, binary mode. Nothing in it may differ from one replay to the next: its time is that of the command id. */
static int emit_event(struct batch *batch, const struct job *job, struct err *err)
{
	const struct event *event = &types[job->row->type].event;
	struct record record = { .topic = TOPIC_PRODUCT_EVENTS, .partition = -1 };
	struct buf value = BUF_INIT, key = BUF_INIT;
	char time[CLOCK_TEXT];
	int64_t wall_ms;

	if (event->write(job->row, &value, err) < 0) {
		buf_release(&value);
		return -1;
	}
	buf_add_int(&key, job->row->entity);
	record.key = (struct slice){ key.data, key.len };
	record.value = (struct slice){ value.data, value.len };
	record_header_add(&record, "ce_specversion", slice_of("1.0"));
	record_header_add(&record, "ce_id", slice_of(job->row->id));
	record_header_add(&record, "ce_source", slice_of(EVENT_SOURCE));
	record_header_add(&record, "ce_type", slice_of(event->type));
	if (uuid_is_v7(slice_of(job->row->id), &wall_ms)) {
		clock_rfc3339(wall_ms, time);
		record_header_add(&record, "ce_time", slice_of(time));
	}
	record_header_add(&record, "ce_subject", record.key);
	record_header_add(&record, "ce_sequence", slice_of(event->sequence));
	record_header_add(&record, "content-type", slice_of("application/json"));
	batch_emit(batch, job->item, &record);
	buf_release(&key);
	buf_release(&value);
	return 0;
}

static int emit(struct batch *batch, const struct job *job, struct err *err)
{
	struct result result = { .is_done = job->row->is_done, .text = BUF_INIT };

	if ((job->is_refused && !job->row->is_rejected) || job->row->body.len == 0)
		return 0; /* it, or the first of its id, has come to nothing */
	if (job->row->is_done && types[job->row->type].event.type != NULL && emit_event(batch, job, err) < 0)
		return -1;
	memcpy(result.command, job->row->id, sizeof(result.command));
	result.body = (struct slice){ job->row->body.data, job->row->body.len };
	reply_emit(batch, job->item, &result);
	return 0;
}

/* The database refuses what only this command can have brought: that is its outcome. */
static int reject_alone(struct commander *c, struct batch *batch, const struct err *why, struct err *err)
{
	struct job *job = &c->jobs[0];

	if (c->count != 1 || batch->count != 1 || job->row->found || why->kind != ERR_INVALID)
		return -1;
	batch_reject(batch, job->item, why);
	job->is_refused = true;
	set_rejected(job, 500, why->message);
	if (store_begin(c->store, err) < 0)
		return -1;
	if (ledger_forget(c->store, job->row->id, err) == 0 && ledger_insert(c->store, job->row, 1, err) == 0 &&
		store_commit(c->store, err) == 0)
		return 0;
	store_rollback(c->store);
	return -1;
}

static int apply_or_reject(struct commander *c, struct batch *batch, struct err *err)
{
	struct err why = ERR_INIT;

	if (apply(c, batch, &why) == 0)
		return 0;
	*err = why;
	return reject_alone(c, batch, &why, err);
}

static int command_handle(void *state, struct batch *batch, struct err *err)
{
	struct commander *c = state;
	int rc = -1;

	decode(c, batch);
	assign_rows(c);
	if (c->count > 0 && apply_or_reject(c, batch, err) < 0)
		goto out;
	for (size_t j = 0; j < c->count; j++)
		if (emit(batch, &c->jobs[j], err) < 0)
			goto out;
	rc = 0;
out:
	c->is_careful = rc < 0 && err->kind == ERR_CONFLICT;
	for (size_t r = 0; r < c->row_count; r++)
		ledger_row_release(&c->rows[r]);
	for (size_t j = 0; j < c->count; j++)
		command_release(&c->jobs[j].command);
	return rc;
}

const struct worker_ops command_worker = {
	.settings = command_settings,
	.open = command_open,
	.dependency = "store",
	.check = command_check,
	.handle = command_handle,
	.close = command_close,
	.tend_s = command_prune_s,
	.tend = command_prune,
};
