/* The embedded queue: what queue.h promises (queue_suite.c), and what is its own: processes that die, stop, come and go; a full
 * disk; old records; a long backlog. Other processes are this program with other arguments. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/queue/queue_sqlite.h"
#include "tests/unit/queue_suite.h"
#include "tests/unit/side_by_side.h"

#define TOPIC TOPIC_COMMANDS
#define GROUP "command"

/* ---- the place: a folder */

static void start(struct place *place)
{
	snprintf(place->folder, sizeof(place->folder), "/tmp/feedmill-queue-XXXXXX");
	assert_non_null(mkdtemp(place->folder));
	place->settings.embedded.folder = place->folder;
}

static void empty(struct place *place)
{
	(void)place; /* stop() removes all at once */
}

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *where)
{
	(void)found, (void)type, (void)where;
	return remove(path);
}

static void remove_folder(const struct place *place)
{
	assert_int_equal(0, nftw(place->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}

static void stop(struct place *place)
{
	remove_folder(place);
}

struct queue_rig queue_rig = {
	.type = "sqlite", .start = start, .make_topics = suite_make_topics, .empty = empty, .stop = stop, .is_whole = true
};

static void path_of(const struct place *place, const char *name, const char *suffix, char out[SQLQ_PATH_MAX])
{
	sqlq_path((const struct sqlq *)place->queue, name, suffix, out);
}

static int64_t size_of(const struct place *place, const char *name, const char *suffix)
{
	char path[SQLQ_PATH_MAX];
	struct stat found;

	path_of(place, name, suffix, path);
	return stat(path, &found) == 0 ? (int64_t)found.st_size : 0;
}

/* ---- other processes: each tells on its standard output what it sees */

static struct queue *open_place(const char *folder, const char *prefix)
{
	struct settings settings = { .queue.type = "sqlite", .embedded.folder = (char *)folder };
	struct queue *queue;
	struct err err = ERR_INIT;

	settings.kafka.topic_prefix = (char *)prefix;
	settings.kafka.partitions = PARTITIONS;
	settings.kafka.message_timeout_ms = 10000;
	if (queue_open(&settings, &queue, &err) < 0)
		exit(1);
	return queue;
}

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	char line[64];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(STDOUT_FILENO, line, (size_t)len) != len)
		exit(1);
}

static volatile sig_atomic_t asked_to_stop;

static void on_term(int number)
{
	(void)number;
	asked_to_stop = 1;
}

/* "owns N" when that changes, "got PARTITION OFFSET" for each record. */
static int be_member(const char *folder, const char *prefix)
{
	struct queue *queue = open_place(folder, prefix);
	struct consumer *consumer;
	struct err err = ERR_INIT;
	size_t owns = SIZE_MAX;

	signal(SIGTERM, on_term);
	if (consumer_open(queue, &(struct consumer_options){ .group = GROUP, .topic = TOPIC }, &consumer, &err) < 0)
		return 1;
	while (!asked_to_stop) {
		struct record record;
		int got = consumer_poll(consumer, 50, &record, &err);

		if (owns != consumer_owned(consumer))
			say("owns %zu\n", owns = consumer_owned(consumer));
		if (got != 1)
			continue;
		say("got %d %lld\n", (int)record.partition, (long long)record.offset);
		if (consumer_store(consumer, TOPIC, record.partition, record.offset + 1, &err) < 0)
			return 1;
		record_release(&record);
	}
	consumer_close(consumer);
	queue_close(queue);
	return 0;
}

static void say_stored(void *arg, enum sent sent, const char *why)
{
	(void)why;
	if (sent == SENT_STORED)
		say("stored %lld\n", (long long)(intptr_t)arg);
}

/* Sends numbers until it is killed; "stored NUMBER" for each that is. */
static int be_sender(const char *folder, const char *prefix)
{
	struct queue *queue = open_place(folder, prefix);
	struct producer *producer;
	struct err err = ERR_INIT;

	if (producer_open(queue, 0, &producer, &err) < 0)
		return 1;
	for (intptr_t number = 0;; number++) {
		char value[24];
		struct record record = { .topic = TOPIC, .partition = (int32_t)(number % PARTITIONS) };

		snprintf(value, sizeof(value), "%lld", (long long)number);
		record.value = slice_of(value);
		while (producer_send(producer, &record, say_stored, (void *)number, &err) < 0)
			pass_ms(1);
		if (producer_pending(producer) > 500)
			pass_ms(1);
	}
}

