/* A method, a path and a body go in, the gateway's answer comes out. */
#include "ctl/gateway_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/http/http_client.h"

#define ANSWER_MAX (4 * 1024 * 1024) /* bytes */
#define SPARE_MS 15000               /* beyond what the gateway waits */

int address_url(const char *listen, char **url, struct err *err)
{
	static const char *const any[][2] = { { "", "127.0.0.1" }, { "*", "127.0.0.1" }, { "0.0.0.0", "127.0.0.1" }, { "[::]", "[::1]" } };
	const char *colon = strrchr(listen, ':');
	struct slice host = { listen, colon != NULL ? (size_t)(colon - listen) : 0 };
	struct buf text = BUF_INIT;
	int64_t port;

	if (colon == NULL || !str_int64(slice_of(colon + 1), &port) || port < 1 || port > 65535)
		return err_set(err, ERR_FATAL, "address %s names no port to ask", listen);
	for (size_t i = 0; i < sizeof(any) / sizeof(any[0]); i++) {
		if (slice_is(host, any[i][0])) {
			host = slice_of(any[i][1]);
			break;
		}
	}
	buf_addf(&text, "http://%.*s:%" PRId64, (int)host.len, host.data, port);
	*url = buf_detach(&text);
	return 0;
}

int gateway_client_open(struct gateway_client *client, const struct settings *settings, int64_t wait_s, struct err *err)
{
	char prefer[32];

	*client = (struct gateway_client){ .answer = BUF_INIT };
	if (address_url(settings->gateway.listen, &client->url, err) < 0)
		return err_wrap(err, "setting gateway.listen: ");
	client->http = http_client_new((wait_s > 0 ? wait_s * 1000 : settings->gateway.wait_ms) + SPARE_MS, ANSWER_MAX);
	if (wait_s >= 0) {
		snprintf(prefer, sizeof(prefer), "wait=%" PRId64, wait_s);
		return http_client_header(client->http, "Prefer", prefer, err);
	}
	return 0;
}

void gateway_client_close(struct gateway_client *client)
{
	http_client_free(client->http);
	free(client->url);
	buf_release(&client->answer);
}

int gateway_ask(struct gateway_client *client, const char *method, const char *path, const char *body, struct err *err)
{
	struct buf url = BUF_INIT;
	int rc;

	buf_addf(&url, "%s%s", client->url, path);
	rc = http_client_send(client->http, method, url.data, body != NULL ? "application/json" : NULL, slice_of(body), &client->status,
		&client->answer, err);
	buf_release(&url);
	return rc;
}

int gateway_problem(const struct gateway_client *client, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct json *problem = json_parse((struct slice){ client->answer.data, client->answer.len }, &ignored);
	const struct json *detail = json_get(problem, "detail");
	struct slice words = detail != NULL && json_type(detail) == JSON_STRING ? json_string(detail) : slice_of("no reason given");

	err_set(err, ERR_INVALID, "the gateway answered %d: %.*s", client->status, (int)words.len, words.data);
	json_free(problem);
	return -1;
}
