"""Kinds of queues: several, quorum ones with their delay, priorities; and workers of both kinds on one queue."""
import datetime
import os
import subprocess
import sys
import textwrap
import time

import billiard.exceptions
import celery.exceptions
import kombu
import pika
import pytest
import requests

from conftest import wait_for
from feedmill import memory_kib
from flood import worker_value


def test_several_queues(make_cluster):
    cluster = make_cluster(**{"job.queues": "first, second"})
    worker = cluster.job()
    app = cluster.app(task_default_queue="first")
    for queue in ("first", "second"):
        assert app.send_task("add", [1, 2], queue=queue).get(timeout=30) == 3
    assert {q["name"] for q in app.control.inspect(destination=[worker.node], timeout=5).active_queues()[worker.node]} == {"first", "second"}


def test_quorum_queue_with_a_clients_own_delay(make_cluster):
    """The client publishes countdowns to celery_delayed_27 by itself: the levels must be there, and lead back."""
    cluster = make_cluster(**{"job.queue_type": "quorum", "job.exchange_type": "topic"})
    cluster.job()
    app = cluster.app(task_default_queue_type="quorum", task_default_exchange_type="topic", worker_detect_quorum_queues=True)
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    began = time.monotonic()
    assert app.send_task("add", [1, 2], countdown=3).get(timeout=30) == 3
    assert 2.9 <= time.monotonic() - began < 20
    assert app.send_task("flaky", [2]).get(timeout=30) == 2


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_delayed_jobs_reach_their_queue_alone(make_cluster, kind):
    """Also where another queue's name is the end of theirs; and where an earlier version has bound that queue too widely."""
    cluster = make_cluster(**{"job.queues": "emails.high, high", "job.exchange_type": kind})
    with cluster.channel() as channel:
        channel.exchange_declare("celery_delayed_delivery", "topic", durable=True)
        channel.queue_declare("high", durable=True)
        channel.queue_bind("high", "celery_delayed_delivery", "#.high")
    worker = cluster.job()
    keys = [b["routing_key"] for b in cluster.api("GET", f"queues/{cluster.vhost}/high/bindings") if b["source"] == "celery_delayed_delivery"]
    assert keys == ["*." * 28 + "high"]
    app = cluster.app(task_queues=[kombu.Queue(name, kombu.Exchange(name, kind), routing_key=name) for name in ("emails.high", "high")])
    app.control.cancel_consumer("high", destination=[worker.node], reply=True, timeout=10)
    assert [app.send_task("add", [n, 1], queue="emails.high", countdown=1) for n in range(3)][-1].get(timeout=60) == 3
    assert app.send_task("flaky", [2], queue="emails.high").get(timeout=60) == 2
    with cluster.channel() as channel:  # as a client delays by itself
        headers = {"task": "add", "id": "delayed-by-a-client"}
        channel.basic_publish("celery_delayed_27", "0." * 27 + "1." + "emails.high", b"[[1, 2], {}, null]",
                              pika.BasicProperties(content_type="application/json", content_encoding="utf-8", headers=headers))
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 5, "it runs too", 60)
    assert cluster.count("high") == 0
    result = app.send_task("add", [1, 2], queue="high", countdown=1)
    wait_for(lambda: cluster.count("high") == 1, "its own come", 60)
    app.control.add_consumer("high", destination=[worker.node], reply=True, timeout=10)
    assert result.get(timeout=60) == 3


def test_priorities(make_cluster):
    """What waits on the broker goes by priority."""
    cluster = make_cluster(**{"job.max_priority": 10})
    app = cluster.app(task_queue_max_priority=10)
    app.conf.task_queues = None
    worker = cluster.job(concurrency=1, prefetch_multiplier=1, events=True)
    blocker = app.send_task("sleep", [2])
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node], "one runs")
    filler = app.send_task("add", [0, 0])
    results = {priority: app.send_task("sleep", [0.2], priority=priority) for priority in (1, 9, 5)}
    for result in (blocker, filler, *results.values()):
        result.get(timeout=30)
    finished = sorted(results, key=lambda p: results[p].date_done)
    assert finished == [9, 5, 1]


