/* publish: posts and commands on their way to the queue, and what a client is told about them. Uses queue, pending.
 *
 *   not what the model takes, whatever    400, nothing was sent
 *   the contract says
 *   refused, or certainly not stored      503 with Retry-After
 *   not known, or no word in time         504, names the command
 *   stored: a post                        200; with Prefer: wait=N when the fan-out is seen, or after N seconds all the same
 *   stored: a command                     its outcome, when it comes within the wait; else 202
 *   (at the end of either wait the store is asked once, if it can be asked soon)
 *   stored, Prefer: respond-async         202 */
#ifndef FEEDMILL_API_GATEWAY_PUBLISH_H
#define FEEDMILL_API_GATEWAY_PUBLISH_H

#include "api-gateway/call.h"
#include "common/model/command.h"
#include "common/model/post.h"

/* Both end the call, whose ids are the post's or command's (once.h). publish_post takes answer's bytes, the entity for 200.
 * publish_command sets command->id. */
void publish_post(struct call *call, const struct post *post, struct buf *answer);
void publish_command(struct call *call, struct command *command);

/* For the table of pending requests, and for the results. */
expired_fn publish_expired;
void publish_outcome(void *gateway, struct slice command, bool is_done, struct slice body);

#endif
