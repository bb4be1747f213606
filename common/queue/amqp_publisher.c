/* Messages go in from any thread, one report a message comes out when RabbitMQ has confirmed it, or when its time is up. */
#include "common/queue/amqp_publisher.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/queue/amqp_private.h"

#define TURN_MS 1000 /* heartbeats and deadlines are looked after at least so often */

struct outgoing {
	struct outgoing *next;
	struct amqp_arena arena;
	struct amqp_message message;
	amqp_sent_fn *done;
	void *arg;
	int64_t deadline_ms;
	uint64_t sequence;
	bool was_handed; /* to some connection: it may be stored */
	bool is_returned;
};

struct line { /* first in, first out */
	struct outgoing *first, **end;
	size_t count;
};

struct amqp_publisher {
	const struct settings *settings;
	struct amqp_publisher_options options;
	pthread_t thread;
	int wake;
	struct amqp *amqp; /* the thread's, as are the three that follow */
	struct line flying; /* handed to amqp, in the order of their numbers */
	struct backoff backoff;
	int64_t next_try_ms;
	pthread_mutex_t lock; /* of what follows */
	struct line waiting;
	size_t inside; /* waiting and flying */
	bool is_stopping;
	int64_t stop_by_ms;
	bool is_ready;
	char why[sizeof(((struct err *)0)->message)]; /* when it is not */
};

/* ---- lines */

static void line_init(struct line *line)
{
	*line = (struct line){ NULL, &line->first, 0 };
}

static void line_put(struct line *line, struct outgoing *out)
{
	out->next = NULL;
	*line->end = out;
	line->end = &out->next;
	line->count++;
}

/* Takes the one that *at points at. */
static struct outgoing *line_take(struct line *line, struct outgoing **at)
{
	struct outgoing *out = *at;

	*at = out->next;
	if (*at == NULL)
		line->end = at;
	line->count--;
	return out;
}

/* All of `back` before all of `line`. */
static void line_put_back(struct line *line, struct line *back)
{
	if (back->count == 0)
		return;
	*back->end = line->first;
	if (line->count == 0)
		line->end = back->end;
	line->first = back->first;
	line->count += back->count;
	line_init(back);
}

/* ---- copies */

static struct slice copy_text(struct amqp_arena *arena, struct slice text)
{
	return text.data == NULL ? text : arena_copy(arena, bytes_of(text));
}

static struct amqp_table copy_table(struct amqp_arena *arena, struct amqp_table table)
{
	struct amqp_field *fields = arena_get(arena, sizeof(*fields) * (table.count > 0 ? table.count : 1));

	for (size_t i = 0; i < table.count; i++) {
		fields[i] = table.fields[i];
		if (fields[i].name != NULL)
			fields[i].name = copy_text(arena, slice_of(fields[i].name)).data;
		fields[i].value.text = copy_text(arena, fields[i].value.text);
		if (fields[i].value.items.count > 0)
			fields[i].value.items = copy_table(arena, fields[i].value.items);
	}
	return (struct amqp_table){ fields, table.count };
}

static struct outgoing *outgoing_new(const struct amqp_message *message)
{
	struct outgoing *out = mem_zalloc(sizeof(*out));
	struct amqp_properties *properties = &out->message.properties;
	struct slice *texts[] = { &properties->content_type, &properties->content_encoding, &properties->correlation_id, &properties->reply_to,
		&properties->expiration, &properties->message_id, &properties->type, &properties->user_id, &properties->app_id };

	out->message = *message;
	out->message.exchange = copy_text(&out->arena, slice_of(message->exchange)).data;
	out->message.routing_key = copy_text(&out->arena, slice_of(message->routing_key)).data;
	out->message.body = copy_text(&out->arena, message->body);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		*texts[i] = copy_text(&out->arena, *texts[i]);
	properties->headers = copy_table(&out->arena, properties->headers);
	return out;
}

/* ---- reports */

/* The room is free before it is told: who waits for the report may send at once. */
static void report(struct amqp_publisher *publisher, struct outgoing *out, enum amqp_sent sent, const char *why)
{
	pthread_mutex_lock(&publisher->lock);
	publisher->inside--;
	pthread_mutex_unlock(&publisher->lock);
	if (out->done != NULL)
		out->done(out->arg, sent, why);
	arena_release(&out->arena);
	free(out);
}

static void set_state(struct amqp_publisher *publisher, bool is_ready, const char *why)
{
	pthread_mutex_lock(&publisher->lock);
	publisher->is_ready = is_ready;
	snprintf(publisher->why, sizeof(publisher->why), "%s", why);
	pthread_mutex_unlock(&publisher->lock);
}

/* Out of the line, those whose time is up (or all), to report without the lock. */
static void sift(struct line *line, int64_t now_ms, bool all, struct line *late)
{
	struct outgoing **at = &line->first;

	while (*at != NULL) {
		if (all || (*at)->deadline_ms <= now_ms)
			line_put(late, line_take(line, at));
		else
			at = &(*at)->next;
	}
}

