/* A verb and its words go in, what an operator asked for comes out: THE TABLE of feedctl. */
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/program.h"
#include "common/http/http_client.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "ctl/ctl.h"

struct verb {
	const char *name;
	const char *arguments;
	const char *help; /* one line */
	const char *more; /* for `feedctl VERB --help` */
	int (*run)(const struct settings *settings, int argc, char **argv);
};

static const struct verb verbs[] = {
	{ "migrate", "[--sql DIR]", "make or update the tables and the search index",
		"  --sql DIR   where the numbered SQL files are\n"
		"Safe to repeat, and safe while programs run.\n",
		ctl_migrate },
	{ "topics", "[--check]", "make the Kafka topics that are missing, and show them all",
		"  --check     make nothing; exit code 1 when a topic is missing or differs from the settings\n"
		"A topic that differs is not changed: more partitions would send a key elsewhere than before.\n",
		ctl_topics },
	{ "lag", "[--partitions] [--watch] [--every S]", "show how far each worker's group is behind its topic, and what is at risk",
		"  --partitions   a line for each partition\n"
		"  --watch        again every 5 seconds, until a signal comes; at a terminal in place of what was shown before\n"
		"  --every S      with another time between\n"
		"committed and end are sums of offsets over all partitions; lag is the number of records not done; oldest is the age of\n"
		"the oldest of them, and retention that age as a part of how long the topic keeps records: at 100% they are lost.\n"
		"Exit code 3: some group is past half of it (AT RISK), or has lost records (LOST); of --watch the last look counts.\n",
		ctl_lag },
	{ "offsets", "GROUP show|set|to-time … [--topic T] [--partition N] [--dry-run]", "show where a group is, or set where it goes on",
		"  GROUP show                     each partition's offset, first and end, and when the next record was written\n"
		"  GROUP set beginning|end|N      goes on at what is left of the beginning, at the end, or at that offset\n"
		"  GROUP to-time TIME             goes on at the first record of that time or later\n"
		"  --topic T, --partition N       of these alone; N of set is an offset of one partition\n"
		"  --dry-run                      say what would be set\n"
		"The group's workers must be stopped first; Kafka keeps a name's place for kafka.session_timeout_ms after that. To go back is\n"
		"safe: replaying any record changes nothing. What is skipped is not done by anybody.\n"
		"A TIME is 2026-01-31T12:00:00Z, 2026-01-31, or 90s, 15m, 2h, 7d ago.\n",
		ctl_offsets },
	{ "health", "[ADDRESS]", "ask a gateway or worker whether it is ready",
		"  ADDRESS   address:port of its admin port; without: the setting gateway.admin\n"
		"Exit code 1 when it is not ready, or does not answer.\n",
		ctl_health },
	{ "tail", "TOPIC [--from-beginning] [--count N] [--timeout S]", "print the records of a topic as they come",
		"  --from-beginning   also those that are there\n"
		"  --count N          leave after N records\n"
		"  --timeout S        leave after S seconds; exit code 1 when --count was not reached\n"
		"One line a record; control characters and bytes that are not UTF-8 show as \\xNN.\n",
		ctl_tail },
	{ "dlq", "list|show|replay|purge …", "list, read, send again or delete dead letters",
		"  list [WORKER]          the letters of a worker, or of all, oldest first: where each came from, and why it is here\n"
		"  show WORKER OFFSET     one of them whole, with headers and value\n"
		"  replay WORKER|all [OFFSET…]  send the same records to the topics where they came from, and mark the letters\n"
		"  purge WORKER|all --to OFFSET|TIME|end   delete the letters before it, after asking\n"
		"For list and replay:\n"
		"  --since TIME, --until TIME   given up from then on, or before\n"
		"  --error TEXT                 whose reason has these words\n"
		"  --key KEY                    with this key\n"
		"  --replayed                   also those that were sent again\n"
		"Further:\n"
		"  --json       list and show: an object a line\n"
		"  --rate N     replay: letters a second; without: 100\n"
		"  --dry-run    replay and purge: say what would be done\n"
		"  --yes        purge: do not ask\n"
		"A TIME is 2026-01-31T12:00:00Z, 2026-01-31, or 90s, 15m, 2h, 7d ago. An OFFSET is PARTITION/OFFSET where a topic has\n"
		"several partitions. A replay may be stopped, killed or done twice: records go by their ids, and take effect once.\n"
		"Exit code 1: something was refused, or is left to do.\n",
		ctl_dlq },
	{ "post", "PARTICIPANT SUBJECT STORY [--wait N]", "post through the gateway, as a client would",
		"  --wait N   wait up to N seconds until the friends have it\n",
		ctl_post },
	{ "prune", "[--dry-run]", "delete rows that nobody asks for any more",
		"  --dry-run   count them\n"
		"Outcomes of commands, and chunks of long friend lists that are done, a day after the topic has forgotten the records that they\n"
		"answer for; answers to requests with an Idempotency-Key that have expired. In short transactions, safe at any time and to\n"
		"repeat. The command worker does the same every command.prune_s seconds.\n",
		ctl_prune },
	{ "story", "", "play a short story through the gateway, showing each step", "", ctl_story },
	{ "up", "[--replicas NAME=N,…]", "run the gateway and all workers of a configuration, until a signal comes",
		"  --replicas NAME=N,…   how many of each (gateway, or a worker's name), 0 to 64; without: one\n"
		"Holds the gateway's listening socket, so that no connection is refused while a gateway is replaced; starts again what\n"
		"ends unasked; passes all log lines on, each with replica=NAME.N before it.\n"
		"SIGTERM, SIGINT  gateways drain and end, then workers; a second signal ends all at once\n"
		"SIGHUP           rolling restart: reads the settings again, and replaces one process after another, from the programs\n"
		"                 that are there now\n"
		"Exit code 2: the settings, or what a program made of them, were refused.\n",
		ctl_up },
	{ "webhook", "add|list|enable|remove|test …", "who gets product events by HTTP",
		"  add URL [--events TYPE,…]   product.created, product.deleted; without: both. Prints its id, and the secret of its\n"
		"                              signatures, which is not shown again\n"
		"  list                        all of them, with what waits for each, and why one fails or was disabled\n"
		"  enable ID                   one that was disabled is called again, at once, with what waits for it\n"
		"  remove ID                   with what waits for it\n"
		"  test ID                     sends it a message of type webhook.test, and waits up to 30 s until it has it\n"
		"The worker relay calls them; relay.webhook_addresses says whether it may call addresses that are not public.\n",
		ctl_webhook },
	{ "job", "send|status|revoke|inspect|purge …", "have a background job done, and look after those who do them",
		"  send NAME [ARGUMENTS] [BY NAME]   a JSON array, a JSON object; prints the job's id\n"
		"    --queue QUEUE        without: the first of job.queues\n"
		"    --eta TIME           not before it\n"
		"    --countdown S        not before so many seconds have passed\n"
		"    --expires S          not when so many seconds have passed\n"
		"    --priority N         0 to 255\n"
		"    --wait S             wait for its result, and print it as status does\n"
		"  status ID                         its state and its result, where job.results has database\n"
		"  revoke ID [--terminate]           it is not to be begun; --terminate: ended, too, where it runs\n"
		"  inspect [WHAT]                    ask the nodes: ping (without WHAT), active, reserved, scheduled, registered, stats,\n"
		"                                    active_queues, revoked, conf, report, clock; a line a node, its answer as JSON\n"
		"    --node NAME          revoke and inspect: this one alone\n"
		"    --timeout S          how long answers are waited for; without: 2 seconds\n"
		"  purge QUEUE [--yes]               delete what waits there, after asking; --yes does not ask\n"
		"A TIME is 2026-01-31T12:00:00Z or 2026-01-31. Nodes are all that listen, Python workers of Celery too.\n"
		"Exit code 1: it failed or was revoked, was refused, or nobody answered.\n",
		ctl_job },
	{ "config", "check|show", "say whether the settings are right, or print them all",
		"check   reads file and environment, and names what is wrong\n"
		"show    prints every setting with its value now, as a file; secrets as ***\n",
		ctl_config },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const char *list_verbs(void)
{
	static struct buf text = BUF_INIT; /* one thread, and kept for the caller */

	buf_reset(&text);
	buf_add_str(&text, "verbs (feedctl VERB --help tells more):\n");
	for (size_t i = 0; i < VERBS; i++)
		buf_addf(&text, "  %s%s%s\n      %s\n", verbs[i].name, verbs[i].arguments[0] != '\0' ? " " : "", verbs[i].arguments,
			verbs[i].help);
	return text.data;
}

static const char *verb_names(void)
{
	static struct buf text = BUF_INIT;

	buf_reset(&text);
	for (size_t i = 0; i < VERBS; i++)
		buf_addf(&text, "%s%s", i > 0 ? ", " : "", verbs[i].name);
	return text.data;
}

static const char *list_libraries(void)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s, %s, %s", queue_library(), store_library(), http_client_library());
	return text;
}

static int show_help(const struct verb *verb)
{
	printf("feedctl %s: %s\n\nusage: feedctl [OPTION…] %s %s\n%s", verb->name, verb->help, verb->name, verb->arguments, verb->more);
	return 0;
}

static int run(const struct settings *settings, int argc, char **argv)
{
	if (argc < 1)
		return program_usage("no verb given");
	for (size_t i = 0; i < VERBS; i++) {
		if (strcmp(verbs[i].name, argv[0]) != 0)
			continue;
		if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
			return show_help(&verbs[i]);
		return verbs[i].run(settings, argc, argv);
	}
	return program_usage("no verb %s; there are %s", argv[0], verb_names());
}

static const struct program feedctl = {
	.name = "feedctl",
	.summary = "the operator's tool of Feedmill",
	.synopsis = "VERB [ARGUMENT…]",
	.details = list_verbs,
	.libraries = list_libraries,
	.run = run,
};

int main(int argc, char **argv)
{
	return program_main(&feedctl, argc, argv);
}
