/* Members of a group and their locks go in; the partitions that are ours, and their offsets in the group's file, come out.
 *
 * A member takes its fair share of the partitions: it counts the members, gives up what is more than its share, takes what is free while it
 * has less. A partition is ours as long as we hold its lock, and nobody can take it from us: a process that is stopped delays its
 * partitions and finds them as they were. */
#include "common/queue/queue_sqlite_consumer.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

enum {
	BALANCE_MS = 500,      /* for members that came or died without a word */
	HURRY_MS = 100,        /* likewise, while partitions of our share are not free yet */
	JOIN_MS = 200,         /* between two tries to join */
	COMMIT_WAIT_MS = 2000, /* for another member that is committing */
};

/* ---- offsets of the group */

int sqlq_group_open(struct sqlq_consumer *consumer, struct err *err)
{
	struct sqlq_file *file = &consumer->offsets;

	if (file->db != NULL)
		return 0;
	if (sqlq_offsets_open(consumer->queue, consumer->group, file, err) < 0)
		return -1;
	consumer->learn = sqlq_prepare(file, "SELECT next, begun FROM offset WHERE topic = ? AND partition = ?", err);
	consumer->save = sqlq_prepare(file, SQLQ_SAVE_OFFSET, err);
	if (consumer->learn != NULL && consumer->save != NULL)
		return 0;
	sqlq_file_close(file);
	return -1;
}

/* -1 in *out: the group has not been there. */
static int learn(struct sqlq_consumer *consumer, const struct source *source, int32_t partition, int64_t *out, int64_t *begun, struct err *err)
{
	int code;

	consumer->offsets.deadline_ms = clock_mono_ms() + SQLQ_READ_WAIT_MS;
	sqlite3_bind_text(consumer->learn, 1, source->topic, -1, SQLITE_STATIC);
	sqlite3_bind_int(consumer->learn, 2, partition);
	code = sqlite3_step(consumer->learn);
	*begun = 0;
	if (code == SQLITE_ROW) {
		*out = sqlite3_column_int64(consumer->learn, 0);
		*begun = sqlite3_column_int64(consumer->learn, 1);
	} else if (code == SQLITE_DONE)
		*out = -1;
	else
		sqlq_err(&consumer->offsets, err, "reading the group's offset");
	sqlite3_reset(consumer->learn);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : -1;
}

bool sqlq_owned_is_dirty(const struct owned *owned)
{
	return owned->stored >= 0 && owned->stored != owned->committed;
}

static int save(struct sqlq_consumer *consumer, const struct owned *owned, int64_t next, int64_t begun, struct err *err)
{
	sqlite3_bind_text(consumer->save, 1, owned->source->topic, -1, SQLITE_STATIC);
	sqlite3_bind_int(consumer->save, 2, owned->partition);
	sqlite3_bind_int64(consumer->save, 3, next);
	sqlite3_bind_int64(consumer->save, 4, begun);
	return sqlq_step(&consumer->offsets, consumer->save, err);
}

/* The lock is asked for once more: what another has, its own offset alone moves. */
static int save_dirty(struct sqlq_consumer *consumer, struct err *err)
{
	for (size_t i = 0; i < consumer->owned_count; i++) {
		const struct owned *owned = &consumer->owned[i];

		if (sqlq_owned_is_dirty(owned) && sqlq_seat_own(&owned->source->seat, owned->partition) &&
			save(consumer, owned, owned->stored, 0, err) < 0)
			return -1;
	}
	return 0;
}

struct owned *sqlq_owned_ours(const struct sqlq_consumer *consumer, const char *topic, int32_t partition, struct err *err)
{
	struct owned *owned = NULL;

	for (size_t i = 0; i < consumer->source_count && owned == NULL; i++) {
		if (strcmp(consumer->sources[i].topic, topic) == 0)
			owned = sqlq_owned_find(consumer, &consumer->sources[i], partition);
	}
	if (owned == NULL && err != NULL)
		err_set(err, ERR_CONFLICT, "partition %d of %s is not ours", (int)partition, topic);
	return owned;
}

static int save_beginnings(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		struct owned *owned = sqlq_owned_ours(consumer, beginnings[i].topic, beginnings[i].partition, err);

		if (owned == NULL || save(consumer, owned, beginnings[i].offset, beginnings[i].tries, err) < 0)
			return -1;
	}
	return 0;
}

/* What is stored, and then these. */
static int commit_all(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	int rc = save_dirty(consumer, err);

	return rc == 0 ? save_beginnings(consumer, beginnings, count, err) : rc;
}