/* A message whose confirm is still to come is taken off too: the confirm then finds nobody. */
static void give_up(struct amqp_publisher *publisher, bool all)
{
	const int64_t now_ms = clock_mono_ms();
	struct line late;
	char why[sizeof(publisher->why)];

	line_init(&late);
	sift(&publisher->flying, now_ms, all, &late);
	pthread_mutex_lock(&publisher->lock);
	sift(&publisher->waiting, now_ms, all, &late);
	snprintf(why, sizeof(why), "%s", publisher->is_ready ? "RabbitMQ did not confirm in time" : publisher->why);
	pthread_mutex_unlock(&publisher->lock);
	while (late.count > 0) {
		struct outgoing *out = line_take(&late, &late.first);

		report(publisher, out, out->was_handed ? AMQP_SENT_UNKNOWN : AMQP_SENT_NOT, why);
	}
}

/* ---- the connection */

static void lose(struct amqp_publisher *publisher, const struct err *err)
{
	amqp_close(publisher->amqp);
	publisher->amqp = NULL;
	publisher->next_try_ms = clock_mono_ms() + backoff_next_ms(&publisher->backoff);
	set_state(publisher, false, err->message);
	pthread_mutex_lock(&publisher->lock);
	line_put_back(&publisher->waiting, &publisher->flying);
	pthread_mutex_unlock(&publisher->lock);
}

static void reconnect(struct amqp_publisher *publisher)
{
	const struct amqp_publisher_options *options = &publisher->options;
	struct err err = ERR_INIT;

	if (amqp_open(publisher->settings, options->purpose, &publisher->amqp, &err) < 0 ||
		(options->declare != NULL && options->declare(publisher->amqp, options->arg, &err) < 0) ||
		amqp_confirm_publishes(publisher->amqp, &err) < 0)
		lose(publisher, &err);
	else
		set_state(publisher, true, "");
}

static struct outgoing *take_waiting(struct amqp_publisher *publisher)
{
	struct outgoing *out = NULL;

	pthread_mutex_lock(&publisher->lock);
	if (publisher->waiting.count > 0)
		out = line_take(&publisher->waiting, &publisher->waiting.first);
	pthread_mutex_unlock(&publisher->lock);
	return out;
}

