/* Ids go in when they are revoked; whether one was comes out, also after a restart. */
#include "workers/celery/revoked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define BUCKETS 4096
#define FILE_MAX (16 << 20) /* more than is written: see REVOKED_TEXT_MAX */
#define PART_TRIES 10

struct revoked_id {
	struct revoked_id *next, *prev, *same; /* in order of time; same bucket */
	int64_t wall_ms;
	size_t len;
	char id[];
};

static size_t bucket(struct slice id)
{
	size_t hash = 5381;

	for (size_t i = 0; i < id.len; i++)
		hash = hash * 33 + (unsigned char)id.data[i];
	return hash % BUCKETS;
}

void revoked_init(struct revoked *r, size_t max)
{
	*r = (struct revoked){ .buckets = mem_array(BUCKETS, sizeof(*r->buckets)), .max = max, .keep_ms = REVOKED_MS };
}

static void drop(struct revoked *r, struct revoked_id *old)
{
	struct revoked_id **at = &r->buckets[bucket((struct slice){ old->id, old->len })];

	while (*at != old)
		at = &(*at)->same;
	*at = old->same;
	if (old->prev != NULL)
		old->prev->next = old->next;
	else
		r->first = old->next;
	if (old->next != NULL)
		old->next->prev = old->prev;
	else
		r->last = old->prev;
	r->count--;
	free(old);
}

static void drop_first(struct revoked *r)
{
	drop(r, r->first);
}

void revoked_release(struct revoked *r)
{
	while (r->first != NULL)
		drop_first(r);
	free(r->buckets);
	r->buckets = NULL;
}

static struct revoked_id *find(const struct revoked *r, struct slice id)
{
	struct revoked_id *i = r->count > 0 ? r->buckets[bucket(id)] : NULL;

	while (i != NULL && !slice_equal(id, (struct slice){ i->id, i->len }))
		i = i->same;
	return i;
}

bool revoked_has(const struct revoked *r, struct slice id)
{
	return find(r, id) != NULL;
}

bool revoked_take(struct revoked *r, struct slice id)
{
	struct revoked_id *found = find(r, id);

	if (found == NULL)
		return false;
	drop(r, found);
	r->is_changed = true;
	return true;
}

bool revoked_add(struct revoked *r, struct slice id, int64_t wall_ms)
{
	struct revoked_id *new;
	const size_t b = bucket(id);

	if (id.len == 0 || id.len > 255 || revoked_has(r, id))
		return false;
	new = mem_zalloc(sizeof(*new) + id.len + 1);
	memcpy(new->id, id.data, id.len);
	new->len = id.len;
	new->wall_ms = wall_ms;
	new->same = r->buckets[b];
	r->buckets[b] = new;
	new->prev = r->last;
	if (r->last != NULL)
		r->last->next = new;
	else
		r->first = new;
	r->last = new;
	r->count++;
	r->is_changed = true;
	if (r->count > r->max)
		drop_first(r);
	return true;
}

void revoked_forget(struct revoked *r, int64_t now)
{
	while (r->first != NULL && now - r->first->wall_ms > r->keep_ms) {
		drop_first(r);
		r->is_changed = true;
	}
}

/* At most: its id twice, whatever is to be escaped in it, its time, and what stands between. */
static size_t written_len(const struct revoked_id *id)
{
	size_t len = 40;

	for (size_t i = 0; i < id->len; i++)
		len += (unsigned char)id->id[i] < 0x20 || (unsigned char)id->id[i] > 0x7e ? 12 : id->id[i] == '"' || id->id[i] == '\\' ? 4 : 2;
	return len;
}

static const struct revoked_id *first_that_fits(const struct revoked *r)
{
	const struct revoked_id *first = r->first;
	size_t len = 0;

	for (const struct revoked_id *i = r->first; i != NULL; i = i->next)
		len += written_len(i);
	for (; len > REVOKED_TEXT_MAX; first = first->next)
		len -= written_len(first);
	return first;
}

