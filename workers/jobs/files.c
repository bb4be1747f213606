/* A place goes in, its bytes come out, and back: the one way of handlers to the file system and to URLs that clients name. */
#include "workers/jobs/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/http/http_client.h"

#define URL_TIMEOUT_MS 30000
#define BLOCK 65536

static bool is_url(struct slice place)
{
	return (place.len > 7 && strncasecmp(place.data, "http://", 7) == 0) || (place.len > 8 && strncasecmp(place.data, "https://", 8) == 0);
}

/* ---- files */

/* A name below the folder; the kernel sees to it that it stays there, whatever links say. */
static int open_below(int folder, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC | O_NOCTTY), .mode = flags & O_CREAT ? 0640 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
}

static int open_folder(const struct settings *settings, struct err *err)
{
	int folder;

	if (settings->job.files[0] == '\0')
		return err_set(err, ERR_INVALID, "files are off: the setting job.files names no folder");
	folder = open(settings->job.files, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return folder >= 0 ? folder : err_set(err, ERR_UNAVAILABLE, "job.files %s: %s", settings->job.files, strerror(errno));
}

/* What the worker can't change by another try, and what may pass. */
static int file_failed(const char *path, int error, struct err *err)
{
	const bool may_pass = error == EIO || error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EINTR;

	return err_set(err, may_pass ? ERR_UNAVAILABLE : ERR_INVALID, "%s: %s", path, error == EXDEV ? "is outside of job.files" : strerror(error));
}

static int read_all(int fd, const char *path, size_t max, struct buf *out, struct err *err)
{
	struct stat facts;
	ssize_t got;

	if (fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode))
		return err_set(err, ERR_INVALID, "%s is no file", path);
	do {
		buf_reserve(out, BLOCK);
		got = read(fd, out->data + out->len, BLOCK);
		if (got < 0 && errno != EINTR)
			return file_failed(path, errno, err);
		out->len += got > 0 ? (size_t)got : 0;
		if (out->len > max)
			return err_set(err, ERR_INVALID, "%s is larger than job.file_max, %zu bytes", path, max);
	} while (got != 0);
	return 0;
}

static int read_file(const struct settings *settings, const char *path, struct buf *out, struct err *err)
{
	int folder = open_folder(settings, err), fd, rc;

	if (folder < 0)
		return -1;
	fd = open_below(folder, path, O_RDONLY | O_NONBLOCK);
	rc = fd < 0 ? file_failed(path, errno, err) : read_all(fd, path, (size_t)settings->job.file_max, out, err);
	if (fd >= 0)
		close(fd);
	close(folder);
	return rc;
}

static int write_all(int fd, const char *path, struct slice bytes, struct err *err)
{
	while (bytes.len > 0) {
		ssize_t put = write(fd, bytes.data, bytes.len);

		if (put < 0 && errno != EINTR)
			return file_failed(path, errno, err);
		bytes.data += put > 0 ? put : 0;
		bytes.len -= put > 0 ? (size_t)put : 0;
	}
	return fsync(fd) < 0 ? file_failed(path, errno, err) : 0;
}

/* The folder that the file goes into, opened, and its name there. */
static int open_parent(int root, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char *parent;
	int fd;

	*name = slash != NULL ? slash + 1 : path;
	if (slash == NULL)
		return open_below(root, ".", O_RDONLY | O_DIRECTORY);
	parent = mem_dup(path, (size_t)(slash - path) > 0 ? (size_t)(slash - path) : 1);
	fd = open_below(root, parent, O_RDONLY | O_DIRECTORY);
	free(parent);
	return fd;
}

/* A new file beside it takes its name: who reads sees the old one or the new one, whole. The new one's own name is nobody else's, also where
 * workers of several hosts write into one folder, with the same numbers of processes. */
static int replace(int parent, const char *name, const char *path, struct slice bytes, struct err *err)
{
	char id[UUID_TEXT], fresh[64];
	int fd, rc;

	uuid_v7(id);
	snprintf(fresh, sizeof(fresh), ".feedmill-%s", id);
	fd = openat(parent, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return file_failed(path, errno, err);
	rc = write_all(fd, path, bytes, err);
	close(fd);
	if (rc == 0 && renameat(parent, fresh, parent, name) < 0)
		rc = file_failed(path, errno, err);
	if (rc < 0)
		unlinkat(parent, fresh, 0);
	return rc;
}

static int write_file(const struct settings *settings, const char *path, struct slice bytes, struct err *err)
{
	int folder = open_folder(settings, err), parent, rc;
	const char *name;

	if (folder < 0)
		return -1;
	parent = open_parent(folder, path, &name);
	if (parent < 0)
		rc = file_failed(path, errno, err);
	else if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		rc = err_set(err, ERR_INVALID, "%s names no file", path);
	else
		rc = replace(parent, name, path, bytes, err);
	if (parent >= 0)
		close(parent);
	close(folder);
	return rc;
}

/* ---- URLs */

static int exchange(const struct job_call *call, const char *method, const char *url, const char *type, struct slice bytes, struct buf *answer,
	struct err *err)
{
	struct http_client *client = http_client_new(job_left_ms(call, URL_TIMEOUT_MS), (size_t)call->settings->job.file_max);
	int status = 0, rc;

	if (!call->settings->job.local_urls)
		http_client_guard(client);
	rc = http_client_send(client, method, url, type, bytes, &status, answer, err);
	if (rc < 0 && http_client_was_too_large(client))
		err_set(err, ERR_INVALID, "%s %s: more than job.file_max, %lld bytes", method, url, (long long)call->settings->job.file_max);
	http_client_free(client);
	if (rc < 0)
		return -1;
	if (status >= 200 && status < 300)
		return 0;
	return err_set(err, status >= 500 || status == 429 || status == 408 ? ERR_UNAVAILABLE : ERR_INVALID, "%s %s: status %d", method, url, status);
}

/* ---- both */

static char *place_copy(struct slice place, struct err *err)
{
	if (place.len > 0 && place.len < 4096 && memchr(place.data, '\0', place.len) == NULL)
		return mem_dup(place.data, place.len);
	err_set(err, ERR_INVALID, "a place is a path of at most 4095 bytes, or a URL");
	return NULL;
}

int files_read(const struct job_call *call, struct slice place, struct buf *out, struct err *err)
{
	char *text = place_copy(place, err);
	int rc = -1;

	if (text == NULL)
		return -1;
	rc = is_url(place) ? exchange(call, "GET", text, NULL, SLICE_NONE, out, err) : read_file(call->settings, text, out, err);
	free(text);
	return rc;
}

int files_write(const struct job_call *call, struct slice place, const char *type, struct slice bytes, struct err *err)
{
	struct buf answer = BUF_INIT;
	char *text = place_copy(place, err);
	int rc;

	if (text == NULL)
		return -1;
	rc = is_url(place) ? exchange(call, "PUT", text, type, bytes, &answer, err) : write_file(call->settings, text, bytes, err);
	buf_release(&answer);
	free(text);
	return rc;
}
