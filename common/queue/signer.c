/* Bodies and the files of keys and certificates go in; signed texts, and bodies whose signature is right, come out. */
#include "common/queue/signer.h"

#include <errno.h>
#include <glob.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/base64.h"
#include "common/base/mem.h"

#define SEPARATOR "\x00\x01"
#define SEPARATOR_LEN 2
#define PASSWORD_VARIABLE "FEEDMILL_JOB_SECURITY_KEY_PASSWORD"
#define FIELDS 5
#define SIGNER_MAX 8192 /* bytes of an id, and of a signature, as base64 */
#define SHOWN 150       /* bytes of a path or an id in what is said */

struct certificate {
	struct buf id;
	X509 *x509;
	EVP_PKEY *key; /* borrowed from it */
};

struct signer {
	const EVP_MD *digest;
	EVP_PKEY *key;
	struct buf id; /* base64 */
	struct certificate *store;
	size_t count;
	const X509 *own; /* of the store */
	bool signs_results;
};

/* As Celery names them. */
static const struct {
	const char *name;
	const EVP_MD *(*make)(void);
} digests[] = {
	{ "sha224", EVP_sha224 }, { "sha256", EVP_sha256 }, { "sha384", EVP_sha384 }, { "sha512", EVP_sha512 },
	{ "sha3_224", EVP_sha3_224 }, { "sha3_256", EVP_sha3_256 }, { "sha3_384", EVP_sha3_384 }, { "sha3_512", EVP_sha3_512 },
};

static int shown(struct slice text)
{
	return (int)(text.len < SHOWN ? text.len : SHOWN);
}

/* ---- files */

static int wrong_file(const char *setting, const char *path, const char *why, struct err *err)
{
	return err_set(err, ERR_FATAL, "setting job.%s: %.*s: %s", setting, SHOWN, path, why);
}

/* Never asks at a terminal. */
static int give_password(char *out, int size, int is_writing, void *password)
{
	const size_t len = strlen(password);

	(void)is_writing;
	if (len == 0 || len > (size_t)size)
		return -1;
	memcpy(out, password, len);
	return (int)len;
}

static EVP_PKEY *read_key(const struct job_settings *s, struct err *err)
{
	FILE *file = fopen(s->security_key, "re");
	EVP_PKEY *key;

	if (file == NULL) {
		wrong_file("security_key", s->security_key, strerror(errno), err);
		return NULL;
	}
	key = PEM_read_PrivateKey(file, NULL, give_password, s->security_key_password);
	fclose(file);
	ERR_clear_error();
	if (key == NULL) {
		wrong_file("security_key", s->security_key, "is no private key in PEM that job.security_key_password opens", err);
	} else if (EVP_PKEY_base_id(key) != EVP_PKEY_RSA) {
		wrong_file("security_key", s->security_key, "is no RSA key, as Celery wants it", err);
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

static X509 *read_certificate(const char *setting, const char *path, struct err *err)
{
	FILE *file = fopen(path, "re");
	const EVP_PKEY *key;
	X509 *x509;

	if (file == NULL) {
		wrong_file(setting, path, strerror(errno), err);
		return NULL;
	}
	x509 = PEM_read_X509(file, NULL, give_password, "");
	fclose(file);
	key = x509 != NULL ? X509_get0_pubkey(x509) : NULL;
	ERR_clear_error();
	if (key != NULL && EVP_PKEY_base_id(key) == EVP_PKEY_RSA)
		return x509;
	wrong_file(setting, path, x509 == NULL ? "is no certificate in PEM" : "is no certificate of an RSA key, as Celery wants it", err);
	X509_free(x509);
	return NULL;
}

/* NULL: its time is now. */
static const char *time_fault(const X509 *x509)
{
	if (X509_cmp_current_time(X509_get0_notAfter(x509)) <= 0)
		return "the certificate has expired";
	return X509_cmp_current_time(X509_get0_notBefore(x509)) >= 0 ? "the certificate is not valid yet" : NULL;
}

/* ---- ids */

static int add_text(const ASN1_STRING *value, struct buf *out)
{
	unsigned char *utf8 = NULL;
	const int len = ASN1_STRING_to_UTF8(&utf8, value);

	if (len >= 0)
		buf_add(out, utf8, (size_t)len);
	OPENSSL_free(utf8);
	return len >= 0 ? 0 : -1;
}

static int add_id(const X509 *x509, struct buf *out)
{
	const X509_NAME *issuer = X509_get_issuer_name(x509);
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);
	char *digits = serial != NULL ? BN_bn2dec(serial) : NULL;
	int rc = digits != NULL ? 0 : -1;

	for (int i = 0; rc == 0 && i < X509_NAME_entry_count(issuer); i++) {
		if (i > 0)
			buf_add_char(out, ' ');
		rc = add_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(issuer, i)), out);
	}
	if (rc == 0)
		buf_addf(out, " %s", digits);
	OPENSSL_free(digits);
	BN_free(serial);
	ERR_clear_error();
	return rc;
}