void revoked_write(const struct revoked *r, struct json_writer *w, const char *key)
{
	char seconds[40];

	json_open(w, key, '{');
	for (const struct revoked_id *i = first_that_fits(r); i != NULL; i = i->next) {
		snprintf(seconds, sizeof(seconds), "%lld.%03d", (long long)(i->wall_ms / 1000), (int)(i->wall_ms % 1000));
		json_open(w, i->id, '[');
		json_put_raw(w, NULL, slice_of(seconds));
		json_put_string(w, NULL, (struct slice){ i->id, i->len });
		json_close(w, ']');
	}
	json_close(w, '}');
}

void revoked_write_ids(const struct revoked *r, struct json_writer *w, const char *key)
{
	json_open(w, key, '[');
	for (const struct revoked_id *i = first_that_fits(r); i != NULL; i = i->next)
		json_put_string(w, NULL, (struct slice){ i->id, i->len });
	json_close(w, ']');
}

void revoked_merge(struct revoked *r, const struct json *object)
{
	const int64_t now = clock_wall_ms();

	if (object == NULL)
		return;
	for (const struct json *i = json_first(object); i != NULL; i = json_next(i)) {
		const struct json *first = json_type(i) == JSON_ARRAY ? json_first(i) : NULL;
		double seconds = first != NULL && json_type(first) == JSON_NUMBER ? strtod(json_number(first).data, NULL) : (double)now / 1000;

		if (json_type(object) == JSON_ARRAY)
			revoked_add(r, json_string(i), now);
		else if (seconds > 0 && seconds < 1e11 && (double)now / 1000 - seconds < (double)r->keep_ms / 1000)
			revoked_add(r, slice_of(json_key(i)), seconds * 1000 < (double)now ? (int64_t)(seconds * 1000) : now);
	}
}

/* ---- the file */

static int write_file(const char *path, const struct buf *text, struct err *err)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = 0;

	if (fd < 0)
		return err_set(err, ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
	if (write(fd, text->data, text->len) != (ssize_t)text->len || fsync(fd) < 0)
		rc = err_set(err, ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
	close(fd);
	return rc;
}

int revoked_save(struct revoked *r, const char *path, struct err *err)
{
	struct buf text = BUF_INIT, new_path = BUF_INIT;
	struct json_writer w = JSON_WRITER(&text);
	int rc = -1;

	json_open(&w, NULL, '{');
	revoked_write(r, &w, "revoked");
	json_close(&w, '}');
	buf_addf(&new_path, "%s.new", path);
	if (write_file(new_path.data, &text, err) < 0)
		goto out;
	if (rename(new_path.data, path) < 0) {
		err_set(err, ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
		goto out;
	}
	r->is_changed = false;
	rc = 0;
out:
	buf_release(&text);
	buf_release(&new_path);
	return rc;
}

/* Text that was cut off, as a whole object up to its last member that is whole. An id may look like the end of one: then the one before. */
static struct json *parse_part(struct buf *text, struct err *err)
{
	struct json *root = NULL;
	size_t len = text->len;

	for (int tries = 0; tries < PART_TRIES && root == NULL; tries++) {
		while (len > 1 && (text->data[len - 1] != ',' || text->data[len - 2] != ']'))
			len--;
		if (len < 2)
			break;
		text->len = --len;
		buf_add_str(text, "}}");
		root = json_parse_answer((struct slice){ text->data, text->len }, err);
	}
	return root;
}

int revoked_load(struct revoked *r, const char *path, struct err *err)
{
	struct buf text = BUF_INIT;
	char part[16384];
	ssize_t got;
	struct json *root = NULL;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = -1;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(err, ERR_FATAL, "%s: %s", path, strerror(errno));
	while ((got = read(fd, part, sizeof(part))) > 0 && text.len < FILE_MAX)
		buf_add(&text, part, (size_t)got);
	close(fd);
	if (got > 0) {
		log_warn("the file of revoked jobs is too large: what stands behind is not read", log_str("file", path), log_int("read", (int64_t)text.len));
		root = parse_part(&text, err);
	} else {
		root = json_parse_answer((struct slice){ text.data, text.len }, err);
	}
	if (root != NULL) {
		revoked_merge(r, json_get(root, "revoked"));
		r->is_changed = false;
		rc = 0;
	}
	json_free(root);
	buf_release(&text);
	return rc < 0 ? err_wrap(err, "%s: ", path) : 0;
}
