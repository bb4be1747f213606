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

import billiard.exceptions
import brotli
import celery.exceptions
import kombu.serialization
import pytest
from backports import zstd
from celery import chain

from conftest import wait_for
from flood import worker_value


def test_result_of_a_task(send):
    assert send("add", 1, 2) == 3
    assert send("add", kwargs={"x": 20, "y": 22}) == 42
    assert send("add", 0.5, 1) == 1.5
    assert send("add", 2**62, 1) == 2**62 + 1


def test_a_clients_own_task_by_our_name(cluster, worker):
    """As most clients have it: a function that runs elsewhere, called by delay() and as a part of others."""
    app = cluster.app()

    @app.task(name="add", shared=False)
    def add(x, y):
        raise AssertionError("it runs elsewhere")
    assert add.delay(1, y=2).get(timeout=60) == 3
    assert chain(add.s(1, 2), add.s(10)).delay().get(timeout=60) == 13
    result = add.apply_async((1, 2), link=add.s(100))
    assert result.get(timeout=60) == 3 and result.children[0].get(timeout=60) == 103


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 2**70, "", "ü😀\u202e\"\\\n", [], {}, [[{"a": [None]}]], {"ключ": [1, {"b": "c"}]}, "x" * 500_000])
def test_values_come_back_as_they_went(send, value):
    assert send("echo", value) == value


def test_kombus_types_pass_through(send):
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    for value in (now, now.date(), decimal.Decimal("1.10"), uuid.UUID(int=7), b"\x00\xff"):
        assert send("echo", value) == value


def test_kombus_types_as_arguments(send):
    """Where a number is asked for a Decimal is one; text that has digits is none."""
    assert send("add", decimal.Decimal("1.25"), 2) == 3.25
    assert send("sleep", decimal.Decimal("0.01")) == decimal.Decimal("0.01")
    assert send("flaky", decimal.Decimal("1")) == 1
    for wrong in ("1.25", decimal.Decimal("NaN"), b"1", uuid.UUID(int=1)):
        with pytest.raises(TypeError):
            send("add", wrong, 1)
    with pytest.raises(ValueError, match="d\u00e4te 1"):
        send("fail", "d\u00e4te 1".encode())
    with pytest.raises(ValueError, match="2026-01-02T03:04:05"):
        send("fail", datetime.datetime(2026, 1, 2, 3, 4, 5))


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


def test_ignored_results_are_sent_nowhere(make_cluster):
    """Neither to reply_to nor into the table, however the job ends; what comes after it by the same way is answered."""
    cluster = make_cluster()
    cluster.make_database()
    cluster.job(results="both", track_started=True, concurrency=1)
    app = cluster.app()
    answers = {}
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue

        def answered(ident):
            for _, properties, body in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
                assert body is not None, f"no result; so far {answers}"
                answers.setdefault(properties.correlation_id, []).append(json.loads(body)["status"])
                if answers.get(ident, [])[-1:] == ["SUCCESS"]:
                    return
        linked = app.signature("echo", ("linked",), immutable=True).set(task_id=str(uuid.uuid4()), reply_to=replies)
        for name, arguments, more in (("add", [1, 2], {}), ("fail", ["boom"], {}), ("no.such.task", [], {}), ("flaky", [1], {"link": linked})):
            app.send_task(name, arguments, ignore_result=True, reply_to=replies, **more)
        answered(linked.id)
        last = app.send_task("add", [2, 2], reply_to=replies)
        answered(last.id)
    assert answers == {linked.id: ["STARTED", "SUCCESS"], last.id: ["STARTED", "SUCCESS"]}
    wait_for(lambda: "celery_taskmeta" in cluster.tables() and cluster.one("SELECT COUNT(*) FROM celery_taskmeta WHERE status = 'SUCCESS'") == 2, "both are stored")
    assert {row[0] for row in cluster.sql("SELECT task_id FROM celery_taskmeta")} == {linked.id, last.id}


