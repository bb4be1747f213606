/* amqp_private: what the files of the AMQP adapter share. Private to amqp*.c. */
#ifndef FEEDMILL_QUEUE_AMQP_PRIVATE_H
#define FEEDMILL_QUEUE_AMQP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <amqp.h>

#include "common/queue/amqp.h"

/* Memory of many small things that is freed as one. */
struct amqp_arena {
	struct arena_chunk *chunks;
};
void *arena_get(struct amqp_arena *arena, size_t size); /* zeroed, aligned for anything */
struct slice arena_copy(struct amqp_arena *arena, amqp_bytes_t bytes); /* NUL-terminated */
void arena_release(struct amqp_arena *arena);

/* What rabbitmq-c has becomes ours, copied, and the other way round. */
struct amqp_table table_from_library(struct amqp_arena *arena, const amqp_table_t *table, bool *is_cut);
amqp_table_t table_to_library(struct amqp_arena *arena, struct amqp_table table);
void properties_from_library(struct amqp_arena *arena, const amqp_basic_properties_t *in, struct amqp_properties *out, bool *is_cut);
/* -1: ERR_INVALID, a text that must be short is longer than 255 bytes. */
int properties_to_library(struct amqp_arena *arena, const struct amqp_properties *in, amqp_basic_properties_t *out, struct err *err);

amqp_bytes_t bytes_of(struct slice text);

/* A delivery and its memory: the delivery comes first, so that a pointer to one is a pointer to the other. */
struct parcel {
	struct amqp_delivery delivery;
	struct amqp_arena arena;
	struct parcel *next;
	/* While it comes in: */
	enum { PARCEL_DELIVERED, PARCEL_RETURNED, PARCEL_GOT } kind;
	bool has_header;
	uint64_t size, came;
	char *body;
	int code;
	struct slice text;
};

struct amqp_ready { /* an event that waits for amqp_next() */
	struct amqp_ready *next;
	struct amqp_event event;
};

#define AMQP_CHANNEL 1

struct amqp {
	amqp_connection_state_t link;
	uint64_t generation;
	int64_t answer_timeout_ms;
	bool is_open;
	bool can_say_goodbye; /* the socket is in order */
	bool is_blocked;
	bool was_refused;
	uint64_t published;   /* since amqp_confirm_publishes() */
	bool confirms;
	char why_lost[256];
	struct parcel *coming; /* whose frames come in */
	struct parcel *got;    /* answered to amqp_get(), its content comes */
	struct amqp_ready *first, *last;
};

/* ERR_UNAVAILABLE for a connection that is lost, with the first reason. */
int amqp_say_lost(const struct amqp *amqp, struct err *err);
int amqp_is_lost(struct amqp *amqp, struct err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Of the last call: 0, or -1 with the server's words; the connection is lost then. */
int amqp_check_reply(struct amqp *amqp, const char *doing, const char *name, struct err *err);
/* 1: a frame came in and was dealt with, 0: none within the time, -1: lost. */
int amqp_pump(struct amqp *amqp, int64_t timeout_ms, struct err *err);

#endif
