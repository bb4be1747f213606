"""The logical clock of a cluster, and the events that are seldom: of jobs that are rejected, ignored, or go round once more."""
import json

import billiard.exceptions
import celery.exceptions
import pytest

from conftest import wait_for
from test_control import Listener, ask
from test_protocol import from_now

AHEAD = 5_000_000   # ticks: further than any clock gets by itself


@pytest.fixture
def listen():
    made = []

    def listen(app):
        made.append(Listener(app))
        return made[-1]
    yield listen
    for listener in made:
        listener.stop()


def wait_beyond(listener, node, clock):
    """An event of that node which is later than the clock."""
    wait_for(lambda: [e for e in list(listener.events) if e["hostname"] == node and e["clock"] > clock], f"an event of {node} beyond {clock}", 60)


def test_clock_is_beyond_what_it_has_heard(cluster, worker, listen):
    """A question carries its sender's; the answer's body and header, and the events that follow, are later."""
    app = cluster.app()
    ahead = ask(app, worker.node, "clock")["clock"] + AHEAD
    clock = app.control.mailbox.clock
    clock.adjust(ahead)
    answer = ask(app, worker.node, "hello", from_node="other@test", revoked={})
    assert ahead < answer["clock"] < clock.value < ahead + 1000
    assert ask(app, worker.node, "clock")["clock"] > answer["clock"]
    wait_beyond(listen(cluster.app()), worker.node, ahead)


def test_a_worker_that_starts_takes_over_the_others_clock(make_cluster, listen):
    """By mingle: nobody else tells it."""
    cluster = make_cluster(**{"job.mingle": True})
    first = cluster.job()
    app = cluster.app()
    app.control.mailbox.clock.adjust(AHEAD)
    wait_for(lambda: app.control.inspect(destination=[first.node], timeout=5).ping(), "it answers", 60)
    listener = listen(cluster.app())
    wait_beyond(listener, first.node, AHEAD)
    second = cluster.job()
    wait_beyond(listener, second.node, AHEAD)