struct process {
	pid_t pid;
	int out;
	char line[64];
	size_t len;
	/* what it said */
	int owns, stored;
	int64_t last_stored;
	int got[PARTITIONS];
	int64_t last[PARTITIONS]; /* offset */
	int repeats;
};

static void start_process(const struct place *place, const char *role, struct process *out)
{
	int ends[2];

	*out = (struct process){ .owns = -1, .last_stored = -1 };
	memset(out->last, -1, sizeof(out->last));
	assert_int_equal(0, pipe2(ends, O_CLOEXEC));
	out->pid = fork();
	assert_true(out->pid >= 0);
	if (out->pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_queue_sqlite", role, place->folder, place->prefix, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	out->out = ends[0];
	fcntl(out->out, F_SETFL, O_NONBLOCK);
}

static void take_line(struct process *process)
{
	int partition;
	long long offset;

	if (sscanf(process->line, "owns %d", &process->owns) == 1)
		return;
	if (sscanf(process->line, "stored %lld", &offset) == 1) {
		process->stored++;
		process->last_stored = offset;
	}
	if (sscanf(process->line, "got %d %lld", &partition, &offset) == 2) {
		process->got[partition]++;
		process->repeats += offset <= process->last[partition];
		process->last[partition] = offset;
	}
}

static void listen_to(struct process *process)
{
	char c;

	while (read(process->out, &c, 1) == 1) {
		if (c != '\n' && process->len + 1 < sizeof(process->line)) {
			process->line[process->len++] = c;
			continue;
		}
		process->line[process->len] = '\0';
		process->len = 0;
		take_line(process);
	}
}

static int got_all(struct process *process)
{
	int sum = 0;

	listen_to(process);
	for (int i = 0; i < PARTITIONS; i++)
		sum += process->got[i];
	return sum;
}

static int owns(struct process *process)
{
	listen_to(process);
	return process->owns;
}

static void end_process(struct process *process, int how)
{
	int status;

	kill(process->pid, how);
	assert_int_equal(process->pid, waitpid(process->pid, &status, 0));
	if (how == SIGTERM)
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	listen_to(process);
	close(process->out);
}

static bool is_stopped(const struct process *process)
{
	char path[64], text[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)process->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strstr(text, ") T ") != NULL;
}

/* ---- stories: processes */

static void send_round(struct producer *producer, int each)
{
	for (int i = 0; i < PARTITIONS; i++)
		send_all(producer, TOPIC, i, 0, each);
}

static void two_processes_share_a_group(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct process a, b;

	start_process(*state, "--member", &a);
	start_process(*state, "--member", &b);
	WAIT_FOR(owns(&a) == 2 && owns(&b) == 2);
	send_round(producer, 50);
	WAIT_FOR(got_all(&a) + got_all(&b) >= 50 * PARTITIONS);
	end_process(&a, SIGTERM);
	end_process(&b, SIGTERM);
	assert_int_equal(50 * PARTITIONS, got_all(&a) + got_all(&b));
	for (int i = 0; i < PARTITIONS; i++) {
		assert_true(a.got[i] == 0 || b.got[i] == 0);
		assert_int_equal(50, committed(*state, GROUP, TOPIC, i));
	}
	producer_close(producer);
}

static void a_killed_owner_frees_its_partitions(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct process a, b;
	int64_t began_ms;

	start_process(*state, "--member", &a);
	WAIT_FOR(owns(&a) == PARTITIONS);
	start_process(*state, "--member", &b);
	WAIT_FOR(owns(&a) == 2 && owns(&b) == 2);
	send_round(producer, 20);
	WAIT_FOR(got_all(&a) > 0);
	end_process(&a, SIGKILL);
	began_ms = clock_mono_ms();
	WAIT_FOR(owns(&b) == PARTITIONS);
	assert_true(clock_mono_ms() - began_ms < 5000);
	WAIT_FOR((listen_to(&b), b.last[0] == 19 && b.last[1] == 19 && b.last[2] == 19 && b.last[3] == 19));
	end_process(&b, SIGTERM);
	for (int i = 0; i < PARTITIONS; i++) /* at most what the dead one had not committed came twice */
		assert_in_range(a.got[i] + b.got[i], 20, 40);
	assert_int_equal(0, b.repeats);
	producer_close(producer);
}

/* What it holds, waits for it; it goes on where it was. */
static void a_stopped_owner_delays_and_doubles_nothing(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct process a, b;
	int before;

	start_process(*state, "--member", &a);
	start_process(*state, "--member", &b);
	WAIT_FOR(owns(&a) == 2 && owns(&b) == 2);
	send_round(producer, 10);
	WAIT_FOR(got_all(&a) + got_all(&b) == 10 * PARTITIONS);
	kill(a.pid, SIGSTOP);
	WAIT_FOR(is_stopped(&a));
	before = got_all(&a);
	send_round(producer, 10);
	WAIT_FOR(got_all(&b) == 2 * 20);
	for (int64_t until_ms = clock_mono_ms() + 700; clock_mono_ms() < until_ms; pass_ms(20)) { /* longer than between two looks at the group */
		assert_int_equal(2, owns(&b));
		assert_int_equal(40, got_all(&b));
	}
	assert_int_equal(before, got_all(&a));
	kill(a.pid, SIGCONT);
	WAIT_FOR(got_all(&a) == 2 * 20);
	end_process(&a, SIGTERM);
	end_process(&b, SIGTERM);
	assert_int_equal(20 * PARTITIONS, got_all(&a) + got_all(&b));
	assert_int_equal(0, a.repeats + b.repeats);
	for (int i = 0; i < PARTITIONS; i++)
		assert_int_equal(20, committed(*state, GROUP, TOPIC, i));
	producer_close(producer);
}

/* Every number that was said to be stored is there, in order, and the file is whole. */
static void a_killed_sender_loses_nothing_that_was_stored(void **state)
{
	struct process sender;
	struct partition_lag lag[PARTITIONS];
	struct err err = ERR_INIT;
	size_t count;

	start_process(*state, "--sender", &sender);
	WAIT_FOR((listen_to(&sender), sender.stored > 3000));
	end_process(&sender, SIGKILL);
	assert_int_equal(sender.stored, sender.last_stored + 1);
	assert_int_equal(0, queue_lag(((struct place *)*state)->queue, GROUP, TOPIC, lag, PARTITIONS, &count, PATIENCE_MS, &err));
	for (int i = 0; i < PARTITIONS; i++) {
		struct consumer *consumer = reader(*state, TOPIC, i);

		assert_true(lag[i].high * PARTITIONS + i > sender.last_stored);
		for (int64_t at = 0; at < lag[i].high; at++) {
			struct record record;
			int64_t number;

			next_record(consumer, &record);
			assert_int_equal(at, record.offset);
			assert_true(str_int64(record.value, &number));
			assert_int_equal(at * PARTITIONS + i, number);
			record_release(&record);
		}
		consumer_close(consumer);
	}
}

/* ---- stories: members of one process */

struct member {
	struct consumer *consumer;
	int revoked; /* partitions */
};

static void on_revoked(void *arg, const struct topic_partition *gone, size_t count, bool lost)
{
	struct member *member = arg;

	assert_false(lost);
	for (size_t i = 0; i < count; i++)
		assert_true(consumer_owns(member->consumer, gone[i].topic, gone[i].partition));
	member->revoked += (int)count;
}

static void join_group(struct place *place, struct member *member)
{
	*member = (struct member){ 0 };
	member->consumer = open_consumer(place,
		&(struct consumer_options){ .group = GROUP, .topic = TOPIC, .revoked = on_revoked, .arg = member });
}

static bool own(struct member *members, size_t count, const size_t *each)
{
	for (size_t i = 0; i < count; i++)
		poll_past(members[i].consumer);
	for (size_t i = 0; i < count; i++) {
		if (consumer_owned(members[i].consumer) != each[i])
			return false;
	}
	return true;
}

static void a_member_comes_and_goes_and_no_more_moves_than_must(void **state)
{
	struct member members[3];

	join_group(*state, &members[0]);
	WAIT_FOR(own(members, 1, (size_t[]){ 4 }));
	join_group(*state, &members[1]);
	WAIT_FOR(own(members, 2, (size_t[]){ 2, 2 }));
	assert_int_equal(2, members[0].revoked);
	join_group(*state, &members[2]);
	WAIT_FOR(own(members, 3, (size_t[]){ 2, 1, 1 }));
	assert_int_equal(1, members[1].revoked);
	consumer_close(members[2].consumer);
	WAIT_FOR(own(members, 2, (size_t[]){ 2, 2 }));
	for (int64_t until_ms = clock_mono_ms() + 700; clock_mono_ms() < until_ms;) /* and so it stays */
		assert_true(own(members, 2, (size_t[]){ 2, 2 }));
	assert_int_equal(2, members[0].revoked);
	assert_int_equal(1, members[1].revoked);
	consumer_close(members[0].consumer); /* the rank of the other changes */
	members[0] = members[1];
	members[0].revoked = 0;
	consumer_close(members[0].consumer);
}

/* Five members for four partitions: one waits, and is there when it is needed. */
static void a_member_without_a_partition_steps_in(void **state)
{
	struct member members[5];

	for (int i = 0; i < 5; i++)
		join_group(*state, &members[i]);
	WAIT_FOR(own(members, 5, (size_t[]){ 1, 1, 1, 1, 0 }));
	assert_true(consumer_connected(members[4].consumer));
	consumer_close(members[1].consumer);
	members[1] = members[4];
	WAIT_FOR(own(members, 4, (size_t[]){ 1, 1, 1, 1 }));
	for (int i = 0; i < 4; i++)
		consumer_close(members[i].consumer);
}

/* What was paused stays ours, and comes when it is resumed, also when partitions were taken away meanwhile. */
static void what_is_kept_when_others_go_comes_unpaused(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct member members[2];
	struct record record;
	struct err err = ERR_INIT;
	int got = 0;

	join_group(*state, &members[0]);
	WAIT_FOR(own(members, 1, (size_t[]){ 4 }));
	assert_int_equal(0, consumer_pause(members[0].consumer, true, &err));
	send_round(producer, 1);
	assert_int_equal(0, consumer_poll(members[0].consumer, 100, &record, &err));
	join_group(*state, &members[1]);
	while (got < PARTITIONS) {
		for (int i = 0; i < 2; i++) {
			if (consumer_poll(members[i].consumer, 20, &record, &err) != 1)
				continue;
			got++;
			record_release(&record);
		}
	}
	assert_int_equal(2, members[0].revoked);
	for (int i = 0; i < 2; i++)
		consumer_close(members[i].consumer);
	producer_close(producer);
}

/* ---- stories: time */

/* A look at the files once a second would need ten seconds for this. */
static void a_waiting_consumer_is_woken(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct process member;
	int64_t began_ms;

	start_process(*state, "--member", &member);
	WAIT_FOR(owns(&member) == PARTITIONS);
	began_ms = clock_mono_ms();
	for (int i = 0; i < 20; i++) {
		send_all(producer, TOPIC, i % PARTITIONS, i, i + 1);
		WAIT_FOR(got_all(&member) == i + 1);
	}
	assert_true(clock_mono_ms() - began_ms < 3000);
	end_process(&member, SIGTERM);
	producer_close(producer);
}

/* A datagram that was lost: the record comes all the same. */
static void a_consumer_that_is_not_woken_looks_by_itself(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = reader(place, TOPIC, 0);
	char command[160];

	poll_past(consumer);
	snprintf(command, sizeof(command), "rm %s/wake-*", place->folder);
	assert_int_equal(0, system(command));
	send_all(producer, TOPIC, 0, 0, 1);
	expect(consumer, 0, "0");
	consumer_close(consumer);
	producer_close(producer);
}

static int64_t cpu_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * INT64_C(1000000) + used.tv_nsec / 1000;
}

