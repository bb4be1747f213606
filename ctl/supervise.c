/* What is to run goes in; it runs, is replaced, and is stopped in order, and an exit code comes out.
 *
 * One thread, one loop: signals and lines wake it; then each replica is looked at, and the rolling restart and the stop take
 * the step that has become possible. */
#include "ctl/supervise.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/notify.h"
#include "common/base/stop.h"
#include "ctl/replica.h"

#define EXIT_REFUSED 2          /* of a program: its settings or its contract are wrong */
#define STEADY_MS 30000         /* who has run that long starts again at once */
#define READY_MS 60000          /* in a rolling restart; then the one before it stays */
#define STOP_MARGIN_MS 15000    /* on top of the drain, for closing; then it is killed */
#define SIGN_LOOK_MS 500        /* how often we look whether a service manager is due a sign of life */

/* A rolling restart: how far it has come with replicas[at]. */
enum step {
	ROLL_NONE,
	ROLL_BEGIN,
	ROLL_COMING,    /* the next one is to be ready */
	ROLL_LEAVING,   /* the one before it is to end */
	ROLL_RETURNING, /* it has stopped, and is to be ready again */
};

struct supervisor {
	const struct supervised *what;
	struct settings settings; /* as they were read last; what->settings or ours */
	bool has_own_settings;
	struct replica *replicas;
	size_t count;
	struct pollfd *polls;
	int signals;              /* signalfd(2) of SIGCHLD and SIGHUP */
	enum step step;
	size_t at;
	pid_t coming;             /* of ROLL_COMING: it may have become now meanwhile */
	int64_t step_until_ms;
	bool roll_again;          /* another SIGHUP came meanwhile */
	bool was_ready;           /* all of them, once */
	bool is_stopping;
	int code;
};

static void begin_stop(struct supervisor *s, int code)
{
	if (s->code == 0)
		s->code = code;
	if (s->is_stopping)
		return;
	s->is_stopping = true;
	s->step = ROLL_NONE;
	for (size_t i = 0; i < s->count; i++)
		s->replicas[i].start_at_ms = 0;
	notify_stopping();
	log_info("stopping");
}

/* ---- one replica */

static int64_t stop_limit_ms(const struct supervisor *s)
{
	return s->settings.drain_timeout_ms + STOP_MARGIN_MS;
}

static bool start(struct supervisor *s, struct replica *r, struct child *child)
{
	struct err err = ERR_INIT;

	if (replica_start(r, child, s->what, &s->settings, &err) == 0) {
		log_info("started", log_str("replica", r->name), log_int("pid", child->pid));
		return true;
	}
	log_error("not started", log_str("replica", r->name), log_err(&err));
	return false;
}

static void start_again(struct supervisor *s, struct replica *r, int64_t wait_ms)
{
	if (!s->is_stopping)
		r->start_at_ms = clock_mono_ms() + wait_ms;
}

static void log_end(const struct replica *r, const struct child *child, pid_t pid, int status, int64_t again_ms)
{
	bool is_fine = child->asked_ms != 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	const struct log_field how = WIFSIGNALED(status) ? log_int("signal", WTERMSIG(status)) : log_int("code", WEXITSTATUS(status));
	const struct log_field again = again_ms >= 0 ? log_int("again_in_ms", again_ms) : (struct log_field){ 0 };

	if (is_fine)
		log_info("ended", log_str("replica", r->name), log_int("pid", pid), how);
	else
		log_warn("ended", log_str("replica", r->name), log_int("pid", pid), how, again);
}

static bool is_refusal(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED;
}

