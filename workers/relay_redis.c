/* Product events go in, PUBLISH on a channel of Redis comes out. The only user of hiredis.
 *
 * Redis keeps nothing for a subscriber that is away: to it an event comes at most once, and none comes again later. */
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <hiredis/hiredis.h>

#include "common/base/mem.h"
#include "workers/relay.h"

#define DEFAULT_PORT 6379

struct redis {
	struct relay relay;
	const char *channel;
	struct timeval timeout;
	char *url; /* our copy, cut into what follows; empty text: not given */
	const char *host, *user, *password;
	int port;
	redisContext *link; /* NULL: not connected */
};

/* ---- where it is */

static bool redis_is_on(const struct settings *settings)
{
	return settings->redis.url[0] != '\0';
}

static int decode(char *text)
{
	return str_percent_decode(slice_of(text), false, text) < 0 ? -1 : 0;
}

/* redis://[[user:]password@]host[:port][/]; without TLS, which this library has not. The words show no secret. */
static int cut_url(struct redis *redis, struct err *err)
{
	static const char scheme[] = "redis://";
	char *rest = redis->url + strlen(scheme);
	char *at, *colon, *slash;
	int64_t port = DEFAULT_PORT;

	redis->user = redis->password = "";
	if (strncmp(redis->url, scheme, strlen(scheme)) != 0)
		goto wrong;
	at = strrchr(rest, '@');
	if (at != NULL) {
		*at = '\0';
		colon = strchr(rest, ':');
		if (colon != NULL) {
			*colon = '\0';
			redis->user = rest;
			rest = colon + 1;
		}
		redis->password = rest;
		if (decode((char *)redis->user) < 0 || decode(rest) < 0)
			goto wrong;
		rest = at + 1;
	}
	slash = strchr(rest, '/');
	if (slash != NULL)
		*slash = '\0';
	colon = strrchr(rest, ':');
	if (colon != NULL) {
		*colon = '\0';
		if (!str_int64(slice_of(colon + 1), &port) || port < 1 || port > 65535)
			goto wrong;
	}
	if (rest[0] == '\0')
		goto wrong;
	redis->host = rest;
	redis->port = (int)port;
	return 0;
wrong:
	return err_set(err, ERR_FATAL, "setting redis.url is no URL like redis://user:password@host:6379");
}

/* ---- life */

static void disconnect(struct redis *redis)
{
	if (redis->link != NULL)
		redisFree(redis->link);
	redis->link = NULL;
}

static void redis_close(void *state)
{
	struct redis *redis = state;

	disconnect(redis);
	relay_release(&redis->relay);
	free(redis->url);
	free(redis);
}

static int redis_open(const struct settings *settings, void **state, struct err *err)
{
	struct redis *redis = mem_zalloc(sizeof(*redis));

	relay_init(&redis->relay, settings, "redis");
	redis->channel = settings->sink.channel;
	redis->timeout = (struct timeval){ (time_t)(settings->redis.timeout_ms / 1000), (suseconds_t)(settings->redis.timeout_ms % 1000) * 1000 };
	redis->url = mem_strdup(settings->redis.url);
	if (cut_url(redis, err) < 0) {
		redis_close(redis);
		return -1;
	}
	*state = redis;
	return 0;
}

/* ---- talking */

/* One answer; an error of the server's is one of ours, and the connection goes with it. */
static int answer(struct redis *redis, const char *doing, struct err *err)
{
	void *got = NULL;
	redisReply *reply;
	int rc = 0;

	if (redisGetReply(redis->link, &got) != REDIS_OK) {
		err_set(err, ERR_UNAVAILABLE, "Redis at %s:%d, %s: %s", redis->host, redis->port, doing,
			redis->link->errstr[0] != '\0' ? redis->link->errstr : "no answer in time");
		disconnect(redis);
		return -1;
	}
	reply = got;
	if (reply->type == REDIS_REPLY_ERROR) {
		rc = err_set(err, ERR_UNAVAILABLE, "Redis at %s:%d, %s: %.*s", redis->host, redis->port, doing, (int)reply->len, reply->str);
		disconnect(redis);
	}
	freeReplyObject(reply);
	return rc;
}

static int connect_redis(struct redis *redis, struct err *err)
{
	if (redis->link != NULL)
		return 0;
	redis->link = redisConnectWithTimeout(redis->host, redis->port, redis->timeout);
	if (redis->link == NULL || redis->link->err != 0) {
		err_set(err, ERR_UNAVAILABLE, "Redis at %s:%d: %s", redis->host, redis->port, redis->link != NULL ? redis->link->errstr : "no memory");
		disconnect(redis);
		return -1;
	}
	redisSetTimeout(redis->link, redis->timeout);
	redisEnableKeepAlive(redis->link);
	if (redis->password[0] == '\0')
		return 0;
	if (redis->user[0] != '\0')
		redisAppendCommand(redis->link, "AUTH %s %s", redis->user, redis->password);
	else
		redisAppendCommand(redis->link, "AUTH %s", redis->password);
	return answer(redis, "logging in", err);
}

static int redis_check(void *state, struct err *err)
{
	struct redis *redis = state;

	if (connect_redis(redis, err) < 0)
		return -1;
	redisAppendCommand(redis->link, "PING");
	return answer(redis, "asking", err);
}

/* All at once, in order; answers come in the same order. What was answered before a failure is not sent again. */
static int redis_handle(void *state, struct batch *batch, struct err *err)
{
	struct redis *redis = state;
	struct relay *relay = &redis->relay;

	relay_take(relay, batch);
	if (relay->count == 0)
		return 0;
	if (connect_redis(redis, err) < 0)
		return -1;
	for (size_t e = 0; e < relay->count; e++)
		redisAppendCommand(redis->link, "PUBLISH %s %b", redis->channel, relay->events[e].value.data, relay->events[e].value.len);
	for (size_t e = 0; e < relay->count; e++) {
		if (answer(redis, "publishing", err) < 0)
			return -1;
		relay_done(relay, &relay->events[e]);
	}
	return 0;
}

const struct worker_ops relay_redis_sink = {
	.settings = relay_settings,
	.open = redis_open,
	.dependency = "redis",
	.check = redis_check,
	.handle = redis_handle,
	.close = redis_close,
	.is_on = redis_is_on,
};
