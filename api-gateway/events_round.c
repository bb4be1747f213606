/* Clients with their places go in; where one read for many of them begins comes out. */
#include "api-gateway/events_round.h"

static int64_t missing(const struct events_round *round, const struct client *client)
{
	int64_t sum = 0;

	for (size_t p = 0; p < round->partitions; p++)
		sum += client->at[p] < round->until[p] ? round->until[p] - client->at[p] : 0;
	return sum;
}

static const struct client *choose_leader(const struct events_round *round)
{
	const struct client *leader = round->clients;

	for (const struct client *c = leader->next; c != NULL; c = c->next)
		if (round->is_for_nearest ? missing(round, c) < missing(round, leader) : missing(round, c) > missing(round, leader))
			leader = c;
	return leader;
}

/* The smallest wanted offset of each partition that is not far before the leader's. */
void events_round_plan(struct events_round *round)
{
	const struct client *leader = choose_leader(round);

	round->unread = 0;
	for (size_t p = 0; p < round->partitions; p++) {
		const int64_t start = leader->at[p] < round->until[p] ? leader->at[p] : round->until[p];

		round->from[p] = start;
		for (const struct client *c = round->clients; c != NULL; c = c->next)
			if (c->at[p] < round->from[p] && c->at[p] >= start - EVENTS_ROUND_SLACK)
				round->from[p] = c->at[p];
		round->unread += round->from[p] < round->until[p] ? 1 : 0;
	}
}

/* Who is behind the beginning lacks what lies between: that comes first, by another round. */
bool events_round_wants(const struct events_round *round, const struct client *client, int32_t partition, int64_t offset)
{
	const int64_t at = client->at[partition];

	return !client->has_left && at >= round->from[partition] && at <= offset;
}
