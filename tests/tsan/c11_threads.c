/* C11 threads go in, POSIX threads come out: gcc's TSan sees the second kind only, and librdkafka uses the first. A thread that
 * TSan does not know makes the program crash, a lock that it does not know makes it see races where there are none.
 * Linked into the programs and tests of `make tsan` alone; there the dynamic linker finds these before libc's. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

/* glibc's C11 objects are its POSIX objects under another name. Their destruction stays with libc, unseen: it is ordered by a
 * count of holders, an atomic of a library that TSan does not see, and free() makes TSan forget a lock as well. */
static_assert(sizeof(mtx_t) >= sizeof(pthread_mutex_t), "a mutex fits");
static_assert(sizeof(cnd_t) >= sizeof(pthread_cond_t), "a condition fits");
static_assert(sizeof(once_flag) >= sizeof(pthread_once_t), "a once fits");
static_assert(sizeof(thrd_t) == sizeof(pthread_t), "a thread's id is the same");

static int outcome(int error)
{
	switch (error) {
	case 0:
		return thrd_success;
	case EBUSY:
		return thrd_busy;
	case ETIMEDOUT:
		return thrd_timedout;
	case ENOMEM:
		return thrd_nomem;
	default:
		return thrd_error;
	}
}

/* ---- threads */

struct start {
	thrd_start_t function;
	void *arg;
};

static void *run(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	return (void *)(intptr_t)start.function(start.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *arg)
{
	struct start *start = malloc(sizeof(*start));
	int error;

	if (start == NULL)
		return thrd_nomem;
	*start = (struct start){ .function = function, .arg = arg };
	error = pthread_create(thread, NULL, run, start);
	if (error != 0)
		free(start);
	return outcome(error);
}

int thrd_join(thrd_t thread, int *result)
{
	void *returned = NULL;
	int error = pthread_join(thread, &returned);

	if (error == 0 && result != NULL)
		*result = (int)(intptr_t)returned;
	return outcome(error);
}

int thrd_detach(thrd_t thread)
{
	return outcome(pthread_detach(thread));
}

void thrd_exit(int result)
{
	pthread_exit((void *)(intptr_t)result);
}

/* ---- locks */

int mtx_init(mtx_t *mutex, int type)
{
	pthread_mutexattr_t attributes;
	int error;

	pthread_mutexattr_init(&attributes);
	if ((type & mtx_recursive) != 0)
		pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	error = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return outcome(error);
}

int mtx_lock(mtx_t *mutex)
{
	return outcome(pthread_mutex_lock((pthread_mutex_t *)mutex));
}

int mtx_trylock(mtx_t *mutex)
{
	return outcome(pthread_mutex_trylock((pthread_mutex_t *)mutex));
}

int mtx_timedlock(mtx_t *mutex, const struct timespec *until)
{
	return outcome(pthread_mutex_timedlock((pthread_mutex_t *)mutex, until));
}

int mtx_unlock(mtx_t *mutex)
{
	return outcome(pthread_mutex_unlock((pthread_mutex_t *)mutex));
}

/* ---- conditions */

int cnd_init(cnd_t *condition)
{
	return outcome(pthread_cond_init((pthread_cond_t *)condition, NULL));
}

int cnd_wait(cnd_t *condition, mtx_t *mutex)
{
	return outcome(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex));
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
	return outcome(pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until));
}

int cnd_signal(cnd_t *condition)
{
	return outcome(pthread_cond_signal((pthread_cond_t *)condition));
}

int cnd_broadcast(cnd_t *condition)
{
	return outcome(pthread_cond_broadcast((pthread_cond_t *)condition));
}

/* ---- once */

void call_once(once_flag *flag, void (*function)(void))
{
	pthread_once((pthread_once_t *)flag, function);
}

/* ---- locks for readers and a writer: POSIX ones already, but TSan leaves out what a library calls that it is told not to look
 * into (options.c). Called from here they count. */

#define FORWARD(function, parameters, arguments)           \
	int __interceptor_##function parameters;           \
	int function parameters                            \
	{                                                  \
		return __interceptor_##function arguments; \
	}

FORWARD(pthread_rwlock_init, (pthread_rwlock_t *restrict lock, const pthread_rwlockattr_t *restrict attributes), (lock, attributes))
FORWARD(pthread_rwlock_rdlock, (pthread_rwlock_t *lock), (lock))
FORWARD(pthread_rwlock_wrlock, (pthread_rwlock_t *lock), (lock))
FORWARD(pthread_rwlock_unlock, (pthread_rwlock_t *lock), (lock))
