/* Tasks go into child processes, replies come out, or word that the child was lost. */
#include "workers/celery/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "workers/celery/child.h"
#include "workers/celery/nursery.h"

#define REBIRTH_MS 1000 /* a child that dies at once is not replaced at once */

enum slot_state { SLOT_EMPTY, SLOT_ASKED, SLOT_IDLE, SLOT_BUSY, SLOT_ENDING };

struct slot {
	enum slot_state state;
	pid_t pid;
	int fd;
	struct task *task;
	int64_t soft_at, hard_at, hard_ms; /* monotonic; 0: none */
	int64_t born_at, again_at;
	int64_t ran;
	bool is_retiring;
	struct buf out, in;
	size_t out_done;
};

struct children {
	const struct settings *settings;
	int nursery;
	size_t count;   /* wanted */
	struct slot slots[CHILDREN_MAX];
	size_t polled[CHILDREN_MAX]; /* slot of the poll entry */
	bool has_failed; /* to make the last one that was asked for */
	int64_t warn_at;
	void (*ran)(void *arg, struct task *task);
	void *arg;
};

struct children *children_open(const struct settings *settings, int nursery, size_t count, void (*ran)(void *arg, struct task *task), void *arg)
{
	struct children *c = mem_zalloc(sizeof(*c));

	*c = (struct children){ .settings = settings, .nursery = nursery, .count = count, .ran = ran, .arg = arg };
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		c->slots[i].fd = -1;
		c->slots[i].out = c->slots[i].in = (struct buf)BUF_INIT;
	}
	children_tick(c, clock_mono_ms());
	return c;
}

void children_close(struct children *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		if (c->slots[i].pid > 0)
			kill(-c->slots[i].pid, SIGKILL);
		if (c->slots[i].fd >= 0)
			close(c->slots[i].fd);
		buf_release(&c->slots[i].out);
		buf_release(&c->slots[i].in);
	}
	close(c->nursery); /* and it ends */
	free(c);
}

bool children_have_room(const struct children *c)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->slots[i].state == SLOT_IDLE)
			return true;
	return false;
}

static void flush(struct slot *slot)
{
	while (slot->out_done < slot->out.len) {
		const ssize_t put = write(slot->fd, slot->out.data + slot->out_done, slot->out.len - slot->out_done);

		if (put < 0)
			return; /* full: POLLOUT says when; broken: its death will be told */
		slot->out_done += (size_t)put;
	}
	slot->out_done = 0;
	if (slot->out.size > 65536)
		buf_release(&slot->out);
	else
		buf_reset(&slot->out);
}

void children_start(struct children *c, struct task *task, int64_t soft_ms, int64_t hard_ms)
{
	const int64_t now = clock_mono_ms();

	for (size_t i = 0; i < c->count; i++) {
		struct slot *slot = &c->slots[i];

		if (slot->state != SLOT_IDLE)
			continue;
		slot->state = SLOT_BUSY;
		slot->task = task;
		slot->soft_at = soft_ms > 0 ? now + soft_ms : 0;
		slot->hard_at = hard_ms > 0 ? now + hard_ms : 0;
		slot->hard_ms = hard_ms;
		task->worker_pid = slot->pid;
		child_write_order(&slot->out, task->request, soft_ms);
		flush(slot);
		return;
	}
	abort(); /* the caller asked for room first */
}

bool children_signal(struct children *c, const struct task *task, int signal_number)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++)
		if (c->slots[i].task == task && c->slots[i].state == SLOT_BUSY)
			return kill(-c->slots[i].pid, signal_number) == 0;
	return false;
}

/* ---- what comes back */

static void end(struct slot *slot)
{
	kill(-slot->pid, SIGKILL);
	slot->state = SLOT_ENDING;
}

static void give_back(struct children *c, struct slot *slot)
{
	struct task *task = slot->task;

	slot->task = NULL;
	slot->soft_at = slot->hard_at = 0;
	c->ran(c->arg, task);
}

static bool should_retire(const struct children *c, const struct slot *slot, const struct job_reply *reply)
{
	const struct job_settings *s = &c->settings->job;

	return slot->is_retiring || (size_t)(slot - c->slots) >= c->count || (s->max_tasks_per_child > 0 && slot->ran >= s->max_tasks_per_child) ||
		(s->max_memory_per_child_kib > 0 && reply->memory_kib > s->max_memory_per_child_kib);
}

