/* Nothing goes in; outbound and inbound rows come out, as a fan-out writes them: multi-row INSERTs in primary-key order, one
 * transaction for so many posts. No friend is read: they are known here.
 *   MYSQL_…  POSTS=20000  FRIENDS=20  BATCH=100 (posts a transaction)  PEOPLE=1000  AUTHORS=PEOPLE  BYTES=190 (of a story)  THREADS=1
 *   START=0 (ids of posts begin behind it)  SPREAD=1 (people are numbered so far from their neighbours on the ring)
 * HUGE=1: one post, whose friends are all people: BATCH transactions' worth of FRIENDS rows each. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"
#include "bench/floors/sql.h"

#define ROWS 2000 /* a statement */

struct row {
	long participant, post, from;
};

static long posts, friends, batch, people, authors, bytes, is_huge, start, spread;
static long next_post; /* under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int compare(const void *left, const void *right)
{
	const struct row *a = left, *b = right;

	if (a->participant != b->participant)
		return a->participant < b->participant ? -1 : 1;
	return (a->post > b->post) - (a->post < b->post);
}

static char *put_number(char *at, long value)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (n > 0)
		*at++ = digits[--n];
	return at;
}

/* Authors stand at equal distances on a ring of people. */
static long author_of(long post)
{
	return (post % authors) * (people / authors) + 1;
}

/* Half of an author's friends are on either side. */
static long friend_of(long author, long f)
{
	const long step = f / 2 + 1;

	return (author - 1 + (f % 2 != 0 ? people - step : step)) % people * spread % people + 1;
}

static void insert_outbound(MYSQL *link, char *text, const char *story, long from, long count)
{
	char *at = text + sprintf(text, "INSERT INTO outbound (id, participant_id, posted_at, subject, story, chunks) VALUES ");

	for (long post = from; post < from + count; post++)
		at += sprintf(at, "%s(%ld,%ld,'2026-01-31 12:00:00.000','subject %ld','%s',0)", post > from ? "," : "", post, author_of(post), post, story);
	sql_run(link, text, (size_t)(at - text));
}

static void insert_inbound(MYSQL *link, char *text, struct row *rows, size_t count)
{
	qsort(rows, count, sizeof(*rows), compare);
	for (size_t from = 0; from < count; from += ROWS) {
		char *at = text + sprintf(text, "INSERT INTO inbound (participant_id, post_id, from_id) VALUES ");

		for (size_t i = from; i < count && i < from + ROWS; i++) {
			*at++ = '(';
			at = put_number(at, rows[i].participant);
			*at++ = ',';
			at = put_number(at, rows[i].post);
			*at++ = ',';
			at = put_number(at, rows[i].from);
			*at++ = ')';
			*at++ = ',';
		}
		sql_run(link, text, (size_t)(at - text - 1));
	}
}

static long take(void)
{
	long from;

	pthread_mutex_lock(&lock);
	from = next_post;
	next_post += batch;
	pthread_mutex_unlock(&lock);
	return from;
}

static void *work(void *arg)
{
	MYSQL *link = sql_connect();
	struct row *rows = malloc((size_t)(batch * friends) * sizeof(*rows));
	char *story = malloc((size_t)bytes + 1);
	char *text = malloc((size_t)(batch * (bytes + 200)) + ROWS * 70 + 200);

	for (long from; (from = take()) < start + posts;) {
		const long count = from + batch <= start + posts ? batch : start + posts - from;
		size_t n = 0;

		floor_story(story, (size_t)bytes, (uint64_t)from);
		if (!is_huge)
			insert_outbound(link, text, story, from + 1, count);
		for (long post = from + 1; post <= from + count; post++)
			for (long f = 0; f < friends; f++)
				rows[n++] = is_huge ? (struct row){ post * friends + f, 1, 1 } : (struct row){ friend_of(author_of(post), f), post, author_of(post) };
		insert_inbound(link, text, rows, n);
		sql_run(link, "COMMIT", 0);
	}
	mysql_close(link);
	free(rows);
	free(story);
	free(text);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	double began;
	long count;

	floor_options(argc, argv);
	posts = floor_number("POSTS", 20000);
	friends = floor_number("FRIENDS", 20);
	batch = floor_number("BATCH", 100);
	people = floor_number("PEOPLE", 1000);
	bytes = floor_number("BYTES", 190);
	authors = floor_number("AUTHORS", people);
	is_huge = floor_number("HUGE", 0);
	next_post = start = floor_number("START", 0);
	spread = floor_number("SPREAD", 1);
	count = floor_number("THREADS", 1);
	floor_want((is_huge || friends < people) && authors <= people && count <= 64, "FRIENDS < PEOPLE, AUTHORS <= PEOPLE, THREADS <= 64");
	began = floor_now();
	for (long i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	floor_report("seconds", floor_now() - began);
	floor_report("posts_per_s", (double)posts / (floor_now() - began));
	floor_report("rows_per_s", (double)(posts * friends) / (floor_now() - began));
	return 0;
}