static void an_idle_process_uses_hardly_any_processor_time(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer = group_consumer(*state, GROUP, TOPIC);
	struct record none;
	struct err err = ERR_INIT;
	int64_t began_us;

	poll_until_owned(consumer, PARTITIONS);
	began_us = cpu_us();
	assert_int_equal(0, consumer_poll(consumer, 1000, &none, &err));
	assert_true(cpu_us() - began_us < 10000); /* 1 % of a core */
	consumer_close(consumer);
	producer_close(producer);
}

/* ---- stories: the disk */

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &limit));
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &limit));
}

static void a_full_disk_refuses_and_what_was_stored_stays(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;
	char *value = calloc(1, 50001);
	int taken = 0;

	signal(SIGXFSZ, SIG_IGN);
	memset(value, 'x', 50000);
	limit_files(2 << 20);
	while (tally.outcomes[SENT_NOT] == 0 && taken < 1000) {
		assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, value, &tally, &err));
		taken++;
		WAIT_FOR(reported(&tally) == taken);
	}
	assert_int_equal(1, tally.outcomes[SENT_NOT]);
	assert_int_equal(0, tally.outcomes[SENT_UNKNOWN]);
	assert_in_range(tally.outcomes[SENT_STORED], 10, 100);
	assert_false(producer_ready(producer, &err));
	assert_int_equal(ERR_FULL, err.kind);
	assert_int_equal(-1, send_text(producer, TOPIC, 0, NULL, value, &tally, &err));
	assert_int_equal(ERR_FULL, err.kind);
	limit_files(RLIM_INFINITY);
	WAIT_FOR(producer_ready(producer, &err)); /* by itself */
	send_all(producer, TOPIC, 0, 0, 3);
	consumer = reader(*state, TOPIC, 0);
	for (int i = 0; i < tally.outcomes[SENT_STORED]; i++)
		expect(consumer, 0, value);
	expect_numbers(consumer, 0, 0, 3);
	consumer_close(consumer);
	producer_close(producer);
	free(value);
}