/* The one that serves has ended: the next one is in its place, or is to be started. */
static void now_ended(struct supervisor *s, struct replica *r, pid_t pid, int status)
{
	bool was_asked = r->now.asked_ms != 0;
	bool is_refused = !was_asked && is_refusal(status);
	int64_t wait_ms = -1;

	if (s->is_stopping && (!was_asked || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
		s->code = s->code != 0 ? s->code : EXIT_FAILURE;
	if (!s->is_stopping && !is_refused && r->next.pid == 0) {
		if (clock_mono_ms() - r->now.started_ms >= STEADY_MS)
			backoff_reset(&r->backoff);
		wait_ms = was_asked ? 0 : backoff_next_ms(&r->backoff);
		start_again(s, r, wait_ms);
	}
	log_end(r, &r->now, pid, status, wait_ms);
	if (is_refused) {
		log_error("stopping all: the settings are refused", log_str("replica", r->name));
		begin_stop(s, EXIT_REFUSED);
	}
	if (r->next.pid != 0) {
		r->now = r->next;
		r->next = (struct child){ .out = -1, .text = BUF_INIT };
	}
}

static void bury(struct supervisor *s, struct replica *r)
{
	pid_t next = r->next.pid, now = r->now.pid;
	int status;

	if (child_ended(&r->next, &status, replica_line, r))
		log_end(r, &r->next, next, status, -1);
	if (child_ended(&r->now, &status, replica_line, r))
		now_ended(s, r, now, status);
}

static void kill_late(const struct supervisor *s, struct replica *r, struct child *child)
{
	if (child->pid == 0 || child->asked_ms == 0 || child->is_killed || clock_mono_ms() < child->asked_ms + stop_limit_ms(s))
		return;
	log_error("killed: it did not stop in time", log_str("replica", r->name), log_int("pid", child->pid));
	child_kill(child);
}

static void look_after(struct supervisor *s, struct replica *r)
{
	bury(s, r);
	kill_late(s, r, &r->now);
	kill_late(s, r, &r->next);
	if (r->start_at_ms == 0 || clock_mono_ms() < r->start_at_ms || s->is_stopping)
		return;
	if (!start(s, r, &r->now))
		start_again(s, r, backoff_next_ms(&r->backoff));
}

static void note_ready(struct supervisor *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (!s->replicas[i].now.is_ready)
			return;
	if (s->was_ready)
		return;
	s->was_ready = true;
	notify_ready();
	log_info("all ready", log_int("replicas", (int64_t)s->count));
}

/* ---- rolling restart */

static void roll_begin(struct supervisor *s)
{
	struct settings settings;
	struct err err = ERR_INIT;

	if (s->is_stopping)
		return;
	if (s->step != ROLL_NONE) {
		s->roll_again = true;
		return;
	}
	if (settings_load(&settings, s->what->config, &err) < 0) {
		log_error("no rolling restart: the settings are wrong, all goes on as before", log_err(&err));
		return;
	}
	if (strcmp(settings.gateway.listen, s->settings.gateway.listen) != 0)
		log_warn("gateway.listen stays as it was: it takes another feedctl up", log_str("listen", s->settings.gateway.listen));
	if (s->has_own_settings)
		settings_release(&s->settings);
	s->settings = settings;
	s->has_own_settings = true;
	log_set_level(settings.log_level);
	log_info("rolling restart", log_int("replicas", (int64_t)s->count));
	s->step = ROLL_BEGIN;
	s->at = 0;
}

static void roll_end(struct supervisor *s)
{
	s->step = ROLL_NONE;
	if (!s->roll_again)
		return;
	s->roll_again = false;
	roll_begin(s);
}

static void roll_give_up(struct supervisor *s, const struct replica *r, const char *why)
{
	log_error("rolling restart given up", log_str("replica", r->name), log_str("reason", why),
		log_int("replaced", (int64_t)s->at), log_int("left", (int64_t)(s->count - s->at)));
	roll_end(s);
}

static void roll_step_to(struct supervisor *s, enum step step)
{
	s->step = step;
	s->step_until_ms = clock_mono_ms() + READY_MS;
}

/* Where nobody is, or two can't be at once, the place is empty until the next one is ready. */
static void roll_replica(struct supervisor *s, struct replica *r)
{
	if (r->next.pid != 0) /* of a restart that was given up; it is on its way out */
		return;
	if (r->now.pid == 0) {
		r->start_at_ms = clock_mono_ms();
		roll_step_to(s, ROLL_RETURNING);
	} else if (replica_is_named(r, &s->settings)) {
		child_ask(&r->now);
		roll_step_to(s, ROLL_LEAVING);
	} else if (start(s, r, &r->next)) {
		s->coming = r->next.pid;
		roll_step_to(s, ROLL_COMING);
	} else {
		roll_give_up(s, r, "it can't be started");
	}
}

static void roll_coming(struct supervisor *s, struct replica *r)
{
	if (r->now.pid == s->coming) { /* the one before it ended by itself */
		roll_step_to(s, ROLL_RETURNING);
	} else if (r->next.pid == 0) {
		roll_give_up(s, r, "the next one ended before it was ready");
	} else if (r->next.is_ready) {
		child_ask(&r->now);
		roll_step_to(s, ROLL_LEAVING);
	} else if (clock_mono_ms() >= s->step_until_ms) {
		child_ask(&r->next);
		roll_give_up(s, r, "the next one was not ready in time");
	}
}

static void roll_returning(struct supervisor *s, struct replica *r)
{
	if (r->now.is_ready) {
		s->at++;
		s->step = ROLL_BEGIN;
	} else if (clock_mono_ms() >= s->step_until_ms) {
		roll_give_up(s, r, "it was not ready in time");
	}
}

static void roll(struct supervisor *s)
{
	struct replica *r = &s->replicas[s->at];

	if (s->step == ROLL_BEGIN && s->at == s->count) {
		log_info("rolling restart done", log_int("replicas", (int64_t)s->count));
		roll_end(s);
	} else if (s->step == ROLL_BEGIN) {
		roll_replica(s, r);
	} else if (s->step == ROLL_COMING) {
		roll_coming(s, r);
	} else if (s->step == ROLL_LEAVING && r->next.pid == 0 && r->now.asked_ms == 0) {
		roll_step_to(s, ROLL_RETURNING);
	} else if (s->step == ROLL_RETURNING) {
		roll_returning(s, r);
	}
}

/* ---- stopping */

static size_t ask_all(struct supervisor *s, bool gateways)
{
	size_t alive = 0;

	for (size_t i = 0; i < s->count; i++) {
		struct replica *r = &s->replicas[i];

		if (replica_is_gateway(r) != gateways)
			continue;
		child_ask(&r->now);
		child_ask(&r->next);
		alive += (r->now.pid != 0) + (r->next.pid != 0);
	}
	return alive;
}

/* Gateways first: what they wait for, workers still do. True when nobody is left. */
static bool stop_step(struct supervisor *s)
{
	return ask_all(s, true) == 0 && ask_all(s, false) == 0;
}

/* ---- the loop */

static void take_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGHUP)
			roll_begin(s);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t child_due_ms(const struct supervisor *s, const struct child *child)
{
	return child->pid != 0 && child->asked_ms != 0 && !child->is_killed ? child->asked_ms + stop_limit_ms(s) : INT64_MAX;
}

/* How long nothing is to be done, unless something happens. */
static int idle_ms(const struct supervisor *s)
{
	int64_t now_ms = clock_mono_ms();
	int64_t due_ms = now_ms + SIGN_LOOK_MS;

	if (s->step == ROLL_COMING || s->step == ROLL_RETURNING)
		due_ms = earlier(due_ms, s->step_until_ms);
	for (size_t i = 0; i < s->count; i++) {
		const struct replica *r = &s->replicas[i];

		if (r->start_at_ms != 0)
			due_ms = earlier(due_ms, r->start_at_ms);
		due_ms = earlier(due_ms, earlier(child_due_ms(s, &r->now), child_due_ms(s, &r->next)));
	}
	return due_ms > now_ms ? (int)(due_ms - now_ms) : 0;
}

static void wait_and_read(struct supervisor *s)
{
	nfds_t count = 0;

	s->polls[count++] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	s->polls[count++] = (struct pollfd){ .fd = s->is_stopping ? -1 : stop_fd(), .events = POLLIN };
	for (size_t i = 0; i < s->count; i++) {
		s->polls[count++] = (struct pollfd){ .fd = s->replicas[i].now.out, .events = POLLIN };
		s->polls[count++] = (struct pollfd){ .fd = s->replicas[i].next.out, .events = POLLIN };
	}
	if (poll(s->polls, count, idle_ms(s)) <= 0)
		return;
	for (size_t i = 0; i < s->count; i++) {
		if (s->polls[2 + 2 * i].revents != 0)
			child_read(&s->replicas[i].now, replica_line, &s->replicas[i]);
		if (s->polls[3 + 2 * i].revents != 0)
			child_read(&s->replicas[i].next, replica_line, &s->replicas[i]);
	}
}

/* A step of the rolling restart may make the next one possible at once: nothing would wake us for it. */
static void roll_on(struct supervisor *s)
{
	enum step before;
	size_t at;

	do {
		before = s->step;
		at = s->at;
		if (s->step != ROLL_NONE)
			roll(s);
	} while (s->step != before || s->at != at);
}

static void give_sign(void)
{
	int64_t since_ms;

	if (notify_is_due(&since_ms))
		notify_alive(); /* whoever gets here is not stuck */
}

static void run(struct supervisor *s)
{
	for (;;) {
		give_sign();
		if (stop_requested())
			begin_stop(s, 0);
		for (size_t i = 0; i < s->count; i++)
			look_after(s, &s->replicas[i]);
		note_ready(s);
		roll_on(s);
		if (s->is_stopping && stop_step(s))
			return;
		wait_and_read(s);
		take_signals(s);
	}
}

/* ---- life */

static void make_replicas(struct supervisor *s)
{
	for (size_t i = 0; i < s->what->kind_count; i++)
		s->count += (size_t)s->what->kinds[i].replicas;
	s->replicas = mem_array(s->count + 1, sizeof(*s->replicas));
	s->polls = mem_array(2 + 2 * s->count, sizeof(*s->polls));
	s->count = 0;
	for (size_t i = 0; i < s->what->kind_count; i++)
		for (int number = 1; number <= s->what->kinds[i].replicas; number++) {
			struct replica *r = &s->replicas[s->count++];

			replica_init(r, &s->what->kinds[i], number);
			r->start_at_ms = clock_mono_ms();
		}
}

/* Only these two: SIGTERM and SIGINT are stop.h's, whose second one ends us at once. */
static int take_over_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int supervise(const struct supervised *what)
{
	struct supervisor s = { .what = what, .settings = *what->settings };

	s.signals = take_over_signals();
	if (s.signals < 0)
		abort(); /* as mem: without these there is nothing to do here */
	make_replicas(&s);
	run(&s);
	log_info("stopped", log_int("code", s.code));
	close(s.signals);
	if (s.has_own_settings)
		settings_release(&s.settings);
	free(s.polls);
	free(s.replicas);
	return s.code;
}
