/* A message goes in; MIME goes out to an SMTP server. */
#include "common/http/mail.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/base64.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/http/http_client.h"

#define ADDRESS_MAX 320 /* RFC 5321: 64 + 1 + 255 */
#define LINE_MAX_WORD 45 /* bytes of an encoded word: 60 characters, so that the line stays below 76 */

/* ---- headers: everything that goes into one is checked or encoded here */

static bool has_control(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
			return true;
	return false;
}

static bool is_ascii(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] >= 0x80)
			return false;
	return true;
}

/* RFC 2047: words of whole characters, one a line. */
static void add_encoded(struct buf *out, struct slice text)
{
	for (size_t from = 0, end; from < text.len; from = end) {
		end = text.len - from > LINE_MAX_WORD ? from + LINE_MAX_WORD : text.len;
		while (end < text.len && end > from + 1 && ((unsigned char)text.data[end] & 0xc0) == 0x80)
			end--;
		if (from > 0)
			buf_add_str(out, "\r\n ");
		buf_add_str(out, "=?UTF-8?B?");
		base64_encode(out, text.data + from, end - from);
		buf_add_str(out, "?=");
	}
}

/* Free text: as it is when a line takes it, else encoded. */
static void add_text(struct buf *out, struct slice text)
{
	if (is_ascii(text) && text.len <= 60)
		buf_add(out, text.data, text.len);
	else
		add_encoded(out, text);
}

/* "Name <a@b>" cut into both; -1 when the address is none that SMTP can carry. */
static int cut_address(struct slice text, struct slice *name, struct slice *address, struct err *err)
{
	const char *angle = text.len > 0 && text.data[text.len - 1] == '>' ? memrchr(text.data, '<', text.len) : NULL;
	const char *at;

	*name = SLICE_NONE;
	*address = slice_trim(text);
	if (angle != NULL) {
		*name = slice_trim((struct slice){ text.data, (size_t)(angle - text.data) });
		*address = slice_trim((struct slice){ angle + 1, (size_t)(text.data + text.len - angle) - 2 });
	}
	at = address->len > 0 ? memrchr(address->data, '@', address->len) : NULL;
	if (has_control(text) || at == NULL || at == address->data || at == address->data + address->len - 1 || address->len > ADDRESS_MAX ||
		memchr(address->data, ' ', address->len) != NULL || memchr(address->data, '<', address->len) != NULL ||
		memchr(address->data, '>', address->len) != NULL || memchr(address->data, ',', address->len) != NULL || !is_ascii(*address))
		return err_set(err, ERR_INVALID, "\"%.*s\" is no mail address", (int)(text.len < 100 ? text.len : 100), text.data);
	return 0;
}

/* A display name, quoted where it is not encoded. */
static void add_name(struct buf *out, struct slice name)
{
	if (!is_ascii(name)) {
		add_encoded(out, name);
		return;
	}
	buf_add_char(out, '"');
	for (size_t i = 0; i < name.len; i++) {
		if (name.data[i] == '"' || name.data[i] == '\\')
			buf_add_char(out, '\\');
		buf_add_char(out, name.data[i]);
	}
	buf_add_char(out, '"');
}

/* One header of addresses, one a line. */
static int add_addresses(struct buf *out, const char *header, const struct slice *list, size_t count, struct err *err)
{
	buf_addf(out, "%s: ", header);
	for (size_t i = 0; i < count; i++) {
		struct slice name, address;

		if (cut_address(list[i], &name, &address, err) < 0)
			return -1;
		if (i > 0)
			buf_add_str(out, ",\r\n ");
		if (name.len > 0) {
			add_name(out, name);
			buf_addf(out, " <%.*s>", (int)address.len, address.data);
		} else {
			buf_add(out, address.data, address.len);
		}
	}
	return 0;
}

/* ---- the list of headers; curl copies what it is given */

static void append(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		abort(); /* as mem_alloc() does */
	*list = longer;
}

static int append_addresses(struct curl_slist **headers, const char *header, const struct slice *list, size_t count, struct err *err)
{
	struct buf line = BUF_INIT;
	int rc = count > 0 ? add_addresses(&line, header, list, count, err) : 0;

	if (rc == 0 && count > 0)
		append(headers, line.data);
	buf_release(&line);
	return rc;
}

