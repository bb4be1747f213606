"""Jobs in MessagePack: of clients whose task_serializer is msgpack, of those that read nothing else, and beside Python workers of that kind."""
import contextlib
import json
import os
import subprocess
import sys
import textwrap
import uuid
import zlib

import celery.exceptions
import kombu.exceptions
import msgpack
import pytest
from celery import chain, group

from conftest import wait_for

ALONE = {"task_serializer": "msgpack", "result_serializer": "msgpack", "accept_content": ["msgpack"]}  # of a client that reads nothing else
TYPE = {"content_type": "application/x-msgpack", "content_encoding": "binary"}


@pytest.fixture(scope="module")
def app(cluster, worker):
    return cluster.app(task_serializer="msgpack")


VALUES = [None, True, -1, 1.5, 1.0, 0.1, 2**64 - 1, -2**63, "", "ü😀\"\\\n", b"", b"text", b"a\0b", b"\xff\xfe", [], {}, [[{"a": [None, b"\x00"]}]],
          {"ключ": [1, {"b": 2.0}]}, "x" * 500_000, b"\xff" * 500_000]


def story(app):
    """All that a client does with jobs."""
    s = app.signature
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert app.send_task("add", kwargs={"x": 20, "y": 22}).get(timeout=60) == 42
    for value in VALUES:
        back = app.send_task("echo", [value]).get(timeout=60)
        assert back == value and type(back) is type(value)
    with pytest.raises(ValueError, match="dätä"):
        app.send_task("fail", ["dätä".encode()]).get(timeout=60)
    with pytest.raises(celery.exceptions.NotRegistered):
        app.send_task("no.such.task").get(timeout=60)
    assert app.send_task("add", [1, 2], countdown=1).get(timeout=60) == 3
    assert app.send_task("flaky", [2]).get(timeout=60) == 2
    assert chain(s("add", (1, 2)), s("add", (10,)), s("add", (100,))).apply_async().get(timeout=60) == 113
    assert chain(s("echo", (b"\xff",)), s("flaky", (1,), immutable=True, countdown=1), s("add", (1,))).apply_async().get(timeout=60) == 2
    assert chain(s("echo", (b"\xff",)), s("echo")).apply_async().get(timeout=60) == b"\xff"
    assert group(s("add", (i, i)) for i in range(10)).apply_async().get(timeout=60) == [2 * i for i in range(10)]
    linked, errback, failing = s("add", (100,)), s("echo"), s("fail", ("boom",))
    for signature in (linked, errback):
        signature.freeze()
    failing.link_error(errback)
    result = app.send_task("add", [1, 2], link=linked)
    assert result.get(timeout=60) == 3 and [child.id for child in result.children] == [linked.id]
    assert result.children[0].get(timeout=60) == 103
    failed = chain(failing, s("add", (1,))).apply_async()
    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=60)
    assert app.AsyncResult(errback.id).get(timeout=60) == failed.parent.id


def test_a_clients_jobs_with_results_by_rpc(app):
    story(app)


def test_a_clients_jobs_with_results_in_the_table(make_cluster):
    cluster = make_cluster()
    url = cluster.make_database()
    cluster.job(results="database")
    story(cluster.app(url, task_serializer="msgpack"))


@pytest.mark.parametrize("backend", ["rpc", "database"])
def test_a_client_that_reads_nothing_else(make_cluster, backend):
    cluster = make_cluster()
    url = cluster.make_database() if backend == "database" else "rpc://"
    cluster.job(results=backend, result_serializer="msgpack")
    story(cluster.app(url, **ALONE))


def test_what_such_a_client_makes_of_json(cluster, worker):
    """Without job.result_serializer: the job is done, and the client refuses to read that."""
    with pytest.raises(kombu.exceptions.ContentDisallowed, match="application/json"):
        cluster.app(**ALONE).send_task("add", [1, 2]).get(timeout=60)


def test_a_group_behind_a_step_is_broken_by_the_client(app, cluster):
    """Celery 5.7 writes it as an empty list and its members behind that; no Python worker reads it either. Who waits for the step is told."""
    s = app.signature
    result = chain(s("add", (1, 2)), group(s("add", (10,)), s("add", (20,)))).apply_async()
    with pytest.raises(ValueError, match="more behind the value"):
        app.AsyncResult(result.parent.id).get(timeout=60)
    _, body = dead_of(cluster, result.parent.id)
    with pytest.raises(msgpack.ExtraData):
        msgpack.unpackb(body)


def test_others_are_answered_in_json(make_cluster):
    """Also by a worker that answers MessagePack in kind."""
    cluster = make_cluster()
    worker = cluster.job(result_serializer="msgpack")
    app = cluster.app()
    assert app.send_task("echo", [b"\xff"]).get(timeout=60) == b"\xff"
    assert app.control.inspect(destination=[worker.node], timeout=10).ping() == {worker.node: {"ok": "pong"}}
    both = cluster.app(task_serializer="msgpack", accept_content=["json", "msgpack"])
    assert both.send_task("echo", [[2**64 - 1, b"\xff"]]).get(timeout=60) == [2**64 - 1, b"\xff"]


