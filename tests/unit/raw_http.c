/* Bytes go in, to a server on loopback; its answers come out. */
#include "tests/unit/raw_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int raw_open(struct raw *raw, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct timeval patience = { .tv_sec = RAW_PATIENCE_S };
	int on = 1;

	*raw = (struct raw){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .in = BUF_INIT };
	setsockopt(raw->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(raw->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(raw->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(raw->fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return 0;
	raw_close(raw);
	return -1;
}

void raw_close(struct raw *raw)
{
	if (raw->fd >= 0)
		close(raw->fd);
	raw->fd = -1;
	buf_release(&raw->in);
}

void raw_abort(struct raw *raw)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	raw_close(raw);
}

int raw_send(struct raw *raw, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t sent = send(raw->fd, at, len, MSG_NOSIGNAL);

		if (sent < 0)
			return -1;
		at += sent;
		len -= (size_t)sent;
	}
	return 0;
}

int raw_say(struct raw *raw, const char *text)
{
	return raw_send(raw, text, strlen(text));
}

/* More bytes; 0 at the end of the connection, -1 when none came or it was reset. */
static ssize_t more(struct raw *raw)
{
	char bytes[65536];
	ssize_t got = recv(raw->fd, bytes, sizeof(bytes), 0);

	if (got > 0)
		buf_add(&raw->in, bytes, (size_t)got);
	return got;
}

static void take(struct raw *raw, size_t len, struct buf *out)
{
	buf_add(out, raw->in.data, len);
	memmove(raw->in.data, raw->in.data + len, raw->in.len - len + 1);
	raw->in.len -= len;
}

static size_t body_length(const struct raw_answer *answer)
{
	const char *line = strcasestr(answer->head.data, "\r\nContent-Length:");

	return line != NULL ? strtoul(line + 17, NULL, 10) : 0;
}

int raw_read(struct raw *raw, struct raw_answer *answer, bool to_head)
{
	const char *end;
	size_t len;

	*answer = (struct raw_answer){ 0, BUF_INIT, BUF_INIT };
	while ((end = strstr(raw->in.data, "\r\n\r\n")) == NULL)
		if (more(raw) <= 0)
			return -1;
	take(raw, (size_t)(end - raw->in.data) + 4, &answer->head);
	len = to_head ? 0 : body_length(answer);
	while (raw->in.len < len)
		if (more(raw) <= 0)
			return -1;
	take(raw, len, &answer->body);
	if (strncmp(answer->head.data, "HTTP/1.1 ", 9) == 0)
		answer->status = (int)strtol(answer->head.data + 9, NULL, 10);
	return 0;
}

bool raw_is_at_end(struct raw *raw)
{
	ssize_t got = raw->in.len > 0 ? 1 : more(raw);

	return got == 0 || (got < 0 && errno == ECONNRESET);
}

void raw_answer_release(struct raw_answer *answer)
{
	buf_release(&answer->head);
	buf_release(&answer->body);
}

bool raw_has_header(const struct raw_answer *answer, const char *line)
{
	const char *found = strcasestr(answer->head.data, line);

	return found != NULL && found[-1] == '\n' && strncmp(found + strlen(line), "\r\n", 2) == 0;
}

int raw_ask(int port, const char *text, struct raw_answer *answer)
{
	struct raw raw;
	int rc = -1;

	*answer = (struct raw_answer){ 0, BUF_INIT, BUF_INIT };
	if (raw_open(&raw, port) < 0)
		return -1;
	raw_say(&raw, text); /* a server may refuse before it has all */
	rc = raw_read(&raw, answer, strncmp(text, "HEAD ", 5) == 0);
	raw_close(&raw);
	return rc;
}
