/* mail: one message to one SMTP server (RFC 5321), with libcurl: text, HTML or both, and attachments (MIME, RFC 2045 to 2049).
 * Uses base only; knows nothing of jobs. */
#ifndef FEEDMILL_HTTP_MAIL_H
#define FEEDMILL_HTTP_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

struct mail_server {
	const char *url;      /* smtp://host:port, or smtps:// for TLS from the first byte */
	const char *user;     /* empty: no login */
	const char *password;
	const char *ca_file;  /* empty: the system's certificates */
	bool wants_tls;       /* smtp://: nothing is said before STARTTLS worked */
	int64_t timeout_ms;   /* of the whole of it */
};

/* An address is "a@b" or "Name <a@b>"; the name is UTF-8. */
struct mail_part {
	struct slice name;  /* file name, UTF-8 */
	struct slice type;  /* "application/pdf" */
	struct slice bytes;
};

struct mail {
	struct slice from;
	const struct slice *to, *cc, *bcc, *reply_to;
	size_t to_count, cc_count, bcc_count, reply_to_count;
	struct slice subject;    /* UTF-8 */
	struct slice text, html; /* UTF-8; data NULL: none */
	const struct mail_part *parts;
	size_t part_count;
	struct slice id;         /* of Message-ID, without the angles: the same mail sent twice has the same */
	int64_t date_ms;
};

/* All recipients or none, as far as the server says so before the text. -1: ERR_INVALID (an address is none, or the server refuses
 * for good: 5xx), ERR_UNAVAILABLE (away, or refuses for now: 4xx; nothing was accepted), ERR_UNKNOWN (lost after the text). */
int mail_send(const struct mail_server *server, const struct mail *mail, struct err *err);

#endif
