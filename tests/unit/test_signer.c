/* Signed bodies: what is signed can be read, whatever was changed can't; keys and certificates that are wrong are told at the start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "common/base/base64.h"
#include "common/queue/signer.h"
#include "common/store/jobs.h"
#include "workers/celery/outgoing.h"
#include "workers/celery/request.h"
#include "workers/celery/result_row.h"

#define DAY_S 86400
#define BODY "[[1,2],{},{\"callbacks\":null,\"errbacks\":null,\"chain\":null,\"chord\":null}]"

/* ---- time: OpenSSL asks for it here too */

static time_t shift_s;

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec + shift_s;
	return now.tv_sec + shift_s;
}

/* ---- files */

static char folder[64];
static EVP_PKEY *keys[2]; /* ours, and another's */

/* Good until the tenth that follows. */
static char *path_of(const char *name)
{
	static char paths[10][200];
	static size_t next;
	char *path = paths[next++ % 10];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static FILE *create(const char *name)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	return file;
}

static void write_text(const char *name, const char *text)
{
	FILE *file = create(name);

	assert_true(fputs(text, file) >= 0);
	assert_int_equal(0, fclose(file));
}

static void write_key(const char *name, const EVP_PKEY *key, const char *password)
{
	FILE *file = create(name);
	unsigned char text[32];

	memcpy(text, password != NULL ? password : "", password != NULL ? strlen(password) + 1 : 1);
	assert_int_equal(1, PEM_write_PrivateKey(file, key, password != NULL ? EVP_aes_256_cbc() : NULL, password != NULL ? text : NULL,
		password != NULL ? (int)strlen(password) : 0, NULL, NULL));
	assert_int_equal(0, fclose(file));
}

static void add_name(X509_NAME *name, const char *field, const char *value)
{
	assert_int_equal(1, X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0));
}

/* Issued by "Bücher Ltd", "feed" to itself; valid from one moment to the other, seconds from now. */
static void write_certificate(const char *name, EVP_PKEY *key, long serial, long from_s, long until_s)
{
	FILE *file = create(name);
	X509 *x509 = X509_new();

	assert_non_null(x509);
	X509_set_version(x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x509), serial);
	X509_gmtime_adj(X509_getm_notBefore(x509), from_s);
	X509_gmtime_adj(X509_getm_notAfter(x509), until_s);
	X509_set_pubkey(x509, key);
	add_name(X509_get_subject_name(x509), "O", "B\xc3\xbc" "cher Ltd");
	add_name(X509_get_subject_name(x509), "CN", "feed");
	X509_set_issuer_name(x509, X509_get_subject_name(x509));
	assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
	assert_int_equal(1, PEM_write_X509(file, x509));
	assert_int_equal(0, fclose(file));
	X509_free(x509);
}

static void make_folder(const char *name)
{
	assert_int_equal(0, mkdir(path_of(name), 0700));
}

static int make_files(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/feedmill-signer-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	for (int i = 0; i < 2; i++)
		keys[i] = EVP_RSA_gen(2048);
	make_folder("store");
	write_key("own.key", keys[0], NULL);
	write_key("other.key", keys[1], NULL);
	write_certificate("store/own.pem", keys[0], 7, -DAY_S, DAY_S);
	write_certificate("store/other.pem", keys[1], 8, -DAY_S, DAY_S);
	write_text("store/.hidden", "no certificate");
	return 0;
}