static const struct certificate *find(const struct signer *signer, struct slice id)
{
	for (size_t i = 0; i < signer->count; i++)
		if (slice_equal(buf_slice(&signer->store[i].id), id))
			return &signer->store[i];
	return NULL;
}

/* ---- signatures */

static bool set_padding(EVP_PKEY_CTX *context, const EVP_MD *digest)
{
	return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
		EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_MAX) > 0 && EVP_PKEY_CTX_set_rsa_mgf1_md(context, digest) > 0;
}

static bool make_signature(const struct signer *signer, struct slice body, struct buf *out)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *context; /* md's */
	size_t len = (size_t)EVP_PKEY_size(signer->key);
	bool is_made;

	buf_reserve(out, len);
	is_made = md != NULL && EVP_DigestSignInit(md, &context, signer->digest, NULL, signer->key) == 1 && set_padding(context, signer->digest) &&
		EVP_DigestSign(md, (unsigned char *)out->data, &len, (const unsigned char *)body.data, body.len) == 1;
	if (is_made)
		out->len = len;
	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return is_made;
}

static bool is_right(const struct signer *signer, EVP_PKEY *key, struct slice body, struct slice signature)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *context; /* md's */
	const bool is = md != NULL && EVP_DigestVerifyInit(md, &context, signer->digest, NULL, key) == 1 && set_padding(context, signer->digest) &&
		EVP_DigestVerify(md, (const unsigned char *)signature.data, signature.len, (const unsigned char *)body.data, body.len) == 1;

	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return is;
}

void signer_sign(const struct signer *signer, struct slice json, struct buf *out)
{
	struct buf fields = BUF_INIT, signature = BUF_INIT;

	if (!make_signature(signer, json, &signature))
		abort(); /* what it could do at first, it can but for want of memory */
	buf_add(&fields, signer->id.data, signer->id.len);
	buf_add(&fields, SEPARATOR, SEPARATOR_LEN);
	base64_encode(&fields, signature.data, signature.len);
	buf_add(&fields, SEPARATOR "application/json" SEPARATOR "utf-8" SEPARATOR, 3 * SEPARATOR_LEN + sizeof("application/json" "utf-8") - 1);
	buf_add(&fields, json.data, json.len);
	base64_encode(out, fields.data, fields.len);
	buf_release(&signature);
	buf_release(&fields);
}

int64_t signer_seconds_left(const struct signer *signer)
{
	int days, seconds;

	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(signer->own)) != 1)
		abort(); /* it was compared with the time when the signer was opened */
	return (int64_t)days * 86400 + seconds;
}

/* ---- reading */

/* The body is whatever follows the first four. */
static int split(struct slice raw, struct slice fields[FIELDS], struct err *err)
{
	for (int i = 0; i < FIELDS - 1; i++) {
		const char *end = raw.len > 0 ? memmem(raw.data, raw.len, SEPARATOR, SEPARATOR_LEN) : NULL;

		if (end == NULL)
			return err_set(err, ERR_INVALID, "the signed message has %d of %d fields", i + 1, FIELDS);
		fields[i] = (struct slice){ raw.data, (size_t)(end - raw.data) };
		raw.len -= fields[i].len + SEPARATOR_LEN;
		raw.data = end + SEPARATOR_LEN;
	}
	fields[FIELDS - 1] = raw;
	return 0;
}

static int check_signature(const struct signer *signer, struct slice id, struct slice signature, struct slice body, bool at_any_time, struct err *err)
{
	const struct certificate *from = find(signer, id);
	const char *fault = from != NULL && !at_any_time ? time_fault(from->x509) : NULL;

	if (from == NULL)
		return err_set(err, ERR_INVALID, "the message is signed by \"%.*s\", whose certificate job.security_cert_store does not have", shown(id), id.data);
	if (fault != NULL)
		return err_set(err, ERR_INVALID, "the message is signed by \"%.*s\": %s", shown(id), id.data, fault);
	if (!is_right(signer, from->key, body, signature))
		return err_set(err, ERR_INVALID, "the message is not what \"%.*s\" has signed (by job.security_digest)", shown(id), id.data);
	return 0;
}

