/* How long this worker's certificate is still good goes in; a warning comes out, and the worker's end while what it does is still believed. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/signer.h"
#include "workers/celery/node.h"

#define LOOK_MS 10000
#define DAY_S 86400
#define WARNING_S (7 * DAY_S)

void certificate_turn(struct node *node, int64_t now)
{
	int64_t left_s;

	if (node->signer == NULL || node->stage != NODE_RUNNING || now < node->certificate_at)
		return;
	node->certificate_at = now + LOOK_MS;
	left_s = signer_seconds_left(node->signer);
	if (left_s * 1000 < node->settings->drain_timeout_ms + LOOK_MS) { /* whoever reads a result that is signed later refuses it: it would be lost */
		log_error("the certificate of job.security_certificate expires: no more jobs are taken", log_int("seconds_left", left_s));
		node->is_expiring = true;
		node_leave(node, false);
	} else if (left_s < WARNING_S && now >= node->certificate_warned_at) {
		log_warn("the certificate of job.security_certificate expires soon, and this worker will end then", log_int("days_left", left_s / DAY_S));
		node->certificate_warned_at = now + DAY_S * 1000;
	}
}
