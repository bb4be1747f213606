/* canvas: what comes after a task: signatures become messages. Plain ones, chains and groups are known; what would need a chord (a
 * group in the middle of a chain) is refused, and so is a chord. */
#ifndef FEEDMILL_WORKERS_CELERY_CANVAS_H
#define FEEDMILL_WORKERS_CELERY_CANVAS_H

#include "workers/celery/outgoing.h"

/* What it is made for: ids that signatures do not bring are other ones for each. */
#define CANVAS_NEXT "next"
#define CANVAS_ERROR "error"

struct canvas {
	const struct outgoing *outgoing;
	const struct request *parent;
	struct post *first, **last;  /* messages so far, by post->next */
	struct buf *children;        /* JSON: result tuples, with commas between them */
	const char *purpose;
	unsigned depth, made;        /* made: ids, for signatures with or without one of their own */
	bool is_repeat;              /* they may have been sent before: marked */
	bool inherits_priority;      /* the parent's, without one of their own */
	size_t count;
};

#define CANVAS_MAX 10000 /* messages that one task may cause */

/* A signature without an id gets one that is made of the parent's and its place, so that a run that is repeated sends the same; of a
 * parent whose id is no UUID, and may be used again, a random one. */
void canvas_init(struct canvas *canvas, const struct outgoing *outgoing, const struct request *parent, const char *purpose, struct buf *children);
void canvas_release(struct canvas *canvas); /* frees messages that nobody took */

/* With `given`, a JSON value, before its arguments. ERR_INVALID: not a signature, or one that is refused. */
int canvas_add(struct canvas *canvas, const struct json *signature, struct slice given, struct err *err);
int canvas_add_all(struct canvas *canvas, const struct json *signatures, struct slice given, struct err *err); /* each for itself */
/* As Celery sends what is linked: groups, and where there are several all others as one group. */
int canvas_add_callbacks(struct canvas *canvas, const struct json *callbacks, struct slice given, struct err *err);
int canvas_add_chain(struct canvas *canvas, const struct json *chain, struct slice given, struct err *err);    /* of a body: last one first */

#endif