def test_an_event_is_a_message_that_may_be_lost(make_cluster):
    """And it says whose it is before anybody has read its body."""
    cluster = make_cluster()
    with cluster.channel() as channel:
        channel.exchange_declare("celeryev", "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "celeryev", "#")
        worker = cluster.job(events=True)
        cluster.publish("[[1, 2], {}, null]", headers={"task": "add", "id": "7"})
        got = {}

        def succeeded():
            while (one := channel.basic_get(queue, auto_ack=True))[0]:
                got[one[0].routing_key] = one[1]
            return "task.succeeded" in got
        wait_for(succeeded, "its events are there", 60)
    assert {"worker.online", "task.received", "task.started"} <= set(got)
    for properties in got.values():
        assert properties.delivery_mode == 1 and properties.headers == {"hostname": worker.node} and properties.content_type == "application/json"


@pytest.mark.parametrize("zone, west", [("UTC-2", -2), ("EST5", 5), ("IST-5:30", -5.5), ("UTC", 0)])
def test_hours_west_of_utc(make_cluster, zone, west):
    """Of the worker's host, as it sends them: who listens elsewhere shows the time right."""
    cluster = make_cluster()
    with cluster.channel() as channel:
        channel.exchange_declare("celeryev", "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "celeryev", "worker.#")
        cluster.job(env={"TZ": zone})
        body = wait_for(lambda: channel.basic_get(queue, auto_ack=True)[2], "its heart beats", 60)
    assert json.loads(body)["utcoffset"] == west


@pytest.fixture(scope="module")
def one(cluster):
    """A worker that runs one job after another, and tells of each."""
    return cluster.job(queues="one", concurrency=1, events=True, delivery_limit=2)


@pytest.fixture
def listener(app, one, listen):
    return listen(app)


def test_a_job_that_its_handler_rejects(cluster, app, listener):
    result = app.send_task("reject", ["not mine"], queue="one")
    with pytest.raises(celery.exceptions.Reject, match="not mine"):
        result.get(timeout=60)
    wait_for(lambda: listener.of(result.id) == ["task-received", "task-started", "task-rejected"], "its events")
    assert [e["requeue"] for e in listener.events if e.get("uuid") == result.id and e["type"] == "task-rejected"] == [False]
    assert listener.state.tasks[result.id].rejected
    properties, _ = cluster.dead(1)[0]
    assert properties.headers["id"] == result.id and properties.headers["x-feed-reason"] == "rejected by its handler"


def test_a_job_is_received_once_and_only_if_it_is_taken(app, one, listener):
    """What is for later is received when it comes, and not again when its time has come; what is revoked before it comes never is."""
    later = app.send_task("add", [1, 2], queue="one", countdown=2)
    wait_for(lambda: listener.of(later.id) == ["task-received"], "it is received")
    assert later.get(timeout=60) == 3
    wait_for(lambda: "task-succeeded" in listener.of(later.id), "it has succeeded", 60)
    assert listener.of(later.id) == ["task-received", "task-started", "task-succeeded"]
    again = app.send_task("flaky", [1], queue="one")
    assert again.get(timeout=60) == 1
    wait_for(lambda: "task-succeeded" in listener.of(again.id), "it has succeeded", 60)
    once = ["task-received", "task-started"]
    assert listener.of(again.id) == [*once, "task-retried", *once, "task-succeeded"]
    revoked = app.send_task("add", [1, 2], queue="one", countdown=3)
    wait_for(lambda: listener.of(revoked.id) == ["task-received"], "it is received")
    ask(app, one.node, "revoke", task_id=[revoked.id, "never-received"])
    wait_for(lambda: listener.of(revoked.id) == ["task-received", "task-revoked"], "it is revoked when its time has come", 60)
    never = app.send_task("add", [1, 2], queue="one", task_id="never-received")
    for result in (revoked, never):
        with pytest.raises(celery.exceptions.TaskRevokedError):
            result.get(timeout=60)
    wait_for(lambda: listener.of(never.id), "it is revoked", 60)
    assert listener.of(never.id) == ["task-revoked"]


def test_a_job_that_its_handler_ignores(cluster, app, listener):
    """It is done, and nobody gets a result."""
    ignored, after = app.send_task("ignore", queue="one"), app.send_task("add", [1, 2], queue="one")
    told = []
    assert after.get(timeout=60, on_message=told.append) == 3
    wait_for(lambda: "task-succeeded" in listener.of(after.id), "the next has succeeded")
    assert [meta["task_id"] for meta in told] == [after.id] and listener.of(ignored.id) == ["task-received", "task-started"]
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/one").get("messages") == 0, "it is acknowledged", 60)


def test_a_job_that_goes_round_once_more(cluster, app, listener):
    """Its child was lost: rejected, as a Python worker says it, and received again; at the cap it has failed."""
    result = app.send_task("crash", queue="one")
    with pytest.raises(billiard.exceptions.WorkerLostError):
        result.get(timeout=60)
    once = ["task-received", "task-started"]
    wait_for(lambda: listener.of(result.id) == [*once, "task-rejected", *once, "task-failed"], "its events")
    assert [e["requeue"] for e in listener.events if e.get("uuid") == result.id and e["type"] == "task-rejected"] == [True]
    assert cluster.dead(1)[0][0].headers["id"] == result.id


def said(listener, ident, kind):
    """The first event of that kind which this job has."""
    return wait_for(lambda: next((e for e in list(listener.events) if e.get("uuid") == ident and e["type"] == kind), None), f"{kind} of {ident}", 60)


@pytest.mark.parametrize("how, fields", [("expired", (False, None, True)), ("revoked", (False, None, False)), ("terminated", (True, 9, False))])
def test_a_job_that_was_revoked_says_how(app, one, listener, how, fields):
    """By its time, by an order that came before it ran, or by the signal that ended it."""
    ident = "by-what-" + how
    if how == "revoked":
        ask(app, one.node, "revoke", task_id=[ident])
    result = app.send_task("sleep", [600], queue="one", task_id=ident, headers=from_now(-5) if how == "expired" else None)
    if how == "terminated":
        said(listener, ident, "task-started")
        ask(app, one.node, "revoke", task_id=[ident], terminate=True, signal="SIGKILL")
    event = said(listener, ident, "task-revoked")
    assert (event["terminated"], event["signum"], event["expired"]) == fields
    with pytest.raises(celery.exceptions.TaskRevokedError, match=how):
        result.get(timeout=60)


def test_a_job_of_a_name_that_nobody_knows_has_failed(cluster, app, listener):
    """It was never received, and who listens hears what became of it."""
    result = app.send_task("no.such.task", queue="one")
    assert said(listener, result.id, "task-failed")["exception"] == "NotRegistered('no.such.task')"
    assert listener.of(result.id) == ["task-failed"]
    assert cluster.dead(1)[0][0].headers["id"] == result.id


def test_events_from_the_start_are_not_switched_off(app, one, listener):
    """As Celery's -E: they are of no group that could be."""
    assert "already disabled" in ask(app, one.node, "disable_events")["ok"]
    result = app.send_task("add", [1, 2], queue="one")
    said(listener, result.id, "task-succeeded")
    assert "already enabled" in ask(app, one.node, "enable_events")["ok"]


def test_a_heart_beats_when_it_is_asked_to(app, one, listener):
    """Far more often than by itself, which is every 2 s."""
    def beats():
        return sum(e["type"] == "worker-heartbeat" and e["hostname"] == one.node for e in list(listener.events))
    for _ in range(60):
        app.control.broadcast("heartbeat", destination=[one.node])
    wait_for(lambda: beats() >= 60, "one for each", 60)
