/* gateway_client: feedctl's requests to the gateway, at the address that the settings give. Uses http_client. */
#ifndef FEEDMILL_CTL_GATEWAY_CLIENT_H
#define FEEDMILL_CTL_GATEWAY_CLIENT_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/settings.h"

/* Where to ask a program that listens on that address: on all addresses means on this machine's own too. Caller frees. */
int address_url(const char *listen, char **url, struct err *err);

struct gateway_client {
	struct http_client *http;
	char *url; /* "http://127.0.0.1:8080" */
	/* of the last request: */
	int status;
	struct buf answer;
};

/* wait_s: for how long the gateway may wait for what is asked to be done ("Prefer: wait=N"); -1: its own time.
 * -1: gateway.listen is not an address that can be asked; nothing to close. */
int gateway_client_open(struct gateway_client *client, const struct settings *settings, int64_t wait_s, struct err *err);
void gateway_client_close(struct gateway_client *client);

/* Sends a request; body NULL: none. 0: answered, whatever the status. */
int gateway_ask(struct gateway_client *client, const char *method, const char *path, const char *body, struct err *err);

/* The last answer was a problem: its words, as well as they can be had; returns -1. */
int gateway_problem(const struct gateway_client *client, struct err *err);

#endif
