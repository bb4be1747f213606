/* Files that several write at once into one folder: each finds what it wrote, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include "workers/jobs/files.h"

#define WRITERS 4 /* threads of one process have one number, as processes in several containers may */
#define TIMES 40
#define SIZE 200000

static struct settings settings;
static const struct job_call call = { .settings = &settings };
static char folder[] = "/tmp/feedmill-files-XXXXXX";

struct writer {
	pthread_t thread;
	char letter;
	size_t wrong; /* how often it did not find what it wrote */
	struct err err;
};

static bool is_all(const struct buf *text, char letter)
{
	for (size_t i = 0; i < text->len; i++)
		if (text->data[i] != letter)
			return false;
	return text->len == SIZE;
}

static void *write_files(void *arg)
{
	struct writer *w = arg;
	char *bytes = malloc(SIZE), name[2] = { w->letter, '\0' };
	struct buf got = BUF_INIT;

	memset(bytes, w->letter, SIZE);
	for (int i = 0; i < TIMES; i++) {
		buf_reset(&got);
		if (files_write(&call, slice_of(name), "text/plain", (struct slice){ bytes, SIZE }, &w->err) < 0 ||
			files_read(&call, slice_of(name), &got, &w->err) < 0 || !is_all(&got, w->letter))
			w->wrong++;
	}
	buf_release(&got);
	free(bytes);
	return NULL;
}

static size_t files_there(bool remove_them)
{
	DIR *dir = opendir(folder);
	char path[sizeof(folder) + 300];
	size_t count = 0;

	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		count++;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (remove_them)
			unlink(path);
	}
	closedir(dir);
	return count;
}

static int make_folder(void **state)
{
	(void)state;
	settings.job.files = mkdtemp(folder);
	settings.job.file_max = 10 * SIZE;
	return settings.job.files != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	files_there(true);
	return rmdir(folder);
}

static void writers_with_one_number_do_not_mix(void **state)
{
	struct writer writers[WRITERS];

	(void)state;
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .letter = (char)('a' + i), .err = ERR_INIT };
		assert_int_equal(0, pthread_create(&writers[i].thread, NULL, write_files, &writers[i]));
	}
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(0, pthread_join(writers[i].thread, NULL));
	for (int i = 0; i < WRITERS; i++)
		if (writers[i].wrong > 0)
			fail_msg("%c: %zu times something else, %s", writers[i].letter, writers[i].wrong, writers[i].err.message);
	assert_int_equal(WRITERS, files_there(false)); /* and nothing beside them */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writers_with_one_number_do_not_mix, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
