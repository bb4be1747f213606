/* once: where a writing request gets its ids, and where one with an Idempotency-Key is made to have its effect once, however
 * often it is sent. Uses lease_keeper, readers, reply, store/idempotency.
 *
 *   no key                     goes on at once; the database is not asked
 *   the first with its key     goes on when its reservation is in the database, under the ids that stand there too
 *   the deadline of the one before has passed (it died, or was answered 504)
 *                              goes on, with the same record under the same ids: all that follows is idempotent by id
 *   answered before            the same answer
 *   one is under way           409
 *   another request had it     422
 *   the database is away       503
 *
 * What goes on is answered when the answer is in the database, for all that come after. Where that fails, it is answered all the
 * same: the answer is true, and the next attempt, which finds a reservation without answer, does the same once more. An
 * attempt that stored nothing gives its reservation back; one that took over says 504 then, because the one before may have. */
#ifndef FEEDMILL_API_GATEWAY_ONCE_H
#define FEEDMILL_API_GATEWAY_ONCE_H

#include <stdbool.h>

#include "api-gateway/call.h"
#include "api-gateway/router.h"

bool once_read_key(struct call *call); /* on the HTTP thread. false: answered 400 */

/* Gives the call its ids (entity, unless it has one; command; made_at_ms), then goes on with `send`, at once or on a reader's
 * thread, or the call is answered. */
void once_begin(struct call *call, handler_fn *send);

bool once_in_doubt(const struct call *call); /* another attempt with these ids may have been stored */

/* For reply: true: the answer was taken, and is given by reply_kept() later, when it is in the database. */
bool once_keeps(struct call *call, int status, const char *type, struct buf *body);
void once_free(struct once *once); /* NULL is fine */

#endif