def test_priorities_of_what_was_taken_ahead(make_cluster):
    """It starts by priority as well, whenever it came, and in order of arrival among equals."""
    cluster = make_cluster(**{"job.max_priority": 10})
    worker = cluster.job(concurrency=1)
    app = cluster.app(task_queue_max_priority=10)
    inspect = app.control.inspect(destination=[worker.node], timeout=10)

    def ids(word):
        return {task["id"] for task in getattr(inspect, word)()[worker.node]}

    def runs(result):
        wait_for(lambda: ids("active") == {result.id}, "it runs", 60)

    def end(result):
        app.control.revoke(result.id, terminate=True, signal="SIGKILL", destination=[worker.node], reply=True, timeout=10)
        with pytest.raises(celery.exceptions.TaskRevokedError):
            result.get(timeout=60)
    blocker, *low = [app.send_task("sleep", [600], priority=1) for _ in range(4)]
    wait_for(lambda: ids("active") == {blocker.id} and ids("reserved") == {r.id for r in low}, "one runs, three wait here", 60)
    end(blocker)
    runs(low[0])
    high = app.send_task("sleep", [600], priority=9)
    wait_for(lambda: ids("reserved") == {low[1].id, low[2].id, high.id}, "one of a high priority waits here too", 60)
    for before, after in ((low[0], high), (high, low[1]), (low[1], low[2])):
        end(before)
        runs(after)
    end(low[2])


def test_no_job_that_was_taken_waits_for_ever(make_cluster):
    """Behind jobs of a higher priority that are always there: after a minute it is the next."""
    cluster = make_cluster()
    app = cluster.app()
    app.send_task("sleep", [1], priority=9)
    low = app.send_task("add", [1, 2])
    for _ in range(80):
        app.send_task("sleep", [1], priority=9)
    worker = cluster.job(concurrency=1, prefetch_multiplier=3)
    assert low.get(timeout=110) == 3
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') > 2 and cluster.count("celery") > 0, "neither by its turn nor at the end"


PYTHON_WORKER = """
import celery
app = celery.Celery("interop", broker={url!r}, backend="rpc://")
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

@app.task(name="add")
def add(x, y):
    return x + y

@app.task(name="who")
def who():
    return "python"
"""


@pytest.fixture
def mixed(make_cluster, tmp_path):
    """A Python worker and ours on the queue "celery"; ours alone on "ours", Python's alone on "theirs"."""
    cluster = make_cluster(**{"job.queues": "celery,ours", "job.mingle": True})
    (tmp_path / "python_worker.py").write_text(textwrap.dedent(PYTHON_WORKER.format(url=cluster.url)))
    worker = cluster.job()
    log = open(tmp_path / "python.log", "wb")
    python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "python_worker", "worker", "-P", "solo", "-n", "python@test", "-Q", "celery,theirs", "-l", "info"],
                              cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "C_FORCE_ROOT": "1"})
    app = cluster.app()
    wait_for(lambda: (app.control.inspect(destination=["python@test"], timeout=1).ping() or {}).get("python@test"), "the Python worker answers", 60)
    yield cluster, worker, app, tmp_path / "python.log"
    python.terminate()
    python.wait(30)
    log.close()


