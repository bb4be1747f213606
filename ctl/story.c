/* feedctl story: plays a short story through the gateway, tells each step and what came of it, and fails where an answer is not
 * what it should be: two people, a friendship, a post, the friend's inbound, a search, a product and what subscribers hear of it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/program.h"
#include "common/base/rand.h"
#include "common/base/stop.h"
#include "common/model/participant.h"
#include "ctl/ctl.h"
#include "ctl/event_reader.h"
#include "ctl/gateway_client.h"

#define WAIT_S 30              /* for one command to be applied */
#define VISIBLE_MS 30000       /* for a post to be seen, and an event to be heard */
#define PAUSE_MS 100           /* between two looks */

struct story {
	const struct settings *settings;
	struct gateway_client gateway;
	struct event_reader *events;
	struct json *answer; /* the last one */
	int64_t ada, bob, post, product;
	char word[32];       /* that no other post has */
	struct buf text;     /* of the post */
	struct err err;
};

/* ---- asking, and saying what was asked */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	fputs("   ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static int wrong(struct story *s, const char *expected)
{
	return err_set(&s->err, ERR_INVALID, "expected %s, got %d %.200s", expected, s->gateway.status, s->gateway.answer.data);
}

static int ask_quietly(struct story *s, const char *method, const char *path, const char *body)
{
	json_free(s->answer);
	s->answer = NULL;
	if (gateway_ask(&s->gateway, method, path, body, &s->err) < 0)
		return -1;
	if (s->gateway.status != 200)
		return wrong(s, "200");
	s->answer = json_parse((struct slice){ s->gateway.answer.data, s->gateway.answer.len }, &s->err);
	return s->answer != NULL ? 0 : -1;
}

static int ask(struct story *s, const char *method, const char *path, const char *body)
{
	say("%s %s%s%s", method, path, body != NULL ? " " : "", body != NULL ? body : "");
	if (ask_quietly(s, method, path, body) < 0)
		return -1;
	say("%d %s", s->gateway.status, s->gateway.answer.data);
	return 0;
}

/* Asks again until is_there() says so. */
static int ask_until(struct story *s, const char *path, bool (*is_there)(const struct story *s), const char *expected)
{
	int64_t start = clock_mono_ms();
	int looks = 0;

	say("GET %s", path);
	do {
		if (ask_quietly(s, "GET", path, NULL) < 0)
			return -1;
		looks++;
		if (is_there(s)) {
			say("%d %s", s->gateway.status, s->gateway.answer.data);
			say("(seen at look %d, %" PRId64 " ms after the first)", looks, clock_mono_ms() - start);
			return 0;
		}
	} while (clock_mono_ms() - start < VISIBLE_MS && !stop_wait(PAUSE_MS));
	return wrong(s, expected);
}

/* ---- looking at answers */

static int64_t id_in(const struct json *object, const char *key)
{
	const struct json *member = json_get(object, key);
	int64_t id = 0;

	return member != NULL && json_type(member) == JSON_NUMBER && json_int64(member, &id) && id > 0 && id <= ID_MAX ? id : 0;
}

static bool text_is(const struct json *object, const char *key, const char *wanted)
{
	const struct json *member = json_get(object, key);

	return member != NULL && json_type(member) == JSON_STRING && slice_is(json_string(member), wanted);
}

static bool link_is(const struct json *object, const char *key, int64_t id)
{
	char link[LINK_TEXT];

	link_format(id, link);
	return text_is(object, key, link);
}

/* ---- the steps */

static int join(struct story *s, const char *name, int64_t *id)
{
	char body[64];

	snprintf(body, sizeof(body), "{\"name\":\"%s\"}", name);
	if (ask(s, "POST", "/participant", body) < 0)
		return -1;
	*id = id_in(s->answer, "id");
	if (*id == 0 || !text_is(s->answer, "name", name) || !link_is(s->answer, "link", *id))
		return wrong(s, "a participant of that name, with id and link");
	return 0;
}

static int ada_joins(struct story *s)
{
	return join(s, "Ada", &s->ada);
}

static int bob_joins(struct story *s)
{
	return join(s, "Bob", &s->bob);
}

static int they_become_friends(struct story *s)
{
	char path[64], body[160];

	snprintf(path, sizeof(path), "/participant/%" PRId64 "/friends", s->ada);
	snprintf(body, sizeof(body), "{\"from\":\"/participant/%" PRId64 "\",\"to\":\"/participant/%" PRId64 "\"}", s->ada, s->bob);
	if (ask(s, "POST", path, body) < 0)
		return -1;
	if (id_in(s->answer, "id") == 0 || !link_is(s->answer, "from", s->ada) || !link_is(s->answer, "to", s->bob))
		return wrong(s, "a friendship between the two, with an id");
	return 0;
}

static int ada_posts(struct story *s)
{
	struct buf body = BUF_INIT;
	struct json_writer w = JSON_WRITER(&body);
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/participant/%" PRId64 "/outbound", s->ada);
	json_open(&w, NULL, '{');
	json_put_string(&w, "subject", slice_of("Good evening"));
	json_put_string(&w, "story", slice_of(s->text.data));
	json_close(&w, '}');
	rc = ask(s, "POST", path, body.data);
	buf_release(&body);
	if (rc < 0)
		return -1;
	s->post = id_in(s->answer, "id");
	if (s->post == 0 || !link_is(s->answer, "from", s->ada) || !text_is(s->answer, "story", s->text.data))
		return wrong(s, "the post, with an id");
	return 0;
}

static bool post_is_there(const struct story *s)
{
	const struct json *post = json_type(s->answer) == JSON_ARRAY ? json_first(s->answer) : NULL;

	return post != NULL && json_next(post) == NULL && id_in(post, "id") == s->post && link_is(post, "from", s->ada) &&
		link_is(post, "to", s->bob) && text_is(post, "story", s->text.data);
}

static int bob_reads(struct story *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/participant/%" PRId64 "/inbound", s->bob);
	return ask_until(s, path, post_is_there, "that post alone, from Ada to Bob");
}

static bool ada_is_found(const struct story *s)
{
	const struct json *link = json_type(s->answer) == JSON_ARRAY ? json_first(s->answer) : NULL;
	char wanted[LINK_TEXT];

	link_format(s->ada, wanted);
	return link != NULL && json_next(link) == NULL && json_type(link) == JSON_STRING && slice_is(json_string(link), wanted);
}

static int a_search_finds_ada(struct story *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/outbound?keywords=%s", s->word);
	return ask_until(s, path, ada_is_found, "Ada's link alone");
}

static int a_product_comes(struct story *s)
{
	const struct json *price;

	if (event_reader_open(s->settings, &s->events, &s->err) < 0)
		return -1;
	if (ask(s, "POST", "/products", "{\"name\":\"Umbrella\",\"price\":12.50}") < 0)
		return -1;
	s->product = id_in(s->answer, "id");
	price = json_get(s->answer, "price");
	if (s->product == 0 || !text_is(s->answer, "name", "Umbrella") || price == NULL || !slice_is(json_number(price), "12.5"))
		return wrong(s, "the product, with an id and the price 12.5");
	return 0;
}

static int hear(struct story *s, const char *action, const char *expected)
{
	struct event event = { .value = BUF_INIT };
	int rc;

	say("topic product_events, from where it ended before");
	rc = event_reader_find(s->events, s->product, action, VISIBLE_MS, &event, &s->err);
	if (rc == 0) {
		say("%s (partition %d, offset %" PRId64 ", ce_id %s)", event.value.data, (int)event.partition, event.offset, event.id);
		if (strcmp(event.value.data, expected) != 0)
			rc = err_set(&s->err, ERR_INVALID, "expected exactly %s", expected);
		else if (event.id[0] == '\0')
			rc = err_set(&s->err, ERR_INVALID, "expected a header ce_id");
	}
	buf_release(&event.value);
	return rc;
}

static int subscribers_hear_of_it(struct story *s)
{
	char expected[96];

	snprintf(expected, sizeof(expected), "{\"action\":\"created\",\"id\":%" PRId64 ",\"name\":\"Umbrella\"}", s->product);
	return hear(s, "created", expected);
}

static int it_goes(struct story *s)
{
	char path[64];

	snprintf(path, sizeof(path), "/products/%" PRId64, s->product);
	if (ask(s, "DELETE", path, NULL) < 0)
		return -1;
	return text_is(s->answer, "status", "deleted") ? 0 : wrong(s, "{\"status\":\"deleted\"}");
}

static int subscribers_hear_of_that_too(struct story *s)
{
	char expected[96];

	snprintf(expected, sizeof(expected), "{\"action\":\"deleted\",\"id\":%" PRId64 "}", s->product);
	return hear(s, "deleted", expected);
}

static const struct {
	const char *title;
	int (*play)(struct story *s);
} steps[] = {
	{ "Ada joins.", ada_joins },
	{ "Bob joins.", bob_joins },
	{ "They become friends.", they_become_friends },
	{ "Ada posts, and waits until her friends have it.", ada_posts },
	{ "Bob finds it in his inbound.", bob_reads },
	{ "A search by a word of the story finds who wrote it.", a_search_finds_ada },
	{ "A product comes into the catalogue.", a_product_comes },
	{ "Whoever subscribes to product events hears of it.", subscribers_hear_of_it },
	{ "The product is deleted.", it_goes },
	{ "Subscribers hear of that too.", subscribers_hear_of_that_too },
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

static int play(struct story *s)
{
	unsigned char bits[4];

	rand_bytes(bits, sizeof(bits));
	snprintf(s->word, sizeof(s->word), "lantern%02x%02x%02x%02x", bits[0], bits[1], bits[2], bits[3]);
	buf_addf(&s->text, "They lit the %s over the harbour tonight.", s->word);
	printf("Through the gateway at %s; each request says Prefer: wait=%d.\n", s->gateway.url, WAIT_S);
	for (size_t i = 0; i < STEPS; i++) {
		printf("\n%zu. %s\n", i + 1, steps[i].title);
		fflush(stdout);
		if (steps[i].play(s) < 0)
			return err_wrap(&s->err, "step %zu (%s)", i + 1, steps[i].title);
	}
	printf("\nAll %zu steps went as they should.\n", STEPS);
	return 0;
}

int ctl_story(const struct settings *settings, int argc, char **argv)
{
	struct story s = { .settings = settings, .text = BUF_INIT, .err = ERR_INIT };
	int rc = -1;

	if (argc > 1)
		return program_usage("story: unexpected %s (it takes nothing)", argv[1]);
	if (gateway_client_open(&s.gateway, settings, WAIT_S, &s.err) == 0) {
		rc = play(&s);
		event_reader_close(s.events);
		gateway_client_close(&s.gateway);
	}
	json_free(s.answer);
	buf_release(&s.text);
	if (rc < 0)
		fprintf(stderr, "feedctl story: %s\n", s.err.message);
	return rc < 0 ? 1 : 0;
}