def test_custom_headers_and_task_id(app):
    result = app.send_task("echo", ["x"], task_id="my-own-id", headers={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
    assert result.id == "my-own-id" and result.get(timeout=30) == "x"


@pytest.mark.parametrize("compression", ["zlib", "gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_compression(send, compression):
    value = "long " * 10000
    assert send("echo", value, compression=compression) == value


def test_expired_task_is_revoked(cluster, worker):
    """The broker drops what expires in a queue, so this one comes without the broker's own limit."""
    for past in ((datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=5)).isoformat(), "2020-01-01T00:00:00"):
        meta = raw_result(cluster, [[1, 2], {}, None], headers(expires=past))
        assert meta["status"] == "REVOKED" and meta["result"]["exc_type"] == "TaskRevokedError" and meta["result"]["exc_message"] == ["expired"]


def from_now(seconds):
    """As a header alone: `expires` of a client also makes the broker drop what is still in the queue."""
    return {"expires": (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()}


def test_expires_while_it_waits_for_a_slot(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(concurrency=1)
    app = cluster.app()
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    busy = app.send_task("sleep", [600])
    wait_for(lambda: (inspect.active() or {}).get(worker.node), "the only slot is taken", 60)
    late = app.send_task("echo", ["late"], headers=from_now(2))
    with pytest.raises(celery.exceptions.TaskRevokedError, match="expired"):
        late.get(timeout=60)
    assert [task["id"] for task in wait_for(lambda: (inspect.active() or {}).get(worker.node), "it still is", 60)] == [busy.id]
    busy.revoke(terminate=True, signal="KILL")
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 1


def test_eta_later_than_expires(app):
    with pytest.raises(celery.exceptions.TaskRevokedError, match="expired"):
        app.send_task("add", [1, 2], countdown=3, headers=from_now(1)).get(timeout=60)


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


def version_1(**more):
    return {"task": "add", "id": str(uuid.uuid4()), "args": [1], "kwargs": {"y": 5}, "retries": 0, "eta": None, "expires": None, "utc": True,
            "callbacks": None, "errbacks": None, "timelimit": [None, None], "taskset": None, "chord": None, **more}


def test_version_1_of_the_protocol(worker, cluster):
    assert value(cluster, json.dumps(version_1()), None) == 6
    assert value(cluster, json.dumps({"task": "echo", "id": str(uuid.uuid4())}), None) is None  # neither args nor kwargs
    assert raw_result(cluster, version_1(taskset="family"), None)["group_id"] == "family"


def test_a_hybrid_of_both_versions(cluster, worker):
    """Headers of version 2 before a body of version 1, as Celery takes it too: the headers win, and the body says the rest; also after a retry."""
    sent = headers("flaky")
    meta = raw_result(cluster, version_1(task="nobody's", id="of the body", args=[0], kwargs={}, parent_id="parent", group="family"), sent)
    assert (meta["status"], meta["task_id"], meta["parent_id"], meta["group_id"]) == ("SUCCESS", sent["id"], "parent", "family")
    assert value(cluster, version_1(), headers()) == 6
    told = []
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue
        cluster.publish(json.dumps(version_1(args=[1], kwargs={})), headers=headers("flaky"), reply_to=replies)
        for _, _, text in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
            assert text is not None, told
            told.append(json.loads(text)["status"])
            if told[-1] != "RETRY":
                break
    assert told == ["RETRY", "SUCCESS"]


@pytest.mark.parametrize("odd, reason", [
    ({"args": None}, "args is no list"), ({"args": "12"}, "args is no list"), ({"args": {"0": 1}}, "args is no list"), ({"args": True}, "args is no list"),
    ({"kwargs": None}, "kwargs is no object"), ({"kwargs": []}, "kwargs is no object"), ({"kwargs": "y=5"}, "kwargs is no object"),
    ({"callbacks": {}}, "must be lists"), ({"errbacks": "echo"}, "must be lists"), ({"retries": "1"}, "retries is no number"),
    ({"timelimit": 5}, "timelimit is not [hard, soft]"), ({"eta": "soon"}, "eta is no time"), ({"expires": "never"}, "expires is no time"),
    ({"task": None}, "no task name"), ({"id": None}, "no task id"), ({"id": 7}, "no task id"),
], ids=str)
def test_version_1_with_odd_parts(cluster, send, odd, reason):
    """Dead, as it came, with words that say what is wrong; and the worker goes on."""
    sent = version_1(**odd)
    cluster.publish(json.dumps(sent))
    properties, dead = cluster.dead(1)[0]
    assert json.loads(dead) == sent and reason in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


def test_a_client_that_speaks_version_1(cluster, worker):
    """Celery's own, by its setting: chains are links there."""
    app = cluster.app(task_protocol=1)
    s = app.signature
    assert app.send_task("add", [1], {"y": 2}).get(timeout=60) == 3
    assert app.send_task("flaky", [2]).get(timeout=60) == 2
    assert app.send_task("add", [1, 2], countdown=1).get(timeout=60) == 3
    assert chain(s("add", (1, 2)), s("add", (10,)), s("add", (100,))).apply_async().get(timeout=60) == 113
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        app.send_task("sleep", [600], time_limit=0.5).get(timeout=60)
    errback = s("echo")
    errback.freeze()
    failed = app.send_task("fail", ["boom"], link_error=errback)
    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=60)
    assert app.AsyncResult(errback.id).get(timeout=60) == failed.id


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
    "unknown compression": (b"[[1, 2], {}, null]", headers(compression="application/x-snappy")),
    "broken compression": (b"[[1, 2], {}, null]", headers(compression="application/x-gzip")),
    "half a compression": (zlib.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="zlib")),
    "half of bzip2": (bz2.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/x-bz2")),
    "half of lzma": (lzma.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/x-lzma")),
    "half of zstd": (zstd.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/zstd")),
    "half of brotli": (brotli.compress(b'[["' + b"x" * 1000 + b'"], {}, null]')[:-5], headers("echo", compression="application/x-brotli")),
    "bomb of zstd": (zstd.compress(b"[[" + b" " * (40 << 20) + b"], {}, null]"), headers("echo", compression="application/zstd")),
    "bomb of brotli": (brotli.compress(b"[[" + b" " * (40 << 20) + b"], {}, null]", quality=1), headers("echo", compression="application/x-brotli")),
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
    assert name != "unknown compression" or "application/x-snappy" in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


@pytest.mark.parametrize("refused, words", [(2**256, "too many digits"), ("a\0b", "u0000 is not accepted"), (float("nan"), "expected"), ([[]] * 250_000, "200000 values"),
                                            (json.loads("[" * 40 + "]" * 40), "nested too deeply")], ids=["digits", "nul", "nan", "values", "depth"])
def test_who_waits_for_what_is_refused_is_told(app, cluster, send, refused, words):
    """JSON that Python writes and this worker does not read: the client gets an exception, the message is dead."""
    with pytest.raises(ValueError, match=words):
        send("echo", refused)
    assert words in cluster.dead(1)[0][0].headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


def test_nobody_is_told_who_does_not_want_it(cluster, worker):
    """Neither an ignored result, nor what has an id that can't be one."""
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue
        for more in ({"ignore_result": True}, {"id": "x\r\ny"}, {"id": "x" * 156}):
            cluster.publish("{", headers=headers(**more), reply_to=replies)
        cluster.dead(3)
        cluster.publish("{", headers=headers(id="told"), reply_to=replies)
        got = wait_for(lambda: channel.basic_get(replies, auto_ack=True)[2], "a result")
        assert json.loads(got)["task_id"] == "told" and json.loads(got)["status"] == "FAILURE"
    cluster.dead(1)


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml", "application/x-foo", "application/data"])
def test_pickle_and_yaml_are_refused(cluster, send, content_type):
    cluster.publish(b"cos\nsystem\n(S'false'\ntR.", headers=headers(), content_type=content_type, content_encoding="binary")
    properties, _ = cluster.dead(1)[0]
    assert content_type in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


@pytest.mark.parametrize("serializer, content_type", [("pickle", "application/x-python-serialize"), ("yaml", "application/x-yaml")])
def test_a_clients_pickle_and_yaml_are_refused(cluster, app, send, serializer, content_type):
    result = app.send_task("add", [1, 2], serializer=serializer)
    properties, _ = cluster.dead(1)[0]
    assert properties.headers["id"] == result.id and properties.content_type == content_type and content_type in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


def test_a_client_that_writes_base64(app):
    """By a serializer of its own, as those for brokers that take no bytes do; also packed."""
    def encode(value):
        return base64.b64encode(json.dumps(value).encode())
    kombu.serialization.register("json64", encode, None, content_type="application/json", content_encoding="base64")
    try:
        result = app.send_task("echo", ["b64 ü"], serializer="json64")
    finally:
        kombu.serialization.unregister("json64")
        kombu.serialization.register_json()     # had the same type
    assert result.get(timeout=60) == "b64 ü"


def test_a_client_whose_job_has_expired_when_it_comes(app, send):
    """RabbitMQ hands a message that may not wait to a consumer with room, or drops it."""
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)
    assert send("add", 1, 2) == 3   # there is room
    with pytest.raises(celery.exceptions.TaskRevokedError, match="expired"):
        app.send_task("add", [1, 2], expires=past).get(timeout=60)


def test_what_a_result_says(cluster, worker):
    """The family of its job, where it has one; and it is a message that no disk has to keep."""
    with cluster.channel() as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        sent = [headers(group="family", group_index=3, parent_id="parent", root_id="root"), headers()]
        for one in sent:
            cluster.publish("[[1, 2], {}, null]", headers=one, reply_to=queue)
        got = {}
        for _, properties, text in channel.consume(queue, auto_ack=True, inactivity_timeout=60):
            assert text is not None, got
            assert properties.delivery_mode == 1 and (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
            got[properties.correlation_id] = json.loads(text)
            if len(got) == 2:
                break
    first, second = (got[one["id"]] for one in sent)
    assert (first["group_id"], first["parent_id"]) == ("family", "parent")
    assert set(first) - set(second) == {"group_id", "parent_id"}
    assert second == {"task_id": sent[1]["id"], "status": "SUCCESS", "result": 3, "traceback": None, "children": [], "date_done": second["date_done"]}


@pytest.mark.parametrize("more", [{"priority": 255}, {"timestamp": 2**62}, {"expiration": "1000000"}, {"correlation_id": "x" * 255}, {"message_id": "y" * 255}], ids=str)
def test_odd_properties_do_no_harm(cluster, worker, more):
    """Nested headers, a root and a parent that are one, priorities and times out of range: the task runs and is answered, also when it was sent on."""
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    odd = {"deep": deep, "root_id": "loop", "parent_id": "loop"}
    assert value(cluster, [[1, 2], {}, None], headers(**odd), **more) == 3
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat()
    assert value(cluster, [[1, 2], {}, None], headers(**odd, eta=later), **more) == 3


def test_a_reply_to_that_is_somebody_elses(cluster, send):
    """The result goes there and is nothing there: no job, and it is not answered itself."""
    sent = {queue: headers() for queue in ("celery", "feed.jobs.dead", "amq.nobody")}
    for queue, mine in sent.items():
        cluster.publish(json.dumps([[1, 2], {}, None]), headers=mine, reply_to=queue)
    dead = {json.loads(body)["task_id"]: properties for properties, body in cluster.dead(2)}
    assert set(dead) == {sent["celery"]["id"], sent["feed.jobs.dead"]["id"]}
    assert dead[sent["celery"]["id"]].headers["x-feed-reason"], "it came as a job, which it is not"
    assert not dead[sent["feed.jobs.dead"]["id"]].headers, "it came as it was sent"
    assert send("add", 1, 2) == 3
    assert cluster.count("celery") == 0 and cluster.count("feed.jobs.dead") == 0


def test_same_id_twice(worker, cluster):
    """A message of its own, that runs and is answered; it is not taken for a delivery that came again."""
    sent = headers("echo")
    assert value(cluster, [["one"], {}, None], sent) == "one"
    assert value(cluster, [["two"], {}, None], sent) == "two"


def test_same_id_twice_at_once(app, worker, cluster):
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue
        for n in range(2):
            app.send_task("echo", [n], task_id="sent-twice", reply_to=replies)
        got = []
        for _, _, text in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
            assert text is not None, f"only {got}"
            got.append(json.loads(text)["result"])
            if len(got) == 2:
                break
    assert sorted(got) == [0, 1]


def test_countdown_and_eta(app):
    for name in ("countdown", "eta"):
        began = time.monotonic()
        options = {name: 2 if name == "countdown" else datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)}
        assert app.send_task("add", [1, 2], **options).get(timeout=30) == 3
        assert time.monotonic() - began >= 1.9


def test_eta_without_zone_or_in_the_past(worker, cluster):
    for eta in ("2020-01-01T00:00:00", "1970-01-01T00:00:00+00:00"):
        assert value(cluster, [[1, 2], {}, None], headers(eta=eta)) == 3


def test_eta_without_zone_is_utc(cluster, worker):
    """And not the time of the worker's host, which is two hours on."""
    cluster.job(queues="east", concurrency=1, env={"TZ": "UTC-2"})
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    assert value(cluster, [[1, 2], {}, None], headers(eta=eta.replace(tzinfo=None).isoformat()), queue="east") == 3
    assert datetime.datetime.now(datetime.timezone.utc) >= eta


def test_nothing_is_held_for_later(app, cluster, worker, send):
    """A thousand countdowns neither fill the worker nor stand in the way of what is due."""
    for _ in range(1000):
        app.send_task("add", [1, 2], countdown=100_000)
    wait_for(lambda: cluster.count("celery") == 0, "all were moved away")
    assert send("add", 1, 2) == 3
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/celery").get("messages_unacknowledged") == 0, "nothing is un-acked")