static int remove_files(void **state)
{
	char command[128];

	(void)state;
	for (int i = 0; i < 2; i++)
		EVP_PKEY_free(keys[i]);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static struct settings settings_of(const char *key, const char *certificate, const char *store)
{
	return (struct settings){ .job = { .security_key = path_of(key), .security_key_password = "", .security_certificate = path_of(certificate),
		.security_cert_store = path_of(store), .security_digest = "sha256", .database_format = "pickle" } };
}

static struct signer *opened(const struct settings *settings)
{
	struct signer *signer = NULL;
	struct err err = ERR_INIT;

	if (signer_open(settings, &signer, &err) < 0)
		fail_msg("%s", err.message);
	return signer;
}

static struct signer *own_signer(void)
{
	const struct settings settings = settings_of("own.key", "store/own.pem", "store");

	return opened(&settings);
}

/* ---- signing and reading */

static void assert_slice(const char *expected, struct slice s)
{
	if (!slice_is(s, expected))
		fail_msg("expected \"%s\", not \"%.*s\"", expected, (int)s.len, s.data);
}

static void assert_refused(const struct signer *signer, struct slice text, const char *why)
{
	struct buf room = BUF_INIT;
	struct err err = ERR_INIT;
	struct signed_body body;

	assert_int_equal(-1, signer_verify(signer, text, &room, &body, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, err.message);
	buf_release(&room);
}

static void what_is_signed_can_be_read(void **state)
{
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, room = BUF_INIT, huge = BUF_INIT;
	struct err err = ERR_INIT;
	struct signed_body out;

	(void)state;
	while (huge.len < 3 << 20)
		buf_add(&huge, "\x00\x01 with separators in it ", 25);
	{
		const struct slice bodies[] = { slice_of("[]"), slice_of(BODY), slice_of(""), buf_slice(&huge) };

		for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
			buf_reset(&text);
			signer_sign(signer, bodies[i], &text);
			assert_int_equal(0, signer_verify(signer, buf_slice(&text), &room, &out, &err));
			assert_true(slice_equal(bodies[i], out.body));
			assert_slice("application/json", out.content_type);
			assert_slice("utf-8", out.content_encoding);
		}
	}
	buf_release(&text);
	buf_release(&room);
	buf_release(&huge);
	signer_close(signer);
}

static void others_of_the_store_are_known(void **state)
{
	const struct settings settings = settings_of("other.key", "store/other.pem", "store/o*.pem");
	struct signer *own = own_signer(), *other = opened(&settings);
	struct buf text = BUF_INIT, room = BUF_INIT;
	struct err err = ERR_INIT;
	struct signed_body out;

	(void)state;
	signer_sign(other, slice_of(BODY), &text);
	assert_int_equal(0, signer_verify(own, buf_slice(&text), &room, &out, &err));
	assert_slice(BODY, out.body);
	buf_release(&text);
	buf_release(&room);
	signer_close(own);
	signer_close(other);
}

/* ---- what was changed on the way */

struct parts { /* of a signed text; signer and signature are plain here */
	struct buf field[5];
};

static struct parts taken_apart(struct slice text)
{
	struct parts parts = { { BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT } };
	struct buf raw = BUF_INIT;
	const char *at, *end;

	assert_true(base64_decode(&raw, text));
	at = raw.data;
	for (int i = 0; i < 5; i++) {
		end = i < 4 ? memmem(at, (size_t)(raw.data + raw.len - at), "\x00\x01", 2) : raw.data + raw.len;
		assert_non_null(end);
		if (i < 2)
			assert_true(base64_decode(&parts.field[i], (struct slice){ at, (size_t)(end - at) }));
		else
			buf_add(&parts.field[i], at, (size_t)(end - at));
		at = end + 2;
	}
	buf_release(&raw);
	return parts;
}

static void put_together(struct parts *parts, struct buf *out)
{
	struct buf raw = BUF_INIT;

	for (int i = 0; i < 5; i++) {
		if (i > 0)
			buf_add(&raw, "\x00\x01", 2);
		if (i < 2)
			base64_encode(&raw, parts->field[i].data, parts->field[i].len);
		else
			buf_add(&raw, parts->field[i].data, parts->field[i].len);
		buf_release(&parts->field[i]);
	}
	base64_encode(out, raw.data, raw.len);
	buf_release(&raw);
}

static void put(struct parts *parts, int field, const char *text)
{
	buf_reset(&parts->field[field]);
	buf_add_str(&parts->field[field], text);
}

static void flip_signature(struct parts *parts) { parts->field[1].data[20] = (char)(parts->field[1].data[20] ^ 1); }
static void cut_signature(struct parts *parts) { parts->field[1].len--; }
static void lose_signature(struct parts *parts) { put(parts, 1, ""); }
static void lengthen_signature(struct parts *parts) { while (parts->field[1].len < 10000) buf_add_char(&parts->field[1], 'x'); }
static void change_body(struct parts *parts) { parts->field[4].data[3] = '9'; }
static void lengthen_body(struct parts *parts) { buf_add(&parts->field[4], "\x00\x01[]", 4); }
static void lose_body(struct parts *parts) { put(parts, 4, ""); }
static void name_another(struct parts *parts) { put(parts, 0, "B\xc3\xbc" "cher Ltd feed 8"); }
static void name_nobody(struct parts *parts) { put(parts, 0, "B\xc3\xbc" "cher Ltd feed 9"); }
static void name_none(struct parts *parts) { put(parts, 0, ""); }
static void name_bytes(struct parts *parts) { put(parts, 0, "\xff\xfe"); }

static void what_was_changed_is_refused(void **state)
{
	static const struct {
		void (*change)(struct parts *parts);
		const char *why;
	} rows[] = {
		{ flip_signature, "is not what \"B\xc3\xbc" "cher Ltd feed 7\" has signed" }, { cut_signature, "is not what" }, { lose_signature, "is not what" },
		{ lengthen_signature, "too long" }, { change_body, "is not what" }, { lengthen_body, "is not what" }, { lose_body, "is not what" },
		{ name_another, "is not what \"B\xc3\xbc" "cher Ltd feed 8\"" }, { name_nobody, "\"B\xc3\xbc" "cher Ltd feed 9\", whose certificate" },
		{ name_none, "whose certificate" }, { name_bytes, "is no text" },
	};
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, changed = BUF_INIT;

	(void)state;
	signer_sign(signer, slice_of(BODY), &text);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parts parts = taken_apart(buf_slice(&text));

		rows[i].change(&parts);
		buf_reset(&changed);
		put_together(&parts, &changed);
		assert_refused(signer, buf_slice(&changed), rows[i].why);
	}
	buf_release(&text);
	buf_release(&changed);
	signer_close(signer);
}

