"""What a Python worker tells of jobs and of itself, and this worker tells of the same: whole dicts, by their names and kinds."""
import datetime
import json
import os
import subprocess
import sys
import time

import pytest

from conftest import wait_for
from test_control import Listener
from test_events import said

OURS, THEIRS = "ours@test", "theirs@test"
PYTHON_WORKER = """
import time
import celery
app = celery.Celery("interop", broker={url!r}, backend="rpc://")
app.conf.update(broker_connection_retry_on_startup=True, task_acks_late=True, task_track_started=True, result_extended=True)

@app.task(name="add")
def add(x, y):
    return x + y

@app.task(name="fail")
def fail(message):
    raise ValueError(message)

@app.task(name="flaky", bind=True)
def flaky(self, n):
    if self.request.retries < n:
        raise self.retry(exc=ValueError("not yet"), countdown=0)
    return n

@app.task(name="sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds
"""


def kinds(value):
    """Its names, and what is under them; a number is one, whole or not."""
    if isinstance(value, dict):
        return {name: kinds(member) for name, member in value.items()}
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.fixture(scope="module")
def worker(cluster):
    return cluster.job(node=OURS, queues="ours", concurrency=1, events=True, track_started=True, result_extended=True, soft_time_limit_ms=60_000, hard_time_limit_ms=90_000)


@pytest.fixture(scope="module")
def app(cluster, worker, module_folder):
    """A client of both workers: each has a queue of its own, and runs one job at a time."""
    (module_folder / "python_worker.py").write_text(PYTHON_WORKER.format(url=cluster.url))
    options = ["-P", "prefork", "-c", "1", "-E", "-n", THEIRS, "-Q", "theirs", "--soft-time-limit", "60", "--time-limit", "90", "-l", "info"]
    with open(module_folder / "python.log", "wb") as log:
        python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "python_worker", "worker", *options], cwd=module_folder, stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL, env={**os.environ, "C_FORCE_ROOT": "1"})
    try:
        app = cluster.app()
        wait_for(lambda: app.control.inspect(destination=[THEIRS], timeout=1).ping(), "the Python worker answers", 90)
        yield app
    finally:
        python.terminate()
        python.wait(60)


@pytest.fixture(scope="module")
def listener(cluster, app):
    listener = Listener(cluster.app())
    yield listener
    listener.stop()


def both(app, verb, *arguments, **named):
    answers = getattr(app.control.inspect(destination=[OURS, THEIRS], timeout=20), verb)(*arguments, **named)
    return answers[OURS], answers[THEIRS]


def instants(event):
    return {name: event[name] and datetime.datetime.fromisoformat(event[name]).timestamp() for name in ("eta", "expires")}


@pytest.mark.parametrize("name, arguments, types, same", [
    ("add", [1], ("task-received", "task-started", "task-succeeded"), ("name", "args", "kwargs", "root_id", "parent_id", "retries", "result")),
    ("fail", [], ("task-failed",), ("exception",)), ("flaky", [1], ("task-retried",), ())])
def test_events_of_a_job(app, listener, name, arguments, types, same):
    now = datetime.datetime.now(datetime.timezone.utc)
    more = {"root_id": "the-root", "parent_id": "the-parent", "eta": now + datetime.timedelta(seconds=1), "expires": now + datetime.timedelta(seconds=600)}
    named = {"add": {"y": 2}, "fail": {"message": "boom"}}.get(name, {})
    results = [app.send_task(name, arguments, named, queue=queue, **more) for queue in ("ours", "theirs")]
    for kind in types:
        ours, theirs = (said(listener, result.id, kind) for result in results)
        assert kinds(ours) == kinds(theirs)
        assert {key: ours.get(key) for key in same} == {key: theirs.get(key) for key in same}
        if kind == "task-received":
            assert instants(ours) == instants(theirs) == {key: more[key].timestamp() for key in ("eta", "expires")}
        if kind == "task-retried":
            assert ours["exception"] == "Retry('flaky: not yet')" and "flaky: not yet" in ours["traceback"]


def test_how_long_a_job_ran(app, listener):
    runtime = said(listener, app.send_task("sleep", [0.2], queue="ours").id, "task-succeeded")["runtime"]
    assert 0.15 < runtime < 60


def test_heartbeats(app, listener):
    """Those that come by themselves; Python's have less in them when they were asked for."""
    def beat(node):
        beats = [e for e in list(listener.events) if e["hostname"] == node and e["type"] == "worker-heartbeat" and "loadavg" in e]
        return beats[0] if beats else None
    ours, theirs = (wait_for(lambda node=node: beat(node), f"a beat of {node}", 60) for node in (OURS, THEIRS))
    assert kinds(ours) == kinds(theirs)
    assert ours["freq"] == theirs["freq"] and ours["sw_sys"] == theirs["sw_sys"]