def test_rows_say_the_rest_in_messagepack_too(make_cluster):
    cluster = make_cluster()
    url = cluster.make_database()
    cluster.job(results="database", result_extended=True, result_serializer="msgpack")
    app = cluster.app(url, result_extended=True, **ALONE)
    linked = app.signature("add", (100,))
    linked.freeze()
    result = app.send_task("add", [1], {"y": 2}, link=linked, stamped_headers=["customer"], customer="7")
    assert result.get(timeout=60) == 3
    assert (result.args, result.kwargs, result.name) == ([1], {"y": 2}, "add")
    meta = app.backend.get_task_meta(result.id)
    assert meta["customer"] == "7" and meta["stamped_headers"] == ["customer"]
    assert [child.id for child in result.children] == [linked.id] and result.children[0].get(timeout=60) == 103


@pytest.mark.parametrize("conf", [{"task_serializer": "msgpack"}, ALONE], ids=["reads json", "alone"])
def test_remote_control(make_cluster, conf):
    """A client writes it as it writes its jobs."""
    cluster = make_cluster()
    worker = cluster.job(result_serializer="msgpack" if conf is ALONE else "json")
    app = cluster.app(**conf)
    inspect = app.control.inspect(destination=[worker.node], timeout=10)
    assert inspect.ping() == {worker.node: {"ok": "pong"}}
    assert "msgpack" in inspect.conf()[worker.node]["accept_content"]
    running = app.send_task("sleep", [600])
    assert wait_for(lambda: (inspect.active() or {}).get(worker.node), "it runs", 60)[0]["id"] == running.id
    running.revoke(terminate=True)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        running.get(timeout=60)


def test_each_copy_is_as_it_came(make_cluster):
    """Tries and delays, byte for byte, whatever it was packed in; what follows a job is MessagePack as well, and so is a dead letter."""
    cluster = make_cluster()
    with cluster.traced() as published:
        cluster.job()
        app = cluster.app(task_serializer="msgpack")
        step = app.signature("echo", (b"\xfe",))
        step.freeze()
        arguments = [2]
        plain = app.send_task("flaky", arguments, chain=[step], countdown=1)
        packed = app.send_task("flaky", arguments, compression="zlib", countdown=1)
        assert plain.get(timeout=60) == packed.get(timeout=60) == 2
        assert app.AsyncResult(step.id).get(timeout=60) == 2
        unknown = app.send_task("no.such.task", [b"\xff"])

        def of(ident):
            return [m for m in published() if m.headers.get("id") == ident]

        def many(ident, count):
            return wait_for(lambda: len(of(ident)) >= count and of(ident), f"{count} messages of {ident}", 60)
        for result in (plain, packed):
            first, *copies = many(result.id, 4)     # put off, and two tries more
            body = zlib.decompress(first.body) if result is packed else first.body
            assert msgpack.unpackb(body)[:2] == [arguments, {}]
            for copy in copies:
                assert {name: copy.properties[name] for name in TYPE} == TYPE
                assert copy.body == body and "compression" not in copy.headers
        next_one = many(step.id, 1)[0]
        assert {name: next_one.properties[name] for name in TYPE} == TYPE
        assert msgpack.unpackb(next_one.body)[:2] == [[2, b"\xfe"], {}]
    (properties, body), = cluster.dead(1)
    assert properties.headers["id"] == unknown.id and (properties.content_type, properties.content_encoding) == (TYPE["content_type"], "binary")
    assert msgpack.unpackb(body)[0] == [b"\xff"]


BAD = {
    "empty": (b"", "ends early"),
    "json": (b'[["x"], {}, null]', "more behind"),
    "truncated": (msgpack.packb([["x" * 100], {}, None])[:50], "ends early"),
    "trailing": (msgpack.packb([["x"], {}, None]) + b"\xc0", "more behind"),
    "4 GiB of text": (b"\x93\xdb\xff\xff\xff\xff" + b"xxxx", "ends early"),
    "4 Gi values": (b"\x93\xdd\xff\xff\xff\xff" + b"\xc0" * 10, "ends early"),
    "deep": (b"\x91" * 100_000 + b"\xc0", "too deeply"),
    "many values": (msgpack.packb([[[[]] * 250_000], {}, None]), "200000 values"),
    "large as json": (msgpack.packb([[b"\xff" * (13 << 20)], {}, None]), "too large"),
    "bomb": (zlib.compress(msgpack.packb([["x" * (40 << 20)], {}, None])), "larger than"),
    "int key": (msgpack.packb([[], {1: 2}, None]), "name"),
    "bytes key": (msgpack.packb([[], {b"x": 2}, None]), "name"),
    "name twice": (b"\x93\x90\x82\xa1x\x01\xa1x\x02\xc0", "twice"),
    "timestamp": (msgpack.packb([[msgpack.Timestamp(1)], {}, None]), "extension"),
    "extension": (msgpack.packb([[msgpack.ExtType(5, b"x")], {}, None]), "extension"),
    "nan": (msgpack.packb([[float("nan")], {}, None]), "NaN"),
    "nul": (msgpack.packb([["a\0b"], {}, None]), "NUL"),
    "not utf-8": (b"\x93\x91\xa1\xff\x80\xc0", "UTF-8"),
    "no value": (b"\xc1", "no value"),
    "no list": (msgpack.packb({}), "[args, kwargs, embed]"),
    "args no list": (msgpack.packb(["x", {}, None]), "args is no list"),
}


