/* dlq: what the words of `feedctl dlq` share: dlq.c reads the command line, dlq_print.c shows, dlq_replay.c sends again.
 * Uses letters, queue. */
#ifndef FEEDMILL_CTL_DLQ_H
#define FEEDMILL_CTL_DLQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/settings.h"
#include "ctl/letters.h"

#define DLQ_TOPICS_MAX 64

struct dlq {
	const struct settings *settings;
	struct queue *queue;
	const char *topics[DLQ_TOPICS_MAX]; /* those that are asked for */
	size_t topic_count;
	struct letter_filter filter;
	struct queue_place *places; /* filter.places, ours */
	int64_t rate;               /* letters a second */
	const char *to;             /* of purge, as it was typed */
	bool is_json, is_dry, is_sure;
};

/* Each does one topic. The exit code, or -1: err says why; what was done until then is done. */
int dlq_list(struct dlq *dlq, const char *topic, struct err *err);
int dlq_show(struct dlq *dlq, const char *topic, struct err *err);
int dlq_replay(struct dlq *dlq, const char *topic, struct err *err);
int dlq_purge(struct dlq *dlq, const char *topic, struct err *err);

void dlq_print_head(void);
int dlq_print(struct dlq *dlq, struct letters *letters, struct err *err); /* a line each */

/* "17", or "3/17" where the topic has several partitions. */
#define DLQ_PLACE 32
void dlq_place(const struct letters *letters, const struct queue_place *place, char out[DLQ_PLACE]);

#endif