static int verify(const struct signer *signer, struct slice text, bool at_any_time, struct buf *room, struct signed_body *out, struct err *err)
{
	struct buf id = BUF_INIT, signature = BUF_INIT;
	struct slice fields[FIELDS];
	int rc = -1;

	buf_reset(room);
	if (!base64_decode(room, text)) {
		err_set(err, ERR_INVALID, "the signed message is no base64");
		goto out;
	}
	if (split(buf_slice(room), fields, err) < 0)
		goto out;
	if (fields[0].len > SIGNER_MAX || fields[1].len > SIGNER_MAX || !base64_decode(&id, fields[0]) || !base64_decode(&signature, fields[1])) {
		err_set(err, ERR_INVALID, "signer and signature of the signed message are no base64, or too long");
		goto out;
	}
	if (!str_utf8_valid(buf_slice(&id)) || str_has_control(buf_slice(&id))) {
		err_set(err, ERR_INVALID, "the signer of the signed message is no text");
		goto out;
	}
	if (check_signature(signer, buf_slice(&id), buf_slice(&signature), fields[4], at_any_time, err) < 0)
		goto out;
	*out = (struct signed_body){ fields[2], fields[3], fields[4] };
	rc = 0;
out:
	buf_release(&id);
	buf_release(&signature);
	return rc;
}

int signer_verify(const struct signer *signer, struct slice text, struct buf *room, struct signed_body *out, struct err *err)
{
	return verify(signer, text, false, room, out, err);
}

int signer_verify_stored(const struct signer *signer, struct slice text, struct buf *room, struct signed_body *out, struct err *err)
{
	return verify(signer, text, true, room, out, err);
}

bool signer_signs_results(const struct signer *signer)
{
	return signer != NULL && signer->signs_results;
}

int signer_read(const struct signer *signer, struct slice *content_type, struct slice *text, struct buf *room, struct err *err)
{
	const bool is_signed = slice_is_nocase(*content_type, SIGNER_CONTENT_TYPE);
	struct signed_body inner;

	if (signer == NULL && is_signed)
		return err_set(err, ERR_INVALID, "the message is signed, and setting job.security_key is empty");
	if (signer == NULL)
		return 0;
	if (!is_signed)
		return err_set(err, ERR_INVALID, "content type \"%.*s\" is refused: with job.security_key signed messages alone are taken", shown(*content_type),
			content_type->len > 0 ? content_type->data : "");
	if (signer_verify(signer, *text, room, &inner, err) < 0)
		return -1;
	*content_type = inner.content_type;
	*text = inner.body;
	return 0;
}

/* ---- opening and closing */

/* Takes x509. */
static int add_to_store(struct signer *signer, const char *path, X509 *x509, struct err *err)
{
	struct certificate new = { BUF_INIT, x509, X509_get0_pubkey(x509) };
	int rc = -1;

	if (X509_cmp_current_time(X509_get0_notAfter(x509)) <= 0)
		wrong_file("security_cert_store", path, "the certificate has expired", err);
	else if (add_id(x509, &new.id) < 0)
		wrong_file("security_cert_store", path, "its issuer has no name that can be read", err);
	else if (find(signer, buf_slice(&new.id)) != NULL)
		wrong_file("security_cert_store", path, "another certificate there has the same issuer and serial number", err);
	else
		rc = 0;
	if (rc < 0) {
		X509_free(x509);
		buf_release(&new.id);
		return -1;
	}
	signer->store = mem_grow(signer->store, signer->count + 1, sizeof(*signer->store));
	signer->store[signer->count++] = new;
	return 0;
}

/* A folder stands for all that is in it, as in Celery. */
static int read_store(struct signer *signer, const char *where, struct err *err)
{
	struct buf pattern = BUF_INIT;
	glob_t found = { .gl_pathc = 0 };
	struct stat st;
	int rc;

	buf_add_str(&pattern, where);
	if (stat(where, &st) == 0 && S_ISDIR(st.st_mode))
		buf_add_str(&pattern, "/*");
	rc = glob(pattern.data, GLOB_NOESCAPE, NULL, &found);
	if (rc != 0)
		rc = wrong_file("security_cert_store", where, rc == GLOB_NOMATCH ? "there is no such file" : "can't be looked through", err);
	for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
		X509 *x509 = read_certificate("security_cert_store", found.gl_pathv[i], err);

		rc = x509 != NULL ? add_to_store(signer, found.gl_pathv[i], x509, err) : -1;
	}
	globfree(&found);
	buf_release(&pattern);
	return rc;
}