/* Another process that holds the file and does not go on. */
static void hold(const struct place *place, struct sqlq_file *file)
{
	char path[SQLQ_PATH_MAX];
	struct err err = ERR_INIT;

	path_of(place, TOPIC, ".topic", path);
	*file = (struct sqlq_file){ 0 };
	assert_int_equal(0, sqlq_file_open(file, path, SQLQ_WRITE, &err));
	assert_int_equal(0, sqlq_begin(file, &err));
}

static void a_full_queue_says_so(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct sqlq_file holder;
	struct err err = ERR_INIT;
	char *value = calloc(1, 1 << 20);
	struct record record = { .topic = TOPIC, .partition = 0, .value = { value, 1 << 20 } };
	struct tally tally = { 0 };
	int taken = 0;

	hold(*state, &holder);
	while (taken < 100 && producer_send(producer, &record, tally_up, &tally, &err) == 0)
		taken++;
	assert_int_equal(ERR_FULL, err.kind);
	assert_in_range(taken, 10, 16); /* MiB */
	assert_int_equal(-1, producer_flush(producer, 50));
	sqlq_file_close(&holder);
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	assert_int_equal(taken, tally.outcomes[SENT_STORED]);
	producer_close(producer);
	free(value);
}

static void what_can_not_be_written_in_time_is_not_stored(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct sqlq_file holder;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	place->settings.kafka.message_timeout_ms = 300;
	queue_close(place->queue);
	assert_int_equal(0, queue_open(&place->settings, &place->queue, &err));
	producer = ready_producer(place);
	hold(place, &holder);
	assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, "late", &tally, &err));
	WAIT_FOR(reported(&tally) == 1);
	assert_int_equal(1, tally.outcomes[SENT_NOT]);
	sqlq_file_close(&holder);
	WAIT_FOR(producer_ready(producer, &err));
	send_all(producer, TOPIC, 0, 0, 1);
	producer_close(producer);
}

