/* A method, an address and a body go in, a status and an answer come out. The only user of libcurl. */
#include "common/http/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/mem.h"
#include "common/base/program.h"

#define CONNECT_TIMEOUT_MS 5000 /* of a request that has longer */
#define KEPT_CONNECTIONS 4

struct http_client {
	CURL *curl;
	struct curl_slist *headers; /* of every request */
	bool is_guarded;
	bool was_refused; /* an address, by the guard */
	int64_t timeout_ms;
	size_t max_answer;
	/* of the request under way: */
	struct buf *answer;
	bool is_too_large;
	curl_off_t retry_after_s;
	char words[CURL_ERROR_SIZE]; /* libcurl's own about what went wrong */
};

static void init_curl(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort(); /* TLS could not be set up: nothing that this process does later would work */
}

void http_client_global_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_curl);
}

static struct curl_slist *add_header(struct curl_slist *list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(list, line);

	if (longer == NULL)
		abort(); /* memory, as in mem */
	return longer;
}

struct http_client *http_client_new(int64_t timeout_ms, size_t max_answer)
{
	struct http_client *client = mem_zalloc(sizeof(*client));

	http_client_global_init();
	client->curl = curl_easy_init();
	if (client->curl == NULL)
		abort();
	client->timeout_ms = timeout_ms > 0 ? timeout_ms : 1; /* 0 would be no limit to libcurl */
	client->max_answer = max_answer;
	client->headers = add_header(NULL, "Expect:"); /* else a large body waits up to a second for a 100 that may not come */
	return client;
}

void http_client_free(struct http_client *client)
{
	if (client == NULL)
		return;
	curl_easy_cleanup(client->curl);
	curl_slist_free_all(client->headers);
	free(client);
}

/* libcurl writes a header as it is: a line's end in it would begin a header, or a request, of whoever chose the value. */
int http_client_header(struct http_client *client, const char *name, const char *value, struct err *err)
{
	struct buf line = BUF_INIT;

	if (str_has_control(slice_of(value)))
		return err_set(err, ERR_INVALID, "the value of the header %s has a control character", name);
	buf_addf(&line, "%s: %s", name, value);
	client->headers = add_header(client->headers, line.data);
	buf_release(&line);
	return 0;
}

void http_client_forget_headers(struct http_client *client)
{
	curl_slist_free_all(client->headers);
	client->headers = add_header(NULL, "Expect:");
}

void http_client_guard(struct http_client *client)
{
	client->is_guarded = true;
}

/* It decides about the address that is about to be connected to: names, odd spellings and answers that change are behind it. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_client *client = arg;
	in_port_t port = 0;

	(void)purpose;
	if (address->family == AF_INET)
		port = ntohs(((const struct sockaddr_in *)(const void *)&address->addr)->sin_port);
	else if (address->family == AF_INET6)
		port = ntohs(((const struct sockaddr_in6 *)(const void *)&address->addr)->sin6_port);
	if (!http_client_is_public(&address->addr) || (port != 80 && port != 443)) {
		client->was_refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t take_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct http_client *client = arg;
	size_t len = size * count;

	if (len > client->max_answer - client->answer->len) {
		client->is_too_large = true;
		return 0; /* ends the transfer with CURLE_WRITE_ERROR */
	}
	buf_add(client->answer, bytes, len);
	return len;
}

/* What holds for every request: see the header. Resetting keeps the open connections. */
static void set_up(struct http_client *client, const char *url)
{
	CURL *curl = client->curl;
	int64_t connect_ms = client->timeout_ms < CONNECT_TIMEOUT_MS ? client->timeout_ms : CONNECT_TIMEOUT_MS;

	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* none, whatever the environment says */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)client->timeout_ms);
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "feedmill/" FEEDMILL_VERSION);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->words);
	if (client->is_guarded) {
		curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
		curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, client);
	}
}

static void set_body(struct http_client *client, const char *method, struct slice body)
{
	CURL *curl = client->curl;

	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data != NULL ? body.data : ""); /* read in place */
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static void set_no_body(struct http_client *client, const char *method)
{
	if (strcmp(method, "HEAD") == 0)
		curl_easy_setopt(client->curl, CURLOPT_NOBODY, 1L); /* else it waits for the body that Content-Length announces */
	else
		curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
}

/* "host:port" of an address: what a message may show, for in front of it may be a password. */
static struct slice host_of(const char *url)
{
	const char *scheme_end = strstr(url, "://");
	struct slice rest = slice_of(scheme_end != NULL ? scheme_end + 3 : url);
	struct slice authority;

	for (size_t i = 0; i < rest.len; i++) {
		if (strchr("/?#", rest.data[i]) != NULL)
			rest.len = i;
	}
	do
		authority = slice_cut(&rest, '@');
	while (rest.data != NULL);
	return authority;
}

static int failed(const struct http_client *client, CURLcode code, const char *url, struct err *err)
{
	struct slice host = host_of(url);
	curl_off_t sending_us = 0; /* until the request was about to go out: 0 when it never came to that */
	const char *words = client->words[0] != '\0' ? client->words : curl_easy_strerror(code);

	curl_easy_getinfo(client->curl, CURLINFO_PRETRANSFER_TIME_T, &sending_us);
	if (client->was_refused && sending_us == 0)
		return err_set(err, ERR_UNAVAILABLE, "%.*s is an address or a port that must not be called (only public ones, ports 80 and 443)",
			(int)host.len, host.data);
	if (client->is_too_large)
		return err_set(err, ERR_UNKNOWN, "%.*s: the answer is larger than %zu bytes", (int)host.len, host.data, client->max_answer);
	return err_set(err, sending_us == 0 ? ERR_UNAVAILABLE : ERR_UNKNOWN, "%.*s: %s", (int)host.len, host.data, words);
}

int http_client_send(struct http_client *client, const char *method, const char *url, const char *content_type, struct slice body,
	int *status, struct buf *answer, struct err *err)
{
	struct buf type = BUF_INIT;
	struct curl_slist content = { .next = client->headers }; /* this request's own header in front of all others' */
	CURLcode code;
	long response = 0;

	buf_reset(answer);
	client->answer = answer;
	client->is_too_large = false;
	client->was_refused = false;
	client->retry_after_s = 0;
	client->words[0] = '\0';
	set_up(client, url);
	if (content_type != NULL) {
		buf_addf(&type, "Content-Type: %s", content_type);
		content.data = type.data;
		set_body(client, method, body);
	} else {
		set_no_body(client, method);
	}
	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, content_type != NULL ? &content : client->headers);
	code = curl_easy_perform(client->curl);
	if (code == CURLE_OK) {
		curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &response);
		curl_easy_getinfo(client->curl, CURLINFO_RETRY_AFTER, &client->retry_after_s);
	}
	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL); /* it pointed into this frame */
	buf_release(&type);
	client->answer = NULL;
	if (code != CURLE_OK)
		return failed(client, code, url, err);
	*status = (int)response;
	return 0;
}

bool http_client_was_too_large(const struct http_client *client)
{
	return client->is_too_large;
}

int64_t http_client_retry_after_s(const struct http_client *client)
{
	return client->retry_after_s > 0 ? (int64_t)client->retry_after_s : 0;
}

const char *http_client_library(void)
{
	static char text[64];

	if (text[0] == '\0')
		snprintf(text, sizeof(text), "libcurl %s", curl_version_info(CURLVERSION_NOW)->version);
	return text;
}