int sqlq_group_commit_all(struct sqlq_consumer *consumer, const struct beginning *beginnings, size_t count, struct err *err)
{
	struct sqlq_file *file = &consumer->offsets;

	file->deadline_ms = clock_mono_ms() + COMMIT_WAIT_MS;
	if (!sqlq_file_is_there(file))
		return err_set(err, ERR_UNAVAILABLE, "%s was removed while it was in use", file->path);
	if (sqlq_begin(file, err) < 0 || sqlq_end(file, commit_all(consumer, beginnings, count, err), err) < 0)
		return -1;
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (sqlq_owned_is_dirty(&consumer->owned[i]))
			consumer->owned[i].committed = consumer->owned[i].stored;
	}
	return 0;
}

/* An offset that is not committed is tried again; at worst its records come again. */
void sqlq_group_commit(struct sqlq_consumer *consumer)
{
	struct err err = ERR_INIT;
	bool dirty = false;

	consumer->commit_ms = clock_mono_ms() + SQLQ_COMMIT_MS;
	for (size_t i = 0; i < consumer->owned_count; i++)
		dirty = dirty || sqlq_owned_is_dirty(&consumer->owned[i]);
	if (dirty && consumer->offsets.db != NULL && sqlq_group_commit_all(consumer, NULL, 0, &err) < 0)
		sqlq_complain(consumer, "offsets not committed", &err);
}

/* ---- partitions */

struct owned *sqlq_owned_add(struct sqlq_consumer *consumer, struct source *source, int32_t partition, int64_t position, int64_t committed)
{
	size_t count = consumer->owned_count;

	consumer->owned = mem_grow(consumer->owned, count + 1, sizeof(*consumer->owned));
	consumer->owned[count] = (struct owned){ .source = source, .partition = partition, .position = position, .high = position, .low = position,
		.stored = -1, .committed = committed };
	atomic_store(&consumer->owned_count, count + 1);
	source->owned_count++;
	source->look = true;
	return &consumer->owned[count];
}

static void remove_owned(struct sqlq_consumer *consumer, const struct source *source, int32_t partition)
{
	struct owned *owned = sqlq_owned_find(consumer, source, partition);
	size_t last = consumer->owned_count - 1;

	sqlq_ahead_drop_of(consumer, owned);
	owned->source->owned_count--;
	*owned = consumer->owned[last];
	atomic_store(&consumer->owned_count, last);
}

/* First offset of a partition that the group has not been to. */
static int first_offset(struct source *source, int32_t partition, int64_t *out, struct err *err)
{
	int code;

	source->file.deadline_ms = clock_mono_ms() + SQLQ_READ_WAIT_MS;
	while ((code = sqlite3_step(source->marks)) == SQLITE_ROW) {
		if (sqlite3_column_int(source->marks, 0) == partition)
			break;
	}
	if (code == SQLITE_ROW)
		*out = sqlite3_column_int64(source->marks, 1);
	else
		sqlq_err(&source->file, err, "reading where a partition begins");
	sqlite3_reset(source->marks);
	return code == SQLITE_ROW ? 0 : -1;
}

/* Takes a partition when it is free. Where the group is is read after that: whoever had it has committed before. */
static bool take(struct sqlq_consumer *consumer, struct source *source, int32_t partition)
{
	struct err err = ERR_INIT;
	int64_t committed, begun, position;

	if (sqlq_owned_find(consumer, source, partition) != NULL || !sqlq_seat_own(&source->seat, partition))
		return false;
	if (learn(consumer, source, partition, &committed, &begun, &err) < 0)
		goto fail;
	position = committed;
	if (committed < 0 && first_offset(source, partition, &position, &err) < 0)
		goto fail;
	sqlq_owned_add(consumer, source, partition, position, committed)->begun = begun;
	FAULT_POINT("consumer.assigned");
	return true;
fail:
	sqlq_seat_give(&source->seat, partition);
	sqlq_complain(consumer, "partition not taken", &err);
	return false;
}

/* Tells, commits, lets go: in this order. Those that stay come unpaused, as if they had been given anew. */
static void give_up(struct sqlq_consumer *consumer, struct source *source, const struct topic_partition *gone, size_t count)
{
	if (count == 0)
		return;
	if (consumer->revoked != NULL)
		consumer->revoked(consumer->arg, gone, count, false);
	sqlq_group_commit(consumer);
	FAULT_POINT("consumer.committed");
	for (size_t i = 0; i < count; i++) {
		remove_owned(consumer, source, gone[i].partition);
		sqlq_seat_give(&source->seat, gone[i].partition);
	}
	for (size_t i = 0; i < consumer->owned_count; i++)
		consumer->owned[i].paused = false;
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
	log_debug("partitions given up", log_str("topic", source->topic), log_int("count", (int64_t)count));
}

/* The share of the member with this rank, and where it would stand if all shares lay in a row. */
struct share {
	int32_t first, count;
};

