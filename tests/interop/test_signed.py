"""Clients and workers that sign their messages (app.setup_security()), beside those that do not."""
import base64
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import uuid

import celery.exceptions
import kombu.serialization
import pika
import pytest
from celery import chain, group

from conftest import Cluster
from feedmill import ROOT, Client, wait_for
from ring import Ring, secured
from test_control import ask

SIGNED = "application/data"


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """Whom all trust: worker, python and client; and somebody whom nobody knows."""
    return Ring(tmp_path_factory.mktemp("ring")).add("worker").add("python").add("client").add("stranger", trusted=False)


@pytest.fixture(scope="module")
def cluster(module_folder, ring):
    cluster = Cluster(module_folder, **ring.settings("worker"))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def client(cluster, ring, worker):
    with ring.secured(cluster.app(), "client") as app:
        yield app


def signed(cluster, ring, name="client", backend="rpc://", **conf):
    return ring.secured(cluster.app(backend), name, **conf)


def dead_letter(cluster, ident):
    """That of one message; those before it are taken, too."""
    while (letter := cluster.dead(1)[0])[0].headers["id"] != ident:
        pass
    return letter


# ---- what a client asks for

def test_what_is_signed_is_done_and_answered(client):
    assert client.send_task("add", [1, 2]).get(timeout=60) == 3
    assert client.send_task("add", kwargs={"x": 20, "y": 22}).get(timeout=60) == 42
    for value in ({"a": [1, 2.5, None, "ü😀\u202e\"\\\n"], "b": {}}, b"\x00\x01\xff", "x" * 1_000_000):
        assert client.send_task("echo", [value]).get(timeout=60) == value
    with pytest.raises(ValueError, match="boom"):
        client.send_task("fail", ["boom"]).get(timeout=60)
    with pytest.raises(celery.exceptions.NotRegistered):
        client.send_task("no.such.task").get(timeout=60)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed(client, compression):
    assert client.send_task("echo", ["long " * 10000], compression=compression).get(timeout=60) == "long " * 10000
    assert client.send_task("add", [1, 2], compression=compression, countdown=1).get(timeout=60) == 3


def test_later_and_again(client):
    assert client.send_task("add", [1, 2], countdown=1).get(timeout=60) == 3
    assert client.send_task("flaky", [2]).get(timeout=60) == 2


def test_what_follows(client):
    s = client.signature
    result = chain(s("add", (1, 2)), s("add", (10,), countdown=1), s("add", (100,))).apply_async()
    assert result.get(timeout=60) == 113 and result.parent.get(timeout=60) == 13
    assert group(s("add", (i, i)) for i in range(10)).apply_async().get(timeout=60) == [2 * i for i in range(10)]
    linked = s("add", (100,))
    linked.freeze()
    result = s("add", (1, 2)).apply_async(link=linked)
    assert result.get(timeout=60) == 3 and result.children[0].get(timeout=60) == 103
    result = chain(s("fail", ("broken",)), s("add", (1,)), s("add", (2,))).apply_async()
    for later in (result, result.parent):
        with pytest.raises(ValueError, match="broken"):
            later.get(timeout=60)


def test_messagepack_in_it(cluster, worker, ring):
    """app.setup_security(serializer="msgpack"); it is answered in JSON, which whoever verifies reads as well."""
    with signed(cluster, ring, inner="msgpack") as app:
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3
        assert app.send_task("echo", [{"a": [1, 2.5, None, "ü😀"]}], countdown=1).get(timeout=60) == {"a": [1, 2.5, None, "ü😀"]}
        assert app.control.inspect(destination=[worker.node], timeout=10).ping() == {worker.node: {"ok": "pong"}}
        assert ask(app, worker.node, "hello", from_node="other@test", revoked={})["clock"] > 0


