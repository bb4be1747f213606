/* Nothing goes in; documents come out, by _bulk over one connection: the next request when the last is answered.
 *   SEARCH_URL  SEARCH_INDEX  DOCS=50000  BATCH=500  BYTES=190 (of a story)  THREADS=1 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"

static long docs, batch, bytes;
static long next_doc;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long take(void)
{
	long from;

	pthread_mutex_lock(&lock);
	from = next_doc;
	next_doc += batch;
	pthread_mutex_unlock(&lock);
	return from;
}

static size_t read_answer(char *data, size_t size, size_t count, void *arg)
{
	if (memmem(data, size * count, "\"errors\":false", 14) != NULL)
		*(int *)arg = 1;
	return size * count;
}

static size_t write_body(char *body, const char *story, long from, long count)
{
	char *at = body;

	for (long id = from; id < from + count; id++)
		at += sprintf(at, "{\"create\":{\"_id\":\"%ld\"}}\n{\"id\":\"%ld\",\"sender\":%ld,\"subject\":\"subject %ld\",\"story\":\"%s\",\"posted_at\":1769860800000}\n",
			id, id, id % 1000 + 1, id, story);
	return (size_t)(at - body);
}

static void *work(void *arg)
{
	struct curl_slist *headers = curl_slist_append(curl_slist_append(NULL, "Content-Type: application/x-ndjson"), "Expect:");
	CURL *curl = curl_easy_init();
	char *body = malloc((size_t)(batch * (bytes + 250)));
	char *story = malloc((size_t)bytes + 1);
	char url[1024];
	int is_fine;

	snprintf(url, sizeof(url), "%s/%s/_bulk?filter_path=errors", floor_text("SEARCH_URL", NULL), floor_text("SEARCH_INDEX", NULL));
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, read_answer);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &is_fine);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	for (long from; (from = take()) < docs;) {
		const long count = from + batch <= docs ? batch : docs - from;

		floor_story(story, (size_t)bytes, (uint64_t)from);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)write_body(body, story, from + 1, count));
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
		is_fine = 0;
		floor_want(curl_easy_perform(curl) == CURLE_OK && is_fine, "_bulk");
	}
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	free(body);
	free(story);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	double began;
	long count;

	floor_options(argc, argv);
	docs = floor_number("DOCS", 50000);
	batch = floor_number("BATCH", 500);
	bytes = floor_number("BYTES", 190);
	count = floor_number("THREADS", 1);
	floor_want(count <= 64, "THREADS <= 64");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	began = floor_now();
	for (long i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	floor_report("seconds", floor_now() - began);
	floor_report("docs_per_s", (double)docs / (floor_now() - began));
	return 0;
}
