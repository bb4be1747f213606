"""Handlers that come with the worker, sent by a Celery client: mail to a real SMTP server, pictures, posts and friendships."""
import base64
import collections
import contextlib
import datetime
import email
import email.policy
import hmac
import http.server
import io
import json
import socket
import ssl
import statistics
import threading
import time
import uuid

import billiard.exceptions
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from PIL import Image

from certificate import make_certificate
from feedmill import wait_for


class Sink:
    """An SMTP server's handler that keeps what comes. `answers` are given before anything is accepted."""

    def __init__(self):
        self.mails, self.answers = [], []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.answers:
            return self.answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope, email.message_from_bytes(envelope.content, policy=email.policy.default)))
        return "250 OK"


@contextlib.contextmanager
def listening(**options):
    """A sink that listens at its port."""
    sink = Sink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        sink.port = probe.getsockname()[1]
    controller = Controller(sink, hostname="127.0.0.1", port=sink.port, **options)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def sink():
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def folder(module_folder):
    folder = module_folder / "files"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def worker(cluster, sink, folder):
    return cluster.job(concurrency=2, retry_limit_ms=50, files=str(folder), **{
        "smtp.url": f"smtp://127.0.0.1:{sink.port}", "smtp.tls": False, "smtp.sender": "Feedmill <feed@example.org>"})


@pytest.fixture
def last(sink):
    """The one mail that a test has sent."""
    sink.mails.clear()
    yield lambda: sink.mails[-1]
    assert len(sink.mails) == 1


# ---- mail

def test_mail_with_attachments(send, last, folder):
    (folder / "report.csv").write_bytes(b"a,b\r\n1,2\r\n")
    assert send("email.send", kwargs={
        "to": ["Zoë Ärmel <zoe@example.org>", "max@example.org"], "cc": "cc@example.org", "bcc": ["hidden@example.org", "max@example.org"],
        "reply_to": "answers@example.org", "subject": "Grüße – a subject that is long enough for two lines of its own, as it seems",
        "text": "Plain. Été.\n.\nA dot stood alone.", "html": "<p>Rich <b>été</b></p>",
        "attachments": [{"name": "Übersicht \"1\".bin", "type": "application/x-thing", "content": base64.b64encode(bytes(range(256))).decode()},
                        {"path": "report.csv", "type": "text/csv"}]}) == {"sent": True}
    envelope, mail = last()
    assert envelope.mail_from == "feed@example.org"
    assert sorted(envelope.rcpt_tos) == ["cc@example.org", "hidden@example.org", "max@example.org", "zoe@example.org"]
    assert mail["From"] == "Feedmill <feed@example.org>" and mail["Cc"] == "cc@example.org" and mail["Bcc"] is None and mail["Reply-To"] == "answers@example.org"
    assert [(a.display_name, a.addr_spec) for a in mail["To"].addresses] == [("Zoë Ärmel", "zoe@example.org"), ("", "max@example.org")]
    assert mail["Subject"] == "Grüße – a subject that is long enough for two lines of its own, as it seems"
    assert mail.get_body(("plain",)).get_content().splitlines() == ["Plain. Été.", ".", "A dot stood alone."]
    assert mail.get_body(("html",)).get_content().strip() == "<p>Rich <b>été</b></p>"
    thing, report = mail.iter_attachments()
    assert (thing.get_filename(), thing.get_content_type(), thing.get_content()) == ("Übersicht \"1\".bin", "application/x-thing", bytes(range(256)))
    assert (report.get_filename(), report.get_content_type(), report.get_payload(decode=True)) == ("report.csv", "text/csv", b"a,b\r\n1,2\r\n")
    assert max(map(len, envelope.content.splitlines())) < 1000


def test_mail_of_types_that_json_lacks(send, last):
    """As Python's clients have them: bytes, text or not, are themselves; an id or a date is its text."""
    assert send("email.send", kwargs={
        "to": [b"one@example.org"], "subject": datetime.date(2026, 1, 2), "text": "pl\u00e4in".encode(), "attachments": [
            {"name": b"a.txt", "content": "\u00fc is no base64".encode()}, {"name": "b.bin", "content": b"\x00\xff\x80"}, {"name": "empty", "content": b""},
            {"name": uuid.UUID(int=7), "content": base64.b64encode(b"a text").decode()}]}) == {"sent": True}
    envelope, mail = last()
    assert envelope.rcpt_tos == ["one@example.org"] and mail["Subject"] == "2026-01-02"
    assert mail.get_body(("plain",)).get_content().strip() == "pl\u00e4in"
    assert [(part.get_filename(), part.get_payload(decode=True)) for part in mail.iter_attachments()] == [
        ("a.txt", "\u00fc is no base64".encode()), ("b.bin", b"\x00\xff\x80"), ("empty", b""), ("0" * 31 + "7", b"a text")]


