/* image.resize: a picture's place and a box go in, a picture that fits into it comes out at another place: JPEG, PNG, WebP or GIF,
 * turned upright, without its metadata. By libvips, which is loaded when the first picture comes: no other worker carries it.
 *
 * A picture is a stranger's file: its kind is looked at before libvips is, loaders that libvips itself does not trust are off, and
 * one with more than job.image_max_pixels is refused by its header. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/jobs/files.h"
#include "workers/jobs/handlers.h"

#define SIDE_MAX 16384

/* What is used of libvips' stable interface (vips 8), by hand: its headers would bring a few hundred packages with them. */
typedef struct vips_image vips_image; /* a GObject */
static struct vips {
	int (*init)(const char *program);
	void (*concurrency_set)(int threads);
	void (*cache_set_max)(int operations);
	void (*block_untrusted_set)(int is_blocked);
	vips_image *(*new_from_buffer)(const void *bytes, size_t len, const char *options, ...);
	int (*thumbnail_buffer)(const void *bytes, size_t len, vips_image **out, int width, ...);
	int (*write_to_buffer)(vips_image *image, const char *suffix, void **bytes, size_t *len, ...);
	int (*get_width)(const vips_image *image);
	int (*get_height)(const vips_image *image);
	const char *(*error_buffer)(void);
	void (*error_clear)(void);
	void (*unref)(void *object);
	void (*free)(void *bytes);
} vips;

static const struct {
	const char *name;
	size_t at;
	bool may_miss; /* a libvips older than 8.13 */
} symbols[] = {
	{ "vips_init", offsetof(struct vips, init), false },
	{ "vips_concurrency_set", offsetof(struct vips, concurrency_set), false },
	{ "vips_cache_set_max", offsetof(struct vips, cache_set_max), false },
	{ "vips_block_untrusted_set", offsetof(struct vips, block_untrusted_set), true },
	{ "vips_image_new_from_buffer", offsetof(struct vips, new_from_buffer), false },
	{ "vips_thumbnail_buffer", offsetof(struct vips, thumbnail_buffer), false },
	{ "vips_image_write_to_buffer", offsetof(struct vips, write_to_buffer), false },
	{ "vips_image_get_width", offsetof(struct vips, get_width), false },
	{ "vips_image_get_height", offsetof(struct vips, get_height), false },
	{ "vips_error_buffer", offsetof(struct vips, error_buffer), false },
	{ "vips_error_clear", offsetof(struct vips, error_clear), false },
	{ "g_object_unref", offsetof(struct vips, unref), false },
	{ "g_free", offsetof(struct vips, free), false },
};

static char missing[200]; /* why there is no libvips; empty: it is there */

static void load(void)
{
	void *library = dlopen("libvips.so.42", RTLD_NOW | RTLD_LOCAL);

	if (library == NULL) {
		snprintf(missing, sizeof(missing), "libvips is not here: %.150s", dlerror());
		return;
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);

		if (symbol == NULL && !symbols[i].may_miss)
			snprintf(missing, sizeof(missing), "libvips has no %s", symbols[i].name);
		memcpy((char *)&vips + symbols[i].at, &symbol, sizeof(symbol));
	}
	if (missing[0] != '\0')
		return;
	setenv("VIPS_NOVECTOR", "1", 0); /* its vector code is made at run time, which MemoryDenyWriteExecute forbids */
	if (vips.init("feed-worker") != 0) {
		snprintf(missing, sizeof(missing), "libvips can't begin: %.150s", vips.error_buffer());
		return;
	}
	if (vips.block_untrusted_set != NULL)
		vips.block_untrusted_set(1);
	vips.concurrency_set(1); /* jobs are what runs side by side here */
	vips.cache_set_max(0);
}

/* ---- kinds of pictures, by their first bytes */

struct kind {
	const char *name;   /* as the argument `format` has it */
	const char *suffix; /* for libvips, with how it is written */
	const char *type;
	size_t at;
	const char *magic;
	size_t magic_len;
};

static const struct kind kinds[] = {
	{ "jpeg", ".jpg[Q=85,strip=true,optimize_coding=true]", "image/jpeg", 0, "\xff\xd8\xff", 3 },
	{ "png", ".png[strip=true]", "image/png", 0, "\x89PNG\r\n\x1a\n", 8 },
	{ "webp", ".webp[Q=80,strip=true]", "image/webp", 8, "WEBP", 4 },
	{ "gif", ".gif", "image/gif", 0, "GIF8", 4 },
};

static const struct kind *kind_of(struct slice bytes)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (bytes.len >= kinds[i].at + kinds[i].magic_len && memcmp(bytes.data + kinds[i].at, kinds[i].magic, kinds[i].magic_len) == 0)
			return &kinds[i];
	return NULL;
}

static const struct kind *kind_named(struct slice name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (slice_is_nocase(name, kinds[i].name))
			return &kinds[i];
	return slice_is_nocase(name, "jpg") ? &kinds[0] : NULL;
}

/* ---- the work */

struct wish {
	struct slice source, target;
	int64_t width, height;
	bool is_cover; /* fills the box, and what stands over is cut off; else it fits into it */
	const struct kind *kind; /* of the target; NULL: as the source */
};

static int vips_fails(struct job_reply *reply, const char *what)
{
	const int rc = job_fail(reply, "ValueError", "builtins", "%s: %.300s", what, vips.error_buffer());

	vips.error_clear();
	return rc;
}

