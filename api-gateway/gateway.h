/* gateway: what one feed-gateway is made of; every handler reaches it by its call. Opened and closed by main.c, in this
 * order and the reverse of it. */
#ifndef FEEDMILL_API_GATEWAY_GATEWAY_H
#define FEEDMILL_API_GATEWAY_GATEWAY_H

#include <stdatomic.h>
#include <stddef.h>

struct gateway {
	const struct settings *settings;
	struct contract *contract;   /* what a request must look like */
	struct documents *documents; /* the contract as a file, and the page at /docs */
	struct router *router;       /* which handler answers it */
	struct queue *queue;
	struct producer *producer;   /* posts and commands go out */
	struct amqp_publisher *jobs; /* NULL: none are taken */
	struct signer *signer;       /* of jobs; NULL: they are not signed */
	struct request_log *request_log; /* NULL: off */
	struct known *known;         /* participants that need no look-up */
	struct pending *pending;     /* requests that wait for a report or a result */
	struct readers *readers;     /* threads that ask store and search */
	struct results *results;     /* outcomes come back */
	struct events *events;       /* product events for those who listen */
	struct lease_keeper *lease;  /* the number that ids are made with */
	struct watch *watch;         /* how store and search are */
	struct admin *admin;
	struct http_server *server;
	_Atomic size_t answer_bytes; /* of answers that clients have not taken yet */
};

#endif