def test_mail_says_which_job_sent_it(app, last):
    result = app.send_task("email.send", ["one@example.org", "short", "text alone"])
    result.get(timeout=30)
    assert last()[1]["Message-ID"] == f"<{result.id}@feedmill>"


def test_mail_is_tried_again_when_the_server_says_later(send, sink, last):
    sink.answers = ["451 later", "452 full"]
    assert send("email.send", "one@example.org", "again", "text") == {"sent": True}
    assert sink.answers == []


@pytest.mark.parametrize("kwargs, error", [
    ({"to": "nobody", "subject": "s", "text": "t"}, "is no mail address"), ({"to": "a@b\r\nBcc: x@y", "subject": "s", "text": "t"}, "is no mail address"),
    ({"to": "a@b", "subject": "s\r\nBcc: x@y", "text": "t"}, "control character"), ({"to": [], "subject": "s", "text": "t"}, "no recipient"),
    ({"to": 7, "subject": "s"}, "to must be an address"), ({"to": "a@b"}, "missing required argument: 'subject'"),
    ({"to": "a@b", "subject": "s", "attachments": [{"name": "x", "content": "%%%"}]}, "not base64"),
    ({"to": "a@b", "subject": "s", "attachments": [{"name": "x", "content": 7}]}, "not base64"),
    ({"to": "a@b", "subject": b"\xff"}, "subject must be a string, not object"),
    ({"to": "a@b", "subject": {"__type__": "bytes", "__value__": "s", "more": 1}}, "subject must be a string, not object"),
    ({"to": "a@b", "subject": "s", "attachments": [{"path": "../secret"}]}, "outside of job.files"),
    ({"to": "a@b", "subject": "s", "attachments": [{"path": "nothing"}]}, "No such file"),
    ({"to": "a@b", "subject": "s", "attachments": [{"name": "x", "content": "", "type": "a\r\nb"}]}, "attachment's type"),
])
def test_mail_that_can_not_be_sent(send, sink, kwargs, error):
    sink.mails.clear()
    with pytest.raises(Exception, match=error):
        send("email.send", kwargs=kwargs)
    assert sink.mails == []


def test_mail_refused_for_good(send, sink):
    sink.answers = ["550 no such user"]
    sink.mails.clear()
    with pytest.raises(Exception, match="550"):
        send("email.send", "gone@example.org", "s", "t")
    assert sink.mails == []


def test_mail_by_tls_alone(cluster, module_folder):
    """STARTTLS before anything is said: with the right certificate it goes, to a server without TLS it does not."""
    certificate, key = make_certificate(module_folder, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with listening(tls_context=context, require_starttls=True) as safe, listening() as plain:
        for n, sink in enumerate((safe, plain)):
            cluster.job(queues=f"tls{n}", concurrency=1, **{"smtp.url": f"smtp://127.0.0.1:{sink.port}", "smtp.ca_file": str(certificate), "smtp.sender": "feed@example.org"})
        app = cluster.app()
        assert app.send_task("email.send", ["a@example.org", "s", "t"], queue="tls0").get(timeout=30) == {"sent": True}
        with pytest.raises(Exception, match="STARTTLS"):
            app.send_task("email.send", ["a@example.org", "s", "t"], queue="tls1").get(timeout=30)
        assert len(safe.mails) == 1 and plain.mails == []


def logins(user, password):
    """For a sink that takes nothing without a login by TLS: its options, and a list of who tried."""
    tried = []

    def authenticate(server, session, envelope, mechanism, data):
        tried.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=tried[-1] == (user, password), handled=False)
    return {"authenticator": authenticate, "auth_required": True, "auth_require_tls": True}, tried


