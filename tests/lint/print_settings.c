/* Nothing goes in, not even the environment; every setting with its default comes out, as config/feedmill.cfg has it. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/settings.h"

int main(void)
{
	struct settings settings;
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	clearenv();
	if (settings_load(&settings, NULL, &err) < 0) {
		fprintf(stderr, "settings: %s\n", err.message);
		return 1;
	}
	settings_write(&settings, &out);
	fwrite(out.data, 1, out.len, stdout);
	settings_release(&settings);
	buf_release(&out);
	return 0;
}
