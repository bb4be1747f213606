"""What a client sends, and what it gets back: types, versions of the protocol, encodings, and what is refused."""
import base64
import bz2
import datetime
import decimal
import json
import lzma
import time
import uuid
import zlib

import celery.exceptions
import pytest

from conftest import wait_for


def test_result_of_a_task(send):
    assert send("add", 1, 2) == 3
    assert send("add", kwargs={"x": 20, "y": 22}) == 42
    assert send("add", 0.5, 1) == 1.5
    assert send("add", 2**62, 1) == 2**62 + 1


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 2**70, "", "ü😀\u202e\"\\\n", [], {}, [[{"a": [None]}]], {"ключ": [1, {"b": "c"}]}, "x" * 500_000])
def test_values_come_back_as_they_went(send, value):
    assert send("echo", value) == value


def test_kombus_types_pass_through(send):
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    for value in (now, now.date(), decimal.Decimal("1.10"), uuid.UUID(int=7), b"\x00\xff"):
        assert send("echo", value) == value


def test_failure_is_an_exception_of_the_client(app):
    result = app.send_task("fail", ["boom"])
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=30)
    assert result.state == "FAILURE" and "ValueError: boom" in result.traceback


def test_wrong_arguments_are_a_type_error(app):
    with pytest.raises(TypeError):
        app.send_task("add", [1]).get(timeout=30)


def test_unknown_task(app, cluster):
    with pytest.raises(celery.exceptions.NotRegistered):
        app.send_task("no.such.task").get(timeout=30)
    properties, body = cluster.dead(1)[0]
    assert properties.headers["x-feed-reason"] == "no such task here" and json.loads(body)[0] == []


def test_ignored_result_is_not_sent(app, send):
    result = app.send_task("add", [1, 2], ignore_result=True)
    assert send("echo", "later") == "later"
    assert result.get(timeout=5) is None


