"""Jobs over HTTP: sent to RabbitMQ as any Celery client would, done by the job worker, asked for and revoked."""
import collections
import concurrent.futures
import json
import subprocess
import time
import uuid
from datetime import datetime

import celery
import pytest
import requests

from expect import problem
from feedmill import BUILD, ROOT, Client, wait_for

pytestmark = pytest.mark.servers("RabbitMQ")

JOBS = "echo, add,fail,sleep"


@pytest.fixture
def make_place(vhost, make_feed):
    """A Feedmill whose gateway takes jobs; no worker yet."""
    def make(**settings):
        feed = make_feed(amqp__url=vhost.url, gateway__jobs=JOBS, job__results="database", job__concurrency=1, **settings).prepare()
        feed.edge = feed.gateway()
        feed.client = Client(feed.edge.url)
        wait_for(lambda: requests.get(feed.edge.admin + "/readyz", timeout=10).json()["checks"]["jobs"] == "ok", "RabbitMQ is there")
        return feed
    return make


@pytest.fixture
def place(make_place):
    return make_place()


def send(feed, name, **body):
    answer = feed.client.post(f"/jobs/{name}", body)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"id": answer.json()["id"], "status": "pending"} and answer.headers["Location"] == f"/jobs/{answer.json()['id']}"
    return answer.headers["Location"]


def outcome(feed, location, *statuses):
    return wait_for(lambda: (job := feed.client.ok("GET", location))["status"] in statuses and job, f"{location} is {statuses}", 60)


def test_jobs_are_done(place):
    place.worker("job")
    added, echoed = send(place, "add", args=[2, 3]), send(place, "echo", kwargs={"x": {"a": [1, None, True, 2.5, "\U0001f438 \"'\\"], "b": {}}})
    failed, nothing = send(place, "fail", args=["no luck"]), send(place, "echo", args=[None])
    assert outcome(place, added, "done")["result"] == 5
    assert outcome(place, echoed, "done")["result"] == {"a": [1, None, True, 2.5, "\U0001f438 \"'\\"], "b": {}}
    assert outcome(place, nothing, "done")["result"] is None
    error = outcome(place, failed, "failed")["error"]
    assert error["exc_type"] == "ValueError" and error["exc_message"] == ["no luck"]
    unknown = str(uuid.uuid4())
    assert place.client.ok("GET", f"/jobs/{unknown}") == {"id": unknown, "status": "pending"}


def test_results_are_read_from_the_table_that_the_settings_name(make_place):
    place = make_place(job__result_table="myapp_taskmeta")
    place.worker("job")
    location = send(place, "add", args=[2, 3])
    assert outcome(place, location, "done")["result"] == 5
    assert place.one("SELECT status FROM myapp_taskmeta WHERE task_id = %s", location.removeprefix("/jobs/")) == "SUCCESS"
    assert "celery_taskmeta" not in place.tables()


def test_the_message_is_what_celery_sends(place, vhost):
    """Read as it lies in the queue, beside what Celery itself makes of the same call."""
    place.worker("job").stop()      # the queue is there
    before = time.time()
    location = send(place, "add", args=[1], kwargs={"y": 2}, countdown=3600, expires=7200, priority=3)
    with vhost.connect() as connection:
        method, properties, body = connection.channel().basic_get("celery", auto_ack=True)
    task = celery.Celery(set_as_current=False).amqp.as_task_v2(location.removeprefix("/jobs/"), "add", args=[1], kwargs={"y": 2}, countdown=3600, expires=7200)
    theirs, mine = task.headers, properties.headers
    assert set(theirs) <= set(mine), set(theirs) - set(mine)
    differ = {"lang", "origin", "eta", "expires", "argsrepr", "kwargsrepr"}
    assert {name: mine[name] for name in set(theirs) - differ} == {name: json.loads(json.dumps(theirs[name])) for name in set(theirs) - differ}
    assert json.loads(body) == json.loads(json.dumps(task.body))
    assert properties.correlation_id == mine["id"] and properties.delivery_mode == 2 and properties.priority == 3
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert 3595 < datetime.fromisoformat(mine["eta"]).timestamp() - before < 3660
    assert 7195 < datetime.fromisoformat(mine["expires"]).timestamp() - before < 7260


def test_not_before_its_time(place):
    place.worker("job")
    began = time.monotonic()
    location = send(place, "echo", args=["late"], countdown=2)
    assert outcome(place, location, "done")["result"] == "late"
    assert time.monotonic() - began >= 2


def test_revoked(place, vhost):
    """While it waits for its time; a worker that has it in hand says so when it is due."""
    worker = place.worker("job")
    location = send(place, "echo", args=["never"], countdown=3600)
    with vhost.connect() as connection:
        waits = connection.channel()
        wait_for(lambda: waits.queue_declare("celery_delayed_11", passive=True).method.message_count == 1, "it waits for its time")
    worker.stop()
    place.worker("job")
    answer = place.client.delete(location)
    assert answer.status_code == 202 and answer.headers["Location"] == location and answer.json()["id"] == location.removeprefix("/jobs/")
    assert outcome(place, location, "revoked") == {"id": answer.json()["id"], "status": "revoked"}