@pytest.mark.parametrize("name, arguments, statuses", [
    ("add", [1, 2], ["STARTED", "SUCCESS"]), ("fail", ["boom"], ["STARTED", "FAILURE"]), ("flaky", [1], ["STARTED", "RETRY", "STARTED", "SUCCESS"])])
def test_results_by_rpc(cluster, app, name, arguments, statuses):
    """Each state's message: its names and kinds, and where nobody's clock or name is in it, its values."""
    told = {}
    for queue in ("ours", "theirs"):
        with cluster.channel() as channel:
            replies, metas = channel.queue_declare("", exclusive=True).method.queue, []
            app.send_task(name, arguments, queue=queue, reply_to=replies, parent_id="the-parent", group_id="the-group")
            for _, _, text in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
                assert text is not None, metas
                metas.append(json.loads(text))
                if metas[-1].get("date_done", 0) is None:   # Python's, on the way
                    del metas[-1]["date_done"]
                if metas[-1]["status"] == statuses[-1]:
                    break
        told[queue] = metas
    assert [meta["status"] for meta in told["ours"]] == [meta["status"] for meta in told["theirs"]] == statuses
    own = {"task_id", "traceback", "worker", "queue", "date_done"}
    for ours, theirs in zip(told["ours"], told["theirs"]):
        assert kinds(ours) == kinds(theirs)
        others = {"STARTED": {"result"}, "RETRY": {"result", "children"}}.get(ours["status"], set())    # Python's next try is a child
        assert {key: ours[key] for key in ours.keys() - own - others} == {key: theirs[key] for key in theirs.keys() - own - others}


def test_jobs_that_run_and_that_wait(app, listener):
    began = time.time()
    running = [app.send_task("sleep", [600], {}, queue=queue) for queue in ("ours", "theirs")]
    for result in running:
        said(listener, result.id, "task-started")
    waiting = [app.send_task("add", [1, 2], queue=queue) for queue in ("ours", "theirs")]
    wait_for(lambda: all(both(app, "reserved")), "one waits at each", 60)
    same = ("name", "args", "kwargs", "type", "acknowledged")
    for verb in ("active", "reserved"):
        (ours,), (theirs,) = both(app, verb)
        assert kinds(ours) == kinds(theirs), verb
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
        assert {**ours["delivery_info"], "routing_key": "theirs"} == theirs["delivery_info"]
        if verb == "active":
            assert began - 1 <= ours["time_start"] <= time.time() + 1
    ours, theirs = (told[result.id] for told, result in zip(both(app, "query_task", *(result.id for result in running)), running))
    assert ours[0] == theirs[0] == "active" and kinds(ours[1]) == kinds(theirs[1])
    app.control.revoke([result.id for result in running], terminate=True, signal="SIGKILL", reply=True, timeout=20, destination=[OURS, THEIRS])
    ours, theirs = (said(listener, result.id, "task-revoked") for result in running)
    assert kinds(ours) == kinds(theirs) and ours["signum"] == theirs["signum"] == 9
    assert [result.get(timeout=60) for result in waiting] == [3, 3]


def test_stats(cluster, app):
    for queue in ("ours", "theirs"):
        assert app.send_task("add", [1, 2], queue=queue).get(timeout=60) == 3
    ours, theirs = both(app, "stats")
    assert set(ours) == set(theirs) and ours["total"]["add"] >= 1
    assert kinds(ours["rusage"]) == kinds(theirs["rusage"]) and ours["rusage"]["maxrss"] > 0
    assert set(ours["pool"]) == set(theirs["pool"])
    for key in ("timeouts", "max-concurrency", "max-tasks-per-child"):
        assert ours["pool"][key] == theirs["pool"][key], key
    assert ours["pool"]["writes"]["total"] >= 1
    for key in ("clock", "uptime", "pid", "prefetch_count"):
        assert kinds(ours[key]) == kinds(theirs[key]), key
    assert set(ours["broker"]) <= set(theirs["broker"])
    for key in ("hostname", "port", "userid", "virtual_host", "transport", "ssl", "insist"):
        assert ours["broker"][key] == theirs["broker"][key], key


def test_queues_and_settings(app):
    ours, theirs = both(app, "active_queues")
    assert set(ours[0]) == set(theirs[0]) and set(ours[0]["exchange"]) == set(theirs[0]["exchange"])
    for key in ("durable", "exclusive", "auto_delete", "no_ack"):
        assert ours[0][key] == theirs[0][key], key
    ours, theirs = both(app, "conf", with_defaults=True)
    assert set(ours) <= set(theirs), "each of ours is a setting of Celery's"
    for key in ("task_acks_late", "task_track_started", "result_extended", "enable_utc", "task_serializer"):
        assert ours[key] == theirs[key], key
    assert theirs["accept_content"] == ["json"] and ours["accept_content"] == ["json", "msgpack"], "which runs nothing, and is taken always"
