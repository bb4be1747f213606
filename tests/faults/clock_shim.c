/* The wall clock of a process, moved by what a file says: for LD_PRELOAD, by the fault tests alone.
 *
 * FAULT_CLOCK names a file of eight bytes, milliseconds to add. Waits that end at a time of the wall clock are moved back by as
 * much, since the kernel's own clock does not step; a wait on the monotonic clock is told from one by its size. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WALL_S 1000000000 /* seconds since the epoch are more than this, those since a boot are fewer */

static const volatile int64_t *offset_ms;

__attribute__((constructor)) static void open_offset(void)
{
	const char *path = getenv("FAULT_CLOCK");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *page = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	if (page != MAP_FAILED)
		offset_ms = page;
}

static void move(struct timespec *t, int64_t ms)
{
	int64_t ns = t->tv_nsec + ms % 1000 * 1000000;

	t->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
	t->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
}

static int64_t offset(void)
{
	return offset_ms != NULL ? *offset_ms : 0;
}

static struct timespec kernels(const struct timespec *until)
{
	struct timespec moved = *until;

	if (moved.tv_sec > WALL_S)
		move(&moved, -offset());
	return moved;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, out);

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		move(out, offset());
	return rc;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	out->tv_sec = now.tv_sec;
	out->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}

int timespec_get(struct timespec *out, int base)
{
	clock_gettime(CLOCK_REALTIME, out);
	return base;
}

/* The oldest version of a name is another function with conditions of another shape. */
static void *next_of(const char *name)
{
	void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");

	return found != NULL ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
	static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	const struct timespec moved = kernels(until);

	if (next == NULL)
		next = next_of("pthread_cond_timedwait");
	return next(cond, lock, &moved);
}

int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
	static int (*next)(pthread_t, void **, const struct timespec *);
	const struct timespec moved = kernels(until);

	if (next == NULL)
		next = next_of("pthread_timedjoin_np");
	return next(thread, result, &moved);
}

int sem_timedwait(sem_t *sem, const struct timespec *until)
{
	static int (*next)(sem_t *, const struct timespec *);
	const struct timespec moved = kernels(until);

	if (next == NULL)
		next = next_of("sem_timedwait");
	return next(sem, &moved);
}