def test_version_1_of_the_protocol(cluster, worker, ring):
    """What waits goes on as version 2, signed by the worker."""
    with signed(cluster, ring, task_protocol=1) as app:
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3
        assert app.send_task("add", [1, 2], countdown=1).get(timeout=60) == 3


def test_remote_control(client, worker):
    inspect = client.control.inspect(destination=[worker.node], timeout=10)
    assert inspect.ping() == {worker.node: {"ok": "pong"}}
    assert inspect.conf()[worker.node]["accept_content"] == ["auth"]
    client.control.revoke("revoked-by-a-client", destination=[worker.node], reply=True, timeout=10)
    assert "revoked-by-a-client" in inspect.revoked()[worker.node]
    result = client.send_task("sleep", [60])
    wait_for(lambda: [t for t in inspect.active()[worker.node] if t["id"] == result.id], "it runs", 60)
    result.revoke(terminate=True)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        result.get(timeout=60)


@pytest.mark.parametrize("events", [False, True])
def test_all_is_signed_and_copies_keep_their_bytes(make_cluster, ring, events):
    """As RabbitMQ saw it. Events are as job.security_events says: every receiver of Celery's reads them as JSON, too."""
    cluster = make_cluster(**ring.settings("worker"), **{"job.security_events": events, "job.mingle": True})
    with cluster.traced() as published:
        worker = cluster.job(events=True, track_started=True)
        with signed(cluster, ring) as app:
            s = app.signature
            later, odd = app.send_task("add", [1, 2], countdown=1), app.send_task("flaky", [1])
            assert later.get(timeout=60) == 3 and odd.get(timeout=60) == 1
            assert chain(s("add", (1, 2)), s("add", (10,))).apply_async().get(timeout=60) == 13
            assert app.control.inspect(destination=[worker.node], timeout=10).ping()

            def by_kind():
                seen = {}
                for m in published():
                    kind = "event" if m.exchange == "celeryev" else "task" if "task" in m.headers else "control" if "pidbox" in m.exchange else "result"
                    seen.setdefault(kind, []).append(m)
                return len(seen) == 4 and seen
            seen = wait_for(by_kind, "messages of each kind", 60)
            for kind in ("task", "control", "result") + events * ("event",):
                for m in seen[kind]:
                    assert m.properties["content_type"] == SIGNED and m.properties["content_encoding"] == "utf-8", (kind, m)
                    assert kombu.serialization.loads(m.body, SIGNED, "utf-8", accept={SIGNED})
            if not events:
                assert {m.properties["content_type"] for m in seen["event"]} == {"application/json"}
        for result in (later, odd):
            bodies = [m.body for m in seen["task"] if m.headers["id"] == result.id]
            assert len(bodies) > 1 and len(set(bodies)) == 1, "a copy is what the client has signed"
        signers = {base64.b64decode(base64.b64decode(m.body).split(b"\x00\x01")[0]).decode().split()[3] for m in seen["task"]}
        assert signers == {"client", "worker"}, "the step of a chain is the worker's, all else the client's"


# ---- who is not let in

def test_an_unsigned_client_is_refused(cluster, worker, ring):
    """Its message is kept as it came, with the reason; nobody is answered; and it can't look at the worker or stop it."""
    app = cluster.app()
    result = app.send_task("echo", ["unsigned"])
    properties, body = dead_letter(cluster, result.id)
    assert properties.content_type == "application/json" and json.loads(body)[0] == ["unsigned"]
    assert "content type \"application/json\" is refused: with job.security_key signed messages alone" in properties.headers["x-feed-reason"]
    app.control.broadcast("shutdown")
    with signed(cluster, ring) as trusted:     # behind it, in the same mailbox
        assert trusted.control.inspect(destination=[worker.node], timeout=10).ping() == {worker.node: {"ok": "pong"}}
        assert trusted.send_task("add", [1, 2]).get(timeout=60) == 3
    assert worker.running() and worker.logged("remote control that can't be read.*signed messages alone")