static void append_date(struct curl_slist **headers, int64_t date_ms)
{
	const time_t seconds = (time_t)(date_ms / 1000);
	char line[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(line, sizeof(line), "Date: %a, %d %b %Y %H:%M:%S +0000", &tm); /* the locale is C: nothing sets another */
	append(headers, line);
}

static int make_headers(const struct mail *mail, struct curl_slist **headers, struct err *err)
{
	struct buf line = BUF_INIT;

	if (append_addresses(headers, "From", &mail->from, 1, err) < 0 || append_addresses(headers, "To", mail->to, mail->to_count, err) < 0 ||
		append_addresses(headers, "Cc", mail->cc, mail->cc_count, err) < 0 ||
		append_addresses(headers, "Reply-To", mail->reply_to, mail->reply_to_count, err) < 0)
		return -1;
	if (has_control(mail->subject) || has_control(mail->id))
		return err_set(err, ERR_INVALID, "the subject has a control character");
	buf_add_str(&line, "Subject: ");
	add_text(&line, mail->subject);
	append(headers, line.data);
	buf_reset(&line);
	buf_addf(&line, "Message-ID: <%.*s>", (int)mail->id.len, mail->id.data);
	append(headers, line.data);
	append_date(headers, mail->date_ms);
	append(headers, "MIME-Version: 1.0");
	buf_release(&line);
	return 0;
}

/* The envelope: addresses alone, each recipient once however often it is named. */
static int add_recipients(struct curl_slist **recipients, const struct slice *list, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		char text[ADDRESS_MAX + 1];
		struct slice name, address;
		bool is_there = false;

		if (cut_address(list[i], &name, &address, err) < 0)
			return -1;
		memcpy(text, address.data, address.len);
		text[address.len] = '\0';
		for (const struct curl_slist *one = *recipients; one != NULL; one = one->next)
			is_there |= strcmp(one->data, text) == 0;
		if (!is_there)
			append(recipients, text);
	}
	return 0;
}

/* ---- the body */

static void set_data(curl_mimepart *part, struct slice bytes, const char *type, const char *encoder)
{
	curl_mime_data(part, bytes.data != NULL ? bytes.data : "", bytes.len);
	curl_mime_type(part, type);
	curl_mime_encoder(part, encoder);
}

/* Text, HTML, or both as alternatives. */
static void add_body(CURL *curl, curl_mimepart *part, const struct mail *mail)
{
	curl_mime *both;

	if (mail->html.data == NULL || mail->text.data == NULL) {
		set_data(part, mail->html.data != NULL ? mail->html : mail->text, mail->html.data != NULL ? "text/html; charset=utf-8" : "text/plain; charset=utf-8",
			"quoted-printable");
		return;
	}
	both = curl_mime_init(curl);
	set_data(curl_mime_addpart(both), mail->text, "text/plain; charset=utf-8", "quoted-printable");
	set_data(curl_mime_addpart(both), mail->html, "text/html; charset=utf-8", "quoted-printable");
	curl_mime_subparts(part, both);
	curl_mime_type(part, "multipart/alternative");
}

/* RFC 2231 for names beyond ASCII. */
static void set_file_name(curl_mimepart *part, struct slice name)
{
	struct curl_slist *headers = NULL;
	struct buf line = BUF_INIT;

	buf_add_str(&line, "Content-Disposition: attachment; filename*=UTF-8''");
	for (size_t i = 0; i < name.len; i++) {
		const unsigned char c = (unsigned char)name.data[i];
		const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';

		if (is_plain)
			buf_add_char(&line, (char)c);
		else
			buf_addf(&line, "%%%02X", c);
	}
	append(&headers, line.data);
	curl_mime_headers(part, headers, 1);
	buf_release(&line);
}

static int add_part(curl_mimepart *part, const struct mail_part *from, struct err *err)
{
	char type[128];

	if (from->type.len == 0 || from->type.len >= sizeof(type) || has_control(from->type) || !is_ascii(from->type) || memchr(from->type.data, '/', from->type.len) == NULL)
		return err_set(err, ERR_INVALID, "an attachment's type is none: \"%.*s\"", (int)(from->type.len < 100 ? from->type.len : 100), from->type.data);
	memcpy(type, from->type.data, from->type.len);
	type[from->type.len] = '\0';
	set_data(part, from->bytes, type, "base64");
	set_file_name(part, from->name);
	return 0;
}

