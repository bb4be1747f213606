/* nap: the rest between two rounds of a background thread, which its owner can end for good. Uses libc only. */
#ifndef FEEDMILL_API_GATEWAY_NAP_H
#define FEEDMILL_API_GATEWAY_NAP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct nap {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool is_over;
};

void nap_init(struct nap *nap);
bool nap_for(struct nap *nap, int64_t ms); /* rests; false: it is time to end */
bool nap_is_over(struct nap *nap);
void nap_end(struct nap *nap);             /* from now on nobody rests */
void nap_release(struct nap *nap);

#endif