def test_a_certificate_that_is_not_in_the_store(cluster, worker, ring):
    with signed(cluster, ring, "stranger") as app:
        result = app.send_task("echo", ["from a stranger"])
        assert re.search("signed by .*Söhne stranger .*, whose certificate job.security_cert_store does not have",
                         dead_letter(cluster, result.id)[0].headers["x-feed-reason"])
        app.control.broadcast("shutdown")
    with signed(cluster, ring) as trusted:
        assert trusted.control.inspect(destination=[worker.node], timeout=10).ping() == {worker.node: {"ok": "pong"}}
    assert worker.running()


def test_what_was_changed_on_the_way_is_not_run(cluster, worker, ring):
    with signed(cluster, ring):
        text = kombu.serialization.dumps([["as it was"], {}, None], serializer="auth")[2].encode()
    raw = base64.b64decode(text)
    for old, new, why in ((b"as it was", b"as it is!", "is not what"), (b"application/json", b"application/x-python-serialize", "x-python-serialize"),
                          (b"\x00\x01", b"\x00\x02", "1 of 5 fields")):
        changed = base64.b64encode(raw.replace(old, new))
        assert changed != text
        ident = str(uuid.uuid4())
        cluster.publish(changed, headers={"task": "echo", "id": ident}, content_type=SIGNED)
        properties, body = dead_letter(cluster, ident)
        assert why in properties.headers["x-feed-reason"] and body == changed and properties.content_type == SIGNED
    ident = str(uuid.uuid4())
    cluster.publish(text, headers={"task": "no.such.task", "id": ident}, content_type=SIGNED)   # and this one was read
    assert dead_letter(cluster, ident)[0].headers["x-feed-reason"] == "no such task here"


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_who_has_no_key_ends_nobodys_job(make_cluster, ring, who):
    """A refused message names any job that it likes: nothing is written about that job, and nobody gets an answer."""
    cluster = make_cluster(**ring.settings("worker"))
    url = cluster.make_database()
    cluster.job(results="both", database_format="auth")
    refused = b"[[], {}, {}]", "application/json", "utf-8"
    if who != "nobody":
        with signed(cluster, ring, who):
            content_type, encoding, body = kombu.serialization.dumps([[], {}, {}], serializer="auth")
            refused = body.encode(), content_type, encoding
    with signed(cluster, ring, backend=url, result_serializer="auth") as app, cluster.channel() as channel:
        job = app.send_task("add", [1, 2], countdown=3600)
        answers = channel.queue_declare("", exclusive=True).method.queue
        cluster.publish(refused[0], headers={"task": "echo", "id": job.id}, content_type=refused[1], content_encoding=refused[2], reply_to=answers,
                        correlation_id=job.id)
        dead_letter(cluster, job.id)
        assert app.send_task("add", [2, 3]).get(timeout=60) == 5    # rows are written, and answers sent, in their order
        assert not cluster.sql("SELECT status FROM celery_taskmeta WHERE task_id = %s", job.id)
        assert channel.basic_get(answers)[0] is None


def test_a_worker_without_keys_runs_nothing_that_is_signed(make_cluster, ring):
    cluster = make_cluster()
    worker = cluster.job()
    why = "the message is signed, and setting job.security_key is empty"
    with signed(cluster, ring, result_accept_content=["json"]) as app:
        result = app.send_task("echo", ["x"])
        with pytest.raises(ValueError, match=why):
            result.get(timeout=60)
    assert why in dead_letter(cluster, result.id)[0].headers["x-feed-reason"]
    assert worker.logged("message refused.*" + why)
    assert cluster.app().send_task("add", [1, 2]).get(timeout=60) == 3


def refused(cluster, process, words):
    """As other wrong settings are: exit code 2."""
    assert process.popen.wait(60) == 2 and words in process.output(), process.output()
    cluster.processes.remove(process)


