/* Records that a test makes up go into a worker's handle(); rows and outputs can be looked at afterwards. */
#include "tests/unit/worker_help.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/folder.h"
#include "common/base/mem.h"
#include "common/base/stop.h"
#include "common/queue/queue.h"
#include "common/store/people.h"
#include "common/store/schema.h"

static const char *const tables[] = { "participant", "friend", "outbound", "inbound", "product", "command", "fanout_chunk" };

static void must(int rc, const struct err *err)
{
	if (rc < 0)
		fail_msg("%s: %s", err_kind_name(err->kind), err->message);
}

static bool is_on_server; /* the group that runs now */

static void use_environment(void)
{
	static const char *const names[] = { "HOST", "PORT", "USER", "PASSWORD" };
	char name[64], ours[64], database[64];

	setenv("FEEDMILL_STORE_TYPE", is_on_server ? "mysql" : "sqlite", 1);
	setenv("FEEDMILL_EMBEDDED_FOLDER", FOLDER_MEMORY, 1);
	if (!is_on_server)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value;

		snprintf(name, sizeof(name), "MYSQL_%s", names[i]);
		snprintf(ours, sizeof(ours), "FEEDMILL_MYSQL_%s", names[i]);
		value = getenv(name);
		if (value != NULL)
			setenv(ours, value, 1);
	}
	snprintf(database, sizeof(database), "feedmill_test_workers_%d", (int)getpid());
	setenv("FEEDMILL_MYSQL_DATABASE", database, 1);
}

static int desk_setup(void **state)
{
	struct desk *desk = mem_zalloc(sizeof(*desk));
	struct err err = ERR_INIT;
	bool made;

	stop_install();
	use_environment();
	must(settings_load(&desk->settings, NULL, &err), &err);
	must(store_create(&desk->settings, &made, &err), &err);
	must(store_open(&desk->settings, &desk->store, &err), &err);
	must(schema_migrate(desk->store, "sql", NULL, NULL, &err), &err);
	*state = desk;
	return 0;
}

bool desk_is_on_server(const struct desk *desk)
{
	return strcmp(desk->settings.store.type, "mysql") == 0;
}

static int desk_teardown(void **state)
{
	struct desk *desk = *state;
	char sql[128];

	if (desk_is_on_server(desk)) {
		snprintf(sql, sizeof(sql), "DROP DATABASE %s", desk->settings.mysql.database);
		desk_sql(desk, sql);
	}
	store_close(desk->store);
	settings_release(&desk->settings);
	outbox_release(&desk->outbox);
	free(desk);
	return 0;
}

int desk_tests_run(const struct CMUnitTest *tests, size_t count)
{
	int failed = _cmocka_run_group_tests("in a file", tests, count, desk_setup, desk_teardown);

	is_on_server = getenv("MYSQL_HOST") != NULL;
	if (is_on_server)
		failed += _cmocka_run_group_tests("on a server", tests, count, desk_setup, desk_teardown);
	return failed;
}

void desk_sql(struct desk *desk, const char *sql)
{
	struct err err = ERR_INIT;

	must(store_query_once(desk->store, sql, strlen(sql), NULL, NULL, &err), &err);
}

struct desk *desk_open(void **state, const struct worker_ops *ops)
{
	struct desk *desk = *state;
	struct err err = ERR_INIT;
	char sql[64];

	if (desk->state != NULL) /* the test before failed half-way */
		desk_close(desk);
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		snprintf(sql, sizeof(sql), "DELETE FROM %s", tables[i]);
		desk_sql(desk, sql);
	}
	desk->ops = ops;
	must(ops->open(&desk->settings, &desk->state, &err), &err);
	must(ops->check(desk->state, &err), &err);
	return desk;
}

void desk_close(struct desk *desk)
{
	desk_clear(desk);
	desk->ops->close(desk->state);
	desk->state = NULL;
}

void desk_reopen(struct desk *desk)
{
	struct err err = ERR_INIT;

	desk->ops->close(desk->state);
	must(desk->ops->open(&desk->settings, &desk->state, &err), &err);
}

