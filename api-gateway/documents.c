/* The contract and a folder go in, documents by path come out. */
#include "api-gateway/documents.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

#define FILE_MAX (8 << 20)

static const struct {
	const char *path, *file, *type;
} page[] = {
	{ "/docs", "index.html", "text/html; charset=utf-8" },
	{ "/docs/page.js", "page.js", "text/javascript; charset=utf-8" },
	{ "/docs/swagger-ui.css", "swagger-ui.css", "text/css; charset=utf-8" },
	{ "/docs/swagger-ui-bundle.js", "swagger-ui-bundle.js", "text/javascript; charset=utf-8" },
	{ "/docs/swagger-ui-bundle.js.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt", "text/plain; charset=utf-8" },
	{ "/docs/favicon-32x32.png", "favicon-32x32.png", "image/png" },
	{ "/docs/LICENSE", "LICENSE", "text/plain; charset=utf-8" },
	{ "/docs/NOTICE", "NOTICE", "text/plain; charset=utf-8" },
};

#define PAGE_FILES (sizeof(page) / sizeof(page[0]))
#define OTHERS 3 /* the contract twice, and the page's path with a slash too many */

struct documents {
	size_t count;
	struct document list[OTHERS + PAGE_FILES];
	struct buf files[PAGE_FILES];
	struct err why; /* the first file of the page that can't be read */
};

/* FNV-1a: tells two versions of a file apart, no more. */
static void write_etag(struct document *document)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < document->bytes.len; i++)
		hash = (hash ^ (unsigned char)document->bytes.data[i]) * UINT64_C(0x100000001b3);
	snprintf(document->etag, sizeof(document->etag), "\"%016" PRIx64 "\"", hash);
}

static struct document *add(struct documents *documents, const char *path, const char *type, struct slice bytes)
{
	struct document *document = &documents->list[documents->count++];

	*document = (struct document){ .path = path, .type = type, .bytes = bytes };
	write_etag(document);
	return document;
}

static int read_all(int fd, const char *name, struct buf *out, struct err *err)
{
	struct stat stat;
	char block[65536];
	ssize_t n;

	if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode) || stat.st_size == 0 || stat.st_size > FILE_MAX)
		return err_set(err, ERR_FATAL, "%s is not a file of 1 to %d bytes", name, FILE_MAX);
	buf_reserve(out, (size_t)stat.st_size);
	while (out->len < (size_t)stat.st_size) {
		n = read(fd, block, sizeof(block));
		if (n <= 0)
			return err_set(err, ERR_FATAL, "%s can't be read: %m", name);
		buf_add(out, block, (size_t)n);
	}
	return 0;
}

static int read_file(const char *folder, const char *file, struct buf *out, struct err *err)
{
	struct buf name = BUF_INIT;
	int fd, rc = -1;

	buf_addf(&name, "%s/%s", folder, file);
	fd = open(name.data, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_set(err, ERR_FATAL, "%s can't be opened: %m", name.data);
		goto out;
	}
	rc = read_all(fd, name.data, out, err);
	close(fd);
out:
	buf_release(&name);
	return rc;
}

/* All of it or nothing: half a page is worse than a word about how to get it. */
static void add_page(struct documents *documents, const char *folder)
{
	bool is_whole = true;

	for (size_t i = 0; i < PAGE_FILES && is_whole; i++)
		is_whole = read_file(folder, page[i].file, &documents->files[i], &documents->why) == 0;
	for (size_t i = 0; i < PAGE_FILES; i++) {
		const struct buf *file = &documents->files[i];
		struct slice bytes = is_whole ? (struct slice){ file->data, file->len } : SLICE_NONE;

		add(documents, page[i].path, page[i].type, bytes)->is_page = true;
	}
	add(documents, "/docs/", NULL, slice_of(""))->location = "../docs";
}

struct documents *documents_new(const struct contract *contract, const char *folder)
{
	struct documents *documents = mem_zalloc(sizeof(*documents));

	documents->why = (struct err)ERR_INIT;
	for (size_t i = 0; i < PAGE_FILES; i++)
		documents->files[i] = (struct buf)BUF_INIT;
	add(documents, "/openapi.yaml", "application/yaml", contract_yaml(contract));
	add(documents, "/openapi.json", "application/json", contract_json(contract));
	if (folder[0] != '\0')
		add_page(documents, folder);
	return documents;
}

void documents_free(struct documents *documents)
{
	if (documents == NULL)
		return;
	for (size_t i = 0; i < PAGE_FILES; i++)
		buf_release(&documents->files[i]);
	free(documents);
}

bool documents_complete(const struct documents *documents, struct err *why)
{
	for (size_t i = 0; i < documents->count; i++)
		if (documents->list[i].bytes.data == NULL) {
			*why = documents->why;
			return false;
		}
	return true;
}

const struct document *documents_find(const struct documents *documents, struct slice path)
{
	for (size_t i = 0; i < documents->count; i++)
		if (slice_is(path, documents->list[i].path))
			return &documents->list[i];
	return NULL;
}