/* Neither a full disk nor another process makes it give a record up, and none overtakes. */
static void a_patient_producer_keeps_the_order(void **state)
{
	struct place *place = *state;
	struct producer *producer;
	struct sqlq_file holder;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;
	struct consumer *consumer;
	char *value = calloc(1, 300001);

	place->settings.kafka.message_timeout_ms = 300;
	queue_close(place->queue);
	assert_int_equal(0, queue_open(&place->settings, &place->queue, &err));
	assert_int_equal(0, producer_open(place->queue, PRODUCER_PATIENT, &producer, &err));
	memset(value, 'x', 300000);
	hold(place, &holder);
	assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, value, &tally, &err));
	assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, "1", &tally, &err));
	assert_int_equal(-1, producer_flush(producer, 500));
	signal(SIGXFSZ, SIG_IGN);
	limit_files(200000);
	sqlq_file_close(&holder);
	WAIT_FOR(send_text(producer, TOPIC, 0, NULL, "2", &tally, &err) < 0);
	assert_int_equal(ERR_FULL, err.kind);
	assert_int_equal(0, reported(&tally));
	limit_files(RLIM_INFINITY);
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
	WAIT_FOR(producer_ready(producer, &err));
	assert_int_equal(reported(&tally), tally.outcomes[SENT_STORED]);
	consumer = reader(place, TOPIC, 0);
	expect(consumer, 0, value);
	expect(consumer, 0, "1");
	consumer_close(consumer);
	producer_close(producer);
	free(value);
}

