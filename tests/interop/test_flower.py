"""Flower against this worker: what it shows, what it sends and awaits, and what it changes. Its client knows the tasks by name alone."""
import os
import socket
import subprocess
import sys

import celery.exceptions
import pytest
import requests

from conftest import wait_for
from test_control import ask

TASKS = ("add", "echo", "fail", "sleep")
KNOWN = """import celery
app = celery.Celery("known", broker={broker!r}, backend={backend!r})
for name in {tasks!r}:
    @app.task(name=name, typing=False)
    def known(*args, **kwargs):
        raise AssertionError("it runs elsewhere")
"""


class Flower:
    """Its API over HTTP; its workers are known when it is there."""

    def __init__(self, folder, node, **known):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (folder / "known.py").write_text(KNOWN.format(tasks=TASKS, **known))
        self.url, self.log = f"http://127.0.0.1:{port}/api", folder / "flower.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "celery", "-A", "known", "flower", "--address=127.0.0.1", f"--port={port}",
                                             "--inspect_timeout=5000"], env={**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}, cwd=folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_known(node)

    def get(self, path, **parameters):
        answer = requests.get(self.url + path, params=parameters, timeout=60)
        return answer.json() if answer.ok else None

    def post(self, path, status=200, **more):
        answer = requests.post(self.url + path, timeout=60, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if status == 200 else answer.text

    def wait_known(self, node):
        def known():
            assert self.process.poll() is None, self.log.read_text()
            try:
                return (self.get("/workers", refresh="true", workername=node) or {}).get(node, {}).get("registered")
            except requests.ConnectionError:
                return None
        wait_for(known, f"Flower knows {node}", 90, every=0.3)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def url(cluster):
    return cluster.make_database()


@pytest.fixture(scope="module")
def worker(cluster, url):
    return cluster.job(results="database", events=True)


@pytest.fixture(scope="module")
def app(cluster, worker, url):
    return cluster.app(url)


@pytest.fixture(scope="module")
def flower(cluster, worker, url, module_folder):
    flower = Flower(module_folder, worker.node, broker=cluster.url, backend=url)
    try:
        yield flower
    finally:
        flower.stop()


def result_of(flower, ident):
    flower.get(f"/task/result/{ident}", timeout=60)     # waits; its answer has the state of before
    return flower.get(f"/task/result/{ident}")


def test_what_it_shows(app, worker, flower):
    about = flower.get("/workers", refresh="true", workername=worker.node)[worker.node]
    assert {"add", "echo"} <= set(about["registered"]) and about["active_queues"][0]["name"] == "celery" and about["stats"]["pid"] == worker.pid
    result = app.send_task("add", [20, 22])
    assert result.get(timeout=60) == 42
    task = wait_for(lambda: (t := flower.get(f"/task/info/{result.id}")) and t.get("state") == "SUCCESS" and t, "Flower saw the task", 60, every=0.3)
    assert task["name"] == "add" and task["result"] == "42" and task["worker"] == worker.node
    assert result.id in flower.get("/tasks", taskname="add", workername=worker.node, state="SUCCESS")
    assert "add" in flower.get("/task/types")["task-types"]


def test_it_shows_what_runs_and_what_waits(app, worker, flower):
    """All that it asks a worker for."""
    def about():
        return flower.get("/workers", refresh="true", workername=worker.node)[worker.node]
    ask(app, worker.node, "revoke", task_id=["shown-as-revoked"])
    results = [app.send_task("sleep", [600]) for _ in range(5)]
    shown = wait_for(lambda: len((a := about()).get("active", [])) == 4 and len(a.get("reserved", [])) == 1 and a, "four run, one waits", 60)
    assert {task["id"] for task in shown["active"] + shown["reserved"]} == {r.id for r in results}
    assert all((task["name"], task["args"], task["hostname"]) == ("sleep", [600], worker.node) for task in shown["active"] + shown["reserved"])
    assert shown["scheduled"] == [] and "shown-as-revoked" in shown["revoked"]
    assert shown["conf"]["task_acks_late"] is True and shown["conf"]["worker_concurrency"] == 4
    app.control.revoke([r.id for r in results], terminate=True, signal="SIGKILL", destination=[worker.node], reply=True, timeout=10)
    for result in results:
        with pytest.raises(celery.exceptions.TaskRevokedError):
            result.get(timeout=60)


def test_it_sends_a_task_and_awaits_its_result(flower):
    sent = flower.post("/task/async-apply/add", json={"args": [20, 22]})
    assert result_of(flower, sent["task-id"]) == {"task-id": sent["task-id"], "state": "SUCCESS", "result": 42}
    sent = flower.post("/task/send-task/echo", json={"kwargs": {"x": {"a": [1, None, "ü"]}}, "countdown": 1})
    assert result_of(flower, sent["task-id"])["result"] == {"a": [1, None, "ü"]}
    done = flower.post("/task/apply/add", json={"args": [1], "kwargs": {"y": 2}, "timeout": 60})
    assert (done["state"], done["result"]) == ("SUCCESS", 3)
    done = flower.post("/task/apply/fail", json={"args": ["boom"], "timeout": 60})
    assert (done["state"], done["result"]) == ("FAILURE", "ValueError('boom')") and "boom" in done["traceback"]


def test_it_revokes_what_waits_and_what_runs(app, worker, flower):
    sent = flower.post("/task/async-apply/add", json={"args": [1, 2], "countdown": 100_000})
    assert "Revoked" in flower.post(f"/task/revoke/{sent['task-id']}")["message"]
    assert "TaskRevokedError" in result_of(flower, sent["task-id"])["result"]
    sent = flower.post("/task/async-apply/sleep", json={"args": [600]})
    wait_for(lambda: sent["task-id"] in [a["id"] for a in app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node]], "it runs", 60)
    flower.post(f"/task/revoke/{sent['task-id']}", params={"terminate": "true", "signal": "SIGKILL"})
    assert result_of(flower, sent["task-id"])["state"] == "REVOKED"


