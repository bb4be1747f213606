/* A dead letter topic and an offset or a time go in; the letters before it are deleted, once that is confirmed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "ctl/ask.h"
#include "ctl/dlq.h"
#include "ctl/when.h"

#define ASK_MS 10000
#define TRIM_MS 30000
#define PARTITIONS_MAX 4096

/* What is there, and what of it goes: the offset in `places` is the first that stays. */
struct purge {
	struct queue_place *places;
	size_t count;
	int64_t letters, open; /* that go, and those of them that were never replayed */
};

static int find_bounds(struct dlq *dlq, const char *topic, struct partition_lag **out, size_t *count, struct err *err)
{
	*out = mem_array(PARTITIONS_MAX, sizeof(**out));
	return queue_lag(dlq->queue, "feedctl", topic, *out, PARTITIONS_MAX, count, ASK_MS, err);
}

/* --to: an offset of the only partition, "end", or a time. */
static int find_places(struct dlq *dlq, const char *topic, const struct partition_lag *bounds, struct purge *purge, struct err *err)
{
	int64_t number, wall_ms;

	for (size_t i = 0; i < purge->count; i++)
		purge->places[i] = (struct queue_place){ bounds[i].partition, bounds[i].high };
	if (strcmp(dlq->to, "end") == 0)
		return 0;
	if (when_read(dlq->to, clock_wall_ms(), &wall_ms))
		return queue_offsets_at(dlq->queue, topic, wall_ms, purge->places, purge->count, ASK_MS, err);
	if (!str_int64(slice_of(dlq->to), &number) || number < 0)
		return err_set(err, ERR_INVALID, "--to takes an offset, " WHEN_FORMS ", or end, not \"%s\"", dlq->to);
	if (purge->count != 1 || dlq->topic_count != 1)
		return err_set(err, ERR_INVALID, "an offset is one of one worker's only partition; give a time");
	if (number > bounds[0].high)
		return err_set(err, ERR_INVALID, "%s ends at offset %" PRId64, topic, bounds[0].high);
	purge->places[0].offset = number;
	return 0;
}

static int count_letter(void *arg, const struct letter *letter, struct err *err)
{
	struct purge *purge = arg;

	(void)err;
	for (size_t i = 0; i < purge->count; i++) {
		if (purge->places[i].partition == letter->record->partition && letter->record->offset < purge->places[i].offset) {
			purge->letters++;
			purge->open += !letter->is_replayed;
		}
	}
	return 0;
}

static int count_letters(struct dlq *dlq, const char *topic, struct purge *purge, struct err *err)
{
	const struct letter_filter all = { .with_replayed = true };
	struct letters *letters;
	int rc;

	if (letters_open(dlq->queue, topic, &all, &letters, err) < 0)
		return -1;
	rc = letters_each(letters, count_letter, purge, err);
	letters_close(letters);
	return rc;
}

static int trim_all(struct dlq *dlq, const char *topic, const struct partition_lag *bounds, const struct purge *purge, struct err *err)
{
	for (size_t i = 0; i < purge->count; i++) {
		if (purge->places[i].offset > bounds[i].low && queue_trim(dlq->queue, topic, &purge->places[i], TRIM_MS, err) < 0)
			return -1;
	}
	printf("%s: %" PRId64 " deleted\n", topic, purge->letters);
	return 0;
}

int dlq_purge(struct dlq *dlq, const char *topic, struct err *err)
{
	struct partition_lag *bounds = NULL;
	struct purge purge = { 0 };
	int rc = -1;

	if (find_bounds(dlq, topic, &bounds, &purge.count, err) < 0)
		goto out;
	purge.places = mem_array(purge.count, sizeof(*purge.places));
	if (find_places(dlq, topic, bounds, &purge, err) < 0 || count_letters(dlq, topic, &purge, err) < 0)
		goto out;
	rc = 0;
	if (dlq->is_dry)
		printf("%s: %" PRId64 " would be deleted, %" PRId64 " of them never replayed\n", topic, purge.letters, purge.open);
	else if (purge.letters == 0)
		printf("%s: nothing to delete\n", topic);
	else if (dlq->is_sure || ask_yes("%s: delete %" PRId64 " letters for good, %" PRId64 " of them never replayed?", topic, purge.letters, purge.open))
		rc = trim_all(dlq, topic, bounds, &purge, err);
	else
		rc = err_set(err, ERR_INVALID, "nothing was deleted from %s (--yes does not ask)", topic);
out:
	free(bounds);
	free(purge.places);
	return rc;
}