static void close_writes_what_waits_or_says_that_it_did_not(void **state)
{
	struct producer *producer = ready_producer(*state);
	struct sqlq_file holder;
	struct tally tally = { 0 };
	struct err err = ERR_INIT;

	for (int i = 0; i < 100; i++)
		assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, "x", &tally, &err));
	producer_close(producer);
	assert_int_equal(100, tally.outcomes[SENT_STORED]);
	producer = ready_producer(*state);
	hold(*state, &holder);
	for (int i = 0; i < 100; i++)
		assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, "x", &tally, &err));
	producer_close(producer); /* bounded in time */
	assert_int_equal(100, tally.outcomes[SENT_NOT]);
	sqlq_file_close(&holder);
}

static void a_folder_that_is_removed_and_made_again_is_noticed(void **state)
{
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = group_consumer(place, GROUP, TOPIC);
	struct consumer *alone = reader(place, TOPIC, 0);
	struct tally tally = { 0 };
	struct record none;
	struct err err = ERR_INIT;
	int got;

	send_all(producer, TOPIC, 0, 0, 3);
	expect_numbers(consumer, 0, 0, 3);
	expect_numbers(alone, 0, 0, 3);
	remove_folder(place);
	assert_int_equal(0, send_text(producer, TOPIC, 0, NULL, "nowhere", &tally, &err));
	WAIT_FOR(reported(&tally) == 1);
	assert_int_equal(1, tally.outcomes[SENT_NOT]);
	WAIT_FOR(!producer_ready(producer, &err) && err.kind == ERR_UNAVAILABLE);
	assert_int_equal(0, mkdir(place->folder, 0700));
	suite_make_topics(place);
	WAIT_FOR(producer_ready(producer, &err));
	send_all(producer, TOPIC, 0, 10, 13);
	expect_numbers(consumer, 0, 10, 13);
	WAIT_FOR((got = consumer_poll(alone, 10, &none, &err)) != 0);
	assert_int_equal(-1, got);
	assert_int_equal(ERR_CONFLICT, err.kind);
	assert_int_equal(0, consumer_assign(alone, TOPIC, 0, 1, PATIENCE_MS, &err));
	expect_numbers(alone, 0, 11, 13);
	consumer_close(alone);
	consumer_close(consumer);
	producer_close(producer);
}

/* ---- stories: many records */

static void send_aged(struct producer *producer, int count, int64_t age_ms)
{
	struct err err = ERR_INIT;

	for (int i = 0; i < count; i++) {
		struct record record = { .topic = TOPIC_RESULTS, .partition = i % 3, .value = slice_of("old") };

		record.timestamp_ms = clock_wall_ms() - age_ms;
		assert_int_equal(0, producer_send(producer, &record, NULL, NULL, &err));
	}
	assert_int_equal(0, producer_flush(producer, PATIENCE_MS));
}

static int64_t low_of(struct place *place, int partition)
{
	struct partition_lag lag[64];
	struct err err = ERR_INIT;
	size_t count;

	assert_int_equal(0, queue_lag(place->queue, "none", TOPIC_RESULTS, lag, 64, &count, PATIENCE_MS, &err));
	return lag[partition].low;
}

static void old_records_go_and_offsets_stay(void **state)
{
	const int64_t retention_ms = topic_find(TOPIC_RESULTS)->retention_ms;
	struct producer *producer = ready_producer(*state);
	struct consumer *consumer;
	struct record record;

	send_aged(producer, 3000, retention_ms + 60000);
	send_aged(producer, 30, retention_ms - 60000);
	producer_close(producer);
	producer = ready_producer(*state); /* looks when it first writes, and now and then */
	send_aged(producer, 3, 0);
	for (int i = 0; i < 3; i++)
		WAIT_FOR(low_of(*state, i) == 1000);
	consumer = reader(*state, TOPIC_RESULTS, 1);
	next_record(consumer, &record);
	assert_int_equal(1000, record.offset);
	record_release(&record);
	consumer_close(consumer);
	producer_close(producer);
}