def test_mail_with_a_login(cluster, tmp_path):
    """After STARTTLS; a wrong password is told and not tried again."""
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    options, tried = logins("feed", "pass:w\u00f6rd")
    with listening(tls_context=context, require_starttls=True, **options) as sink:
        for queue, password in (("login", "pass:w\u00f6rd"), ("wrong-login", "secret")):
            cluster.job(queues=queue, concurrency=1, retry_limit_ms=50, **{"smtp.url": f"smtp://127.0.0.1:{sink.port}", "smtp.ca_file": str(certificate),
                        "smtp.sender": "feed@example.org", "smtp.user": "feed", "smtp.password": password})
        app = cluster.app()
        assert app.send_task("email.send", ["a@example.org", "s", "t"], queue="login").get(timeout=60) == {"sent": True}
        assert len(sink.mails) == 1 and tried == [("feed", "pass:w\u00f6rd")]
        with pytest.raises(Exception, match="535") as refused:
            app.send_task("email.send", ["a@example.org", "s", "t"], queue="wrong-login").get(timeout=60)
        assert len(sink.mails) == 1 and set(tried[1:]) == {("feed", "secret")} and "secret" not in str(refused.value)


def test_mail_by_tls_from_the_first_byte(cluster, tmp_path):
    """smtps://, with a login; a certificate that nobody vouches for ends it before anything is said."""
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with listening(ssl_context=context) as sink:
        for queue, trust in (("smtps", {"smtp.ca_file": str(certificate)}), ("smtps-unknown", {})):
            cluster.job(queues=queue, concurrency=1, retry_limit_ms=50, **{"smtp.url": f"smtps://127.0.0.1:{sink.port}", "smtp.sender": "feed@example.org", **trust})
        app = cluster.app()
        assert app.send_task("email.send", ["a@example.org", "s", "t"], queue="smtps").get(timeout=60) == {"sent": True}
        with pytest.raises(Exception, match="certificate"):
            app.send_task("email.send", ["a@example.org", "s", "t"], queue="smtps-unknown").get(timeout=60)
        assert len(sink.mails) == 1


# ---- pictures

