/* ask: a question to whoever types, before something is done that can't be undone. */
#ifndef FEEDMILL_CTL_ASK_H
#define FEEDMILL_CTL_ASK_H

#include <stdbool.h>

/* True for "y" or "yes"; anything else, and nobody there, is a no. */
bool ask_yes(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
