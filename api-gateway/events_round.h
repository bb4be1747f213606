/* events_round: one read of all partitions for clients that lack events: where it begins, and who gets what of it. Uses events_parts.
 *
 * A round goes on from the place of one client, its leader. Leaders are by turns the one that lacks most and the one that lacks least: the
 * first sweep the topic once from end to end and take up all others on the way, the second are soon done, and do not wait for the first. */
#ifndef FEEDMILL_API_GATEWAY_EVENTS_ROUND_H
#define FEEDMILL_API_GATEWAY_EVENTS_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api-gateway/events_parts.h"

#define EVENTS_ROUND_SLACK 128 /* records of a partition that a leader goes back for others */

struct events_round {
	struct client *clients;           /* at least one */
	bool is_for_nearest;              /* the leader is the one that lacks least */
	size_t partitions;
	int64_t from[EVENTS_PARTITIONS];  /* where it is read from; that is `until` where there is nothing to read */
	int64_t until[EVENTS_PARTITIONS]; /* what was followed when it began */
	size_t unread;                    /* partitions that are not there yet */
	int64_t patience_ms;              /* what is left of it */
	bool is_full;                     /* somebody has to take first */
};

void events_round_plan(struct events_round *round); /* fills from and unread */
bool events_round_wants(const struct events_round *round, const struct client *client, int32_t partition, int64_t offset);

#endif