def picture(folder, name, size, colours=("red", "blue"), **options):
    """Left half one colour, right half the other."""
    image = Image.new("RGB", size, colours[0])
    image.paste(colours[1], (size[0] // 2, 0, *size))
    image.save(folder / name, **options)
    return name


def is_near(pixel, colour):
    return all(abs(a - b) < 40 for a, b in zip(pixel, colour))


@pytest.mark.parametrize("name, form", [("a.jpg", "jpeg"), ("a.png", "png"), ("a.webp", "webp"), ("a.gif", "gif")])
def test_picture_made_smaller(send, folder, name, form):
    picture(folder, name, (800, 400))
    answer = send("image.resize", name, "small-" + name, 200)
    assert (answer["format"], answer["width"], answer["height"]) == (form, 200, 100)
    with Image.open(folder / ("small-" + name)) as small:
        assert small.size == (200, 100) and small.format.lower() == form
        small = small.convert("RGB")
        assert is_near(small.getpixel((20, 50)), (255, 0, 0)) and is_near(small.getpixel((180, 50)), (0, 0, 255))
    assert (folder / ("small-" + name)).stat().st_size == answer["bytes"]


def test_picture_cut_to_the_box_and_in_another_format(send, folder):
    picture(folder, "wide.png", (900, 300))
    answer = send("image.resize", "wide.png", "square.webp", 100, 100, kwargs={"fit": "cover", "format": "webp"})
    assert (answer["format"], answer["width"], answer["height"]) == ("webp", 100, 100)
    assert Image.open(folder / "square.webp").size == (100, 100)


def test_small_picture_is_not_made_larger(send, folder):
    picture(folder, "tiny.png", (10, 10))
    assert send("image.resize", "tiny.png", "still-tiny.png", 500)["width"] == 10


def test_picture_is_turned_and_loses_its_metadata(send, folder):
    exif = Image.Exif()
    exif[0x0112], exif[0x010e] = 6, "a secret place"  # orientation: a quarter turn; description
    picture(folder, "turned.jpg", (400, 200), exif=exif)
    assert send("image.resize", "turned.jpg", "upright.jpg", 100)["height"] == 100
    upright = Image.open(folder / "upright.jpg")
    assert upright.size == (50, 100) and b"secret" not in (folder / "upright.jpg").read_bytes()


@pytest.mark.parametrize("source, target, width, error", [
    ("nothing.png", "x.png", 10, "No such file"), ("../up.png", "x.png", 10, "outside of job.files"), ("/etc/passwd", "x.png", 10, "outside of job.files"),
    ("link.png", "x.png", 10, "outside of job.files"), ("text.png", "x.png", 10, "no JPEG, PNG, WebP or GIF"), ("half.png", "x.png", 10, "picture"),
    ("good.png", "../x.png", 10, "outside of job.files"), ("good.png", "nowhere/x.png", 10, "No such file"), ("good.png", "x.png", 0, "width must be"),
    ("good.png", "x.png", 10**9, "width must be"), ("http://127.0.0.1:9/x.png", "x.png", 10, None), (".", "x.png", 10, "no file|Is a directory"),
])
def test_picture_that_is_refused(cluster, send, folder, source, target, width, error):
    picture(folder, "good.png", (20, 20))
    (folder / "half.png").write_bytes((folder / "good.png").read_bytes()[:40])
    (folder / "text.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    if not (folder / "link.png").is_symlink():
        (folder / "link.png").symlink_to("/etc/passwd")
    if error is None:  # a local address is refused, and tried again as one that is away
        app = cluster.app()
        result = app.send_task("image.resize", [source, target, width])
        with pytest.raises(Exception):
            result.get(timeout=30)
    else:
        with pytest.raises(Exception, match=error):
            send("image.resize", source, target, width)
    assert not (folder / "x.png").exists() and not (folder.parent / "x.png").exists()


def test_picture_of_too_many_pixels(cluster, folder):
    cluster.job(queues="pixels", concurrency=1, files=str(folder), image_max_pixels=1000)
    picture(folder, "many.png", (100, 100))
    with pytest.raises(Exception, match="10000 pixels, more than job.image_max_pixels"):
        cluster.app().send_task("image.resize", ["many.png", "x.png", 10], queue="pixels").get(timeout=30)
    picture(folder, "few.png", (10, 10))
    large = dict(args=["few.png", "grown.png", 100, 11], queue="pixels")
    with pytest.raises(Exception, match="1100 pixels, more than job.image_max_pixels"):
        cluster.app().send_task("image.resize", kwargs={"fit": "cover"}, **large).get(timeout=30)
    assert not (folder / "grown.png").exists()
    assert cluster.app().send_task("image.resize", **large).get(timeout=30)["width"] == 10, "it does not grow to fit into a box"


def test_picture_at_a_url_of_this_host_is_not_fetched(send, receiver, folder):
    """Where job.local_urls is off; nor is anything brought there."""
    receiver.files["/x.png"] = (folder / picture(folder, "x-source.png", (20, 20))).read_bytes()
    with pytest.raises(Exception, match="must not be called"):
        send("image.resize", receiver.base + "/x.png", "fetched.png", 10)
    with pytest.raises(Exception, match="must not be called"):
        send("image.resize", "x-source.png", receiver.base + "/y.png", 10)
    assert receiver.gets == receiver.calls == [] and not (folder / "fetched.png").exists()


def test_what_is_larger_than_the_limit_is_not_read(cluster, sink, receiver, folder):
    """Neither a file nor what a URL has, for which it is asked once; exactly the limit is fine."""
    cluster.job(queues="limit", concurrency=1, files=str(folder), file_max=1000, local_urls=True, retry_limit_ms=50, **{
        "smtp.url": f"smtp://127.0.0.1:{sink.port}", "smtp.tls": False, "smtp.sender": "feed@example.org"})
    app = cluster.app()

    def attach(path):
        return app.send_task("email.send", ["a@example.org", "s", "t"], {"attachments": [{"path": path}]}, queue="limit").get(timeout=60)
    for size in (1000, 1001):
        (folder / f"{size}.bin").write_bytes(b"x" * size)
        receiver.files[f"/{size}.bin"] = b"x" * size
    sink.mails.clear()
    for path in ("1000.bin", receiver.base + "/1000.bin"):
        assert attach(path) == {"sent": True}
    assert [part.get_payload(decode=True) for _, mail in sink.mails for part in mail.iter_attachments()] == [b"x" * 1000] * 2
    with pytest.raises(ValueError, match="larger than job.file_max, 1000 bytes"):
        attach("1001.bin")
    with pytest.raises(ValueError, match="more than job.file_max, 1000 bytes"):
        attach(receiver.base + "/1001.bin")
    assert receiver.gets == ["/1000.bin", "/1001.bin"] and len(sink.mails) == 2


def test_picture_from_a_url_to_a_url(local, receiver, folder):
    """Servers that are busy are asked again; what comes there is the picture, smaller, with its type."""
    receiver.files["/large.png"] = (folder / picture(folder, "large.png", (800, 400))).read_bytes()
    receiver.answers = [503, 200, 503]
    places = [receiver.base + "/large.png", receiver.base + "/small.webp", 200]
    answer = local.send_task("image.resize", places, {"format": "webp"}, queue="local").get(timeout=60)
    small = receiver.files["/small.webp"]
    assert answer == {"format": "webp", "width": 200, "height": 100, "bytes": len(small)}
    assert receiver.answers == [] and receiver.calls[-1][0]["Content-Type"] == "image/webp"
    with Image.open(io.BytesIO(small)) as image:
        assert image.format == "WEBP" and image.size == (200, 100)
        image = image.convert("RGB")
        assert is_near(image.getpixel((20, 50)), (255, 0, 0)) and is_near(image.getpixel((180, 50)), (0, 0, 255))
    with pytest.raises(Exception, match="404"):
        local.send_task("image.resize", [receiver.base + "/nothing.png", places[1], 200], queue="local").get(timeout=60)


# ---- the feed

def test_post_and_friendship(make_cluster):
    """Through the gateway, with the task's id for a key: a task that comes twice has posted once."""
    cluster = make_cluster()
    cluster.start()
    client = cluster.client
    one, other = client.participant("one"), client.participant("other")
    cluster.job(concurrency=1, **{"job.gateway_url": client.url})
    app = cluster.app()
    friends = app.send_task("feed.befriend", [one, other], task_id="befriended-once").get(timeout=30)
    assert (friends["from"], friends["to"]) == (f"/participant/{one}", f"/participant/{other}")
    assert cluster.app().send_task("feed.befriend", [one, other], task_id="befriended-once").get(timeout=30) == friends
    with pytest.raises(Exception, match="answers 422"):  # the key was another call's
        cluster.app().send_task("feed.befriend", [one, client.participant("third")], task_id="befriended-once").get(timeout=30)
    task = dict(args=[one, "by a job", "once upon a time"], task_id="5b3a1c9e-7f0f-4f0a-9d9e-2f6f3a1c9e7f")
    post = app.send_task("feed.post", **task).get(timeout=30)
    again = cluster.app().send_task("feed.post", **task).get(timeout=30)
    assert again["id"] == post["id"] and post["subject"] == "by a job"
    wait_for(lambda: client.inbound(other), "the friend has it")
    assert [p["id"] for p in client.inbound(other)] == [post["id"]]
    with pytest.raises(Exception, match="404"):
        app.send_task("feed.post", [4711, "s", "t"]).get(timeout=30)
    with pytest.raises(Exception, match="missing required argument: 'other'"):
        app.send_task("feed.befriend", [one]).get(timeout=30)


# ---- webhooks

class Receiver(http.server.BaseHTTPRequestHandler):
    """Of calls, and of files: GET takes one, PUT brings one. `answers` are given first."""

    def answer(self, status, body=b""):
        status = self.server.answers.pop(0) if self.server.answers else status
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if status == 200 else 0))
        self.end_headers()
        self.wfile.write(body if status == 200 else b"")
        return status == 200

    def take(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((dict(self.headers), body))
        self.server.times.append((self.headers["webhook-id"], time.monotonic()))
        return body

    def do_POST(self):
        self.take()
        self.answer(200)

    def do_PUT(self):
        body = self.take()
        if self.answer(200):
            self.server.files[self.path] = body

    def do_GET(self):
        self.server.gets.append(self.path)
        self.answer(200 if self.path in self.server.files else 404, self.server.files.get(self.path, b""))

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.calls, server.times, server.answers, server.gets, server.files = [], [], [], [], {}
    server.base = f"http://127.0.0.1:{server.server_port}"
    server.url = server.base + "/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def local(cluster):
    """Its queue's worker may call this host."""
    cluster.job(queues="local", concurrency=1, local_urls=True, retry_limit_ms=50)
    return cluster.app()


def test_webhook_is_signed(local, receiver):
    """As a receiver checks it: HMAC-SHA256 over id, time and body."""
    secret = base64.b64encode(b"k" * 32).decode()
    receiver.answers = [503]
    result = local.send_task("webhook.deliver", [receiver.url, {"a": [1, "é"]}], {"secret": "whsec_" + secret}, queue="local")
    assert result.get(timeout=30) == {"status": 200}
    (first, _), (headers, body) = receiver.calls
    assert json.loads(body) == {"a": [1, "é"]} and headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == first["webhook-id"] == result.id, "a repeat is known by it"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(b"k" * 32, signed, "sha256")).decode()


def test_webhook_that_is_refused(local, receiver):
    receiver.answers = [410]
    with pytest.raises(Exception, match="answers 410"):
        local.send_task("webhook.deliver", [receiver.url, {}], queue="local").get(timeout=30)
    with pytest.raises(Exception, match="whsec_"):
        local.send_task("webhook.deliver", [receiver.url, {}, "no secret"], queue="local").get(timeout=30)
    assert len(receiver.calls) == 1


@pytest.mark.timeout(200)
def test_webhook_is_tried_later_and_later(cluster, receiver):
    """As its receiver sees it: waits of up to a half, one, and then two seconds, which are the limit; not for all the same."""
    cluster.job(queues="later", concurrency=4, local_urls=True, retry_first_ms=500, retry_limit_ms=2000)
    count, tries, patience_s = 40, 9, 5
    receiver.answers = [503] * (count * (tries + 1))
    app = cluster.app()
    results = [app.send_task("webhook.deliver", [receiver.url, {}], queue="later") for _ in range(count)]
    wait_for(lambda: len(receiver.times) >= count * tries, "all tries", 120)
    with pytest.raises(RuntimeError, match="answers 503"):
        results[0].get(timeout=60)
    calls = collections.defaultdict(list)
    for ident, moment in receiver.times:
        calls[ident].append(moment)
    assert {ident: len(moments) for ident, moments in calls.items()} == {result.id: tries for result in results}
    waits = [[moments[n + 1] - moments[n] for moments in calls.values()] for n in range(tries - 1)]
    assert statistics.mean(waits[0]) < statistics.mean(waits[1]) < statistics.mean(sum(waits[2:], [])), "they grow"
    assert all(statistics.median(of_all) < min(0.5 * 2 ** n, 2) + patience_s for n, of_all in enumerate(waits)), "up to the limit"
    assert all(len({round(wait) for wait in of_all}) > 1 for of_all in waits[2:]), "and are spread"


@contextlib.contextmanager
def silence():
    """A server that takes connections and says nothing: its port, and the connections that came."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def take():
            with contextlib.suppress(OSError):
                while True:
                    came.append(server.accept()[0])
        threading.Thread(target=take, daemon=True).start()
        try:
            yield server.getsockname()[1], came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in came:
                connection.close()


@pytest.mark.parametrize("pool", ["children", "threads"])
def test_a_soft_limit_ends_what_waits_for_a_server(make_cluster, folder, pool):
    """As a limit, and not as a failure that another try may mend."""
    with silence() as (port, came):
        base = f"http://127.0.0.1:{port}"
        cluster = make_cluster()
        cluster.job(pool=pool, concurrency=4, local_urls=True, files=str(folder), http=f"stars={base}/stars", retry_limit_ms=50, **{
            "job.gateway_url": base, "smtp.url": f"smtp://127.0.0.1:{port}", "smtp.tls": False, "smtp.sender": "feed@example.org"})
        app = cluster.app()
        jobs = {"webhook.deliver": [base + "/hook", {}], "image.resize": [base + "/a.png", "never.png", 10], "feed.post": [1, "s", "t"],
                "feed.befriend": [1, 2], "email.send": ["a@example.org", "s", "t"], "stars": [1]}
        results = {name: app.send_task(name, args, soft_time_limit=1) for name, args in jobs.items()}
        for name, result in results.items():
            with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
                result.get(timeout=60)
        assert len(came) == len(jobs), "one call of each"


def test_a_picture_that_took_too_long_is_none(app, folder):
    """Nothing interrupts libvips; what it has made when the limit has passed is not written."""
    picture(folder, "vast.png", (3000, 3000))
    with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
        app.send_task("image.resize", ["vast.png", "late.png", 2000], soft_time_limit=0.002).get(timeout=60)
    assert not (folder / "late.png").exists()


def test_webhook_to_this_host_is_refused(send, receiver):
    with pytest.raises(Exception):
        send("webhook.deliver", receiver.url, {})
    assert receiver.calls == []
