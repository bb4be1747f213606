/* email.send: a mail goes in as keyword arguments, and out by SMTP: text, HTML or both, with attachments.
 *
 * Sent twice after a failure it has the same Message-ID, by which mail systems know it again. A server that refuses for good
 * fails the job; one that is away, or refuses for now, has it tried again. */
#include <stdlib.h>

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/mail.h"
#include "workers/jobs/files.h"
#include "workers/jobs/handlers.h"

struct letter {
	struct mail mail;
	struct slice *to, *cc, *bcc, *reply_to;
	struct mail_part *parts;
	struct buf *contents; /* of the parts */
	struct buf id;
};

static size_t count_of(const struct json *list)
{
	size_t count = 0;

	for (const struct json *one = json_first(list); one != NULL; one = json_next(one))
		count++;
	return count;
}

/* One text, or a list of them. Without the argument there are none. */
static bool read_texts(const struct job_call *call, const char *name, struct slice **list, size_t *count, struct job_reply *reply)
{
	const struct json *given = job_plain(job_argument(call, name));
	const bool is_list = given != NULL && json_type(given) == JSON_ARRAY;

	*count = 0;
	if (given == NULL || json_type(given) == JSON_NULL)
		return true;
	*list = mem_array(is_list ? count_of(given) : 1, sizeof(**list));
	for (const struct json *one = is_list ? json_first(given) : given; one != NULL; one = is_list ? json_next(one) : NULL) {
		(*list)[*count] = json_string(job_plain(one));
		if ((*list)[(*count)++].data != NULL)
			continue;
		job_fail(reply, "TypeError", "builtins", "%s must be an address, or a list of them", name);
		return false;
	}
	return true;
}

static bool part_fails(struct job_reply *reply, const char *why)
{
	job_fail(reply, "ValueError", "builtins", "an attachment %s", why);
	return false;
}

/* base64, or bytes of a Python client: themselves where they are UTF-8, else in base64. */
static bool read_content(const struct json *given, struct buf *content)
{
	const struct slice plain = json_string(job_typed(given, "bytes"));
	const struct json *typed = job_typed(given, "base64");
	const struct slice coded = json_string(typed != NULL ? typed : given);

	if (plain.data == NULL)
		return coded.data != NULL && base64_decode(content, coded);
	buf_add(content, plain.data, plain.len);
	return true;
}

/* {"name": …, "type": …, "content": base64 or bytes} or {"path": …}. *rc is -1 with err where the file is not to be had. */
static bool read_part(const struct job_call *call, const struct json *given, struct mail_part *part, struct buf *content, struct job_reply *reply, int *rc,
	struct err *err)
{
	const struct json *content_given = json_get(given, "content");
	const struct slice path = json_string(job_plain(json_get(given, "path")));
	const struct json *inside = content_given != NULL && json_type(content_given) == JSON_NULL ? NULL : content_given;
	const char *slash = path.data != NULL ? memrchr(path.data, '/', path.len) : NULL;

	if (json_type(given) != JSON_OBJECT || (inside == NULL) == (path.data == NULL))
		return part_fails(reply, "is an object with name and content (base64), or with path");
	if (path.data != NULL && (*rc = files_read(call, path, content, err)) < 0)
		return false;
	if (inside != NULL && !read_content(inside, content))
		return part_fails(reply, "has a content that is not base64");
	part->bytes = (struct slice){ content->data, content->len };
	part->name = json_string(job_plain(json_get(given, "name")));
	part->type = json_string(job_plain(json_get(given, "type")));
	if (part->name.data == NULL && path.data != NULL)
		part->name = slash != NULL ? (struct slice){ slash + 1, (size_t)(path.data + path.len - slash) - 1 } : path;
	if (part->name.data == NULL)
		return part_fails(reply, "has no name");
	if (part->type.data == NULL)
		part->type = slice_of("application/octet-stream");
	return true;
}

