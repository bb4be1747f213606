/* Milliseconds go in, and after them, or at once when the owner wants to end, the thread goes on. */
#include "api-gateway/nap.h"

#include <time.h>

#include "common/base/clock.h"
#include "common/base/cond.h"

void nap_init(struct nap *nap)
{

	pthread_mutex_init(&nap->lock, NULL);
	cond_init(&nap->wake);
	nap->is_over = false;
}

bool nap_for(struct nap *nap, int64_t ms)
{
	int64_t until_ms = clock_mono_ms() + ms;
	struct timespec until = cond_until(until_ms);
	bool is_over;

	pthread_mutex_lock(&nap->lock);
	while (!nap->is_over && clock_mono_ms() < until_ms)
		pthread_cond_timedwait(&nap->wake, &nap->lock, &until);
	is_over = nap->is_over;
	pthread_mutex_unlock(&nap->lock);
	return !is_over;
}

bool nap_is_over(struct nap *nap)
{
	bool is_over;

	pthread_mutex_lock(&nap->lock);
	is_over = nap->is_over;
	pthread_mutex_unlock(&nap->lock);
	return is_over;
}

void nap_end(struct nap *nap)
{
	pthread_mutex_lock(&nap->lock);
	nap->is_over = true;
	pthread_cond_broadcast(&nap->wake);
	pthread_mutex_unlock(&nap->lock);
}

void nap_release(struct nap *nap)
{
	pthread_cond_destroy(&nap->wake);
	pthread_mutex_destroy(&nap->lock);
}