static void answer(struct children *c, struct slot *slot, size_t used)
{
	memmove(slot->in.data, slot->in.data + used, slot->in.len - used);
	slot->in.len -= used;
	if (slot->in.size > 65536 && slot->in.len == 0)
		buf_release(&slot->in);
	slot->ran++;
	slot->state = SLOT_IDLE;
	if (should_retire(c, slot, &slot->task->reply))
		end(slot);
	give_back(c, slot);
}

static void hear(struct children *c, struct slot *slot)
{
	char part[65536];
	size_t used = 0;
	ssize_t got;

	while ((got = read(slot->fd, part, sizeof(part))) > 0)
		buf_add(&slot->in, part, (size_t)got);
	if (slot->state != SLOT_BUSY)
		return;
	switch (child_read_answer((struct slice){ slot->in.data, slot->in.len }, &slot->task->reply, &used)) {
	case 1:
		answer(c, slot, used);
		break;
	case 0:
		if (got == 0)
			kill(-slot->pid, SIGKILL); /* it closed its end: nothing more will come */
		break;
	default:
		kill(-slot->pid, SIGKILL);
	}
}

static void lost(struct task *task, int status)
{
	struct job_reply *reply = &task->reply;

	if (WIFSIGNALED(status))
		job_fail(reply, "WorkerLostError", "billiard.exceptions", "Worker exited prematurely: signal %d (%s).", WTERMSIG(status),
			sigdescr_np(WTERMSIG(status)));
	else
		job_fail(reply, "WorkerLostError", "billiard.exceptions", "Worker exited prematurely: exitcode %d.", WEXITSTATUS(status));
	reply->outcome = JOB_LOST;
}

/* No memory, too many processes or files: it is tried again, and said once a second at most. */
static void miss(struct children *c, const char *why)
{
	const int64_t now = clock_mono_ms();

	c->has_failed = true;
	if (now < c->warn_at)
		return;
	c->warn_at = now + REBIRTH_MS;
	log_warn("a child process can't be made", log_str("error", why));
}

static void wait_for_next(struct slot *slot)
{
	slot->state = SLOT_EMPTY;
	slot->again_at = clock_mono_ms() + REBIRTH_MS;
}

static void bury(struct children *c, struct slot *slot, int status)
{
	const int64_t now = clock_mono_ms();

	if (slot->fd >= 0)
		hear(c, slot); /* its last words may be an answer */
	if (slot->state == SLOT_BUSY) {
		lost(slot->task, status);
		log_warn("a child was lost", log_int("pid", slot->pid), log_slice("task", slot->task->request->task),
			log_slice("id", slot->task->request->id), log_int("status", status));
	}
	if (slot->fd >= 0)
		close(slot->fd);
	slot->fd = -1;
	slot->pid = 0;
	slot->state = SLOT_EMPTY;
	slot->again_at = now - slot->born_at < REBIRTH_MS && slot->ran == 0 && slot->task == NULL ? now + REBIRTH_MS : 0;
	buf_release(&slot->in);
	buf_release(&slot->out);
	slot->out_done = 0;
	if (slot->task != NULL)
		give_back(c, slot);
}

static void greet(struct children *c, struct slot *slot, const struct nursery_news *news)
{
	c->has_failed = false;
	if (news->fd < 0) { /* this process has no descriptor left for its socket: its death will be told, and is an early one */
		miss(c, "too many open files");
		kill(-news->pid, SIGKILL);
	}
	slot->state = news->fd < 0 ? SLOT_ENDING : SLOT_IDLE;
	slot->pid = news->pid;
	slot->fd = news->fd;
	slot->ran = 0;
	slot->is_retiring = false;
	slot->born_at = clock_mono_ms();
	if (slot->fd >= 0)
		fcntl(slot->fd, F_SETFL, O_NONBLOCK);
}

static int hear_nursery(struct children *c)
{
	struct nursery_news news;

	for (;;) {
		if (nursery_next(c->nursery, &news) < 0)
			return -1;
		if (news.what == NURSERY_NOTHING)
			return 0;
		if (news.slot < 0 || news.slot >= CHILDREN_MAX)
			continue;
		if (news.what == NURSERY_BORN) {
			greet(c, &c->slots[news.slot], &news);
		} else if (news.pid > 0) {
			bury(c, &c->slots[news.slot], news.status);
		} else {
			miss(c, strerror(news.status));
			wait_for_next(&c->slots[news.slot]);
		}
	}
}