static int make_body(CURL *curl, const struct mail *mail, curl_mime **out, struct err *err)
{
	curl_mime *mime = curl_mime_init(curl);

	*out = mime;
	add_body(curl, curl_mime_addpart(mime), mail);
	for (size_t i = 0; i < mail->part_count; i++)
		if (add_part(curl_mime_addpart(mime), &mail->parts[i], err) < 0)
			return -1;
	return 0;
}

/* ---- sending */

static void set_server(CURL *curl, const struct mail_server *server)
{
	curl_easy_setopt(curl, CURLOPT_URL, server->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(server->timeout_ms > 0 ? server->timeout_ms : 1)); /* 0 would be no limit */
	curl_easy_setopt(curl, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)(server->timeout_ms / 1000 + 1));
	curl_easy_setopt(curl, CURLOPT_USE_SSL, server->wants_tls ? (long)CURLUSESSL_ALL : (long)CURLUSESSL_NONE);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (server->ca_file[0] != '\0')
		curl_easy_setopt(curl, CURLOPT_CAINFO, server->ca_file);
	if (server->user[0] != '\0') {
		curl_easy_setopt(curl, CURLOPT_USERNAME, server->user);
		curl_easy_setopt(curl, CURLOPT_PASSWORD, server->password);
	}
}

static size_t forget(char *data, size_t size, size_t count, void *arg)
{
	(void)data, (void)arg;
	return size * count;
}

/* What a server said last decides: 5xx is for good. Without a word it was away, or went away before it took the text. */
static int explain(CURL *curl, CURLcode code, const char *why, struct err *err)
{
	const char *text = why[0] != '\0' ? why : curl_easy_strerror(code);
	long status = 0, sent = 0;

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
	if (status >= 500 && status < 600 && code != CURLE_OPERATION_TIMEDOUT && code != CURLE_RECV_ERROR)
		return err_set(err, ERR_INVALID, "the mail server refuses: %ld %s", status, text);
	if (status == 354 && (code == CURLE_OPERATION_TIMEDOUT || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING || code == CURLE_WEIRD_SERVER_REPLY))
		return err_set(err, ERR_UNKNOWN, "the mail server took the text and gave no answer: %s", text);
	return err_set(err, ERR_UNAVAILABLE, "the mail server did not take it: %s", text);
}

static int perform(CURL *curl, const struct mail_server *server, const struct mail *mail, struct curl_slist *headers, struct curl_slist *recipients,
	curl_mime *mime, struct err *err)
{
	char why[CURL_ERROR_SIZE] = "", from[ADDRESS_MAX + 3];
	struct slice name, address;
	CURLcode code;

	if (cut_address(mail->from, &name, &address, err) < 0)
		return -1;
	snprintf(from, sizeof(from), "<%.*s>", (int)address.len, address.data);
	set_server(curl, server);
	curl_easy_setopt(curl, CURLOPT_MAIL_FROM, from);
	curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, recipients);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_MIMEPOST, mime);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, forget);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
	code = curl_easy_perform(curl);
	return code == CURLE_OK ? 0 : explain(curl, code, why, err);
}

int mail_send(const struct mail_server *server, const struct mail *mail, struct err *err)
{
	struct curl_slist *headers = NULL, *recipients = NULL;
	curl_mime *mime = NULL;
	CURL *curl;
	int rc = -1;

	http_client_global_init();
	curl = curl_easy_init();
	if (curl == NULL)
		return err_set(err, ERR_UNAVAILABLE, "libcurl can't begin");
	if (make_headers(mail, &headers, err) < 0 || add_recipients(&recipients, mail->to, mail->to_count, err) < 0 ||
		add_recipients(&recipients, mail->cc, mail->cc_count, err) < 0 || add_recipients(&recipients, mail->bcc, mail->bcc_count, err) < 0)
		goto out;
	if (recipients == NULL) {
		err_set(err, ERR_INVALID, "the mail has no recipient");
		goto out;
	}
	if (make_body(curl, mail, &mime, err) == 0)
		rc = perform(curl, server, mail, headers, recipients, mime, err);
out:
	curl_mime_free(mime);
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	curl_slist_free_all(recipients);
	return rc;
}