static void what_is_no_signed_text_is_refused(void **state)
{
	static const struct {
		const char *raw;
		size_t len;
		const char *why;
	} rows[] = {
		{ "", 0, "1 of 5 fields" }, { "a", 1, "1 of 5 fields" }, { "YQ==\0\1YQ==", 10, "2 of 5 fields" }, { "\0\1\0\1\0\1", 6, "4 of 5 fields" },
		{ "\0\1\0\1\0\1\0\1", 8, "whose certificate" }, { "Y\0\1YQ==\0\1a\0\1b\0\1[]", 17, "no base64, or too long" },
		{ "YQ==\0\1*\0\1a\0\1b\0\1[]", 17, "no base64, or too long" },
	};
	static const char *const no_base64[] = { "{}", "YQ=", "YQ==\n", BODY };
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_reset(&text);
		base64_encode(&text, rows[i].raw, rows[i].len);
		assert_refused(signer, buf_slice(&text), rows[i].why);
	}
	for (size_t i = 0; i < sizeof(no_base64) / sizeof(no_base64[0]); i++)
		assert_refused(signer, slice_of(no_base64[i]), "is no base64");
	buf_release(&text);
	signer_close(signer);
}

static void a_certificate_has_its_time(void **state)
{
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, room = BUF_INIT;
	struct err err = ERR_INIT;
	struct signed_body out;

	(void)state;
	signer_sign(signer, slice_of(BODY), &text);
	assert_in_range(signer_seconds_left(signer), DAY_S - 600, DAY_S);
	shift_s = 2 * DAY_S;
	assert_in_range(-signer_seconds_left(signer), DAY_S, DAY_S + 600);
	assert_refused(signer, buf_slice(&text), "has expired");
	shift_s = -2 * DAY_S;
	assert_refused(signer, buf_slice(&text), "not valid yet");
	shift_s = 0;
	assert_int_equal(0, signer_verify(signer, buf_slice(&text), &room, &out, &err));
	buf_release(&text);
	buf_release(&room);
	signer_close(signer);
}

static void all_use_one_digest(void **state)
{
	static char *const names[] = { "sha224", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512" };
	struct signer *sha256 = own_signer();

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct settings settings = settings_of("own.key", "store/own.pem", "store");
		struct buf text = BUF_INIT, room = BUF_INIT;
		struct err err = ERR_INIT;
		struct signed_body out;
		struct signer *signer;

		settings.job.security_digest = names[i];
		signer = opened(&settings);
		signer_sign(signer, slice_of(BODY), &text);
		assert_int_equal(0, signer_verify(signer, buf_slice(&text), &room, &out, &err));
		assert_refused(sha256, buf_slice(&text), "is not what");
		buf_release(&text);
		buf_release(&room);
		signer_close(signer);
	}
	signer_close(sha256);
}

