/* A table of settings, a file and the environment go in, a filled struct comes out; and the way back, as a sample file.
 *
 * libconfig reads `n = 3000000000` as a negative number: without the suffix L an integer has 32 bits and wraps in
 * silence. So widen_integers() gives every integer its L before libconfig sees the text, and refuses what needs
 * more than 64 bits; nothing but L is put in, so lines keep their numbers. */
#include "common/base/conf.h"

#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define ENV_PREFIX "FEEDMILL_"
#define ENV_FILE_NAME "FEEDMILL_CONFIG" /* names the file: not a setting */
#define FILE_SUFFIX "_file"
#define NAME_MAX_BYTES 128
#define PLACE_MAX 256
#define CONFIG_MAX_BYTES (1 << 20)
#define SECRET_MAX 4096 /* of a line in a file; rows allow less */

struct load {
	char *target;
	const struct conf_row *rows;
	size_t count;
	const char *file;
	bool *given; /* by row: set by the source that is being read */
	struct err *err;
};

/* --- the fields --- */

static char **text_field(const struct conf_row *row, void *target)
{
	return (char **)(void *)((char *)target + row->offset);
}

static int64_t *int_field(const struct conf_row *row, void *target)
{
	return (int64_t *)(void *)((char *)target + row->offset);
}

static bool *bool_field(const struct conf_row *row, void *target)
{
	return (bool *)(void *)((char *)target + row->offset);
}

static bool is_text(const struct conf_row *row)
{
	return row->type == CONF_TEXT || row->type == CONF_SECRET || row->type == CONF_CHOICE;
}

static bool is_choice_of(const char *choices, const char *text)
{
	struct slice rest = slice_of(choices);

	while (rest.data != NULL) {
		if (slice_is(slice_cut(&rest, '|'), text))
			return true;
	}
	return false;
}

/* place: "FILE:LINE: setting mysql.port" or "environment: FEEDMILL_MYSQL_PORT", the start of any complaint. */
static int store_text(struct load *l, const struct conf_row *row, const char *place, const char *text)
{
	size_t len = strlen(text);
	char **field = text_field(row, l->target);

	if (row->type == CONF_CHOICE && !is_choice_of(row->choices, text))
		return err_set(l->err, ERR_FATAL, "%s: \"%.64s\" is not one of %s", place, text, row->choices);
	if (row->type != CONF_CHOICE && ((int64_t)len < row->min || (int64_t)len > row->max))
		return err_set(l->err, ERR_FATAL, "%s: a text of %zu bytes is not between %lld and %lld long", place, len,
			(long long)row->min, (long long)row->max);
	free(*field);
	*field = mem_strdup(text);
	return 0;
}

static int store_int(struct load *l, const struct conf_row *row, const char *place, int64_t number)
{
	if (number < row->min || number > row->max)
		return err_set(l->err, ERR_FATAL, "%s: %lld is not between %lld and %lld", place, (long long)number,
			(long long)row->min, (long long)row->max);
	*int_field(row, l->target) = number;
	return 0;
}

/* A value that came as text: a default, or from the environment. */
static int store_from_text(struct load *l, const struct conf_row *row, const char *place, const char *text)
{
	int64_t number;

	if (is_text(row))
		return store_text(l, row, place, text);
	if (row->type == CONF_INT) {
		if (!str_int64(slice_of(text), &number))
			return err_set(l->err, ERR_FATAL, "%s: \"%.64s\" is not a whole number of at most 64 bits", place, text);
		return store_int(l, row, place, number);
	}
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return err_set(l->err, ERR_FATAL, "%s: \"%.64s\" is neither true nor false", place, text);
	*bool_field(row, l->target) = text[0] == 't';
	return 0;
}

/* --- secrets by file --- */

