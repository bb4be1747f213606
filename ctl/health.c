/* feedctl health: the address of a program's admin port goes in, what the program says of itself comes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/program.h"
#include "common/http/http_client.h"
#include "ctl/ctl.h"
#include "ctl/gateway_client.h"

#define ASK_MS 3000
#define ANSWER_MAX 65536 /* bytes */

static void print_checks(struct slice answer)
{
	struct err ignored = ERR_INIT;
	struct json *root = json_parse_answer(answer, &ignored);
	struct slice status = json_string(json_get(root, "status"));

	printf("%.*s\n", (int)status.len, status.len > 0 ? status.data : "");
	for (const struct json *check = json_first(json_get(root, "checks")); check != NULL; check = json_next(check)) {
		struct slice words = json_string(check);

		printf("  %-10s %.*s\n", json_key(check), (int)words.len, words.len > 0 ? words.data : "");
	}
	json_free(root);
}

/* 0: it answered, and that it is ready. */
static int ask(struct http_client *http, const char *url)
{
	struct buf answer = BUF_INIT;
	struct err err = ERR_INIT;
	int status = 0, code = 1;

	if (http_client_send(http, "GET", url, NULL, SLICE_NONE, &status, &answer, &err) < 0) {
		fprintf(stderr, "feedctl health: %s\n", err.message);
	} else {
		print_checks((struct slice){ answer.data, answer.len });
		code = status == 200 ? 0 : 1;
	}
	buf_release(&answer);
	return code;
}

int ctl_health(const struct settings *settings, int argc, char **argv)
{
	struct http_client *http;
	struct buf page = BUF_INIT;
	struct err err = ERR_INIT;
	char *url = NULL;
	int code;

	if (argc > 2)
		return program_usage("health: it takes one ADDRESS");
	if (address_url(argc == 2 ? argv[1] : settings->gateway.admin, &url, &err) < 0)
		return program_usage("health: %s", err.message);
	buf_addf(&page, "%s/readyz", url);
	http_client_global_init();
	http = http_client_new(ASK_MS, ANSWER_MAX);
	code = ask(http, page.data);
	http_client_free(http);
	buf_release(&page);
	free(url);
	return code;
}
