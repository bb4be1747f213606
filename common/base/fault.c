/* FAULT and SABOTAGE of the environment go in; at the passages that they name the process dies, stops, or is told to fail. */
#include "common/base/fault.h"

#ifdef FEEDMILL_FAULTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULTS_MAX 16

enum action { ACTION_KILL, ACTION_STOP, ACTION_ERR, ACTION_COUNT };

static const char *const action_names[ACTION_COUNT] = { "kill", "stop", "err" };

struct fault {
	char point[64];
	long at;
	enum action action;
	atomic_long passages;
};

static struct fault faults[FAULTS_MAX];
static size_t fault_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A test that names no fault would pass without one. */
static void refuse(const char *text)
{
	fprintf(stderr, "FAULT: \"%s\" is not name:N:kill|stop|err\n", text);
	_exit(2);
}

static void add(const char *text)
{
	struct fault *fault = &faults[fault_count];
	char action[8] = "";

	if (fault_count == FAULTS_MAX || sscanf(text, "%63[^:]:%ld:%7s", fault->point, &fault->at, action) != 3 || fault->at < 1)
		refuse(text);
	for (fault->action = 0; fault->action < ACTION_COUNT; fault->action++)
		if (strcmp(action_names[fault->action], action) == 0)
			break;
	if (fault->action == ACTION_COUNT)
		refuse(text);
	fault_count++;
}

static void read_environment(void)
{
	const char *text = getenv("FAULT");
	char *copy = strdup(text != NULL ? text : "");
	char *place = NULL;

	if (copy == NULL)
		abort();
	for (char *one = strtok_r(copy, ",", &place); one != NULL; one = strtok_r(NULL, ",", &place))
		add(one);
	free(copy);
}

static bool act(const struct fault *fault)
{
	static const int signals[] = { [ACTION_KILL] = SIGKILL, [ACTION_STOP] = SIGSTOP };

	dprintf(STDERR_FILENO, "event=fault point=%s passage=%ld action=%s\n", fault->point, fault->at, action_names[fault->action]);
	if (fault->action == ACTION_ERR)
		return true;
	kill(getpid(), signals[fault->action]);
	return false;
}

bool fault_at(const char *point)
{
	bool fails = false;

	pthread_once(&once, read_environment);
	for (size_t i = 0; i < fault_count; i++)
		if (strcmp(faults[i].point, point) == 0 && atomic_fetch_add(&faults[i].passages, 1) + 1 == faults[i].at)
			fails = act(&faults[i]) || fails;
	return fails;
}

bool fault_is_off(const char *guard)
{
	const char *rest = getenv("SABOTAGE");
	const size_t len = strlen(guard);

	while (rest != NULL && *rest != '\0') {
		const size_t word = strcspn(rest, ",");

		if (word == len && memcmp(rest, guard, len) == 0)
			return true;
		rest += word + (rest[word] == ',');
	}
	return false;
}

#endif