static void a_message_is_what_is_signed_in_it(void **state)
{
	struct signer *signer = own_signer();
	struct slice type = slice_of("application/json"), plain = slice_of(BODY), text;
	struct buf sealed = BUF_INIT, room = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(0, signer_read(NULL, &type, &plain, &room, &err));
	assert_slice(BODY, plain);
	assert_int_equal(-1, signer_read(signer, &type, &plain, &room, &err));
	assert_non_null(strstr(err.message, "signed messages alone"));
	signer_sign(signer, plain, &sealed);
	type = slice_of("application/data");
	text = buf_slice(&sealed);
	assert_int_equal(-1, signer_read(NULL, &type, &text, &room, &err));
	assert_non_null(strstr(err.message, "job.security_key is empty"));
	assert_int_equal(0, signer_read(signer, &type, &text, &room, &err));
	assert_slice(BODY, text);
	assert_slice("application/json", type);
	text.data = ""; /* it was in the room */
	text.len = 0;
	type = slice_of("application/data");
	assert_int_equal(-1, signer_read(signer, &type, &text, &room, &err));
	buf_release(&sealed);
	buf_release(&room);
	signer_close(signer);
}

/* ---- settings */

static void assert_not_opened(const struct settings *settings, const char *why)
{
	struct signer *signer = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(-1, signer_open(settings, &signer, &err));
	assert_null(signer);
	assert_int_equal(ERR_FATAL, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, err.message);
}

static void none_or_all_of_the_settings(void **state)
{
	struct settings settings = settings_of("own.key", "store/own.pem", "store");
	struct signer *signer = NULL;
	struct err err = ERR_INIT;

	(void)state;
	settings.job.security_certificate = "";
	assert_not_opened(&settings, "setting job.security_certificate is empty: job.security_");
	settings.job.security_key = settings.job.security_cert_store = "";
	settings.job.security_certificate = path_of("store/own.pem");
	assert_not_opened(&settings, "job.security_certificate needs it");
	settings.job.security_certificate = "";
	assert_int_equal(0, signer_open(&settings, &signer, &err));
	assert_null(signer);
	settings.job.database_format = "auth";
	assert_not_opened(&settings, "job.database_format: \"auth\" needs job.security_key");
}

static void make_wrong_files(void)
{
	EVP_PKEY *curve = EVP_EC_gen("P-256"), *small = EVP_RSA_gen(512);

	write_key("curve.key", curve, NULL);
	write_certificate("curve.pem", curve, 20, -DAY_S, DAY_S);
	write_key("small.key", small, NULL);
	write_certificate("small.pem", small, 21, -DAY_S, DAY_S);
	write_certificate("old.pem", keys[0], 22, -2 * DAY_S, -DAY_S);
	write_certificate("early.pem", keys[0], 23, DAY_S, 2 * DAY_S);
	write_certificate("unknown.pem", keys[0], 24, -DAY_S, DAY_S);
	write_certificate("like-own.pem", keys[1], 7, -DAY_S, DAY_S);
	write_text("words", "no certificate");
	EVP_PKEY_free(curve);
	EVP_PKEY_free(small);
	make_folder("with-words");
	write_text("with-words/readme", "no certificate");
	make_folder("with-old");
	write_certificate("with-old/own.pem", keys[0], 7, -DAY_S, DAY_S);
	write_certificate("with-old/old.pem", keys[1], 22, -2 * DAY_S, -DAY_S);
	make_folder("twice");
	write_certificate("twice/a.pem", keys[0], 7, -DAY_S, DAY_S);
	write_certificate("twice/b.pem", keys[1], 7, -DAY_S, DAY_S);
	make_folder("empty");
}

