/* The setting embedded.folder goes in; a folder that is there, ours and on this machine comes out. */
#include "common/base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static const struct {
	unsigned long magic;
	const char *name;
} networks[] = {
	{ NFS_SUPER_MAGIC, "NFS" },
	{ SMB_SUPER_MAGIC, "SMB" },
	{ 0xff534d42, "CIFS" },
	{ 0xfe534d42, "SMB" },
	{ NCP_SUPER_MAGIC, "NCP" },
	{ AFS_SUPER_MAGIC, "AFS" },
	{ 0x6b414653, "AFS" },
	{ CODA_SUPER_MAGIC, "Coda" },
	{ V9FS_MAGIC, "9p" },
	{ 0x00c36400, "Ceph" },
	{ 0x0bd00bd0, "Lustre" },
	{ 0x47504653, "GPFS" },
	{ 0x01161970, "GFS2" },
	{ 0x7461636f, "OCFS2" },
};

const char *folder_network_name(unsigned long magic)
{
	for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++)
		if (networks[i].magic == (magic & 0xffffffff))
			return networks[i].name;
	return NULL;
}

/* ---- the folder in memory */

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static char memory_path[64]; /* "": not made yet */
static pid_t memory_owner;

static void remove_memory(void)
{
	DIR *dir;
	const struct dirent *entry;

	if (memory_owner != getpid()) /* a child that was forked later */
		return;
	dir = opendir(memory_path);
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(memory_path);
}

static bool make_memory_in(const char *parent)
{
	snprintf(memory_path, sizeof(memory_path), "%s/feedmill-XXXXXX", parent);
	if (mkdtemp(memory_path))
		return true;
	memory_path[0] = '\0';
	return false;
}

/* NULL: there is no place for it. */
static const char *memory_folder(bool *made)
{
	*made = false;
	pthread_mutex_lock(&memory_lock);
	if (memory_path[0] == '\0' && (make_memory_in("/dev/shm") || make_memory_in("/tmp"))) {
		*made = true;
		memory_owner = getpid();
		atexit(remove_memory);
	}
	pthread_mutex_unlock(&memory_lock);
	return memory_path[0] != '\0' ? memory_path : NULL;
}

/* ---- any folder */

static int check(const char *folder, struct err *err)
{
	struct statfs fs;
	struct stat st;
	const char *network;

	if (stat(folder, &st) < 0 && errno == ENOENT)
		return err_set(err, ERR_FATAL, "the folder %s (embedded.folder) is missing: run `feedctl migrate`", folder);
	if (stat(folder, &st) < 0 || statfs(folder, &fs) < 0)
		return err_set(err, ERR_UNAVAILABLE, "the folder %s (embedded.folder): %s", folder, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_FATAL, "%s (embedded.folder) is no folder", folder);
	network = folder_network_name((unsigned long)fs.f_type);
	if (network)
		return err_set(err, ERR_FATAL,
			"the folder %s (embedded.folder) is on a network file system (%s): locks and shared memory work on one "
			"machine alone; choose a local folder", folder, network);
	return 0;
}

/* The path that the setting stands for; NULL: err says why not. */
static const char *resolve(const char *folder, bool *made, struct err *err)
{
	*made = false;
	if (strcmp(folder, FOLDER_MEMORY) != 0)
		return folder;
	folder = memory_folder(made);
	if (!folder)
		err_set(err, ERR_UNAVAILABLE, "no folder in memory can be made under /dev/shm or /tmp: %s", strerror(errno));
	return folder;
}

int folder_make(const char *folder, bool *made, struct err *err)
{
	const char *path = resolve(folder, made, err);

	if (!path)
		return -1;
	if (mkdir(path, 0700) == 0)
		*made = true;
	else if (errno != EEXIST)
		return err_set(err, errno == ENOSPC ? ERR_FULL : ERR_FATAL, "the folder %s (embedded.folder) can't be made: %s", path,
			strerror(errno));
	return check(path, err);
}

int folder_path(const char *folder, const char *name, struct buf *out, struct err *err)
{
	bool made;
	const char *path = resolve(folder, &made, err);

	if (!path || check(path, err) < 0)
		return -1;
	buf_addf(out, "%s/%s", path, name);
	return 0;
}