static int check_private(struct load *l, FILE *in, const char *place, const char *path)
{
	struct stat st;

	if (fstat(fileno(in), &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(l->err, ERR_FATAL, "%s: %.128s is not a file", place, path);
	if ((st.st_mode & 077) != 0)
		return err_set(l->err, ERR_FATAL, "%s: others may use %.128s (mode %03o): chmod 600", place, path,
			(unsigned)(st.st_mode & 0777));
	return 0;
}

static int store_secret_file(struct load *l, const struct conf_row *row, const char *place, const char *path)
{
	FILE *in = fopen(path, "re");
	char line[SECRET_MAX];
	int rc = -1;

	if (in == NULL)
		return err_set(l->err, ERR_FATAL, "%s: can't read %.128s: %s", place, path, strerror(errno));
	if (check_private(l, in, place, path) < 0)
		goto out;
	if (fgets(line, sizeof(line), in) == NULL) {
		err_set(l->err, ERR_FATAL, "%s: %.128s is empty", place, path);
		goto out;
	}
	line[strcspn(line, "\r\n")] = '\0';
	rc = store_text(l, row, place, line); /* a longer first line is cut here, and too long there */
out:
	explicit_bzero(line, sizeof(line));
	fclose(in);
	return rc;
}

/* The row of that name, or (by_file) the secret row whose name with "_file" behind it that is. */
static const struct conf_row *row_find(const struct load *l, const char *name, bool *by_file)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct conf_row *row = &l->rows[i];
		size_t len = strlen(row->name);

		*by_file = row->type == CONF_SECRET && strncmp(name, row->name, len) == 0 && strcmp(name + len, FILE_SUFFIX) == 0;
		if (*by_file || strcmp(name, row->name) == 0)
			return row;
	}
	return NULL;
}

/* A secret by value and by file from one source would leave open which is meant. */
static int give_once(struct load *l, const struct conf_row *row, const char *place)
{
	bool *given = &l->given[row - l->rows];

	if (*given)
		return err_set(l->err, ERR_FATAL, "%s: %s is given twice, by value and by file", place, row->name);
	*given = true;
	return 0;
}

/* --- the file --- */

/* Behind a number: "12", "-12", "12L", "0x1f"; false: something else, libconfig's to judge. */
static bool parse_integer(struct slice token, bool *fits, bool *has_suffix)
{
	char digits[80];
	size_t len = token.len;
	bool is_hex;
	char *end;

	*has_suffix = len > 0 && token.data[len - 1] == 'L';
	while (len > 0 && token.data[len - 1] == 'L')
		len--;
	*fits = len < sizeof(digits);
	if (!*fits)
		return strspn(token.data, "+-0123456789") >= len;
	memcpy(digits, token.data, len);
	digits[len] = '\0';
	is_hex = len > 2 && digits[0] == '0' && (digits[1] | 0x20) == 'x';
	errno = 0;
	(void)strtoll(digits, &end, is_hex ? 16 : 10);
	*fits = errno == 0;
	return end != digits && *end == '\0';
}

struct scanner {
	const char *at, *end;
	unsigned line;
};

/* Copies up to and with the end mark; a newline counts. */
static void copy_until(struct scanner *s, const char *mark, bool has_escapes, struct buf *out)
{
	size_t len = strlen(mark);

	while (s->at < s->end) {
		if ((size_t)(s->end - s->at) >= len && memcmp(s->at, mark, len) == 0) {
			if (*mark == '\n')
				return; /* the caller counts it */
			buf_add(out, mark, len);
			s->at += len;
			return;
		}
		if (has_escapes && *s->at == '\\' && s->end - s->at > 1)
			buf_add_char(out, *s->at++);
		s->line += *s->at == '\n';
		buf_add_char(out, *s->at++);
	}
}

/* A name, a number, a word: letters, digits and what stands inside numbers. */
static int copy_word(struct load *l, struct scanner *s, struct buf *out)
{
	const char *from = s->at++;
	bool fits, has_suffix;
	struct slice token;

	while (s->at < s->end && (isalnum((unsigned char)*s->at) || strchr("_.*-+", *s->at) != NULL))
		s->at++;
	token = (struct slice){ from, (size_t)(s->at - from) };
	buf_add(out, token.data, token.len);
	if (isalpha((unsigned char)*from) || *from == '*' || !parse_integer(token, &fits, &has_suffix))
		return 0;
	if (!fits)
		return err_set(l->err, ERR_FATAL, "%s:%u: %.*s does not fit into 64 bits", l->file, s->line, (int)token.len, token.data);
	if (!has_suffix)
		buf_add_char(out, 'L');
	return 0;
}