/* What this process signs goes to others of its kind, and comes back to it: a retry, say. So its certificate must be in the store. */
static int check_own(struct signer *signer, const char *path, const X509 *own, struct err *err)
{
	const char *fault = time_fault(own);
	const struct certificate *stored;
	struct buf id = BUF_INIT;
	int rc = -1;

	if (fault != NULL) {
		wrong_file("security_certificate", path, fault, err);
	} else if (X509_check_private_key(own, signer->key) != 1) {
		wrong_file("security_certificate", path, "is not that of job.security_key", err);
	} else if (add_id(own, &id) < 0 || (stored = find(signer, buf_slice(&id))) == NULL || X509_cmp(stored->x509, own) != 0) {
		wrong_file("security_certificate", path, "is not in job.security_cert_store, by which its messages are read", err);
	} else {
		base64_encode(&signer->id, id.data, id.len);
		signer->own = stored->x509;
		rc = 0;
	}
	ERR_clear_error();
	buf_release(&id);
	return rc;
}

/* A digest may be too long for a short key. */
static int try_it(const struct signer *signer, const struct job_settings *s, struct err *err)
{
	struct buf signature = BUF_INIT;
	const bool works = make_signature(signer, slice_of("[]"), &signature) &&
		is_right(signer, signer->key, slice_of("[]"), buf_slice(&signature));

	buf_release(&signature);
	return works ? 0 : err_set(err, ERR_FATAL, "setting job.security_digest: the key of job.security_key can't sign by %s", s->security_digest);
}

static const EVP_MD *find_digest(const char *name)
{
	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		if (strcmp(digests[i].name, name) == 0)
			return digests[i].make();
	return NULL;
}

static int fill(struct signer *signer, const struct job_settings *s, struct err *err)
{
	X509 *own = NULL;
	int rc = -1;

	signer->digest = find_digest(s->security_digest);
	if (signer->digest == NULL)
		return err_set(err, ERR_FATAL, "setting job.security_digest: there is no digest %s", s->security_digest);
	signer->key = read_key(s, err);
	if (signer->key != NULL)
		own = read_certificate("security_certificate", s->security_certificate, err);
	if (own != NULL && read_store(signer, s->security_cert_store, err) == 0 && check_own(signer, s->security_certificate, own, err) == 0)
		rc = try_it(signer, s, err);
	X509_free(own);
	return rc;
}

int signer_open(const struct settings *settings, struct signer **out, struct err *err)
{
	const struct job_settings *s = &settings->job;
	const char *const needed[][2] = { { "security_key", s->security_key }, { "security_certificate", s->security_certificate },
		{ "security_cert_store", s->security_cert_store } };
	struct signer *signer;
	const char *set = NULL, *missing = NULL;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		*(needed[i][1][0] != '\0' ? &set : &missing) = needed[i][0];
	if (set == NULL && strcmp(s->database_format, "auth") == 0)
		return err_set(err, ERR_FATAL, "setting job.database_format: \"auth\" needs job.security_key to sign with");
	if (set == NULL) {
		*out = NULL;
		return 0;
	}
	if (missing != NULL)
		return err_set(err, ERR_FATAL, "setting job.%s is empty: job.%s needs it", missing, set);
	signer = mem_zalloc(sizeof(*signer));
	signer->id = (struct buf)BUF_INIT;
	signer->signs_results = strcmp(s->database_format, "auth") == 0;
	if (fill(signer, s, err) < 0) {
		signer_close(signer);
		return -1;
	}
	*out = signer;
	return 0;
}

void signer_forget_password(const struct settings *settings)
{
	char *word = settings->job.security_key_password, *told = getenv(PASSWORD_VARIABLE);

	explicit_bzero(word, strlen(word));
	if (told != NULL)
		explicit_bzero(told, strlen(told)); /* also from what /proc shows of this process */
	unsetenv(PASSWORD_VARIABLE);
}

void signer_close(struct signer *signer)
{
	if (signer == NULL)
		return;
	for (size_t i = 0; i < signer->count; i++) {
		buf_release(&signer->store[i].id);
		X509_free(signer->store[i].x509);
	}
	free(signer->store);
	EVP_PKEY_free(signer->key);
	buf_release(&signer->id);
	free(signer);
}
