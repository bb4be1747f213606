/* banned: functions that can't be used safely do not compile. The Makefile puts this before every source of ours.
 *
 * The system headers come first, so that only calls are hit and not the declarations; macros with parameters let a
 * struct member of the same name live. */
#ifndef FEEDMILL_BASE_BANNED_H
#define FEEDMILL_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <wchar.h>

/* No bound on what is written: use buf, snprintf() or memcpy(). */
#undef strcpy
#undef strncpy
#undef stpcpy
#undef strcat
#undef strncat
#undef sprintf
#undef vsprintf
#undef gets
#define strcpy(...) strcpy_is_banned_see_banned_h
#define strncpy(...) strncpy_is_banned_see_banned_h
#define stpcpy(...) stpcpy_is_banned_see_banned_h
#define strcat(...) strcat_is_banned_see_banned_h
#define strncat(...) strncat_is_banned_see_banned_h
#define sprintf(...) sprintf_is_banned_see_banned_h
#define vsprintf(...) vsprintf_is_banned_see_banned_h
#define gets(...) gets_is_banned_see_banned_h

/* Hidden state shared by all threads: use slice_cut(), the _r functions, rand_below(). */
#undef strtok
#undef localtime
#undef gmtime
#undef ctime
#undef asctime
#undef rand
#undef random
#define strtok(...) strtok_is_banned_see_banned_h
#define localtime(...) localtime_is_banned_see_banned_h
#define gmtime(...) gmtime_is_banned_see_banned_h
#define ctime(...) ctime_is_banned_see_banned_h
#define asctime(...) asctime_is_banned_see_banned_h
#define rand(...) rand_is_banned_see_banned_h
#define random(...) random_is_banned_see_banned_h

/* No word about what could not be read: use str_int64(). */
#undef atoi
#undef atol
#undef atoll
#define atoi(...) atoi_is_banned_see_banned_h
#define atol(...) atol_is_banned_see_banned_h
#define atoll(...) atoll_is_banned_see_banned_h

#endif