static int widen_integers(struct load *l, struct slice text, struct buf *out)
{
	struct scanner s = { text.data, text.data + text.len, 1 };

	while (s.at < s.end) {
		bool two = s.end - s.at > 1;

		if (*s.at == '@')
			return err_set(l->err, ERR_FATAL, "%s:%u: @include is not supported: one file", l->file, s.line);
		if (*s.at == '"') {
			buf_add_char(out, *s.at++);
			copy_until(&s, "\"", true, out);
		} else if (*s.at == '#' || (two && memcmp(s.at, "//", 2) == 0)) {
			copy_until(&s, "\n", false, out);
		} else if (two && memcmp(s.at, "/*", 2) == 0) {
			copy_until(&s, "*/", false, out);
		} else if (isalnum((unsigned char)*s.at) || strchr("*+-.", *s.at) != NULL) {
			if (copy_word(l, &s, out) < 0)
				return -1;
		} else {
			s.line += *s.at == '\n';
			buf_add_char(out, *s.at++);
		}
	}
	buf_add_char(out, '\n'); /* libconfig takes a comment that the file ends with for a syntax error */
	return 0;
}

static int read_whole(struct load *l, struct buf *out)
{
	FILE *in = fopen(l->file, "re");
	char block[4096];
	size_t got;
	int rc = -1;

	if (in == NULL)
		return err_set(l->err, ERR_FATAL, "can't read %s: %s", l->file, strerror(errno));
	while ((got = fread(block, 1, sizeof(block), in)) > 0 && out->len <= CONFIG_MAX_BYTES)
		buf_add(out, block, got);
	if (ferror(in))
		err_set(l->err, ERR_FATAL, "can't read %s: %s", l->file, strerror(errno));
	else if (memchr(out->data, '\0', out->len) != NULL)
		err_set(l->err, ERR_FATAL, "%s: not a text: it has a NUL byte", l->file); /* all that follows stops at one */
	else if (out->len > CONFIG_MAX_BYTES)
		err_set(l->err, ERR_FATAL, "%s: larger than %d bytes", l->file, CONFIG_MAX_BYTES);
	else
		rc = 0;
	fclose(in);
	return rc;
}

static const char *type_word(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_STRING:
		return "a text in quotes";
	case CONFIG_TYPE_GROUP:
		return "a group";
	default:
		return "a list";
	}
}

static int wrong_type(struct load *l, const char *place, const char *wanted, const config_setting_t *found)
{
	return err_set(l->err, ERR_FATAL, "%s: expected %s, found %s", place, wanted, type_word(found));
}

static int store_setting(struct load *l, const struct conf_row *row, bool by_file, const char *place, const config_setting_t *setting)
{
	int type = config_setting_type(setting);

	if (give_once(l, row, place) < 0)
		return -1;
	if (row->type == CONF_CHOICE && type == CONFIG_TYPE_BOOL && is_choice_of(row->choices, "true"))
		return store_text(l, row, place, config_setting_get_bool(setting) != 0 ? "true" : "false");
	if (is_text(row)) {
		if (type != CONFIG_TYPE_STRING)
			return wrong_type(l, place, "a text in quotes", setting);
		if (by_file)
			return store_secret_file(l, row, place, config_setting_get_string(setting));
		return store_text(l, row, place, config_setting_get_string(setting));
	}
	if (row->type == CONF_INT) {
		if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
			return wrong_type(l, place, "a whole number", setting);
		return store_int(l, row, place, config_setting_get_int64(setting));
	}
	if (type != CONFIG_TYPE_BOOL)
		return wrong_type(l, place, "true or false", setting);
	*bool_field(row, l->target) = config_setting_get_bool(setting) != 0;
	return 0;
}

/* name is "mysql", and a row is "mysql.port". */
static bool is_group_name(const struct load *l, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < l->count; i++) {
		if (strncmp(l->rows[i].name, name, len) == 0 && l->rows[i].name[len] == '.')
			return true;
	}
	return false;
}

/* Tells what there is where the unknown name stands. */
static int unknown(struct load *l, const char *place, const char *group)
{
	struct buf known = BUF_INIT;
	size_t len = strlen(group);
	const char *last = "";
	size_t last_len = 0;

	for (size_t i = 0; i < l->count; i++) {
		const char *name = l->rows[i].name;
		size_t part;

		if (len > 0 && (strncmp(name, group, len) != 0 || name[len] != '.'))
			continue;
		name += len > 0 ? len + 1 : 0;
		part = strcspn(name, ".");
		if (part == last_len && strncmp(name, last, part) == 0)
			continue; /* the group that was named just now */
		buf_addf(&known, " %.*s", (int)part, name);
		last = name;
		last_len = part;
	}
	err_set(l->err, ERR_FATAL, "%s: there is no such setting; %s%s has:%s", place, len > 0 ? "group " : "the file",
		group, known.data);
	buf_release(&known);
	return -1;
}