def test_mixed_cluster(mixed):
    cluster, worker, app, log = mixed
    assert set(app.control.inspect(timeout=3).ping()) == {worker.node, "python@test"}
    results = [app.send_task("add", [n, 1]) for n in range(100)]
    assert [r.get(timeout=60) for r in results] == [n + 1 for n in range(100)]
    assert app.control.inspect(destination=[worker.node], timeout=5).stats()[worker.node]["total"]["add"] > 0
    assert app.control.inspect(destination=["python@test"], timeout=5).stats()["python@test"]["total"]["add"] > 0
    # A chain goes back and forth between the two.
    s = app.signature
    result = (s("add", (1, 1), queue="ours") | s("add", (10,), queue="theirs") | s("add", (100,), queue="ours")).apply_async()
    assert result.get(timeout=30) == 112
    result = (s("add", (1, 1), queue="theirs") | s("add", (10,), queue="ours")).apply_async()
    assert result.get(timeout=30) == 12
    # Each knows what the other was told to revoke, and neither complains of the other.
    app.control.revoke("somebody", destination=[worker.node], reply=True, timeout=5)
    cluster.job(wait=True)
    text = log.read_text()
    assert "Traceback" not in text and "CRITICAL" not in text, text[-3000:]


@pytest.mark.parametrize("kind", ["step", "link", "errback"])
def test_what_follows_later_in_a_queue_of_others(mixed, kind):
    """A countdown of what follows a job: the queues of the delay lead back to our own queues alone, so it goes at once, and Python waits."""
    _, _, app, _ = mixed
    s = app.signature
    after = s("who" if kind == "errback" else "add", () if kind == "errback" else (10,), queue="theirs", countdown=1, immutable=kind == "errback")
    if kind == "step":
        assert (s("add", (1, 1), queue="ours") | after).apply_async().get(timeout=60) == 12
        return
    after.freeze()
    app.send_task("fail" if kind == "errback" else "add", ["boom"] if kind == "errback" else [1, 1], queue="ours",
                  **{"link_error" if kind == "errback" else "link": after})
    assert app.AsyncResult(after.id).get(timeout=60) == ("python" if kind == "errback" else 12)


def test_python_worker_hears_of_our_revokes_at_its_start(make_cluster, tmp_path):
    """Mingle, the other way round: our answer is one that Python can read."""
    cluster = make_cluster(**{"job.mingle": True})
    worker = cluster.job()
    app = cluster.app()
    app.control.revoke("told-by-us", destination=[worker.node], reply=True, timeout=5)
    (tmp_path / "python_worker.py").write_text(textwrap.dedent(PYTHON_WORKER.format(url=cluster.url)))
    with open(tmp_path / "python.log", "wb") as log:
        python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "python_worker", "worker", "-P", "solo", "-n", "python@test"], cwd=tmp_path,
                                  stdout=log, stderr=log, env={**os.environ, "C_FORCE_ROOT": "1"})
    try:
        revoked = wait_for(lambda: app.control.inspect(destination=["python@test"], timeout=1).revoked(), "the Python worker answers", 60)
        assert "told-by-us" in revoked["python@test"]
    finally:
        python.terminate()
        python.wait(30)