static void a_long_backlog_is_read_whole_and_the_wal_stays_short(void **state)
{
	enum { RECORDS = 200000 };
	struct place *place = *state;
	struct producer *producer = ready_producer(place);
	struct consumer *consumer = group_consumer(place, GROUP, TOPIC);
	struct err err = ERR_INIT;
	int64_t next[PARTITIONS] = { 0 };
	char value[200];

	memset(value, 'x', sizeof(value));
	for (int i = 0; i < RECORDS; i++) {
		struct record record = { .topic = TOPIC, .partition = i % PARTITIONS, .value = { value, sizeof(value) } };

		while (producer_send(producer, &record, NULL, NULL, &err) < 0) {
			assert_int_equal(ERR_FULL, err.kind);
			pass_ms(2);
		}
	}
	for (int i = 0; i < RECORDS; i++) {
		struct record record;

		next_record(consumer, &record);
		assert_int_equal(next[record.partition]++, record.offset);
		record_release(&record);
	}
	assert_in_range(size_of(place, TOPIC, ".topic"), RECORDS * sizeof(value), RECORDS * sizeof(value) * 2);
	assert_in_range(size_of(place, TOPIC, ".topic-wal"), 0, 64 << 20);
	consumer_close(consumer);
	producer_close(producer);
}

/* Those that Java's client gives. */
static void keys_are_hashed_as_in_java(void **state)
{
	static const struct {
		const char *key;
		uint32_t hash;
	} known[] = {
		{ "21", (uint32_t)-973932308 },
		{ "foobar", (uint32_t)-790332482 },
		{ "a-little-bit-long-string", (uint32_t)-985981536 },
		{ "a-little-bit-longer-string", (uint32_t)-1486304829 },
		{ "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", (uint32_t)-58897971 },
		{ "abc", 479470107 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		assert_int_equal(known[i].hash, record_hash(slice_of(known[i].key)));
}

/* ---- lines that may be lost */

static void count_lost(void *arg, const char *why)
{
	assert_non_null(why);
	atomic_fetch_add((_Atomic int *)arg, 1);
}

static void lines_arrive_when_their_topic_is_there(void **state)
{
	struct place *place = *state;
	const struct topic topic = { .name = "requests", .partitions = 1, .retention_ms = 3600000, .max_bytes = 1 << 20 };
	struct lossy *lossy;
	struct consumer *consumer;
	struct err err = ERR_INIT;
	_Atomic int lost = 0;

	assert_int_equal(0, lossy_open(place->queue, "requests", count_lost, &lost, &lossy, &err));
	lossy_send(lossy, slice_of("nowhere"));
	assert_int_equal(1, lost);
	assert_int_equal(0, queue_topic_create(place->queue, &topic, PATIENCE_MS, &err));
	lossy_close(lossy);
	assert_int_equal(0, lossy_open(place->queue, "requests", count_lost, &lost, &lossy, &err));
	consumer = reader(place, "requests", 0);
	lossy_send(lossy, slice_of("one"));
	expect(consumer, 0, "one");
	lossy_send(lossy, slice_of("two"));
	lossy_close(lossy);
	expect(consumer, 0, "two");
	assert_int_equal(1, lost);
	consumer_close(consumer);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_hashed_as_in_java),
		STORY(two_processes_share_a_group),
		STORY(a_killed_owner_frees_its_partitions),
		STORY(a_stopped_owner_delays_and_doubles_nothing),
		STORY(a_killed_sender_loses_nothing_that_was_stored),
		STORY(a_member_comes_and_goes_and_no_more_moves_than_must),
		STORY(a_member_without_a_partition_steps_in),
		STORY(what_is_kept_when_others_go_comes_unpaused),
		STORY(a_waiting_consumer_is_woken),
		STORY(a_consumer_that_is_not_woken_looks_by_itself),
		STORY(an_idle_process_uses_hardly_any_processor_time),
		STORY(a_full_disk_refuses_and_what_was_stored_stays),
		STORY(a_full_queue_says_so),
		STORY(what_can_not_be_written_in_time_is_not_stored),
		STORY(a_patient_producer_keeps_the_order),
		STORY(close_writes_what_waits_or_says_that_it_did_not),
		STORY(a_folder_that_is_removed_and_made_again_is_noticed),
		STORY(old_records_go_and_offsets_stay),
		STORY(a_long_backlog_is_read_whole_and_the_wal_stays_short),
		BARE(lines_arrive_when_their_topic_is_there),
	};

	log_open("test", NULL);
	if (argc == 4 && strcmp(argv[1], "--member") == 0)
		return be_member(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "--sender") == 0)
		return be_sender(argv[2], argv[3]);
	return queue_suite_run() + side_by_side("embedded queue", tests);
}