def test_custom_headers_and_task_id(app):
    result = app.send_task("echo", ["x"], task_id="my-own-id", headers={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
    assert result.id == "my-own-id" and result.get(timeout=30) == "x"


@pytest.mark.parametrize("compression", ["zlib", "gzip", "bzip2", "lzma"])
def test_compression(send, compression):
    value = "long " * 10000
    assert send("echo", value, compression=compression) == value


def test_expired_task_is_revoked(cluster, worker):
    """The broker drops what expires in a queue, so this one comes without the broker's own limit."""
    for past in ((datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=5)).isoformat(), "2020-01-01T00:00:00"):
        meta = raw_result(cluster, [[1, 2], {}, None], headers(expires=past))
        assert meta["status"] == "REVOKED" and meta["result"]["exc_type"] == "TaskRevokedError" and meta["result"]["exc_message"] == ["expired"]


def raw_result(cluster, body, headers, **properties):
    """A message as we write it; the result as it comes, from a queue of our own."""
    with cluster.channel() as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        cluster.publish(body if isinstance(body, (bytes, str)) else json.dumps(body), headers=headers, reply_to=queue, **properties)
        for _, got, text in channel.consume(queue, auto_ack=True, inactivity_timeout=30):
            assert text is not None, "no result"
            meta = json.loads(text)
            assert got.correlation_id == meta["task_id"] and got.content_type == "application/json"
            return meta
    return None


def value(*arguments, **properties):
    meta = raw_result(*arguments, **properties)
    assert meta["status"] == "SUCCESS", meta
    return meta["result"]


def headers(task="add", **more):
    return {"task": task, "id": str(uuid.uuid4()), **more}


def test_least_that_a_message_needs(worker, cluster):
    assert value(cluster, [[1, 2], {}, None], headers()) == 3
    assert value(cluster, [[1, 2], {}], headers()) == 3


def test_version_1_of_the_protocol(worker, cluster):
    body = {"task": "add", "id": str(uuid.uuid4()), "args": [1], "kwargs": {"y": 5}, "retries": 0, "eta": None, "expires": None, "utc": True,
            "callbacks": None, "errbacks": None, "timelimit": [None, None], "taskset": None, "chord": None}
    assert value(cluster, json.dumps(body), None) == 6


def test_base64_body(worker, cluster):
    body = base64.b64encode(json.dumps([["b64"], {}, None]).encode())
    assert value(cluster, body, headers("echo"), content_encoding="base64") == "b64"
    body = base64.b64encode(zlib.compress(json.dumps([["both"], {}, None]).encode()))
    assert value(cluster, body, headers("echo", body_encoding="base64", compression="application/x-gzip")) == "both"


BAD = {
    "empty": (b"", headers()),
    "no json": (b"{[", headers()),
    "no list": (b"{}", headers()),
    "one element": (b"[[]]", headers()),
    "four elements": (b"[[], {}, {}, {}]", headers()),
    "args no list": (b'["x", {}, null]', headers()),
    "kwargs no object": (b"[[], [], null]", headers()),
    "embed no object": (b"[[], {}, []]", headers()),
    "callbacks no list": (b'[[], {}, {"callbacks": 1}]', headers()),
    "not utf-8": (b'[["\xff"], {}, null]', headers("echo")),
    "nan": (b"[[NaN], {}, null]", headers("echo")),
    "deep": (b"[[" + b"[" * 5000 + b"]" * 5000 + b"], {}, null]", headers("echo")),
    "key twice": (b'[[], {"x": 1, "x": 2}, null]', headers("echo")),
    "no id": (b"[[], {}, null]", {"task": "add"}),
    "long id": (b"[[], {}, null]", {"task": "add", "id": "x" * 10_000}),
    "lines in the id": (b"[[], {}, null]", {"task": "add", "id": "x\r\n\r\nDELETE /jobs/7 HTTP/1.1"}),
    "lines in the id of v1": (b'{"task": "add", "id": "x\\r\\ny", "args": [], "kwargs": {}}', None),
    "id no text": (b"[[], {}, null]", {"task": "add", "id": 7}),
    "task no text": (b"[[], {}, null]", {"task": {"a": 1}, "id": "7"}),
    "retries -1": (b"[[], {}, null]", headers(retries=-1)),
    "retries 2^31": (b"[[], {}, null]", headers(retries=2**31)),
    "retries text": (b"[[], {}, null]", headers(retries="1")),
    "eta no time": (b"[[], {}, null]", headers(eta="tomorrow")),
    "eta far away": (b"[[], {}, null]", headers(eta="9999-12-31T23:59:59+00:00")),
    "expires no time": (b"[[], {}, null]", headers(expires="x")),
    "timelimit texts": (b"[[], {}, null]", headers(timelimit=["1", "2"])),
    "timelimit number": (b"[[], {}, null]", headers(timelimit=5)),
    "timelimit negative": (b"[[], {}, null]", headers(timelimit=[-1, None])),
    "group_index": (b"[[], {}, null]", headers(group_index=2**40)),
    "no task": (b"[[], {}, null]", {"id": "7"}),
    "v1 without id": (b'{"task": "add", "args": [], "kwargs": {}}', None),
    "unknown compression": (b"[[1, 2], {}, null]", headers(compression="application/zstd")),
    "broken compression": (b"[[1, 2], {}, null]", headers(compression="application/x-gzip")),
    "half a compression": (zlib.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="zlib")),
    "half of bzip2": (bz2.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/x-bz2")),
    "half of lzma": (lzma.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/x-lzma")),
    "bomb of bzip2": (bz2.compress(b"[[" + b" " * (40 << 20) + b"], {}, null]"), headers("echo", compression="application/x-bz2")),
    "bomb of lzma": (lzma.compress(b"[[" + b" " * (40 << 20) + b"], {}, null]", preset=1), headers("echo", compression="application/x-lzma")),
    "bomb": (zlib.compress(b"[[" + b" " * (40 << 20) + b"], {}, null]"), headers("echo", compression="zlib")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_read_goes_to_the_dead_letters(cluster, send, name):
    body, sent = BAD[name]
    cluster.publish(body, headers=sent)
    properties, dead = cluster.dead(1)[0]
    assert dead == body and properties.headers["x-feed-reason"]
    assert name != "unknown compression" or "application/zstd" in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml", "application/x-foo", "application/data"])
def test_pickle_and_yaml_are_refused(cluster, send, content_type):
    cluster.publish(b"cos\nsystem\n(S'false'\ntR.", headers=headers(), content_type=content_type, content_encoding="binary")
    properties, _ = cluster.dead(1)[0]
    assert content_type in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


def test_odd_properties_do_no_harm(cluster, send):
    """Nested headers, priorities and times out of range, a reply_to of somebody else: the task runs, or it is dead, and the worker goes on."""
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    for more in ({"priority": 255}, {"timestamp": 2**62}, {"expiration": "1000000"}, {"reply_to": "amq.nobody"}, {"correlation_id": "x" * 255}):
        cluster.publish(json.dumps([[1, 2], {}, None]), headers=headers(deep=deep, root_id="loop", parent_id="loop"), **more)
    wait_for(lambda: cluster.count("celery") == 0, "all are taken")
    assert send("add", 1, 2) == 3


def test_same_id_twice(worker, cluster):
    sent = headers("echo")
    assert value(cluster, [["one"], {}, None], sent) == "one"
    cluster.publish(json.dumps([["two"], {}, None]), headers=sent)
    wait_for(lambda: cluster.count("celery") == 0, "it was taken")


def test_countdown_and_eta(app):
    for name in ("countdown", "eta"):
        began = time.monotonic()
        options = {name: 2 if name == "countdown" else datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)}
        assert app.send_task("add", [1, 2], **options).get(timeout=30) == 3
        assert time.monotonic() - began >= 1.9


def test_eta_without_zone_or_in_the_past(worker, cluster):
    for eta in ("2020-01-01T00:00:00", "1970-01-01T00:00:00+00:00"):
        assert value(cluster, [[1, 2], {}, None], headers(eta=eta)) == 3


def test_nothing_is_held_for_later(app, cluster, worker, send):
    """A thousand countdowns neither fill the worker nor stand in the way of what is due."""
    for _ in range(1000):
        app.send_task("add", [1, 2], countdown=100_000)
    wait_for(lambda: cluster.count("celery") == 0, "all were moved away")
    assert send("add", 1, 2) == 3
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/celery").get("messages_unacknowledged") == 0, "nothing is un-acked")
