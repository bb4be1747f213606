/* Requests of a test's client go in, what the test wants them answered with comes out. */
#include "tests/unit/stub_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/mem.h"

struct stub {
	stub_fn *answer;
	void *arg;
	int listener;
	int stop[2]; /* a pipe: its end closed is the word to stop */
	char url[64];
	pthread_t thread;
	atomic_size_t requests;
	size_t connections;
};

static void check(bool is_fine, const char *what)
{
	if (!is_fine) {
		perror(what);
		abort();
	}
}

/* A socket bound to a free port of 127.0.0.1, and its address as a URL. */
static int bind_anywhere(char url[64])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(fd >= 0, "socket");
	check(bind(fd, (struct sockaddr *)&address, len) == 0, "bind");
	check(getsockname(fd, (struct sockaddr *)&address, &len) == 0, "getsockname");
	snprintf(url, 64, "http://127.0.0.1:%d", ntohs(address.sin_port));
	return fd;
}

void stub_dead_url(char out[64])
{
	close(bind_anywhere(out));
}

/* There is something to read (or a hang-up), and nobody asked to stop. */
static bool wait_readable(const struct stub *stub, int fd)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = stub->stop[0], .events = POLLIN } };

	check(poll(fds, 2, -1) > 0, "poll");
	return fds[1].revents == 0;
}

static bool read_more(const struct stub *stub, int fd, struct buf *in)
{
	char bytes[16384];
	ssize_t got = wait_readable(stub, fd) ? recv(fd, bytes, sizeof(bytes), 0) : 0;

	if (got <= 0)
		return false;
	buf_add(in, bytes, (size_t)got);
	return true;
}

static size_t content_length(const char *head)
{
	const char *found = strcasestr(head, "\r\nContent-Length:");

	return found != NULL ? strtoul(found + sizeof("\r\nContent-Length:") - 1, NULL, 10) : 0;
}

/* One request from the connection; in is empty before. false: the client is gone. */
static bool read_request(const struct stub *stub, int fd, struct buf *in, struct stub_request *request)
{
	char *end;
	size_t head_len, body_len;

	while ((end = memmem(in->data, in->len, "\r\n\r\n", 4)) == NULL) {
		if (!read_more(stub, fd, in))
			return false;
	}
	head_len = (size_t)(end - in->data) + 2;
	in->data[head_len] = '\0'; /* was '\r' */
	body_len = content_length(in->data);
	while (in->len < head_len + 2 + body_len) {
		if (!read_more(stub, fd, in))
			return false;
	}
	request->head = (struct slice){ in->data, head_len };
	request->body = (struct slice){ in->data + head_len + 2, body_len };
	return sscanf(in->data, "%15s %511s", request->method, request->target) == 2;
}

static void send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);

		if (sent <= 0)
			return; /* the client hung up: its test says whether it should have */
		bytes += sent;
		len -= (size_t)sent;
	}
}

static void send_reply(int fd, const struct stub_request *request, const struct stub_reply *reply)
{
	struct buf out = BUF_INIT;
	size_t body_len = reply->action == STUB_HALF ? reply->body.len / 2 : reply->body.len;

	buf_addf(&out, "HTTP/1.1 %d Stub\r\nContent-Type: application/json\r\n%s", reply->status, reply->header);
	if (reply->action == STUB_CHUNKS) {
		buf_addf(&out, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", reply->body.len);
		buf_add(&out, reply->body.data, reply->body.len);
		buf_add_str(&out, "\r\n0\r\n\r\n");
	} else {
		buf_addf(&out, "Content-Length: %zu\r\n\r\n", reply->body.len);
		if (strcmp(request->method, "HEAD") != 0)
			buf_add(&out, reply->body.data, body_len);
	}
	send_all(fd, out.data, out.len);
	buf_release(&out);
}

static void reset(int fd)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

/* false: the connection is at its end. */
static bool serve(struct stub *stub, int fd, const struct stub_request *request)
{
	struct stub_reply reply = { .status = 200, .body = BUF_INIT };
	struct buf ignored = BUF_INIT;
	bool goes_on = false;

	stub->answer(stub->arg, request, &reply);
	atomic_fetch_add(&stub->requests, 1); /* before the client can have its answer, and ask us */
	if (reply.action == STUB_RESET) {
		reset(fd);
	} else if (reply.action == STUB_SILENCE) {
		while (read_more(stub, fd, &ignored))
			;
	} else {
		send_reply(fd, request, &reply);
		goes_on = reply.action == STUB_ANSWER || reply.action == STUB_CHUNKS;
	}
	buf_release(&ignored);
	buf_release(&reply.body);
	return goes_on;
}

static void serve_connection(struct stub *stub, int fd)
{
	struct stub_request request = { .connection = stub->connections++ };
	struct buf in = BUF_INIT;

	do {
		buf_reset(&in);
		if (!read_request(stub, fd, &in, &request))
			break;
		request.number = atomic_load(&stub->requests);
	} while (serve(stub, fd, &request));
	buf_release(&in);
	close(fd);
}

static void *run(void *arg)
{
	struct stub *stub = arg;

	while (wait_readable(stub, stub->listener)) {
		int fd = accept4(stub->listener, NULL, NULL, SOCK_CLOEXEC);

		check(fd >= 0, "accept");
		serve_connection(stub, fd);
	}
	return NULL;
}

struct stub *stub_start(stub_fn *answer, void *arg)
{
	struct stub *stub = mem_zalloc(sizeof(*stub));

	stub->answer = answer;
	stub->arg = arg;
	stub->listener = bind_anywhere(stub->url);
	check(listen(stub->listener, 16) == 0, "listen");
	check(pipe(stub->stop) == 0, "pipe");
	check(pthread_create(&stub->thread, NULL, run, stub) == 0, "pthread_create");
	return stub;
}

const char *stub_url(const struct stub *stub)
{
	return stub->url;
}

size_t stub_requests(struct stub *stub)
{
	return atomic_load(&stub->requests);
}

void stub_stop(struct stub *stub)
{
	if (stub == NULL)
		return;
	close(stub->stop[1]);
	pthread_join(stub->thread, NULL);
	close(stub->stop[0]);
	close(stub->listener);
	free(stub);
}