static int hand_over(struct amqp_publisher *publisher, struct err *err)
{
	struct outgoing *out;

	while (publisher->flying.count < publisher->options.window && !amqp_is_blocked(publisher->amqp) &&
		(out = take_waiting(publisher)) != NULL) {
		const int rc = amqp_publish(publisher->amqp, &out->message, &out->sequence, err);

		if (rc < 0 && err->kind == ERR_INVALID) {
			report(publisher, out, AMQP_SENT_UNFIT, err->message);
			continue;
		}
		out->was_handed = true;
		out->is_returned = false;
		line_put(&publisher->flying, out);
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* ---- what comes in */

static void on_confirmed(struct amqp_publisher *publisher, const struct amqp_event *event)
{
	struct outgoing **at = &publisher->flying.first;

	backoff_reset(&publisher->backoff);
	while (*at != NULL && (*at)->sequence <= event->sequence) {
		struct outgoing *out;

		if (!event->multiple && (*at)->sequence != event->sequence) {
			at = &(*at)->next;
			continue;
		}
		out = line_take(&publisher->flying, at);
		if (!event->is_ack)
			report(publisher, out, AMQP_SENT_NOT, "RabbitMQ refused the message (nack)");
		else if (out->is_returned)
			report(publisher, out, AMQP_SENT_UNROUTABLE, "no queue is bound for it");
		else
			report(publisher, out, AMQP_SENT_STORED, NULL);
	}
}

/* What comes back has no number; it comes in the order that it was sent. */
static void on_returned(struct amqp_publisher *publisher, const struct amqp_delivery *returned)
{
	for (struct outgoing *out = publisher->flying.first; out != NULL; out = out->next) {
		const struct amqp_message *message = &out->message;

		if (message->mandatory && !out->is_returned && slice_is(returned->exchange, message->exchange) &&
			slice_is(returned->routing_key, message->routing_key) &&
			slice_equal(returned->properties.message_id, message->properties.message_id)) {
			out->is_returned = true;
			return;
		}
	}
}

static void on_event(struct amqp_publisher *publisher, struct amqp_event *event)
{
	switch (event->type) {
	case AMQP_EVENT_CONFIRMED: on_confirmed(publisher, event); break;
	case AMQP_EVENT_RETURNED: on_returned(publisher, event->delivery); break;
	case AMQP_EVENT_BLOCKED: set_state(publisher, false, "RabbitMQ takes no messages now: it is out of memory or disk"); break;
	case AMQP_EVENT_UNBLOCKED: set_state(publisher, true, ""); break;
	default: break;
	}
	amqp_delivery_free(event->delivery);
}

static int take_in(struct amqp_publisher *publisher, struct err *err)
{
	struct amqp_event event;

	do {
		if (amqp_next(publisher->amqp, 0, &event, err) < 0)
			return -1;
		on_event(publisher, &event);
	} while (event.type != AMQP_EVENT_NONE);
	return 0;
}

/* ---- the thread */

static bool wants_to_stop(struct amqp_publisher *publisher)
{
	bool is_over;

	pthread_mutex_lock(&publisher->lock);
	is_over = publisher->is_stopping && (publisher->inside == 0 || clock_mono_ms() >= publisher->stop_by_ms);
	pthread_mutex_unlock(&publisher->lock);
	return is_over;
}

/* Until something comes in, is sent, or is due. Deadlines are kept to a tenth of a second while something is in here. */
static void wait_for_work(struct amqp_publisher *publisher)
{
	struct pollfd fds[2] = { { publisher->wake, POLLIN, 0 }, { -1, POLLIN, 0 } };
	int64_t timeout_ms = TURN_MS;
	uint64_t count;

	pthread_mutex_lock(&publisher->lock);
	if (publisher->inside > 0)
		timeout_ms = 100;
	pthread_mutex_unlock(&publisher->lock);
	if (publisher->amqp != NULL)
		fds[1].fd = amqp_fd(publisher->amqp);
	else if (publisher->next_try_ms - clock_mono_ms() < timeout_ms)
		timeout_ms = publisher->next_try_ms - clock_mono_ms();
	if (poll(fds, 2, timeout_ms > 0 ? (int)timeout_ms : 0) > 0 && fds[0].revents != 0)
		(void)!read(publisher->wake, &count, sizeof(count));
}

static void *publisher_main(void *arg)
{
	struct amqp_publisher *publisher = arg;

	while (!wants_to_stop(publisher)) {
		struct err err = ERR_INIT;

		if (publisher->amqp == NULL && clock_mono_ms() >= publisher->next_try_ms)
			reconnect(publisher);
		if (publisher->amqp != NULL && (take_in(publisher, &err) < 0 || hand_over(publisher, &err) < 0))
			lose(publisher, &err);
		give_up(publisher, false);
		if (!wants_to_stop(publisher))
			wait_for_work(publisher);
	}
	give_up(publisher, true);
	amqp_close(publisher->amqp);
	return NULL;
}

static void wake(struct amqp_publisher *publisher)
{
	const uint64_t one = 1;

	(void)!write(publisher->wake, &one, sizeof(one));
}

int amqp_publisher_open(const struct settings *settings, const struct amqp_publisher_options *options, struct amqp_publisher **out, struct err *err)
{
	struct amqp_publisher *publisher;
	int rc;

	if (amqp_check_settings(settings, err) < 0)
		return -1;
	publisher = mem_zalloc(sizeof(*publisher));
	publisher->settings = settings;
	publisher->options = *options;
	publisher->backoff = (struct backoff){ 100, 5000, 0 };
	snprintf(publisher->why, sizeof(publisher->why), "not connected to RabbitMQ yet");
	line_init(&publisher->flying);
	line_init(&publisher->waiting);
	pthread_mutex_init(&publisher->lock, NULL);
	publisher->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = publisher->wake < 0 ? -1 : pthread_create(&publisher->thread, NULL, publisher_main, publisher);
	if (rc == 0) {
		*out = publisher;
		return 0;
	}
	if (publisher->wake >= 0)
		close(publisher->wake);
	pthread_mutex_destroy(&publisher->lock);
	free(publisher);
	return err_set(err, ERR_UNAVAILABLE, "can't start a thread that publishes to RabbitMQ");
}

int amqp_publisher_send(struct amqp_publisher *publisher, const struct amqp_message *message, int64_t timeout_ms, amqp_sent_fn *done, void *arg,
	struct err *err)
{
	struct outgoing *out = outgoing_new(message);
	bool is_full;

	out->done = done;
	out->arg = arg;
	out->deadline_ms = clock_mono_ms() + timeout_ms;
	pthread_mutex_lock(&publisher->lock);
	is_full = publisher->inside >= publisher->options.room;
	if (!is_full) {
		line_put(&publisher->waiting, out);
		publisher->inside++;
	}
	pthread_mutex_unlock(&publisher->lock);
	if (is_full) {
		arena_release(&out->arena);
		free(out);
		return err_set(err, ERR_FULL, "%zu messages wait for RabbitMQ already", publisher->options.room);
	}
	wake(publisher);
	return 0;
}

int amqp_publisher_ready(struct amqp_publisher *publisher, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&publisher->lock);
	if (!publisher->is_ready)
		rc = err_set(err, ERR_UNAVAILABLE, "%s", publisher->why);
	pthread_mutex_unlock(&publisher->lock);
	return rc;
}

void amqp_publisher_close(struct amqp_publisher *publisher, int64_t timeout_ms)
{
	if (publisher == NULL)
		return;
	pthread_mutex_lock(&publisher->lock);
	publisher->is_stopping = true;
	publisher->stop_by_ms = clock_mono_ms() + timeout_ms;
	pthread_mutex_unlock(&publisher->lock);
	wake(publisher);
	pthread_join(publisher->thread, NULL);
	close(publisher->wake);
	pthread_mutex_destroy(&publisher->lock);
	free(publisher);
}