def test_it_sets_a_rate_limit(app, worker, flower):
    def registered():
        return flower.get("/workers", refresh="true", workername=worker.node)[worker.node]["registered"]
    node = {"workername": worker.node}
    assert flower.post("/task/rate-limit/echo", data={**node, "ratelimit": "5/m"}) == {"message": "new rate limit set successfully"}
    wait_for(lambda: "echo [rate_limit=5/m]" in registered(), "it is shown")
    assert "Invalid rate limit" in flower.post("/task/rate-limit/echo", 403, data={**node, "ratelimit": "often"})
    assert flower.post("/task/rate-limit/echo", data={**node, "ratelimit": "0"}) == {"message": "rate limit disabled successfully"}
    wait_for(lambda: "echo" in registered(), "it is gone")


def test_it_sets_time_limits(worker, flower):
    node = {"workername": worker.node}
    for limits, name in (({"soft": 0.5}, "SoftTimeLimitExceeded"), ({"hard": 0.5}, "TimeLimitExceeded")):
        assert flower.post("/task/timeout/sleep", data={**node, **limits}) == {"message": "time limits set successfully"}
        done = flower.post("/task/apply/sleep", json={"args": [600], "timeout": 60})
        assert done["state"] == "FAILURE" and done["result"].startswith(name)
    flower.post("/task/timeout/sleep", data=node)
    assert flower.post("/task/apply/sleep", json={"args": [1], "timeout": 60})["result"] == 1


def test_it_changes_the_pool_and_the_queues(app, worker, flower):
    def processes():
        return app.control.inspect(destination=[worker.node], timeout=5).stats()[worker.node]["pool"]["processes"]
    flower.post(f"/worker/pool/grow/{worker.node}", params={"n": 1})
    wait_for(lambda: len(processes()) == 5, "there is one more", 60)
    flower.post(f"/worker/pool/shrink/{worker.node}", params={"n": 1})
    before = wait_for(lambda: len(p := processes()) == 4 and p, "there is one less", 60)
    flower.post(f"/worker/pool/restart/{worker.node}")
    wait_for(lambda: len(p := processes()) == 4 and not set(p) & set(before), "all are new", 60)
    assert "Autoscale not enabled" in flower.post(f"/worker/pool/autoscale/{worker.node}", 403, params={"min": 1, "max": 9})
    assert "add consumer" in flower.post(f"/worker/queue/add-consumer/{worker.node}", params={"queue": "extra"})["message"]
    assert app.send_task("add", [1, 2], queue="extra").get(timeout=60) == 3
    assert "no longer" in flower.post(f"/worker/queue/cancel-consumer/{worker.node}", params={"queue": "extra"})["message"]
    assert [q["name"] for q in ask(app, worker.node, "active_queues")] == ["celery"]


def test_it_shuts_a_worker_down(cluster, flower):
    other = cluster.job(queues="other")
    flower.wait_known(other.node)
    flower.post(f"/worker/shutdown/{other.node}")
    assert other.popen.wait(60) == 0