/* The header alone is read: libvips decodes when pixels are asked for. */
static bool is_small_enough(const struct job_call *call, struct slice bytes, struct job_reply *reply)
{
	vips_image *image = vips.new_from_buffer(bytes.data, bytes.len, "", NULL);
	int64_t pixels;

	if (image == NULL) {
		vips_fails(reply, "the picture can't be read");
		return false;
	}
	pixels = (int64_t)vips.get_width(image) * vips.get_height(image);
	vips.unref(image);
	if (pixels <= call->settings->job.image_max_pixels)
		return true;
	job_fail(reply, "ValueError", "builtins", "the picture has %lld pixels, more than job.image_max_pixels", (long long)pixels);
	return false;
}

static int answer(struct job_reply *reply, const struct kind *kind, int width, int height, size_t len)
{
	struct buf text = BUF_INIT;
	struct json_writer w = JSON_WRITER(&text);
	int rc;

	json_open(&w, NULL, '{');
	json_put_string(&w, "format", slice_of(kind->name));
	json_put_int(&w, "width", width);
	json_put_int(&w, "height", height);
	json_put_int(&w, "bytes", (int64_t)len);
	json_close(&w, '}');
	rc = job_return(reply, (struct slice){ text.data, text.len });
	buf_release(&text);
	return rc;
}

static int write_picture(const struct job_call *call, const struct wish *wish, const struct kind *kind, vips_image *image, struct job_reply *reply,
	struct err *err)
{
	void *bytes = NULL;
	size_t len = 0;
	int rc;

	if (vips.write_to_buffer(image, kind->suffix, &bytes, &len, NULL) != 0)
		return vips_fails(reply, "the picture can't be written");
	if (job_is_over(call)) { /* libvips is not interrupted */
		vips.free(bytes);
		return job_over(call, reply);
	}
	rc = files_write(call, wish->target, kind->type, (struct slice){ bytes, len }, err);
	vips.free(bytes);
	return rc < 0 ? -1 : answer(reply, kind, vips.get_width(image), vips.get_height(image), len);
}

static int resize(const struct job_call *call, const struct wish *wish, struct slice bytes, struct job_reply *reply, struct err *err)
{
	const struct kind *kind = kind_of(bytes);
	vips_image *image = NULL;
	int failed, rc;

	if (kind == NULL)
		return job_fail(reply, "ValueError", "builtins", "the source is no JPEG, PNG, WebP or GIF");
	if (!is_small_enough(call, bytes, reply))
		return 0;
	/* size: 2 is VIPS_SIZE_DOWN, crop: 1 is VIPS_INTERESTING_CENTRE, 0 none */
	failed = vips.thumbnail_buffer(bytes.data, bytes.len, &image, (int)wish->width, "height", (int)wish->height, "size", wish->is_cover ? 0 : 2, "crop",
		wish->is_cover ? 1 : 0, NULL);
	if (failed)
		return vips_fails(reply, "the picture can't be made smaller");
	rc = write_picture(call, wish, wish->kind != NULL ? wish->kind : kind, image, reply, err);
	vips.unref(image);
	return rc;
}

static bool read_wish(const struct job_call *call, struct wish *wish, struct job_reply *reply)
{
	struct slice fit, format;

	if (!job_text(call, "source", false, &wish->source, reply) || !job_text(call, "target", false, &wish->target, reply) ||
		!job_number(call, "width", 0, 1, SIDE_MAX, &wish->width, reply) || !job_number(call, "height", 0, 1, SIDE_MAX, &wish->height, reply) ||
		!job_text(call, "fit", true, &fit, reply) || !job_text(call, "format", true, &format, reply))
		return false;
	if (wish->width == 0) {
		job_fail(reply, "TypeError", "builtins", "image.resize() missing required argument: 'width'");
		return false;
	}
	if (wish->height == 0)
		wish->height = wish->width;
	wish->is_cover = slice_is(fit, "cover");
	if (wish->is_cover && wish->width * wish->height > call->settings->job.image_max_pixels) { /* to fill a box a picture grows */
		job_fail(reply, "ValueError", "builtins", "the box has %lld pixels, more than job.image_max_pixels", (long long)(wish->width * wish->height));
		return false;
	}
	wish->kind = format.data != NULL ? kind_named(format) : NULL;
	if ((fit.data == NULL || wish->is_cover || slice_is(fit, "inside")) && (format.data == NULL || wish->kind != NULL))
		return true;
	job_fail(reply, "ValueError", "builtins", "fit is inside or cover, format jpeg, png, webp or gif");
	return false;
}

int job_image_resize(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct buf bytes = BUF_INIT;
	struct wish wish = { 0 };
	int rc = 0;

	if (!read_wish(call, &wish, reply))
		return 0;
	pthread_once(&once, load);
	if (missing[0] != '\0')
		return job_fail(reply, "RuntimeError", "builtins", "%s", missing);
	rc = files_read(call, wish.source, &bytes, err);
	if (rc == 0 && job_is_over(call))
		rc = job_over(call, reply);
	else if (rc == 0)
		rc = resize(call, &wish, (struct slice){ bytes.data, bytes.len }, reply, err);
	if (rc < 0 && err->kind == ERR_INVALID)
		rc = job_fail(reply, "ValueError", "builtins", "%s", err->message);
	buf_release(&bytes);
	return rc;
}
