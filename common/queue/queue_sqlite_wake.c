/* News for the consumers of a topic goes in, one datagram to each of them comes out.
 *
 * A datagram only says "look": one that is lost, because its reader has not looked at the last ones or its writer died before it,
 * costs the time of a slow poll. Sockets are reached through their folder's descriptor, since a socket's address is short and a
 * path may be long; for the same reason their names have a hash of the topic (two topics with the same one wake each other's). A
 * socket whose process is gone refuses, and is removed by whoever notices. */
#include "common/queue/queue_sqlite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
	LOOK_MS = 1000,   /* the folder is read again, however its time of change looks (it is coarse) */
	LISTENERS = 1024, /* as many are told */
};

static struct sockaddr_un address(const struct sqlq_door *door, const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/%s", door->folder, name);
	return to;
}

/* ---- who listens */

static void add_name(struct sqlq_door *door, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(name, door->topic, strlen(door->topic)) != 0 || len >= sizeof(door->names[0]) || strcmp(name, door->own) == 0 || door->name_count >= LISTENERS)
		return;
	if (door->name_count == door->name_room) {
		door->name_room = door->name_room > 0 ? door->name_room * 2 : 8;
		door->names = mem_grow(door->names, door->name_room, sizeof(*door->names));
	}
	memcpy(door->names[door->name_count++], name, len + 1);
}

static void read_names(struct sqlq_door *door)
{
	int fd = openat(door->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	door->name_count = 0;
	if (folder == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(folder)) != NULL)
		add_name(door, entry->d_name);
	closedir(folder);
}

/* Reads the folder when it has changed. */
static void look(struct sqlq_door *door)
{
	int64_t now_ms = clock_mono_ms();
	struct stat found;

	if (fstat(door->folder, &found) < 0)
		return;
	if (door->seen_ms != 0 && now_ms - door->seen_ms < LOOK_MS && door->changed.s == found.st_mtim.tv_sec &&
		door->changed.ns == found.st_mtim.tv_nsec)
		return;
	door->seen_ms = now_ms;
	door->changed.s = found.st_mtim.tv_sec;
	door->changed.ns = found.st_mtim.tv_nsec;
	read_names(door);
}

/* ---- knocking and hearing */

static void knock_at(const struct sqlq_door *door, const char *name, char news)
{
	struct sockaddr_un to = address(door, name);

	if (sendto(door->socket, &news, 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == ECONNREFUSED)
		unlinkat(door->folder, name, 0);
}

void sqlq_door_knock(struct sqlq_door *door, enum sqlq_news news)
{
	look(door);
	for (size_t i = 0; i < door->name_count; i++)
		knock_at(door, door->names[i], (char)news);
}

int sqlq_door_hear(struct sqlq_door *door)
{
	int heard = 0;
	char news;

	while (recv(door->socket, &news, 1, MSG_DONTWAIT) == 1)
		heard |= news;
	return heard;
}

void sqlq_doors_wait(const struct sqlq_door *const *doors, size_t count, int64_t timeout_ms)
{
	struct pollfd ready[SQLQ_DOORS_MAX];

	for (size_t i = 0; i < count; i++)
		ready[i] = (struct pollfd){ .fd = doors[i]->socket, .events = POLLIN };
	poll(ready, count, timeout_ms > 0 ? (int)timeout_ms : 0);
}

/* ---- life */

static int fail(const char *path, struct err *err)
{
	return err_set(err, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
}

/* A name that no other socket has had: one that is refused and removed is never somebody else's. */
static int listen_here(struct sqlq_door *door)
{
	static _Atomic unsigned count;
	struct sockaddr_un own;

	snprintf(door->own, sizeof(door->own), "%s%d-%llx-%x", door->topic, (int)getpid(), (unsigned long long)clock_wall_ms(),
		atomic_fetch_add(&count, 1));
	own = address(door, door->own);
	return bind(door->socket, (struct sockaddr *)&own, sizeof(own));
}

int sqlq_door_open(const struct sqlq *queue, const char *topic, bool listens, struct sqlq_door *out, struct err *err)
{
	struct sqlq_door door = { .folder = -1, .socket = -1 };
	char name[SQLQ_PATH_MAX];
	int rc = -1;

	sqlq_path(queue, topic, "", name);
	snprintf(door.topic, sizeof(door.topic), "wake-%08x-", (unsigned)record_hash(slice_of(name + strlen(queue->folder))));
	door.folder = open(queue->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (door.folder < 0)
		goto out;
	door.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (door.socket < 0 || (listens && listen_here(&door) < 0))
		goto out;
	door.is_open = true;
	*out = door;
	rc = 0;
out:
	if (rc < 0) {
		fail(queue->folder, err);
		if (door.socket >= 0)
			close(door.socket);
		if (door.folder >= 0)
			close(door.folder);
	}
	return rc;
}

void sqlq_door_close(struct sqlq_door *door)
{
	if (door->is_open) {
		if (door->own[0] != '\0')
			unlinkat(door->folder, door->own, 0);
		close(door->socket);
		close(door->folder);
	}
	free(door->names);
	*door = (struct sqlq_door){ 0 };
}