def test_no_more_is_taken_than_the_prefetch(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(concurrency=2, prefetch_multiplier=3)
    app = cluster.app()
    results = [app.send_task("sleep", [3]) for _ in range(20)]
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    wait_for(lambda: len(inspect.active()[worker.node]) == 2 and len(inspect.reserved()[worker.node]) == 4, "two run, four wait here")
    assert cluster.count("celery") == 14
    for result in results:
        result.revoke()
    wait_for(lambda: cluster.count("celery") == 0, "the rest is revoked")


def test_each_queue_has_a_prefetch_of_its_own(make_cluster):
    """Two that are full: as many of each are taken, and neither takes what is the other's."""
    cluster = make_cluster(**{"job.queues": "first,second"})
    worker = cluster.job(concurrency=1, prefetch_multiplier=3)
    app = cluster.app()
    for _ in range(10):
        for queue in ("first", "second"):
            app.send_task("sleep", [600], queue=queue)
    inspect = app.control.inspect(destination=[worker.node], timeout=10)
    wait_for(lambda: len(inspect.active()[worker.node]) == 1 and len(inspect.reserved()[worker.node]) == 5, "one runs, five wait here", 60)
    assert [cluster.count(queue) for queue in ("first", "second")] == [7, 7]
    for queue in ("first", "second"):
        wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/{queue}").get("messages_unacknowledged") == 3, f"three of {queue} are not acknowledged", 60)
    for queue in ("first", "second"):
        wait_for(lambda: worker_value(worker, "feedmill_job_queue_ready", f'queue="{queue}"') == 7, f"seven are ready in {queue}, as its gauge has it", 60)
    worker.kill()  # its long jobs are nobody's


def test_idle_connections_are_kept_alive(make_cluster):
    """For more than three heartbeats, while a job runs and nothing else happens: RabbitMQ ends one that is silent for two."""
    cluster = make_cluster(**{"amqp.heartbeat_s": 5})
    worker = cluster.job(concurrency=1)
    app = cluster.app()
    result = app.send_task("sleep", [16])

    def ours():
        return {c["name"]: c["timeout"] for c in cluster.api("GET", f"vhosts/{cluster.vhost}/connections")
                if c.get("client_properties", {}).get("connection_name", "").startswith("job ") and "timeout" in c}
    before = wait_for(lambda: len(found := ours()) >= 3 and found, "RabbitMQ knows the worker's connections", 60)
    assert set(before.values()) == {5}
    assert result.get(timeout=100) == 16
    assert ours() == before
    assert worker_value(worker, "feedmill_job_reconnects_total") == 0
    assert not worker.logged("connection .*lost"), worker.output()
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3


def test_memory_is_the_same_after_many_countdowns(make_cluster):
    """Each goes to the queues of the delay at once, and nothing of it stays."""
    cluster = make_cluster()
    worker = cluster.job(pool="threads", concurrency=4, prefetch_multiplier=64)
    headers = {"task": "add", "eta": (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).isoformat()}
    sent, kib = 0, []
    for many in (500, 5_000):
        with cluster.channel() as channel:
            for n in range(sent, sent + many):
                channel.basic_publish("", "celery", b"[[1, 2], {}, null]", pika.BasicProperties(
                    content_type="application/json", content_encoding="utf-8", headers={**headers, "id": f"later-{n}"}))
        sent += many
        wait_for(lambda: cluster.count("celery_delayed_16") == sent, f"{sent} wait there, for more than 2^16 seconds", 120)
        kib.append(memory_kib(worker.pid, "Anonymous"))
    assert kib[1] < kib[0] * 1.1 + 1024, kib


@pytest.mark.parametrize("other", ["none", "in use", "full"])
def test_messages_that_are_ready_and_do_not_come(make_cluster, other):
    """A consumer that looks alive and gets nothing: /healthz says so, and the connection is made anew; whatever the worker's other queue does."""
    cluster = make_cluster(**{"job.queues": "celery" if other == "none" else "celery,other"})
    with cluster.channel() as channel:
        channel.queue_declare("celery", durable=True, arguments={"x-single-active-consumer": True})
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("celery", lambda *_: None)
        worker = cluster.job(concurrency=2)
        assert worker.logged("is there otherwise")
        cluster.publish("[[1, 2], {}, null]", headers={"task": "add", "id": "held"})
        for n in range(5):
            cluster.publish(f"[[{n}, 1], {{}}, null]", headers={"task": "add", "id": f"waits-{n}"})
        for n in range(10 if other == "full" else 0):
            cluster.publish("[[600], {}, null]", queue="other", headers={"task": "sleep", "id": f"long-{n}"})

        def is_sick():
            if other == "in use":
                cluster.publish("[[1, 1], {}, null]", queue="other", headers={"task": "add", "id": "one of many"})
            return requests.get(worker.admin + "/healthz", timeout=5).status_code == 503
        wait_for(is_sick, "it is not alive", 90, every=0.5)
        assert "none is delivered" in requests.get(worker.admin + "/healthz", timeout=5).text
        worker.wait_logged("messages are ready in celery and none is delivered", 60)
    wait_for(lambda: cluster.count("celery") == 0, "all come, once the other consumer is gone", 60)
    wait_for(lambda: requests.get(worker.admin + "/healthz", timeout=5).status_code == 200, "it is alive again", 60)
    if other == "full":
        worker.kill()  # its long jobs are nobody's


def test_a_node_that_stands_by_is_well(make_cluster):
    """Another consumer has a queue to itself, as job.queue_arguments says: this node gets nothing of it, and keeps its connection, which other queues share."""
    cluster = make_cluster(**{"job.queues": "celery,other", "job.queue_arguments": "celery: x-single-active-consumer=true"})
    with cluster.channel() as channel:
        channel.queue_declare("celery", durable=True, arguments={"x-single-active-consumer": True})
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("celery", lambda *_: None)
        worker = cluster.job(concurrency=2)
        cluster.publish("[[1, 2], {}, null]", headers={"task": "add", "id": "held"})
        for many in (1, 2, 3):
            cluster.publish("[[1, 1], {}, null]", headers={"task": "add", "id": f"waits-{many}"})
            wait_for(lambda: worker_value(worker, "feedmill_job_queue_ready", 'queue="celery"') == many, "it has looked once more", 60)
        assert requests.get(worker.admin + "/healthz", timeout=5).status_code == 200
        assert worker_value(worker, "feedmill_job_reconnects_total") == 0
    wait_for(lambda: cluster.count("celery") == 0, "all come, once the other consumer is gone", 60)
    assert worker_value(worker, "feedmill_job_reconnects_total") == 0


def test_rejected_where_there_is_no_dead_letter_queue(make_cluster):
    """The queue's own dead letters get it, as an operator has set them up."""
    cluster = make_cluster(**{"job.dead_letter_queue": ""})
    cluster.api("PUT", f"policies/{cluster.vhost}/dead", {"pattern": "^celery$", "apply-to": "queues",
                                                          "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "own-dead"}})
    with cluster.channel() as channel:
        channel.queue_declare("own-dead", durable=True)
    cluster.job()
    cluster.publish("no json", headers={"task": "add", "id": "1"})
    wait_for(lambda: cluster.count("own-dead") == 1, "it is rejected", 30)


def test_failed_jobs_may_be_rejected(make_cluster):
    cluster = make_cluster()
    cluster.api("PUT", f"policies/{cluster.vhost}/dead", {"pattern": "^celery$", "apply-to": "queues",
                                                          "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "own-dead"}})
    with cluster.channel() as channel:
        channel.queue_declare("own-dead", durable=True)
    cluster.job(acks_on_failure=False)
    with pytest.raises(ValueError, match="boom"):
        cluster.app().send_task("fail", ["boom"]).get(timeout=30)
    wait_for(lambda: cluster.count("own-dead") == 1, "its message is kept", 30)


def test_lost_child_without_another_try(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(reject_on_worker_lost=False)
    with pytest.raises(billiard.exceptions.WorkerLostError):
        cluster.app().send_task("crash").get(timeout=30)
    assert worker.output().count('event="a child was lost"') == 1 and cluster.count("feed.jobs.dead") == 0


def test_results_that_nobody_wants(make_cluster):
    cluster = make_cluster()
    cluster.job(results="none")
    result = cluster.app().send_task("add", [1, 2])
    with pytest.raises(celery.exceptions.TimeoutError):
        result.get(timeout=2)
    assert cluster.count("celery") == 0


def test_retries_wait_longer_each_time(make_cluster):
    """Full jitter: between nothing and the first wait, doubled each time, at most the limit. Delays are whole seconds here."""
    cluster = make_cluster(**{"job.retry_first_ms": 2000, "job.retry_limit_ms": 3000})
    worker = cluster.job(events=True)
    app = cluster.app()
    began = time.monotonic()
    assert [r.get(timeout=60) for r in [app.send_task("flaky", [3]) for _ in range(20)]] == [3] * 20
    assert 3 < time.monotonic() - began < 40  # of 60 waits of up to 2, 3 and 3 s, some task has more than 3 s together
    assert worker.running()
