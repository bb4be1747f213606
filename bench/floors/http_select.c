/* GET goes in over HTTP, a prepared SELECT in a pool of connections comes out as JSON. No routing, no validation, no escapes.
 *   PORT  MYSQL_…  WHAT=products|inbound  READERS=4  THREADS=1
 * products: the first 100; inbound: the newest 100 of the participant whose number ends the path before "/inbound". */
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"
#include "bench/floors/sql.h"

#define COLUMNS 5
#define TEXT_MAX 4096
#define ANSWER_MAX (256 * 1024)

struct request {
	struct MHD_Connection *connection;
	struct request *next;
	long participant;
	char *answer;
	size_t len;
};

static struct request *first, **last = &first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER;
static int is_inbound;

struct reader {
	MYSQL_STMT *statement;
	MYSQL_BIND columns[COLUMNS];
	char text[COLUMNS][TEXT_MAX];
	long number[COLUMNS];
	unsigned long len[COLUMNS];
	char answer[ANSWER_MAX];
};

static void bind_number(struct reader *reader, int column)
{
	reader->columns[column].buffer_type = MYSQL_TYPE_LONGLONG;
	reader->columns[column].buffer = &reader->number[column];
}

static void bind_text(struct reader *reader, int column)
{
	reader->columns[column].buffer_type = MYSQL_TYPE_STRING;
	reader->columns[column].buffer = reader->text[column];
	reader->columns[column].buffer_length = TEXT_MAX;
	reader->columns[column].length = &reader->len[column];
}

static void open_reader(struct reader *reader)
{
	MYSQL *link = sql_connect();

	mysql_autocommit(link, 1);
	reader->statement = sql_prepare(link, is_inbound
		? "SELECT i.post_id, i.from_id, o.posted_at, o.subject, o.story FROM inbound i JOIN outbound o ON o.id = i.post_id "
		  "WHERE i.participant_id = ? ORDER BY i.post_id DESC LIMIT 100"
		: "SELECT id, name, price FROM product WHERE id > ? ORDER BY id LIMIT 100");
	bind_number(reader, 0);
	if (is_inbound)
		bind_number(reader, 1);
	for (int column = is_inbound ? 2 : 1; column < (is_inbound ? 5 : 3); column++)
		bind_text(reader, column);
}

#define ARG(n) (int)reader->len[n], reader->text[n]

static void answer(struct reader *reader, struct request *request)
{
	MYSQL_BIND param = { .buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &request->participant };
	char *at = reader->answer;

	floor_want(mysql_stmt_bind_param(reader->statement, &param) == 0 && mysql_stmt_execute(reader->statement) == 0 &&
			mysql_stmt_bind_result(reader->statement, reader->columns) == 0, mysql_stmt_error(reader->statement));
	*at++ = '[';
	while (mysql_stmt_fetch(reader->statement) == 0)
		at += is_inbound
			? sprintf(at, "{\"id\":%ld,\"from\":\"/participant/%ld\",\"occurred\":\"%.*s\",\"subject\":\"%.*s\",\"story\":\"%.*s\"},", reader->number[0],
				reader->number[1], ARG(2), ARG(3), ARG(4))
			: sprintf(at, "{\"id\":%ld,\"name\":\"%.*s\",\"price\":%.*s},", reader->number[0], ARG(1), ARG(2));
	mysql_stmt_free_result(reader->statement);
	if (at[-1] == ',')
		at--;
	*at++ = ']';
	request->len = (size_t)(at - reader->answer);
	request->answer = malloc(request->len);
	memcpy(request->answer, reader->answer, request->len);
}

static void *read_all(void *arg)
{
	struct reader *reader = calloc(1, sizeof(*reader));

	open_reader(reader);
	for (;;) {
		struct request *request;

		pthread_mutex_lock(&lock);
		while (first == NULL)
			pthread_cond_wait(&wanted, &lock);
		request = first;
		first = request->next;
		if (first == NULL)
			last = &first;
		pthread_mutex_unlock(&lock);
		answer(reader, request);
		MHD_resume_connection(request->connection);
	}
	return arg;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	const char *data, size_t *size, void **state)
{
	struct request *request = *state;
	struct MHD_Response *response;
	enum MHD_Result rc;

	(void)arg, (void)method, (void)version, (void)data, (void)size;
	if (request == NULL) {
		request = calloc(1, sizeof(*request));
		request->connection = connection;
		*state = request;
		return MHD_YES;
	}
	if (request->answer != NULL) {
		response = MHD_create_response_from_buffer(request->len, request->answer, MHD_RESPMEM_MUST_FREE);
		MHD_add_response_header(response, "Content-Type", "application/json");
		rc = MHD_queue_response(connection, MHD_HTTP_OK, response);
		MHD_destroy_response(response);
		return rc;
	}
	if (is_inbound)
		sscanf(url, "/participant/%ld/inbound", &request->participant);
	MHD_suspend_connection(connection);
	pthread_mutex_lock(&lock);
	request->next = NULL;
	*last = request;
	last = &request->next;
	pthread_cond_signal(&wanted);
	pthread_mutex_unlock(&lock);
	return MHD_YES;
}

static void on_end(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	(void)arg, (void)connection, (void)code;
	free(*state);
	*state = NULL;
}

int main(int argc, char **argv)
{
	struct MHD_Daemon *daemon;
	sigset_t stop;
	int signal_number;
	unsigned threads;

	floor_options(argc, argv);
	is_inbound = strcmp(floor_text("WHAT", "products"), "inbound") == 0;
	threads = (unsigned)floor_number("THREADS", 1);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);
	for (long i = floor_number("READERS", 4); i > 0; i--) {
		pthread_t thread;

		pthread_create(&thread, NULL, read_all, NULL);
	}
	daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, (uint16_t)floor_number("PORT", 3000), NULL, NULL, on_request,
		NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0, MHD_OPTION_CONNECTION_LIMIT, 4000u,
		MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u, MHD_OPTION_END);
	floor_want(daemon != NULL, "listen");
	floor_keep_going(MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	floor_report("ready", 1);
	sigwait(&stop, &signal_number);
	_Exit(0);
}
