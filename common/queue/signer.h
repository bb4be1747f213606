/* signer: message bodies that are signed as Celery's serializer `auth` signs them (app.setup_security()), and the look at those that come.
 * The only user of OpenSSL.
 *
 * A signed body is base64 of five fields with the bytes 00 01 between them: base64 of the signer's id, base64 of the signature, content type,
 * content encoding, body (which may have those bytes in it). The id is a certificate's: the values of its issuer's name with spaces between, a
 * space, its serial number in decimal. The signature is RSA-PSS with the longest salt, over the body alone: not over the two fields
 * before it, and not over the headers of the message. Format: celery/security/{serialization,certificate,key}.py of Celery 5.7.
 *
 * A signer does not change once it is open: any thread may use it. */
#ifndef FEEDMILL_QUEUE_SIGNER_H
#define FEEDMILL_QUEUE_SIGNER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/settings.h"
#include "common/base/str.h"

#define SIGNER_CONTENT_TYPE "application/data" /* of signed bodies; their encoding is utf-8 */

struct signer;

/* By settings job.security_*; *out is NULL where none of them is set. Each file is read here. ERR_FATAL, with the setting's name: some are
 * missing, a file can't be read or is not what it should be, a certificate's time is not now, its key is another, two have the same id. */
int signer_open(const struct settings *settings, struct signer **out, struct err *err);
void signer_close(struct signer *signer); /* NULL is fine */

/* Wipes the key's password from the settings, and from the environment that programs inherit; no thread may look at either meanwhile. */
void signer_forget_password(const struct settings *settings);

/* Adds the signed text of a JSON text. It worked when the signer was opened: without memory the process ends. */
void signer_sign(const struct signer *signer, struct slice json, struct buf *out);

int64_t signer_seconds_left(const struct signer *signer); /* of its own certificate; below 0: what it signs is refused */

struct signed_body { /* points into the room that was given */
	struct slice content_type, content_encoding; /* of the body. Whoever could change the message has chosen them */
	struct slice body;
};

/* ERR_INVALID: it is no signed text, its signer is not in the store or his certificate's time is not now, or it is not what he signed. */
int signer_verify(const struct signer *signer, struct slice text, struct buf *room, struct signed_body *out, struct err *err);

/* What lies in a table: the certificate of who signed it, which the store still has, may have expired since. Else as signer_verify(). */
int signer_verify_stored(const struct signer *signer, struct slice text, struct buf *room, struct signed_body *out, struct err *err);
bool signer_signs_results(const struct signer *signer); /* job.database_format is "auth": a stored one that is not signed is none. NULL: false */

/* Content type and text of a message, which become those that are signed in it. Without a signer (NULL) they stay as they are. ERR_INVALID: it is
 * signed and there is no signer, it is not signed and there is one, or what signer_verify() says. */
int signer_read(const struct signer *signer, struct slice *content_type, struct slice *text, struct buf *room, struct err *err);

#endif