@pytest.mark.parametrize("change, words", [
    ({"security_key": "/nowhere/worker.key"}, "setting job.security_key: /nowhere/worker.key: No such file"),
    ({"security_certificate": ""}, "setting job.security_certificate is empty"),
    ({"security_cert_store": "/nowhere/*.pem"}, "setting job.security_cert_store: /nowhere/"),
    ({"security_key": "{stranger}.key"}, "worker.pem: is not that of job.security_key"),
    ({"security_key": "{stranger}.key", "security_certificate": "{stranger}.pem"}, "stranger.pem: is not in job.security_cert_store"),
])
def test_wrong_files_end_the_start(cluster, ring, change, words):
    """Of every program that would sign."""
    settings = {name: path.format(stranger=ring.folder / "stranger") for name, path in change.items()}
    refused(cluster, cluster.job(wait=False, **settings), words)
    config = cluster.write_config(cluster.folder / "wrong.cfg", **{"gateway.jobs": "*", **{f"job.{name}": value for name, value in settings.items()}})
    done = cluster.ctl("job", "inspect", config=config, check=False)
    assert done.returncode == 2 and words in done.stderr
    refused(cluster, cluster.gateway(config=config, wait=False), words)


def test_a_certificate_that_expires_is_told_before(make_cluster, ring):
    """Seven days before, and not earlier; by when it is ready, it has looked."""
    ring.add("week", days=(-1, 6.5)).add("fortnight", days=(-1, 14))
    cluster = make_cluster()
    week, fortnight = (cluster.job(**ring.files(name)) for name in ("week", "fortnight"))
    assert week.logged("certificate.*expires soon.*days_left.*6")
    assert not fortnight.logged("certificate.*expires")


def test_a_worker_ends_before_its_certificate_does(make_cluster, tmp_path):
    """While what it signs is still believed: what runs is finished, what waits stays in its queue. It ends as it would not start."""
    ring = Ring(tmp_path / "expiring").add("client")
    cluster = make_cluster(**ring.settings("worker"), **{"worker.drain_timeout_ms": 3_000_000, "job.concurrency": 1})
    ring.add("worker", days=(-1, 3040 / 86400))
    worker = cluster.job()
    with signed(cluster, ring) as app:
        results = [app.send_task("sleep", [0.2]) for _ in range(400)]
        assert worker.popen.wait(120) == 2
        assert worker.logged("certificate.*expires: no more jobs are taken")
        cluster.processes.remove(worker)
        wait_for(lambda: cluster.count("celery") + sum(result.ready() for result in results) == len(results), "each waits or is answered", 60)
        assert 0 < cluster.count("celery") < len(results)
        assert all(result.successful() for result in results if result.ready())


def test_the_gateway_sends_nothing_by_a_certificate_that_has_expired(make_cluster, tmp_path):
    ring = Ring(tmp_path / "expiring").add("worker")
    cluster = make_cluster(**ring.settings("worker")).prepare()
    cluster.job()
    ring.add("gateway", days=(-1, 30 / 86400))
    edge = cluster.gateway(config=cluster.write_config(cluster.folder / "gateway.cfg", **{"gateway.jobs": "*", **ring.settings("gateway")}))
    client = Client(edge.url)
    wait_for(lambda: client.post("/jobs/add", {"args": [2, 4]}).status_code == 202, "the gateway takes jobs", 25)
    wait_for(lambda: client.post("/jobs/add", {"args": [2, 4]}).status_code == 503, "it takes none", 60)
    assert edge.logged("certificate of job.security_certificate has expired")


def test_a_key_with_a_password(make_cluster, ring):
    """And a pattern in the place of a folder; and another digest, which is the same for all."""
    ring.add("locked", password="open sesame")
    files = ring.settings("locked")
    cluster = make_cluster(**{**files, "job.security_cert_store": str(ring.store / "*.pem"), "job.security_digest": "sha512"})
    refused(cluster, cluster.job(wait=False), "that job.security_key_password opens")
    cluster.job(security_key_password="open sesame")
    with signed(cluster, ring, digest="sha512") as app:
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    with signed(cluster, ring) as app:
        result = app.send_task("echo", ["by sha256"])
    assert "is not what" in dead_letter(cluster, result.id)[0].headers["x-feed-reason"]


