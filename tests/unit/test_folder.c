/* Settings go in; folders that are made, refused, or gone with the process come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/folder.h"

static void a_folder_is_made_once_for_its_user_alone(void **state)
{
	char parent[] = "/tmp/feedmill-folder-XXXXXX", folder[64];
	struct err err = ERR_INIT;
	struct buf path = BUF_INIT;
	struct stat st;
	bool made = false;

	(void)state;
	assert_non_null(mkdtemp(parent));
	snprintf(folder, sizeof(folder), "%s/data", parent);
	assert_int_equal(-1, folder_path(folder, "x", &path, &err));
	assert_int_equal(ERR_FATAL, err.kind);
	assert_non_null(strstr(err.message, "feedctl migrate"));
	assert_int_equal(0, folder_make(folder, &made, &err));
	assert_true(made);
	assert_int_equal(0, folder_make(folder, &made, &err));
	assert_false(made);
	assert_int_equal(0, stat(folder, &st));
	assert_int_equal(0700, st.st_mode & 0777);
	assert_int_equal(0, folder_path(folder, "x.db", &path, &err));
	assert_non_null(strstr(path.data, "/data/x.db"));
	buf_release(&path);
	rmdir(folder);
	rmdir(parent);
}

static void what_can_be_no_folder_is_told(void **state)
{
	static const char *const bad[] = { "/dev/null", "/nonexistent/parent/folder", "" };
	struct buf path = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;
		bool made = false;

		assert_int_equal(-1, folder_make(bad[i], &made, &err));
		assert_int_equal(ERR_FATAL, err.kind);
		assert_non_null(strstr(err.message, "embedded.folder"));
		assert_int_equal(-1, folder_path(bad[i], "x", &path, &err));
		assert_string_equal("", path.data);
	}
}

static void file_systems_of_other_machines_are_known(void **state)
{
	(void)state;
	assert_string_equal("NFS", folder_network_name(0x6969));
	assert_string_equal("CIFS", folder_network_name(0xff534d42));
	assert_string_equal("CIFS", folder_network_name((unsigned long)(long)(int)0xff534d42)); /* as a signed f_type gives it */
	assert_string_equal("9p", folder_network_name(0x01021997));
	assert_null(folder_network_name(0xef53));     /* ext4 */
	assert_null(folder_network_name(0x01021994)); /* tmpfs */
	assert_null(folder_network_name(0x794c7630)); /* overlayfs, of containers */
}

/* The life of a process that uses it; its path goes into the pipe. */
static void use_memory(int out)
{
	struct err err = ERR_INIT;
	struct buf path = BUF_INIT;
	bool made = false;
	FILE *file;
	pid_t child;

	if (folder_make(FOLDER_MEMORY, &made, &err) < 0 || !made || folder_path(FOLDER_MEMORY, "x", &path, &err) < 0)
		exit(1);
	if (folder_make(FOLDER_MEMORY, &made, &err) < 0 || made)
		exit(2);
	file = fopen(path.data, "w");
	if (!file || fclose(file) != 0)
		exit(3);
	child = fork();
	if (child == 0)
		exit(0); /* the folder is not its own */
	if (waitpid(child, NULL, 0) != child || access(path.data, R_OK) != 0)
		exit(4);
	if (write(out, path.data, path.len) != (ssize_t)path.len)
		exit(5);
	buf_release(&path);
	exit(0);
}

static void the_folder_in_memory_ends_with_its_process(void **state)
{
	char path[128] = "";
	int ends[2], status = -1;
	pid_t child;

	(void)state;
	assert_int_equal(0, pipe(ends));
	child = fork();
	if (child == 0)
		use_memory(ends[1]);
	assert_int_equal(child, waitpid(child, &status, 0));
	assert_int_equal(0, status);
	assert_true(read(ends[0], path, sizeof(path) - 1) > 0);
	assert_non_null(strstr(path, "/feedmill-"));
	assert_int_equal(-1, access(path, F_OK));
	*strrchr(path, '/') = '\0';
	assert_int_equal(-1, access(path, F_OK));
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_folder_is_made_once_for_its_user_alone),
		cmocka_unit_test(what_can_be_no_folder_is_told),
		cmocka_unit_test(file_systems_of_other_machines_are_known),
		cmocka_unit_test(the_folder_in_memory_ends_with_its_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