def dead_of(cluster, ident):
    """The dead letter of that id; others are taken too."""
    while True:
        for properties, body in cluster.dead(1):
            if properties.headers["id"] == ident:
                return properties, body


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_read(cluster, app, name):
    """A dead letter, as it came, that says why; who waits is told; and the worker goes on."""
    body, words = BAD[name]
    ident, more = str(uuid.uuid4()), {"compression": "application/x-gzip"} if name == "bomb" else {}
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue
        cluster.publish(body, headers={"task": "echo", "id": ident, **more}, reply_to=replies, **TYPE)
        told = wait_for(lambda: channel.basic_get(replies, auto_ack=True)[2], "a result", 60)
    meta = json.loads(told)
    assert (meta["task_id"], meta["status"]) == (ident, "FAILURE") and words in meta["result"]["exc_message"][0]
    properties, dead = dead_of(cluster, ident)
    assert dead == body and properties.content_type == TYPE["content_type"]
    assert words in properties.headers["x-feed-reason"]
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3


PYTHON_WORKER = """
import celery
app = celery.Celery("interop", broker={url!r}, backend="rpc://")
app.conf.update({alone!r}, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

@app.task(name="echo")
def echo(x):
    return ["python", x]

@app.task(name="sleep")
def sleep(seconds):
    return seconds
"""


@contextlib.contextmanager
def python_worker(cluster, folder):
    """One that takes MessagePack alone, of the queue "celery"; its log must say nothing bad at the end."""
    (folder / "python_worker.py").write_text(textwrap.dedent(PYTHON_WORKER.format(url=cluster.url, alone=ALONE)))
    with open(folder / "python.log", "wb") as log:
        python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "python_worker", "worker", "-P", "solo", "-n", "python@test", "-Q", "celery", "-l", "info"],
                                  cwd=folder, stdout=log, stderr=log, env={**os.environ, "C_FORCE_ROOT": "1"})
    try:
        yield python
    finally:
        python.terminate()
        python.wait(30)
    text = (folder / "python.log").read_text()
    assert "Traceback" not in text and "CRITICAL" not in text and "Cannot decode" not in text, text[-3000:]


def test_such_a_python_worker_starts_beside_one_that_answers_in_json(make_cluster, tmp_path):
    """Its mingling is not answered: that would end it."""
    cluster = make_cluster(**{"job.queues": "ours", "job.mingle": True})
    cluster.job()
    with python_worker(cluster, tmp_path) as python:
        assert cluster.app(**ALONE).send_task("echo", [b"\xff"], queue="celery").get(timeout=100) == ["python", b"\xff"]
        assert python.poll() is None


def test_beside_a_python_worker_that_takes_nothing_else(make_cluster, tmp_path):
    """It does the copy of a job that was put off here, and the steps between ours; each reads the other's remote control and mingling."""
    cluster = make_cluster(**{"job.queues": "celery,ours", "job.mingle": True, "job.result_serializer": "msgpack"})
    app = cluster.app(**ALONE)
    s = app.signature
    with cluster.traced() as published:
        first = cluster.job(concurrency=1)
        app.send_task("sleep", [600])
        wait_for(lambda: (app.control.inspect(destination=[first.node], timeout=10).active() or {}).get(first.node), "its only child is busy", 60)
        late = app.send_task("echo", [b"\xff"], countdown=1)
        wait_for(lambda: any(m.exchange == "celery_delayed_27" and m.headers.get("id") == late.id for m in published()), "it is put off", 60)
    first.kill()
    second = cluster.job(queues="ours")
    with python_worker(cluster, tmp_path):
        assert late.get(timeout=100) == ["python", b"\xff"]
        wait_for(lambda: set(app.control.inspect(timeout=3).ping() or {}) == {second.node, "python@test"}, "both answer", 60)
        there = s("echo", queue="celery")
        assert chain(s("add", (1, 1), queue="ours"), there, s("echo", queue="ours")).apply_async().get(timeout=60) == ["python", 2]
        linked = there.clone()
        linked.freeze()
        app.send_task("echo", [b"\xfe"], queue="ours", link=linked)
        assert app.AsyncResult(linked.id).get(timeout=60) == ["python", b"\xfe"]