static bool read_parts(const struct job_call *call, struct letter *letter, struct job_reply *reply, int *rc, struct err *err)
{
	const struct json *given = job_argument(call, "attachments");
	size_t count;

	if (given == NULL || json_type(given) == JSON_NULL)
		return true;
	if (json_type(given) != JSON_ARRAY) {
		job_fail(reply, "TypeError", "builtins", "attachments must be a list");
		return false;
	}
	count = count_of(given);
	letter->parts = mem_zalloc(sizeof(*letter->parts) * (count + 1));
	letter->contents = mem_array(count + 1, sizeof(*letter->contents));
	letter->mail.parts = letter->parts;
	for (const struct json *one = json_first(given); one != NULL; one = json_next(one)) {
		const size_t i = letter->mail.part_count++;

		letter->contents[i] = (struct buf)BUF_INIT;
		if (!read_part(call, one, &letter->parts[i], &letter->contents[i], reply, rc, err))
			return false;
	}
	return true;
}

/* false: reply has the fault, or *rc and err do. */
static bool read_letter(const struct job_call *call, struct letter *letter, struct job_reply *reply, int *rc, struct err *err)
{
	struct mail *mail = &letter->mail;

	if (!job_text(call, "subject", false, &mail->subject, reply) || !job_text(call, "text", true, &mail->text, reply) ||
		!job_text(call, "html", true, &mail->html, reply) || !job_text(call, "sender", true, &mail->from, reply) ||
		!read_texts(call, "to", &letter->to, &mail->to_count, reply) || !read_texts(call, "cc", &letter->cc, &mail->cc_count, reply) ||
		!read_texts(call, "bcc", &letter->bcc, &mail->bcc_count, reply) ||
		!read_texts(call, "reply_to", &letter->reply_to, &mail->reply_to_count, reply) || !read_parts(call, letter, reply, rc, err))
		return false;
	mail->to = letter->to;
	mail->cc = letter->cc;
	mail->bcc = letter->bcc;
	mail->reply_to = letter->reply_to;
	if (mail->from.data == NULL)
		mail->from = slice_of(call->settings->smtp.sender);
	buf_addf(&letter->id, "%.*s@feedmill", (int)(call->id.len < 200 ? call->id.len : 200), call->id.data);
	mail->id = (struct slice){ letter->id.data, letter->id.len };
	mail->date_ms = clock_wall_ms();
	return true;
}

static void release(struct letter *letter)
{
	for (size_t i = 0; i < letter->mail.part_count; i++)
		buf_release(&letter->contents[i]);
	free(letter->contents);
	free(letter->parts);
	free(letter->to);
	free(letter->cc);
	free(letter->bcc);
	free(letter->reply_to);
	buf_release(&letter->id);
}

static int send_letter(const struct job_call *call, const struct letter *letter, struct job_reply *reply, struct err *err)
{
	const struct smtp_settings *smtp = &call->settings->smtp;
	const struct mail_server server = { smtp->url, smtp->user, smtp->password, smtp->ca_file, smtp->tls, job_left_ms(call, smtp->timeout_ms) };

	if (smtp->url[0] == '\0')
		return job_fail(reply, "RuntimeError", "builtins", "mail is off: the setting smtp.url names no server");
	if (mail_send(&server, &letter->mail, err) == 0)
		return job_return(reply, slice_of("{\"sent\":true}"));
	return err->kind == ERR_INVALID ? job_fail(reply, "SMTPException", "smtplib", "%s", err->message) : -1;
}

int job_email_send(const struct job_call *call, struct job_reply *reply, struct err *err)
{
	struct letter letter = { .id = BUF_INIT };
	int rc = 0;

	if (read_letter(call, &letter, reply, &rc, err))
		rc = send_letter(call, &letter, reply, err);
	else if (rc < 0 && err->kind == ERR_INVALID)
		rc = job_fail(reply, "ValueError", "builtins", "%s", err->message);
	release(&letter);
	return rc;
}
