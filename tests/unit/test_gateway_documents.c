/* documents: the contract twice, and the page when all its files are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "api-gateway/documents.h"
#include "common/base/buf.h"

static const char *const files[] = {
	"index.html", "page.js", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "favicon-32x32.png", "LICENSE", "NOTICE",
};

#define FILES (sizeof(files) / sizeof(files[0]))

struct place {
	char folder[40];
	struct contract *contract;
};

static const char *name_of(const struct place *place, const char *file)
{
	static char name[128];

	snprintf(name, sizeof(name), "%s/%s", place->folder, file);
	return name;
}

static void put(const struct place *place, const char *file, const char *text)
{
	FILE *out = fopen(name_of(place, file), "w");

	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(0, fclose(out));
}

static int make_place(void **state)
{
	static struct place place;
	struct err err = ERR_INIT;

	snprintf(place.folder, sizeof(place.folder), "/tmp/test_gateway_documents.XXXXXX");
	if (mkdtemp(place.folder) == NULL || contract_load("config/api/feedmill.openapi.yaml", &place.contract, &err) < 0)
		return -1;
	for (size_t i = 0; i < FILES; i++)
		put(&place, files[i], files[i]);
	*state = &place;
	return 0;
}

static int drop_place(void **state)
{
	struct place *place = *state;

	for (size_t i = 0; i < FILES; i++)
		unlink(name_of(place, files[i]));
	contract_free(place->contract);
	return rmdir(place->folder);
}

static bool is_served(const struct documents *documents, const char *path, const char *bytes)
{
	const struct document *document = documents_find(documents, slice_of(path));

	return document != NULL && slice_is(document->bytes, bytes);
}

static void the_page_is_served_under_docs(void **state)
{
	const struct place *place = *state;
	struct documents *documents = documents_new(place->contract, place->folder);
	struct err why = ERR_INIT;

	assert_true(documents_complete(documents, &why));
	assert_true(is_served(documents, "/docs", "index.html"));
	assert_true(is_served(documents, "/docs/LICENSE", "LICENSE"));
	assert_string_equal("../docs", documents_find(documents, slice_of("/docs/"))->location);
	assert_null(documents_find(documents, slice_of("/docs/index.html")));
	assert_null(documents_find(documents, slice_of("/docs/../documents.c")));
	assert_true(documents_find(documents, slice_of("/docs"))->is_page);
	assert_false(documents_find(documents, slice_of("/openapi.yaml"))->is_page);
	documents_free(documents);
}

static void another_text_has_another_etag(void **state)
{
	const struct place *place = *state;
	struct documents *one = documents_new(place->contract, place->folder), *other;

	put(place, "page.js", "page.jt");
	other = documents_new(place->contract, place->folder);
	assert_string_not_equal(documents_find(one, slice_of("/docs/page.js"))->etag, documents_find(other, slice_of("/docs/page.js"))->etag);
	assert_string_equal(documents_find(one, slice_of("/docs"))->etag, documents_find(other, slice_of("/docs"))->etag);
	documents_free(one);
	documents_free(other);
}

static void half_a_page_is_none(void **state)
{
	const struct place *place = *state;
	struct documents *documents;
	struct err why = ERR_INIT;

	unlink(name_of(place, "swagger-ui.css"));
	documents = documents_new(place->contract, place->folder);
	assert_false(documents_complete(documents, &why));
	assert_non_null(strstr(why.message, "swagger-ui.css"));
	assert_null(documents_find(documents, slice_of("/docs"))->bytes.data);
	assert_true(is_served(documents, "/openapi.json", contract_json(place->contract).data));
	documents_free(documents);
}

static void without_a_folder_its_paths_are_unknown(void **state)
{
	const struct place *place = *state;
	struct documents *documents = documents_new(place->contract, "");
	struct err why = ERR_INIT;

	assert_true(documents_complete(documents, &why));
	assert_null(documents_find(documents, slice_of("/docs")));
	assert_null(documents_find(documents, slice_of("/docs/")));
	assert_non_null(documents_find(documents, slice_of("/openapi.yaml")));
	documents_free(documents);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_page_is_served_under_docs, make_place, drop_place),
		cmocka_unit_test_setup_teardown(another_text_has_another_etag, make_place, drop_place),
		cmocka_unit_test_setup_teardown(half_a_page_is_none, make_place, drop_place),
		cmocka_unit_test_setup_teardown(without_a_folder_its_paths_are_unknown, make_place, drop_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
