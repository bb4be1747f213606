/* folder: where the embedded back ends keep their files (setting embedded.folder). Uses libc only.
 *
 * Their files are shared memory and locks as much as data, and neither works across machines: a folder on a network file
 * system is refused. Only this user may look into a folder made here. */
#ifndef FEEDMILL_BASE_FOLDER_H
#define FEEDMILL_BASE_FOLDER_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/err.h"

/* Instead of a path: a folder of this process alone, in memory where the system has such a place, gone when it exits. */
#define FOLDER_MEMORY ":memory:"

/* Makes the folder (not its parents; 0700) when it is missing; *made says so. */
int folder_make(const char *folder, bool *made, struct err *err);

/* Adds "folder/name" to out. The folder must be there and on this machine; missing: ERR_FATAL naming `feedctl migrate`. */
int folder_path(const char *folder, const char *name, struct buf *out, struct err *err);

/* "NFS" and the like for the magic number of a file system (statfs) that other machines write too; NULL: a local one. */
const char *folder_network_name(unsigned long magic);

#endif
