/* A record's value and the names of fields go in, their checked values come out, or the first thing that was wrong. */
#include "common/model/fields.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void fields_wrong(struct fields *f, const char *format, ...)
{
	char words[sizeof(f->err->message)];
	va_list args;

	if (f->is_wrong)
		return;
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	f->is_wrong = true;
	err_set(f->err, ERR_INVALID, "%s: %s", f->what, words);
}

const struct json *fields_member(struct fields *f, const char *name, enum json_type type)
{
	const struct json *member = json_get(f->object, name);

	if (member == NULL) {
		fields_wrong(f, "%s%s is missing", f->within, name);
		return NULL;
	}
	if (json_type(member) != type) {
		fields_wrong(f, "%s%s must be of type %s, not %s", f->within, name, json_type_name(type), json_type_name(json_type(member)));
		return NULL;
	}
	return member;
}

int64_t fields_int(struct fields *f, const char *name, int64_t min, int64_t max)
{
	const struct json *member = fields_member(f, name, JSON_NUMBER);
	int64_t number;

	if (member == NULL)
		return min;
	if (!json_int64(member, &number) || number < min || number > max) {
		fields_wrong(f, "%s%s must be a whole number from %" PRId64 " to %" PRId64, f->within, name, min, max);
		return min;
	}
	return number;
}

int64_t fields_id(struct fields *f, const char *name)
{
	return fields_int(f, name, 1, ID_MAX);
}

struct slice fields_string(struct fields *f, const char *name)
{
	return json_string(fields_member(f, name, JSON_STRING));
}

int text_check(const char *name, struct slice text, size_t min, size_t max, struct err *err)
{
	size_t length;

	if (text.data == NULL)
		return err_set(err, ERR_INVALID, "%s must be a text", name);
	length = str_utf8_length(text);
	if (length < min || length > max)
		return err_set(err, ERR_INVALID, "%s must have %zu to %zu characters, not %zu", name, min, max, length);
	return 0;
}

struct slice fields_text(struct fields *f, const char *name, size_t min, size_t max)
{
	struct slice text = fields_string(f, name);
	struct err why = ERR_INIT;

	if (text.data != NULL && text_check(name, text, min, max, &why) < 0)
		fields_wrong(f, "%s%s", f->within, why.message);
	return text;
}

void fields_enter(struct fields *f, const char *name, const char *within)
{
	f->object = fields_member(f, name, JSON_OBJECT);
	f->within = within;
}

/* What a program writes may be read by one that is a version older or newer, no more. */
static void check_version(struct fields *f)
{
	const int64_t oldest = RECORD_VERSION > 1 ? RECORD_VERSION - 1 : 1;

	fields_int(f, "v", oldest, RECORD_VERSION);
}

int fields_open(struct fields *f, const char *what, struct slice value, struct err *err)
{
	*f = (struct fields){ .what = what, .within = "", .err = err };
	if (value.data == NULL)
		return err_set(err, ERR_INVALID, "%s: the record has no value", what);
	f->root = json_parse(value, err);
	if (f->root == NULL)
		return err_wrap(err, "%s", what);
	if (json_type(f->root) != JSON_OBJECT)
		fields_wrong(f, "must be an object, not %s", json_type_name(json_type(f->root)));
	f->object = f->root;
	if (!f->is_wrong)
		check_version(f);
	return f->is_wrong ? fields_done(f) : 0;
}

int fields_done(struct fields *f)
{
	if (!f->is_wrong)
		return 0;
	json_free(f->root);
	f->root = NULL;
	return -1;
}