size_t children_polls(const struct children *c, struct pollfd *fds)
{
	size_t count = 0;

	fds[count++] = (struct pollfd){ .fd = c->nursery, .events = POLLIN };
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		const struct slot *slot = &c->slots[i];

		if (slot->fd < 0 || slot->state == SLOT_ENDING)
			continue;
		((struct children *)(uintptr_t)c)->polled[count - 1] = i;
		fds[count++] = (struct pollfd){ .fd = slot->fd, .events = (short)(slot->out.len > 0 ? POLLIN | POLLOUT : POLLIN) };
	}
	return count;
}

int children_look(struct children *c, const struct pollfd *fds, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct slot *slot = &c->slots[c->polled[i - 1]];

		if (fds[i].revents == 0 || slot->fd != fds[i].fd)
			continue;
		if (fds[i].revents & POLLOUT)
			flush(slot);
		if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			hear(c, slot);
	}
	return fds[0].revents != 0 ? hear_nursery(c) : 0;
}

/* ---- time */

static void check_limits(struct children *c, struct slot *slot, int64_t now)
{
	if (slot->state != SLOT_BUSY)
		return;
	if (slot->soft_at != 0 && now >= slot->soft_at) {
		slot->soft_at = 0;
		kill(slot->pid, SIGUSR1);
	}
	if (slot->hard_at != 0 && now >= slot->hard_at) {
		struct job_reply *reply = &slot->task->reply;

		job_fail(reply, "TimeLimitExceeded", "billiard.exceptions", "%s", "");
		buf_reset(&reply->arguments);
		buf_addf(&reply->arguments, "[%.15g]", (double)slot->hard_ms / 1000);
		slot->task->is_overdue = true;
		end(slot);
		give_back(c, slot);
	}
}

void children_tick(struct children *c, int64_t now)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		struct slot *slot = &c->slots[i];

		check_limits(c, slot, now);
		if (slot->state == SLOT_IDLE && (slot->is_retiring || i >= c->count))
			end(slot);
		if (slot->state == SLOT_EMPTY && i < c->count && now >= slot->again_at && nursery_ask(c->nursery, (int)i) == 0)
			slot->state = SLOT_ASKED;
	}
}

int64_t children_next_tick(const struct children *c, int64_t latest)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		const struct slot *slot = &c->slots[i];

		if (slot->state == SLOT_BUSY && slot->soft_at != 0 && slot->soft_at < latest)
			latest = slot->soft_at;
		if (slot->state == SLOT_BUSY && slot->hard_at != 0 && slot->hard_at < latest)
			latest = slot->hard_at;
		if (slot->state == SLOT_EMPTY && i < c->count && slot->again_at < latest)
			latest = slot->again_at;
	}
	return latest;
}

size_t children_count(const struct children *c)
{
	return c->count;
}

size_t children_busy(const struct children *c)
{
	size_t busy = 0;

	for (size_t i = 0; i < CHILDREN_MAX; i++)
		busy += c->slots[i].state == SLOT_BUSY;
	return busy;
}

/* Asked at each turn of the loop: the slots are looked at only after a failure. */
bool children_are_missing(const struct children *c)
{
	if (!c->has_failed)
		return false;
	for (size_t i = 0; i < CHILDREN_MAX; i++)
		if (c->slots[i].state == SLOT_IDLE || c->slots[i].state == SLOT_BUSY)
			return false;
	return true;
}

void children_resize(struct children *c, size_t count)
{
	c->count = count < 1 ? 1 : count > CHILDREN_MAX ? CHILDREN_MAX : count;
	children_tick(c, clock_mono_ms());
}

void children_restart(struct children *c)
{
	for (size_t i = 0; i < CHILDREN_MAX; i++)
		c->slots[i].is_retiring = c->slots[i].pid > 0;
	children_tick(c, clock_mono_ms());
}

size_t children_pids(const struct children *c, int *pids, size_t max)
{
	size_t count = 0;

	for (size_t i = 0; i < CHILDREN_MAX && count < max; i++)
		if (c->slots[i].pid > 0 && c->slots[i].state != SLOT_ENDING)
			pids[count++] = c->slots[i].pid;
	return count;
}