static int read_group(struct load *l, const config_setting_t *group, const char *group_name);

static int read_setting(struct load *l, const config_setting_t *setting, const char *group_name)
{
	char name[NAME_MAX_BYTES], place[PLACE_MAX];
	const struct conf_row *row;
	bool by_file;

	snprintf(name, sizeof(name), "%s%s%s", group_name, group_name[0] != '\0' ? "." : "", config_setting_name(setting));
	snprintf(place, sizeof(place), "%s:%u: setting %s", l->file, (unsigned)config_setting_source_line(setting), name);
	row = row_find(l, name, &by_file);
	if (row != NULL)
		return store_setting(l, row, by_file, place, setting);
	if (!is_group_name(l, name))
		return unknown(l, place, group_name);
	if (!config_setting_is_group(setting))
		return wrong_type(l, place, "a group", setting);
	return read_group(l, setting, name);
}

static int read_group(struct load *l, const config_setting_t *group, const char *group_name)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		if (read_setting(l, config_setting_get_elem(group, (unsigned)i), group_name) < 0)
			return -1;
	}
	return 0;
}

static int load_file(struct load *l)
{
	struct buf text = BUF_INIT;
	struct buf wide = BUF_INIT;
	config_t config;
	int rc = -1;

	config_init(&config);
	if (read_whole(l, &text) < 0)
		goto out;
	if (widen_integers(l, (struct slice){ text.data, text.len }, &wide) < 0)
		goto out;
	if (config_read_string(&config, wide.data) != CONFIG_TRUE) {
		err_set(l->err, ERR_FATAL, "%s:%d: %s", l->file, config_error_line(&config), config_error_text(&config));
		goto out;
	}
	rc = read_group(l, config_root_setting(&config), "");
out:
	config_destroy(&config); /* libconfig's texts end here: what is kept was copied */
	buf_release(&wide);
	buf_release(&text);
	return rc;
}

/* --- the environment --- */

/* "mysql.port" from "MYSQL_PORT": compared the other way round, since '_' may stand for itself. */
static bool is_env_name(const char *name, const char *suffix, struct slice variable)
{
	size_t len = strlen(name);

	if (variable.len != len + strlen(suffix))
		return false;
	for (size_t i = 0; i < variable.len; i++) {
		char c = i < len ? name[i] : suffix[i - len];

		if (variable.data[i] != (c == '.' ? '_' : toupper((unsigned char)c)))
			return false;
	}
	return true;
}

static int store_variable(struct load *l, struct slice variable, const char *value)
{
	char place[PLACE_MAX];

	snprintf(place, sizeof(place), "environment: " ENV_PREFIX "%.*s", (int)variable.len, variable.data);
	for (size_t i = 0; i < l->count; i++) {
		const struct conf_row *row = &l->rows[i];
		bool by_file = row->type == CONF_SECRET && is_env_name(row->name, FILE_SUFFIX, variable);

		if (!by_file && !is_env_name(row->name, "", variable))
			continue;
		if (give_once(l, row, place) < 0)
			return -1;
		return by_file ? store_secret_file(l, row, place, value) : store_from_text(l, row, place, value);
	}
	return err_set(l->err, ERR_FATAL, "%s: there is no such setting", place);
}

static int load_environment(struct load *l)
{
	for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
		struct slice rest = slice_of(*entry);
		struct slice variable = slice_cut(&rest, '=');

		if (strncmp(*entry, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 || slice_is(variable, ENV_FILE_NAME) || rest.data == NULL)
			continue;
		variable.data += strlen(ENV_PREFIX);
		variable.len -= strlen(ENV_PREFIX);
		if (store_variable(l, variable, rest.data) < 0)
			return -1;
	}
	return 0;
}

/* --- all sources, in rising order --- */

static int load_defaults(struct load *l)
{
	char place[PLACE_MAX];

	for (size_t i = 0; i < l->count; i++) {
		snprintf(place, sizeof(place), "default of %s", l->rows[i].name);
		if (store_from_text(l, &l->rows[i], place, l->rows[i].initial) < 0)
			return -1; /* the table is wrong: a unit test finds it */
	}
	return 0;
}