def test_sent_again_with_its_key(place, vhost):
    place.worker("job").stop()
    key, body = {"Idempotency-Key": '"report-7"'}, {"args": ["once"]}
    answers = [place.client.post("/jobs/echo", body, headers=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({(answer.text, answer.headers["Location"]) for answer in answers}) == 1
    problem(place.client.post("/jobs/echo", {"args": ["twice"]}, headers=key), 422)
    problem(place.client.post("/jobs/add", body, headers=key), 422)
    with vhost.connect() as connection:
        assert connection.channel().queue_declare("celery", passive=True).method.message_count == 1
    place.worker("job")
    assert outcome(place, answers[0].headers["Location"], "done")["result"] == "once"


def test_what_is_wrong(place):
    for body in ({"args": {}}, {"kwargs": []}, {"countdown": -1}, {"countdown": 1.5}, {"expires": 0}, {"priority": 256}, [], None):
        problem(place.client.post("/jobs/echo", body) if body is not None else place.client.post("/jobs/echo", data=b"", headers={"Content-Type": "application/json"}), 400)
    problem(place.client.post("/jobs/crash", {}), 404, "no such job")
    problem(place.client.post("/jobs/ech", {}), 404)
    problem(place.client.get("/jobs/7"), 404)
    problem(place.client.delete("/jobs/echo"), 404)


def test_no_queue_yet_is_503_and_sends_nothing(place):
    problem(place.client.post("/jobs/echo", {"args": [1]}, headers={"Idempotency-Key": "k"}), 503, "nothing was stored")
    assert place.one("SELECT COUNT(*) FROM idempotency") == 0
    problem(place.client.delete(f"/jobs/{uuid.uuid4()}"), 503)


def test_rabbitmq_away(make_feed):
    feed = make_feed(amqp__url="amqp://feed:feed@127.0.0.1:1", gateway__jobs="*", job__results="database").prepare()
    edge = feed.gateway()
    client = Client(edge.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: Client(edge.url).post("/jobs/echo", {"args": [1]}), range(32)):
            problem(answer, 503, "nothing was stored")
    ready = requests.get(edge.admin + "/readyz", timeout=10)
    assert ready.status_code == 200 and ready.json()["checks"]["jobs"] != "ok", "shown, not fatal"
    assert client.ok("GET", f"/jobs/{uuid.uuid4()}")["status"] == "pending"


def take_all(server):
    """How often each job's message waits."""
    with server.connect() as connection:
        channel, found = connection.channel(), collections.Counter()
        while (got := channel.basic_get("celery", auto_ack=True))[0]:
            found[got[1].correlation_id] += 1
        return found


def test_a_full_queue_is_503_and_the_repeat_is_one_message(place, vhost):
    """It rejects what is published, so nothing is stored; when there is room the same key sends it, once."""
    key, body = {"Idempotency-Key": "full"}, {"args": ["once"]}
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("celery", durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        channel.confirm_delivery()
        for _ in range(2):
            channel.basic_publish("", "celery", b"{}")
        for _ in range(2):
            problem(place.client.post("/jobs/echo", body, headers=key), 503, "nothing was stored")
        channel.queue_purge("celery")
    answers = [place.client.post("/jobs/echo", body, headers=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.headers["Location"].removeprefix("/jobs/") for answer in answers}
    assert len(ids) == 1 and take_all(vhost) == dict.fromkeys(ids, 1)


def test_rabbitmq_takes_no_messages_for_now(make_feed, rabbit):
    """A memory alarm: the first request that it stops has no answer of its own, the next ones are refused at once. When it is over, each key sends its
    job, and no other: once, or, where nobody knew, twice at most under one id."""
    wait_s = 2
    feed = make_feed(amqp__url=rabbit.url, gateway__jobs="echo", gateway__wait_ms=wait_s * 1000, job__results="database").prepare()
    edge, answers = feed.gateway(), {}
    client = Client(edge.url)

    def state():
        return requests.get(edge.admin + "/readyz", timeout=10).json()["checks"]["jobs"]

    def send(key):
        began = time.monotonic()
        answer = client.post("/jobs/echo", {"args": [key]}, headers={"Idempotency-Key": key})
        assert time.monotonic() - began < wait_s + 10
        return answer

    def is_refused():
        key = f"key-{len(answers)}"
        answers[key] = send(key)
        return answers[key].status_code == 503
    wait_for(lambda: state() == "ok", "RabbitMQ is there", 60)
    with rabbit.connect() as connection:
        connection.channel().queue_declare("celery", durable=True)
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        wait_for(is_refused, "it takes no more", 60, every=0.2)
        wait_for(is_refused, "and still does not", 60)
        assert "out of memory" in state() and requests.get(edge.admin + "/readyz", timeout=10).status_code == 200
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: state() == "ok", "the alarm is over", 60)
    ids = {}
    for key, before in answers.items():
        after = wait_for(lambda: (answer := send(key)).status_code == 202 and answer, f"{key} is sent", 60, every=0.2)
        ids[key] = after.headers["Location"].removeprefix("/jobs/")
        if before.status_code == 503:
            problem(before, 503, "nothing was stored")
        else:
            assert before.headers["Location"] == after.headers["Location"]
    found = take_all(rabbit)
    assert set(found) == set(ids.values()) and len(found) == len(answers)
    assert all(found[ids[key]] == 1 or (found[ids[key]] == 2 and answers[key].status_code == 504) for key in answers), (answers, found)


def test_jobs_are_off_by_default(client, make_feed):
    problem(client.post("/jobs/echo", {}), 404)
    problem(client.get(f"/jobs/{uuid.uuid4()}"), 404)
    problem(client.delete(f"/jobs/{uuid.uuid4()}"), 404)
    feed = make_feed(gateway__jobs="echo")
    done = subprocess.run([BUILD / "feed-gateway", "-c", feed.config], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "gateway.jobs" in done.stderr and "amqp.url" in done.stderr