static void wrong_files_are_told_at_the_start(void **state)
{
	static const struct {
		const char *key, *certificate, *store, *why;
	} rows[] = {
		{ "missing.key", "store/own.pem", "store", "setting job.security_key: /" },
		{ "missing.key", "store/own.pem", "store", "missing.key: No such file" },
		{ "store/own.pem", "store/own.pem", "store", "is no private key in PEM" },
		{ "store", "store/own.pem", "store", "is no private key in PEM" },
		{ "curve.key", "curve.pem", "curve.pem", "is no RSA key" },
		{ "own.key", "missing.pem", "store", "setting job.security_certificate: /" },
		{ "own.key", "words", "store", "words: is no certificate in PEM" },
		{ "own.key", "curve.pem", "store", "is no certificate of an RSA key" },
		{ "own.key", "old.pem", "store", "old.pem: the certificate has expired" },
		{ "own.key", "early.pem", "early.pem", "early.pem: the certificate is not valid yet" },
		{ "own.key", "store/other.pem", "store", "other.pem: is not that of job.security_key" },
		{ "own.key", "unknown.pem", "store", "unknown.pem: is not in job.security_cert_store" },
		{ "other.key", "like-own.pem", "store", "like-own.pem: is not in job.security_cert_store" },
		{ "own.key", "store/own.pem", "nowhere", "setting job.security_cert_store: /" },
		{ "own.key", "store/own.pem", "store/*.crt", "*.crt: there is no such file" },
		{ "own.key", "store/own.pem", "empty", "empty: there is no such file" },
		{ "own.key", "store/own.pem", "with-words", "with-words/readme: is no certificate in PEM" },
		{ "own.key", "store/own.pem", "with-old", "with-old/old.pem: the certificate has expired" },
		{ "own.key", "store/own.pem", "twice", "twice/b.pem: another certificate there has the same" },
		{ "own.key", "store/own.pem", ".", "is no certificate" },
	};
	struct settings small;

	(void)state;
	make_wrong_files();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct settings settings = settings_of(rows[i].key, rows[i].certificate, rows[i].store);

		assert_not_opened(&settings, rows[i].why);
	}
	small = settings_of("small.key", "small.pem", "small.pem");
	small.job.security_digest = "sha512";
	assert_not_opened(&small, "can't sign by sha512");
}

static void a_key_may_have_a_password(void **state)
{
	struct settings settings = settings_of("locked.key", "store/own.pem", "store/*");

	(void)state;
	write_key("locked.key", keys[0], "open sesame");
	assert_not_opened(&settings, "that job.security_key_password opens");
	settings.job.security_key_password = "open";
	assert_not_opened(&settings, "that job.security_key_password opens");
	settings.job.security_key_password = "open sesame";
	signer_close(opened(&settings));
}

static void the_password_is_forgotten(void **state)
{
	char word[] = "open sesame", *told;
	const struct settings settings = { .job = { .security_key_password = word } };

	(void)state;
	assert_int_equal(0, setenv("FEEDMILL_JOB_SECURITY_KEY_PASSWORD", word, 1));
	told = getenv("FEEDMILL_JOB_SECURITY_KEY_PASSWORD");
	signer_forget_password(&settings);
	assert_memory_equal("\0\0\0\0\0\0\0\0\0\0", word, sizeof(word) - 1);
	assert_null(getenv("FEEDMILL_JOB_SECURITY_KEY_PASSWORD"));
	assert_string_equal("", told); /* glibc keeps its memory */
	signer_forget_password(&settings);
}

/* ---- task messages */

static struct amqp_field task_headers[] = { { "task", { .type = AMQP_VALUE_TEXT, .text = { "add", 3 } } },
	{ "id", { .type = AMQP_VALUE_TEXT, .text = { "7", 1 } } } };

static struct amqp_delivery delivery_of(const char *content_type, struct slice body, bool has_headers)
{
	return (struct amqp_delivery){ .body = body, .properties = { .content_type = slice_of(content_type), .content_encoding = slice_of("utf-8"),
		.has_headers = has_headers, .headers = { task_headers, has_headers ? 2 : 0 } } };
}

static void done(struct request *request)
{
	request->delivery = NULL; /* it lives on the stack */
	request_free(request);
}

static struct request *read_task(struct amqp_delivery *delivery, const struct signer *signer)
{
	struct err err = ERR_INIT;
	struct request *request = request_read_signed(delivery, signer, &err);