int conf_load(void *target, const struct conf_row *rows, size_t count, const char *file, struct err *err)
{
	struct load l = { .target = target, .rows = rows, .count = count, .file = file, .err = err };
	int rc = -1;

	l.given = mem_array(count, sizeof(*l.given));
	if (load_defaults(&l) < 0)
		goto out;
	if (file != NULL && load_file(&l) < 0)
		goto out;
	memset(l.given, 0, count * sizeof(*l.given)); /* the environment stands over the file */
	rc = load_environment(&l);
out:
	free(l.given);
	if (rc < 0)
		conf_release(target, rows, count);
	return rc;
}

void conf_release(void *target, const struct conf_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char **field;

		if (!is_text(&rows[i]))
			continue;
		field = text_field(&rows[i], target);
		if (*field != NULL && rows[i].type == CONF_SECRET)
			explicit_bzero(*field, strlen(*field));
		free(*field);
		*field = NULL;
	}
}

/* --- the way back --- */

static void write_text(struct buf *out, const char *text)
{
	buf_add_char(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			buf_addf(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			buf_addf(out, "\\x%02x", (unsigned)(unsigned char)*text);
		else
			buf_add_char(out, *text);
	}
	buf_add_char(out, '"');
}

static void write_comment(struct buf *out, const struct conf_row *row, const char *indent)
{
	buf_addf(out, "%s# %s (", indent, row->help);
	if (row->type == CONF_INT)
		buf_addf(out, "%lld to %lld; default %s)\n", (long long)row->min, (long long)row->max, row->initial);
	else if (row->type == CONF_CHOICE)
		buf_addf(out, "%s; default \"%s\")\n", row->choices, row->initial);
	else if (row->type == CONF_BOOL)
		buf_addf(out, "true or false; default %s)\n", row->initial);
	else if (row->type == CONF_SECRET)
		buf_addf(out, "or %s" FILE_SUFFIX " = \"PATH\", a file that nobody else may read)\n", strrchr(row->name, '.') + 1);
	else
		buf_addf(out, "default \"%s\")\n", row->initial);
}

static void write_value(struct buf *out, const struct conf_row *row, const void *target, const char *indent)
{
	const char *key = strrchr(row->name, '.') != NULL ? strrchr(row->name, '.') + 1 : row->name;
	const char *value = (const char *)target + row->offset;
	const char *text = is_text(row) ? *(const char *const *)(const void *)value : NULL;

	if (row->type == CONF_SECRET && text[0] != '\0') {
		buf_addf(out, "%s# %s = \"***\";\n", indent, key); /* a comment: "***" is not the password */
		return;
	}
	buf_addf(out, "%s%s = ", indent, key);
	if (text != NULL) {
		write_text(out, text);
	} else if (row->type == CONF_INT) {
		int64_t number = *(const int64_t *)(const void *)value;

		buf_add_int(out, number);
		if (number > INT32_MAX || number < INT32_MIN)
			buf_add_char(out, 'L'); /* for others who read the file with libconfig */
	} else {
		buf_add_str(out, *(const bool *)(const void *)value ? "true" : "false");
	}
	buf_add_str(out, ";\n");
}

void conf_write(const void *target, const struct conf_row *rows, size_t count, struct buf *out)
{
	struct slice group = SLICE_NONE;

	buf_add_str(out, "# Every setting. The variable " ENV_PREFIX "<GROUP>_<NAME> in the environment stands over the value here.\n");
	for (size_t i = 0; i < count; i++) {
		const char *dot = strchr(rows[i].name, '.');
		struct slice own = dot != NULL ? (struct slice){ rows[i].name, (size_t)(dot - rows[i].name) } : SLICE_NONE;

		if (!slice_equal(group, own)) {
			if (group.len > 0)
				buf_add_str(out, "};\n");
			if (own.len > 0)
				buf_addf(out, "\n%.*s:\n{\n", (int)own.len, own.data);
			group = own;
		} else {
			buf_add_char(out, '\n');
		}
		write_comment(out, &rows[i], own.len > 0 ? "\t" : "");
		write_value(out, &rows[i], target, own.len > 0 ? "\t" : "");
	}
	if (group.len > 0)
		buf_add_str(out, "};\n");
}

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor) "libconfig " TEXT_OF(major) "." TEXT_OF(minor)

/* As it was compiled against: it does not tell at run time. */
const char *conf_library(void)
{
	return VERSION_TEXT(LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR);
}
