/* A question goes out, yes or no comes back. */
#include "ctl/ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool ask_yes(const char *format, ...)
{
	char answer[16];
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " [y/N] ");
	fflush(stderr);
	if (fgets(answer, sizeof(answer), stdin) == NULL) {
		fprintf(stderr, "\n");
		return false;
	}
	answer[strcspn(answer, "\r\n")] = '\0';
	return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}