static struct share fair_share(int32_t partitions, int32_t members, int32_t rank)
{
	int32_t each = partitions / members, more = partitions % members;

	return (struct share){ rank * each + (rank < more ? rank : more), each + (rank < more) };
}

static bool is_within(struct share share, int32_t partition)
{
	return partition >= share.first && partition < share.first + share.count;
}

/* First those that are not in our row: after a while each member has its own. */
static void give_up_surplus(struct sqlq_consumer *consumer, struct source *source, struct share share)
{
	size_t surplus = source->owned_count - (size_t)share.count, chosen = 0;
	struct topic_partition *gone = mem_array(surplus, sizeof(*gone));

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < consumer->owned_count && chosen < surplus; i++) {
			const struct owned *owned = &consumer->owned[i];

			if (owned->source == source && is_within(share, owned->partition) == (pass == 1))
				gone[chosen++] = (struct topic_partition){ source->topic, owned->partition };
		}
	}
	give_up(consumer, source, gone, surplus);
	free(gone);
}

static void take_share(struct sqlq_consumer *consumer, struct source *source, struct share share)
{
	for (int32_t i = 0; i < source->partitions && source->owned_count < (size_t)share.count; i++)
		take(consumer, source, (share.first + i) % source->partitions);
}

static bool all_joined(const struct sqlq_consumer *consumer)
{
	for (size_t i = 0; i < consumer->source_count; i++) {
		if (consumer->sources[i].seat.fd < 0)
			return false;
	}
	return true;
}

void sqlq_group_balance(struct sqlq_consumer *consumer, struct source *source)
{
	struct share share;
	int32_t members, rank;

	sqlq_seat_count(&source->seat, &members, &rank);
	share = fair_share(source->partitions, members, rank);
	if (source->owned_count > (size_t)share.count)
		give_up_surplus(consumer, source, share);
	else if (source->owned_count < (size_t)share.count)
		take_share(consumer, source, share);
	source->balance = false;
	source->balance_ms = clock_mono_ms() + (source->owned_count < (size_t)share.count ? HURRY_MS : BALANCE_MS);
	atomic_store(&consumer->joined, all_joined(consumer));
}

/* All partitions of the topic. */
static struct topic_partition *list_owned(const struct sqlq_consumer *consumer, const struct source *source, size_t *count)
{
	struct topic_partition *list = mem_array(source->owned_count + 1, sizeof(*list));

	*count = 0;
	for (size_t i = 0; i < consumer->owned_count; i++) {
		if (consumer->owned[i].source == source)
			list[(*count)++] = (struct topic_partition){ source->topic, consumer->owned[i].partition };
	}
	return list;
}

/* Somebody removed the folder: what is in our hands is nothing any more, and another may have made a new one. */
void sqlq_group_lose(struct sqlq_consumer *consumer, struct source *source)
{
	size_t count;
	struct topic_partition *gone = list_owned(consumer, source, &count);

	log_error("topic was removed while it was in use", log_str("topic", source->topic), log_str("group", consumer->group));
	if (consumer->revoked != NULL && count > 0)
		consumer->revoked(consumer->arg, gone, count, true);
	if (consumer->group == NULL)
		err_set(&consumer->lost, ERR_CONFLICT, "topic %s was removed while it was read", source->topic);
	for (size_t i = 0; i < count; i++)
		remove_owned(consumer, source, gone[i].partition);
	free(gone);
	atomic_store(&consumer->joined, false);
	sqlq_seat_leave(&source->seat);
	sqlq_file_close(&source->file);
	sqlq_file_close(&consumer->offsets);
}

/* ---- joining */

static int join(struct sqlq_consumer *consumer, struct source *source, struct err *err)
{
	if (sqlq_source_open(consumer, source, err) < 0 || sqlq_group_open(consumer, err) < 0)
		return -1;
	if (sqlq_seat_take(consumer->queue, consumer->group, source->topic, &source->seat, err) < 0)
		return -1;
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
	source->balance = true;
	return 0;
}

void sqlq_group_join(struct sqlq_consumer *consumer, struct source *source, int64_t now_ms)
{
	struct err err = ERR_INIT;

	if (now_ms < source->join_ms || join(consumer, source, &err) == 0)
		return;
	source->join_ms = now_ms + JOIN_MS;
	sqlq_complain(consumer, "group not joined", &err);
}

/* ---- leaving */

void sqlq_group_leave(struct sqlq_consumer *consumer, struct source *source)
{
	size_t count;
	struct topic_partition *gone = list_owned(consumer, source, &count);

	give_up(consumer, source, gone, count);
	free(gone);
	sqlq_seat_leave(&source->seat);
	sqlq_door_knock(&source->door, SQLQ_MEMBERS);
}
