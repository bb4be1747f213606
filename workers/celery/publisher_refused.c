/* What RabbitMQ refuses goes in, with its words; the messages that they are about go back to their tasks, the others go again. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "workers/celery/outgoing.h"
#include "workers/celery/publisher_parts.h"

#define MISSING_MS 5000     /* so long what is for an exchange that was not there fails at once */
#define DELAY_GONE_MS 30000 /* so long a message waits for the exchange of the delay to be made again */

static bool is_for_delay(const struct post *post)
{
	return strcmp(post->message.exchange, OUTGOING_DELAY_EXCHANGE) == 0;
}

bool publisher_is_missing(const struct publisher *p, const char *exchange)
{
	for (size_t i = 0; i < PUBLISHER_MISSING; i++)
		if (exchange[0] != '\0' && strcmp(p->missing[i].exchange, exchange) == 0)
			return clock_mono_ms() < p->missing[i].until;
	return false;
}

static void remember_missing(struct publisher *p, const char *exchange)
{
	if (publisher_is_missing(p, exchange))
		return;
	snprintf(p->missing[p->next_missing].exchange, sizeof(p->missing[0].exchange), "%s", exchange);
	p->missing[p->next_missing].until = clock_mono_ms() + MISSING_MS;
	p->next_missing = (p->next_missing + 1) % PUBLISHER_MISSING;
}

void publisher_refuse(struct publisher *p, struct post *post, const char *why)
{
	if (post->is_lasting)
		log_warn("a message that can't be sent", log_str("exchange", post->message.exchange),
			log_str("routing_key", post->message.routing_key), log_str("why", why));
	post->is_refused = true;
	publisher_done(p, post, false);
}

/* The exchange of the delay is ours to make again: what is for it waits for that, behind the others. */
static void refused(struct publisher *p, struct post *post, const char *why, bool is_named)
{
	const int64_t now = clock_mono_ms();

	if (is_named && (is_for_delay(post) || !post->is_lasting))
		atomic_store(&p->misses_exchange, true);
	if (is_named && is_for_delay(post)) {
		if (post->refused_at == 0)
			post->refused_at = now;
		if (now - post->refused_at < DELAY_GONE_MS)
			post_list_add(&p->waiting, post);
		else
			publisher_done(p, post, false);
		return;
	}
	if (is_named)
		remember_missing(p, post->message.exchange);
	publisher_refuse(p, post, why);
}

/* "404 NOT_FOUND - no exchange 'x' in vhost '/'" */
static bool names_exchange(const char *why, const struct post *post)
{
	char words[300];

	if (post->message.exchange[0] == '\0')
		return false;
	snprintf(words, sizeof(words), "no exchange '%s' in vhost", post->message.exchange);
	return strstr(why, words) != NULL;
}

void publisher_blame(struct publisher *p, const char *why)
{
	const bool is_alone = p->open.count == 1;
	struct post_list kept;
	struct post *post;
	bool is_found = false;

	post_list_init(&kept);
	while ((post = post_list_take(&p->open)) != NULL) {
		const bool is_named = names_exchange(why, post);

		if (!is_named && !is_alone) {
			post_list_add(&kept, post);
			continue;
		}
		is_found = true;
		refused(p, post, why, is_named);
	}
	post_list_append(&p->open, &kept);
	publisher_forget_fleeting(p, &p->open);
	if (!is_found)
		p->suspects += p->open.count;
}
