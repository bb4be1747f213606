/* feedctl config: the settings go in as they were read, a verdict or the whole file comes out. */
#include <stdio.h>
#include <string.h>

#include "common/base/program.h"
#include "common/queue/topics.h"
#include "ctl/ctl.h"

/* Most wrong settings never get here: the program has named them and left. */
static int check(const struct settings *settings)
{
	struct err err = ERR_INIT;
	struct topic topic;

	if (topic_of_request_log(settings, &topic, &err) < 0) {
		fprintf(stderr, "feedctl config: %s\n", err.message);
		return 2;
	}
	puts("settings are right");
	return 0;
}

static int show(const struct settings *settings)
{
	struct buf text = BUF_INIT;
	int rc;

	settings_write(settings, &text);
	rc = fwrite(text.data, 1, text.len, stdout) == text.len ? 0 : 1;
	buf_release(&text);
	return rc;
}

static const struct {
	const char *word;
	int (*run)(const struct settings *settings);
} words[] = {
	{ "check", check },
	{ "show", show },
};

int ctl_config(const struct settings *settings, int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].word, argv[1]) == 0)
			return words[i].run(settings);
	}
	return program_usage("config: it takes check or show");
}