void desk_clear(struct desk *desk)
{
	for (size_t i = 0; i < desk->batch.count; i++)
		buf_release(&desk->values[i]);
	desk->batch.count = 0;
	outbox_clear(&desk->outbox);
}

/* The value is in values[count] already. */
static void add(struct desk *desk, const char *reply)
{
	const size_t i = desk->batch.count++;
	struct record *record = &desk->records[i];

	*record = (struct record){ .topic = "in", .offset = (int64_t)i };
	record->value = (struct slice){ desk->values[i].data, desk->values[i].len };
	if (reply != NULL)
		record_header_add(record, HEADER_REPLY, slice_of(reply));
	desk->items[i] = (struct item){ .record = record };
}

static struct buf *next_value(struct desk *desk)
{
	assert_true(desk->batch.count < DESK_ROOM);
	desk->values[desk->batch.count] = (struct buf)BUF_INIT;
	return &desk->values[desk->batch.count];
}

void desk_add(struct desk *desk, const char *value, const char *reply)
{
	buf_add_str(next_value(desk), value);
	add(desk, reply);
}

void desk_add_post(struct desk *desk, int64_t id, int64_t from, const char *reply)
{
	const struct post post = { .id = id, .from = from, .posted_at_ms = 1767225600123, .subject = slice_of("s"), .story = slice_of("story") };

	post_encode(&post, next_value(desk));
	add(desk, reply);
}

void desk_add_chunk(struct desk *desk, int64_t post, int64_t from, int64_t number, const char *reply)
{
	const struct chunk chunk = { post, from, number };

	chunk_encode(&chunk, next_value(desk));
	add(desk, reply);
}

int desk_run(struct desk *desk)
{
	outbox_clear(&desk->outbox);
	err_clear(&desk->err);
	desk->batch.items = desk->items;
	desk->batch.outbox = &desk->outbox;
	desk->batch.consumer = NULL;
	for (size_t i = 0; i < desk->batch.count; i++)
		desk->items[i].outcome = DONE;
	return desk->ops->handle(desk->state, &desk->batch, &desk->err);
}

static int read_number(void *arg, const struct store_value *columns, size_t count)
{
	int64_t *number = arg;

	assert_int_equal(1, count);
	*number = columns[0].number;
	if (columns[0].type == STORE_TEXT)
		assert_true(str_int64(columns[0].text, number));
	return 0;
}

int64_t desk_number(struct desk *desk, const char *sql)
{
	struct err err = ERR_INIT;
	int64_t number = -1;

	must(store_query_once(desk->store, sql, strlen(sql), read_number, &number, &err), &err);
	return number;
}

void desk_people(struct desk *desk, int64_t first, int64_t last)
{
	struct err err = ERR_INIT;

	for (int64_t id = first; id <= last; id++) {
		const struct participant participant = { id, slice_of("someone") };

		must(people_insert(desk->store, &participant, 1, &err), &err);
	}
}

void desk_befriend(struct desk *desk, int64_t one, int64_t first, int64_t last)
{
	struct err err = ERR_INIT;

	for (int64_t id = first; id <= last; id++) {
		struct friendship friendship = { one * 1000000 + id, one, id };

		must(friends_insert(desk->store, &friendship, &err), &err);
	}
}

size_t desk_sent(const struct desk *desk, const char *topic)
{
	size_t count = 0;

	for (size_t i = 0; i < desk->outbox.count; i++)
		count += strcmp(outbox_at(&desk->outbox, i)->topic, topic) == 0;
	return count;
}

const struct record *desk_output(const struct desk *desk, const char *topic, size_t n)
{
	for (size_t i = 0; i < desk->outbox.count; i++)
		if (strcmp(outbox_at(&desk->outbox, i)->topic, topic) == 0 && n-- == 0)
			return outbox_at(&desk->outbox, i);
	fail_msg("no such output of %s", topic);
	return NULL;
}