	if (request == NULL)
		fail_msg("%s", err.message);
	return request;
}

static void assert_task_refused(const char *content_type, struct slice body, const struct signer *signer, const char *why)
{
	struct amqp_delivery delivery = delivery_of(content_type, body, true);
	struct err err = ERR_INIT;

	assert_null(request_read_signed(&delivery, signer, &err));
	assert_int_equal(ERR_INVALID, err.kind);
	if (strstr(err.message, why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, err.message);
}

static void a_copy_of_a_signed_task_keeps_its_bytes(void **state)
{
	const struct settings settings = settings_of("other.key", "store/other.pem", "store");
	struct signer *signer = own_signer(), *client = opened(&settings);
	struct buf text = BUF_INIT;
	struct amqp_delivery delivery;
	struct request *request;
	struct post *post;

	(void)state;
	signer_sign(client, slice_of(BODY), &text);
	delivery = delivery_of("application/data", buf_slice(&text), true);
	request = read_task(&delivery, signer);
	assert_slice(BODY, request->body);
	assert_non_null(request->args);
	post = outgoing_again(request, "celery", 1, 0, 0, 0);
	done(request);
	assert_true(slice_equal(buf_slice(&text), post_body(post, signer)));
	assert_slice("application/data", post->message.properties.content_type);
	assert_slice("utf-8", post->message.properties.content_encoding);
	post_free(post);
	buf_release(&text);
	signer_close(signer);
	signer_close(client);
}

/* As app.setup_security(serializer="msgpack") has it. */
static void what_is_signed_may_be_messagepack(void **state)
{
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, sealed = BUF_INIT;
	struct amqp_delivery delivery;
	struct request *request;
	struct parts parts;
	struct post *post;

	(void)state;
	signer_sign(signer, (struct slice){ "\x93\x92\x01\x02\x80\xc0", 6 }, &text);
	parts = taken_apart(buf_slice(&text));
	put(&parts, 2, "application/x-msgpack");
	put(&parts, 3, "binary");
	put_together(&parts, &sealed);
	delivery = delivery_of("application/data", buf_slice(&sealed), true);
	request = read_task(&delivery, signer);
	assert_slice("[[1,2],{},null]", request->body);
	post = outgoing_again(request, "celery", 1, 0, 0, 0);
	done(request);
	assert_true(slice_equal(buf_slice(&sealed), post_body(post, signer)));
	assert_slice("application/data", post->message.properties.content_type);
	assert_slice("utf-8", post->message.properties.content_encoding);
	post_free(post);
	buf_release(&text);
	buf_release(&sealed);
	signer_close(signer);
}

/* Version 1 of the protocol goes on as version 2: who has written it anew signs it. */
static void what_is_written_anew_is_signed_anew(void **state)
{
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, room = BUF_INIT;
	struct err err = ERR_INIT;
	struct amqp_delivery delivery;
	struct request *request;
	struct signed_body out;
	struct post *post;

	(void)state;
	signer_sign(signer, slice_of("{\"task\":\"add\",\"id\":\"7\",\"args\":[1,2],\"kwargs\":{}}"), &text);
	delivery = delivery_of("application/data", buf_slice(&text), false);
	request = read_task(&delivery, signer);
	assert_slice(BODY, request->body);
	post = outgoing_again(request, "celery", 1, 0, 0, 0);
	done(request);
	for (int i = 0; i < 2; i++) { /* it may be sent twice */
		const struct slice sent = post_body(post, signer);

		assert_slice("application/data", post->message.properties.content_type);
		assert_int_equal(0, signer_verify(signer, sent, &room, &out, &err));
		assert_slice(BODY, out.body);
	}
	assert_slice(BODY, buf_slice(&post->body)); /* for who has to say that it could not be sent */
	post_free(post);
	buf_release(&text);
	buf_release(&room);
	signer_close(signer);
}

static void tasks_are_signed_or_refused(void **state)
{
	struct signer *signer = own_signer();
	struct buf text = BUF_INIT, changed = BUF_INIT;
	struct parts parts;

	(void)state;
	signer_sign(signer, slice_of(BODY), &text);
	assert_task_refused("application/json", slice_of(BODY), signer, "content type \"application/json\" is refused: with job.security_key");
	assert_task_refused("application/x-python-serialize", slice_of(BODY), signer, "is refused");
	assert_task_refused("", slice_of(BODY), signer, "is no base64");
	assert_task_refused("application/data", slice_of(BODY), signer, "is no base64");
	assert_task_refused("application/data", buf_slice(&text), NULL, "the message is signed, and setting job.security_key is empty");
	parts = taken_apart(buf_slice(&text));
	change_body(&parts);
	put_together(&parts, &changed);
	assert_task_refused("application/data", buf_slice(&changed), signer, "is not what");
	parts = taken_apart(buf_slice(&text));
	put(&parts, 2, "application/x-python-serialize");
	buf_reset(&changed);
	put_together(&parts, &changed);
	assert_task_refused("application/data", buf_slice(&changed), signer, "\"application/x-python-serialize\" is refused");
	parts = taken_apart(buf_slice(&text));
	put(&parts, 2, "application/data"); /* a seal in a seal */
	buf_reset(&changed);
	put_together(&parts, &changed);
	assert_task_refused("application/data", buf_slice(&changed), signer, "is refused");
	buf_reset(&text);
	signer_sign(signer, slice_of("[{},{}]"), &text);
	assert_task_refused("application/data", buf_slice(&text), signer, "args is no list");
	buf_release(&text);
	buf_release(&changed);
	signer_close(signer);
}

static void not_all_that_is_sent_is_signed(void **state)
{
	struct signer *signer = own_signer();
	struct post *post = post_new(slice_of(""), slice_of("q"));

	(void)state;
	buf_add_str(&post->body, "as it came"); /* a dead letter */
	post->message.properties.content_type = slice_of("application/json");
	assert_slice("as it came", post_body(post, signer));
	assert_slice("application/json", post->message.properties.content_type);
	post_json(post);
	assert_slice("as it came", post_body(post, NULL));
	post->is_plain = true;
	assert_slice("as it came", post_body(post, signer));
	assert_slice("application/json", post->message.properties.content_type);
	post_free(post);
	signer_close(signer);
}

/* ---- results in a table */

static void store_result(struct store *store, const char *id, struct store_value result)
{
	const struct store_value values[] = { store_text(slice_of(id)), result };
	struct err err = ERR_INIT;

	if (store_run(store, "INSERT INTO celery_taskmeta (task_id, status, result) VALUES (?, 'SUCCESS', ?)", values, 2, NULL, &err) < 0)
		fail_msg("%s", err.message);
}

/* NULL: it can't be read. */
static void assert_result(struct store *store, const struct signer *signer, const char *id, const char *expected)
{
	struct job_state state = { .signer = signer, .result = BUF_INIT };
	struct err err = ERR_INIT;

	assert_int_equal(0, job_state_read(store, "celery_taskmeta", slice_of(id), &state, &err));
	assert_true(state.found);
	assert_string_equal("SUCCESS", state.status);
	assert_int_equal(expected != NULL, state.is_readable);
	assert_string_equal(expected != NULL ? expected : "", state.result.data);
	buf_release(&state.result);
}

static struct store *made_table(struct settings *settings)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;
	bool made;

	settings->store.type = "sqlite";
	settings->embedded.folder = path_of("database");
	settings->embedded.lock_wait_ms = 300;
	assert_int_equal(0, store_create(settings, &made, &err));
	assert_int_equal(0, store_open(settings, &store, &err));
	if (store_run(store, "CREATE TABLE celery_taskmeta (task_id TEXT PRIMARY KEY, status TEXT, result BLOB)", NULL, 0, NULL, &err) < 0)
		fail_msg("%s", err.message);
	return store;
}