def test_keys_as_the_page_makes_them(make_cluster, tmp_path):
    """By the command of docs/jobs.md, once for each."""
    command, = re.findall("^    (openssl req .*)$", (ROOT / "docs/jobs.md").read_text(), re.M)
    (tmp_path / "certs").mkdir()
    for name in ("worker", "client"):
        subprocess.run(command.replace("worker", name), shell=True, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    files = {name: {"security_key": str(tmp_path / f"{name}.key"), "security_certificate": str(tmp_path / f"certs/{name}.pem"),
                    "security_cert_store": str(tmp_path / "certs/*.pem")} for name in ("worker", "client")}
    cluster = make_cluster()
    cluster.job(**files["worker"])
    with secured(cluster.app(), result_serializer="auth", **files["client"]) as app:
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3


def family(pid):
    """And all that come from it."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return [pid] + [member for child, parent in parents.items() if parent == pid for member in family(child)]


def test_programs_are_not_told_the_password(make_cluster, ring, tmp_path):
    """It came by the environment, which what job.exec runs has, too; nor has any child or the worker it there still, for those who may look."""
    ring.add("guarded", password="open sesame")
    script = tmp_path / "environment.py"
    script.write_text(f"#!{sys.executable}\nimport json, os\nprint(json.dumps(dict(os.environ)))\n")
    script.chmod(0o755)
    cluster = make_cluster(**ring.settings("guarded"))
    worker = cluster.job(exec=f"environment={script}", env={"FEEDMILL_JOB_SECURITY_KEY_PASSWORD": "open sesame", "OTHER": "is kept"})
    with signed(cluster, ring) as app:
        told = app.send_task("environment").get(timeout=60)
        assert told["OTHER"] == "is kept" and "FEEDMILL_JOB_SECURITY_KEY_PASSWORD" not in told and "open sesame" not in told.values()
        pids = family(worker.popen.pid)
        assert len(pids) > 2, "the worker, what makes its children, and they"
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):    # a child that is over
                assert b"open sesame" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()


def test_a_clock_that_is_none(cluster, worker, ring):
    """Whose header says so, though nobody has signed it; or somebody has, whose clock is as late as a number can be."""
    with signed(cluster, ring) as app:
        inspect = app.control.inspect(destination=[worker.node], timeout=10)
        before = inspect.clock()[worker.node]["clock"]
        request = {"method": "heartbeat", "arguments": {}, "destination": None, "pattern": None, "matcher": None}
        sealed = kombu.serialization.dumps(request, serializer="auth")
        with cluster.channel() as channel:
            for clock, (content_type, encoding, body) in ((before + 10_000_000, ("application/json", "utf-8", json.dumps(request))),
                                                         (2 ** 63 - 1, ("application/json", "utf-8", json.dumps(request))), (2 ** 63 - 1, sealed)):
                channel.basic_publish("celery.pidbox", "", body, pika.BasicProperties(headers={"clock": clock, "expires": 0}, content_type=content_type,
                                                                                      content_encoding=encoding))
        assert before < inspect.clock()[worker.node]["clock"] < before + 1_000_000   # behind them, in the same mailbox


# ---- results in the table

@pytest.mark.parametrize("form, conf", [
    ("json", {"result_accept_content": ["json"]}), ("pickle", {"result_accept_content": ["json"]}), ("auth", {"result_serializer": "auth"})])
def test_results_in_the_table(make_cluster, ring, form, conf):
    cluster = make_cluster(**ring.settings("worker"))
    url = cluster.make_database()
    cluster.job(results="database", database_format=form, result_extended=True)
    with signed(cluster, ring, backend=url, result_extended=True, **conf) as app:
        s = app.signature
        result = app.send_task("echo", [{"a": [1, 2.5, None, "ü😀"]}])
        assert result.get(timeout=60) == {"a": [1, 2.5, None, "ü😀"]}
        assert result.args == [{"a": [1, 2.5, None, "ü😀"]}] and result.name == "echo"
        with pytest.raises(ValueError, match="boom"):
            app.send_task("fail", ["boom"]).get(timeout=60)
        steps = chain(s("add", (1, 2)), s("add", (10,))).apply_async()
        assert steps.get(timeout=60) == 13
        assert [child.id for child in app.AsyncResult(steps.parent.id).children] == [steps.id]
        steps = chain(s("fail", ("broken",)), s("add", (10,))).apply_async()
        with pytest.raises(ValueError, match="broken"):
            steps.get(timeout=60)
    (stored,), = cluster.sql("SELECT result FROM celery_taskmeta WHERE task_id = %s", result.id)
    starts = {"json": b'{"a"', "pickle": b"\x80"}
    assert stored.startswith(starts[form]) if form in starts else b"application/json" in base64.b64decode(stored, validate=True)


def test_pickled_results_need_no_more_of_a_client(make_cluster, ring):
    """As long as nothing follows a job: what is beside its result is JSON, which such a client does not take."""
    cluster = make_cluster(**ring.settings("worker"))
    url = cluster.make_database()
    cluster.job(results="database")
    with signed(cluster, ring, backend=url) as app:
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3
        with pytest.raises(ValueError, match="boom"):
            app.send_task("fail", ["boom"]).get(timeout=60)


def test_a_signed_result_is_known_again(make_cluster, ring):
    """job.deduplicate_successful: what has succeeded does not run again, and what follows it has its result."""
    cluster = make_cluster(**ring.settings("worker"))
    url = cluster.make_database()
    cluster.job(results="database", database_format="auth", deduplicate_successful=True)
    with signed(cluster, ring, backend=url, result_serializer="auth") as app:
        first = app.send_task("add", [1, 2])
        assert first.get(timeout=60) == 3
        linked = app.signature("add", (10,))
        linked.freeze()
        app.send_task("add", [100, 100], task_id=first.id, headers={"x-feed-again": True}, link=linked)
        assert app.AsyncResult(linked.id).get(timeout=60) == 13


# ---- others who send

def test_feedctl_and_the_gateway_sign(make_cluster, ring):
    cluster = make_cluster(**ring.settings("worker"), **{"gateway.jobs": "*", "job.results": "both", "job.database_format": "auth"}).prepare()
    worker = cluster.job()

    def words(*arguments):
        return cluster.ctl("job", *arguments).stdout
    done = json.loads(words("send", "add", "[2, 3]", "--wait", 60))
    assert done["result"] == 5
    assert wait_for(lambda: json.loads(words("status", done["id"])).get("result"), "its row is there", 60) == 5
    assert "pong" in words("inspect", "ping", "--node", worker.node, "--timeout", 60)
    assert "flagged as revoked" in words("revoke", "sent-by-nobody", "--node", worker.node, "--timeout", 60)
    edge = cluster.gateway()
    client = Client(edge.url)
    location = wait_for(lambda: (a := client.post("/jobs/add", {"args": [2, 4]})).status_code == 202 and a.headers["Location"], "the gateway takes jobs", 60)
    state = wait_for(lambda: (job := client.ok("GET", location))["status"] == "done" and job, "it is done", 60)
    assert state["result"] == 6
    location = client.post("/jobs/echo", {"args": ["too late"], "countdown": 3600}).headers["Location"]
    assert client.delete(location).status_code == 202
    with signed(cluster, ring) as app:
        inspect = app.control.inspect(destination=[worker.node], timeout=10)
        wait_for(lambda: location.removeprefix("/jobs/") in inspect.revoked()[worker.node], "it is revoked", 60)
    plain = cluster.write_config(cluster.folder / "plain.cfg", **{f"job.{name}": "" for name in ring.files("worker")}, **{"job.database_format": "pickle"})
    unsigned = cluster.ctl("job", "inspect", "ping", "--timeout", 2, config=plain, check=False)
    assert unsigned.returncode == 1 and "no node has answered" in unsigned.stderr


PYTHON_WORKER = """
    import celery

    app = celery.Celery("interop", broker={url!r}, backend="rpc://")
    app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, task_serializer="auth", accept_content=["auth"],
                    result_serializer="auth", event_serializer="auth", **{files!r})
    app.setup_security()

    @app.task(name="add")
    def add(x, y):
        return x + y

    @app.task(name="again", bind=True)
    def again(self, times):
        if self.request.retries < times:
            raise self.retry(countdown=0, max_retries=times)
        return "python, the " + str(times + 1)
