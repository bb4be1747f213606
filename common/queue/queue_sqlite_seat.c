/* A group and a topic go in, a place among the group's members comes out, and with it locks on partitions.
 *
 * Each member locks one byte of the group's lock file for itself, the lowest that is free, and one for each partition that it
 * owns. They are locks of the open file (OFD): two members of one process exclude each other too, and the kernel frees them when
 * the process ends, however it ends; never while it is stopped. Nobody decides for others: each counts the members and knows its
 * share. */
#include "common/queue/queue_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	MEMBERS = 4096,           /* bytes from the start */
	PARTITION_BASE = 1 << 20, /* byte of partition 0 */
};

static bool set_locks(int fd, short type, off_t first, off_t count)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = first, .l_len = count };
	int rc;

	do
		rc = fcntl(fd, F_OFD_SETLK, &lock);
	while (rc < 0 && errno == EINTR);
	return rc == 0;
}

static bool set_lock(int fd, short type, off_t byte)
{
	return set_locks(fd, type, byte, 1);
}

static int open_locks(const struct sqlq *queue, const char *group, const char *topic)
{
	char path[SQLQ_PATH_MAX];
	char name[2 * TOPIC_NAME_MAX];

	snprintf(name, sizeof(name), "%s@%s", group, topic);
	sqlq_path(queue, name, ".lock", path);
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
}

static int take_number(struct sqlq_seat *seat)
{
	for (seat->number = 0; seat->number < MEMBERS; seat->number++) {
		if (set_lock(seat->fd, F_WRLCK, seat->number))
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return -1;
	}
	errno = EUSERS;
	return -1;
}

int sqlq_seat_take(const struct sqlq *queue, const char *group, const char *topic, struct sqlq_seat *out, struct err *err)
{
	struct sqlq_seat seat = { open_locks(queue, group, topic), 0 };

	if (seat.fd >= 0 && take_number(&seat) == 0) {
		*out = seat;
		return 0;
	}
	err_set(err, ERR_UNAVAILABLE, "joining group %s: its lock file in %s: %s", group, queue->folder, strerror(errno));
	if (seat.fd >= 0)
		close(seat.fd);
	return -1;
}

/* All places of members at once: as long as it is held nobody joins. ERR_CONFLICT: there are members. */
int sqlq_seat_bar(const struct sqlq *queue, const char *group, const char *topic, struct sqlq_seat *out, struct err *err)
{
	struct sqlq_seat seat = { open_locks(queue, group, topic), 0 };

	if (seat.fd >= 0 && set_locks(seat.fd, F_WRLCK, 0, MEMBERS)) {
		*out = seat;
		return 0;
	}
	if (seat.fd >= 0 && (errno == EAGAIN || errno == EACCES))
		err_set(err, ERR_CONFLICT, "group %s has members: stop its workers first", group);
	else
		err_set(err, ERR_UNAVAILABLE, "looking for members of group %s: %s", group, strerror(errno));
	if (seat.fd >= 0)
		close(seat.fd);
	return -1;
}

void sqlq_seat_leave(struct sqlq_seat *seat)
{
	if (seat->fd >= 0)
		close(seat->fd);
	seat->fd = -1;
}

/* How many of the bytes [first, past) others have locked. The kernel shows any one of them, so the rest is asked on both sides. */
static int32_t count_others(const struct sqlq_seat *seat, off_t first, off_t past)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = past - first };

	if (first >= past || fcntl(seat->fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return count_others(seat, first, lock.l_start) + 1 + count_others(seat, lock.l_start + 1, past);
}

void sqlq_seat_count(const struct sqlq_seat *seat, int32_t *members, int32_t *rank)
{
	*rank = count_others(seat, 0, seat->number);
	*members = *rank + 1 + count_others(seat, seat->number + 1, MEMBERS);
}

bool sqlq_seat_own(const struct sqlq_seat *seat, int32_t partition)
{
	return set_lock(seat->fd, F_WRLCK, PARTITION_BASE + (off_t)partition);
}

void sqlq_seat_give(const struct sqlq_seat *seat, int32_t partition)
{
	set_lock(seat->fd, F_UNLCK, PARTITION_BASE + (off_t)partition);
}