static void where_results_are_signed_no_other_is_read(void **state)
{
	struct settings settings = settings_of("own.key", "store/own.pem", "store");
	struct signer *tolerant = opened(&settings), *strict;
	struct store *store;
	struct buf text = BUF_INIT, changed = BUF_INIT;
	struct parts parts;

	(void)state;
	settings.job.database_format = "auth";
	strict = opened(&settings);
	store = made_table(&settings);
	signer_sign(strict, slice_of("[3]"), &text);
	parts = taken_apart(buf_slice(&text));
	parts.field[4].data[1] = '4';
	put_together(&parts, &changed);
	store_result(store, "signed", store_bytes(buf_slice(&text)));
	store_result(store, "changed", store_bytes(buf_slice(&changed)));
	store_result(store, "plain", store_bytes(slice_of("[3]")));
	store_result(store, "pickle", store_bytes((struct slice){ "\x80\x04K\x03.", 5 }));
	store_result(store, "none", (struct store_value){ .type = STORE_NULL });
	for (int days = 0; days <= 2; days += 2) { /* two later the certificate has expired */
		shift_s = days * DAY_S;
		assert_result(store, strict, "signed", "[3]");
		assert_result(store, tolerant, "signed", "[3]");
		assert_result(store, strict, "changed", NULL);
		assert_result(store, tolerant, "changed", NULL);
	}
	shift_s = 0;
	assert_result(store, NULL, "signed", NULL);
	assert_result(store, tolerant, "plain", "[3]");
	assert_result(store, tolerant, "pickle", "3");
	assert_result(store, NULL, "none", "null");
	assert_result(store, strict, "plain", NULL);
	assert_result(store, strict, "pickle", NULL);
	assert_result(store, strict, "none", NULL);
	store_close(store);
	buf_release(&text);
	buf_release(&changed);
	signer_close(tolerant);
	signer_close(strict);
}