"""


@contextlib.contextmanager
def python_worker(cluster, ring, folder):
    (folder / "signed_worker.py").write_text(textwrap.dedent(PYTHON_WORKER.format(url=cluster.url, files=ring.files("python"))))
    with open(folder / "python.log", "wb") as log:
        python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "signed_worker", "worker", "-P", "solo", "-n", "python@test", "-Q", "celery,theirs",
                                   "-l", "info", "-E"], cwd=folder, stdout=log, stderr=log, env={**os.environ, "C_FORCE_ROOT": "1"})
    try:
        yield folder / "python.log"
    finally:
        python.terminate()
        python.wait(60)


def test_python_workers_on_the_same_queue(make_cluster, ring, tmp_path):
    """Each takes what the client and the other have signed; each answers remote control, and hears what the other knows."""
    cluster = make_cluster(**ring.settings("worker"), **{"job.queues": "celery,ours", "job.mingle": True})
    worker = cluster.job()
    with python_worker(cluster, ring, tmp_path) as log, signed(cluster, ring) as app:
        wait_for(lambda: (app.control.inspect(destination=["python@test"], timeout=1).ping() or {}).get("python@test"), "the Python worker answers", 60)
        assert set(app.control.inspect(timeout=3).ping()) == {worker.node, "python@test"}
        results = [app.send_task("add", [n, 1]) for n in range(100)]
        assert [r.get(timeout=60) for r in results] == [n + 1 for n in range(100)]
        for node in (worker.node, "python@test"):
            assert app.control.inspect(destination=[node], timeout=10).stats()[node]["total"]["add"] > 0
        s = app.signature
        assert chain(s("add", (1, 1), queue="ours"), s("add", (10,), queue="theirs"), s("add", (100,), queue="ours")).apply_async().get(timeout=60) == 112
        assert chain(s("add", (1, 1), queue="theirs"), s("add", (10,), queue="ours"), s("add", (100,), queue="theirs")).apply_async().get(timeout=60) == 112
        assert sorted(group(s("add", (n, 1), queue=queue) for n, queue in enumerate(("ours", "theirs"))).apply_async().get(timeout=60)) == [1, 2]
        results = [app.send_task("add", [n, 1], countdown=1) for n in range(4)]
        assert [r.get(timeout=60) for r in results] == [1, 2, 3, 4]
        assert app.send_task("again", [2], queue="theirs").get(timeout=60) == "python, the 3"
        assert app.send_task("flaky", [2], queue="ours").get(timeout=60) == 2
        app.control.revoke("told-by-python", destination=["python@test"], reply=True, timeout=10)
        another = cluster.job()
        assert "told-by-python" in app.control.inspect(destination=[another.node], timeout=10).revoked()[another.node]
        text = log.read_text()
        assert "Traceback" not in text and "CRITICAL" not in text and "SecurityError" not in text, text[-3000:]