static void assert_value(const struct signer *signer, const struct result_row *row, const char *start)
{
	struct buf room = BUF_INIT;
	struct err err = ERR_INIT;
	struct signed_body out;

	assert_int_equal(0, signer_verify(signer, buf_slice(&row->value), &room, &out, &err));
	assert_true(out.body.len >= strlen(start));
	assert_memory_equal(start, out.body.data, strlen(start));
	buf_release(&room);
}

/* However often it is tried to write it: no two signatures of one text are alike. */
static void a_row_is_signed_once(void **state)
{
	struct signer *signer = own_signer();
	struct result_row *row = result_row_new(slice_of("7"), "SUCCESS");
	struct buf value = BUF_INIT, args = BUF_INIT;
	struct err why = ERR_INIT;

	(void)state;
	row->signer = signer;
	buf_add_str(&row->result, "[3]");
	buf_add_str(&row->args, "[1,2]");
	result_row_encode(row, "auth");
	assert_value(signer, row, "[3]");
	buf_add(&value, row->value.data, row->value.len);
	buf_add(&args, row->args.data, row->args.len);
	result_row_encode(row, "auth");
	assert_true(slice_equal(buf_slice(&value), buf_slice(&row->value)));
	assert_true(slice_equal(buf_slice(&args), buf_slice(&row->args)));
	err_set(&why, ERR_INVALID, "too long");
	result_row_fail(row, &why);
	result_row_encode(row, "auth");
	assert_value(signer, row, "{\"exc_type\":\"BackendStoreError\"");
	assert_true(slice_equal(buf_slice(&args), buf_slice(&row->args)));
	result_row_free(row);
	buf_release(&value);
	buf_release(&args);
	signer_close(signer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_signed_can_be_read),
		cmocka_unit_test(others_of_the_store_are_known),
		cmocka_unit_test(what_was_changed_is_refused),
		cmocka_unit_test(what_is_no_signed_text_is_refused),
		cmocka_unit_test(a_certificate_has_its_time),
		cmocka_unit_test(all_use_one_digest),
		cmocka_unit_test(a_message_is_what_is_signed_in_it),
		cmocka_unit_test(none_or_all_of_the_settings),
		cmocka_unit_test(wrong_files_are_told_at_the_start),
		cmocka_unit_test(a_key_may_have_a_password),
		cmocka_unit_test(the_password_is_forgotten),
		cmocka_unit_test(a_copy_of_a_signed_task_keeps_its_bytes),
		cmocka_unit_test(what_is_signed_may_be_messagepack),
		cmocka_unit_test(what_is_written_anew_is_signed_anew),
		cmocka_unit_test(tasks_are_signed_or_refused),
		cmocka_unit_test(not_all_that_is_sent_is_signed),
		cmocka_unit_test(where_results_are_signed_no_other_is_read),
		cmocka_unit_test(a_row_is_signed_once),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
