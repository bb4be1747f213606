"""Where handlers run: limits of time and memory, lost children, retries, the delivery cap."""
import itertools
import os
import pathlib
import resource
import signal
import time

import billiard.exceptions
import celery.exceptions
import pytest
import requests
from celery.exceptions import TimeLimitExceeded  # noqa: F401  (its name is what a client sees)

from conftest import wait_for
from flood import worker_value


def pids(app, node):
    return app.control.inspect(destination=[node], timeout=5).stats()[node]["pool"]["processes"]


def test_soft_limit(app):
    began = time.monotonic()
    with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
        app.send_task("sleep", [60], soft_time_limit=0.5).get(timeout=30)
    assert time.monotonic() - began < 20


def test_hard_limit_ends_the_child_alone(app, worker):
    before = pids(app, worker.node)
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        app.send_task("sleep", [60], time_limit=0.5).get(timeout=30)
    wait_for(lambda: len(set(before) & set(pids(app, worker.node))) == len(before) - 1, "one child is new")
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3


def test_retries_until_it_works(app):
    assert app.send_task("flaky", [3]).get(timeout=60) == 3


def test_retries_have_an_end(app):
    with pytest.raises(celery.exceptions.MaxRetriesExceededError):
        app.send_task("flaky", [4]).get(timeout=60)


def test_lost_child_is_tried_until_the_cap(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(delivery_limit=3)
    app = cluster.app()
    with pytest.raises(billiard.exceptions.WorkerLostError, match="exitcode 77"):
        app.send_task("crash").get(timeout=60)
    assert len(cluster.dead(1)) == 1
    assert worker.output().count('event="a child was lost"') == 3
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3


def test_lost_child_early_acks(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(acks="early")
    with pytest.raises(billiard.exceptions.WorkerLostError):
        cluster.app().send_task("crash").get(timeout=60)
    assert worker.output().count('event="a child was lost"') == 1


def test_killed_child_is_replaced_and_its_job_done(app, worker):
    result = app.send_task("sleep", [1])
    active = wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node], "it runs")
    os.kill(active[0]["worker_pid"], 9)
    assert result.get(timeout=30) == 1


def test_children_are_replaced_after_some_tasks(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(concurrency=1, max_tasks_per_child=3)
    app = cluster.app()
    seen = set()
    for _ in range(9):
        app.send_task("add", [1, 2]).get(timeout=30)
        seen.update(pids(app, worker.node))
    assert len(seen) >= 3


def test_child_that_used_much_memory_is_replaced(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(concurrency=1, max_memory_per_child_kib=40_000)
    app = cluster.app()
    first = wait_for(lambda: pids(app, worker.node), "a child")
    app.send_task("add", [1, 2]).get(timeout=30)
    assert pids(app, worker.node) == first
    app.send_task("echo", ["x" * 12_000_000]).get(timeout=60)
    wait_for(lambda: pids(app, worker.node) not in (first, []), "another child")


def test_children_that_can_not_be_made_for_a_while(make_cluster):
    """/readyz and the log say so, remote control goes on; when they can be made again, what waited is done."""
    cluster = make_cluster()
    worker = cluster.job(concurrency=1)
    app = cluster.app()
    child, = wait_for(lambda: pids(app, worker.node), "a child")
    nursery = int(pathlib.Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])
    used = {int(name) for name in os.listdir(f"/proc/{nursery}/fd")}
    enough = resource.prlimit(nursery, resource.RLIMIT_NOFILE)
    one_more = next(n for n in itertools.count() if n not in used) + 1      # and a child needs two
    resource.prlimit(nursery, resource.RLIMIT_NOFILE, (one_more, enough[1]))
    os.kill(child, signal.SIGKILL)
    worker.wait_logged("level=warn.*a child process can't be made.*Too many open files", 60)
    result = app.send_task("add", [1, 2])

    def ready():
        return requests.get(worker.admin + "/readyz", timeout=10)
    wait_for(lambda: ready().status_code == 503 and "no child process can be made" in ready().text, "it is not ready", 60)
    assert requests.get(worker.admin + "/healthz", timeout=10).status_code == 200
    waits = app.control.inspect(destination=[worker.node], timeout=30)
    wait_for(lambda: [task["id"] for task in waits.reserved()[worker.node]] == [result.id], "the job waits", 60)
    resource.prlimit(nursery, resource.RLIMIT_NOFILE, enough)
    assert result.get(timeout=60) == 3
    wait_for(lambda: ready().status_code == 200, "it is ready", 60)
    assert pids(app, worker.node) not in ([], [child])


def test_threads_and_children_together(make_cluster):
    """With threads, what is not safe there runs in children all the same."""
    cluster = make_cluster()
    worker = cluster.job(pool="threads", delivery_limit=1)
    app = cluster.app()
    assert [r.get(timeout=60) for r in [app.send_task("add", [i, 1]) for i in range(200)]] == [i + 1 for i in range(200)]
    with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded):
        app.send_task("sleep", [60], soft_time_limit=0.5).get(timeout=30)
    with pytest.raises(billiard.exceptions.WorkerLostError):
        app.send_task("crash").get(timeout=60)
    assert worker.running()


@pytest.mark.parametrize("before", ["at the start", "after quick jobs"])
def test_what_no_thread_has_begun_waits(make_cluster, before):
    """Quick jobs are handed to threads ahead of time. What then does not go quickly is reserved, can be revoked, and goes back when the worker
    stops, as if it had not been delivered."""
    cluster = make_cluster()
    worker = cluster.job(pool="threads", concurrency=1, prefetch_multiplier=8)
    app = cluster.app()
    if before == "after quick jobs":
        assert [r.get(timeout=60) for r in [app.send_task("add", [n, 1]) for n in range(300)]] == [n + 1 for n in range(300)]
    results = [app.send_task("sleep", [600]) for _ in range(5)]
    inspect = app.control.inspect(destination=[worker.node], timeout=5)

    def ids(word):
        return [task["id"] for task in (getattr(inspect, word)() or {}).get(worker.node, [])]
    wait_for(lambda: ids("active") == [results[0].id] and sorted(ids("reserved")) == sorted(r.id for r in results[1:]), "one runs, four wait", 60)
    results[1].revoke()
    with pytest.raises(celery.exceptions.TaskRevokedError):
        results[1].get(timeout=60)
    worker.ask_to_stop()
    wait_for(lambda: cluster.count("celery") == 3, "three are back", 60)
    worker.kill()
    with cluster.channel() as channel:
        def all_of_them():
            while (got := channel.basic_get("celery"))[0]:
                back[got[1].correlation_id] = got[0].redelivered, got[1].headers.get("x-feed-deliveries", 0)
            return len(back) == 4
        back = {}
        wait_for(all_of_them, "and so is what ran", 60)
    assert back == {results[0].id: (True, 0), **{r.id: (False, 0) for r in results[2:]}}


def test_settings_limits(make_cluster):
    cluster = make_cluster()
    cluster.job(hard_time_limit_ms=500)
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        cluster.app().send_task("sleep", [60]).get(timeout=30)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_takes_too_long_may_be_tried_until_the_cap(make_cluster, queue_type):
    """acks_on_timeout of Celery, turned off. Nobody hears of a failure before the last try, and there is a last one."""
    cluster = make_cluster(**{"job.queue_type": queue_type})
    worker = cluster.job(acks_on_timeout=False, delivery_limit=3)
    app, told = cluster.app(task_default_queue_type=queue_type), []
    result = app.send_task("sleep", [600], time_limit=0.5, link_error=app.signature("echo", ("told",), immutable=True).set(task_id="errback-" + queue_type))
    with pytest.raises(billiard.exceptions.TimeLimitExceeded, match="0.5"):
        result.get(timeout=60, on_message=told.append)
    assert [meta["status"] for meta in told if meta["task_id"] == result.id] == ["FAILURE"]
    properties, _ = cluster.dead(1)[0]
    assert properties.correlation_id == result.id and "hard time limit" in properties.headers["x-feed-reason"]
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 1, "its errback runs, once")
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="failed"') == 3
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    wait_for(lambda: cluster.count("celery") == 0, "nothing is left")
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 2


def test_what_took_too_long_once_has_its_result(make_cluster, tmp_path):
    """The second try ends: what the first one came to is told to nobody, by no back end, and nothing of it follows."""
    script = tmp_path / "once.sh"
    script.write_text(f"#!/bin/sh\nmkdir {tmp_path}/tried 2>/dev/null && sleep 600\necho 5\n")
    script.chmod(0o755)
    cluster = make_cluster(**{"job.exec": f"once={script}"})
    url = cluster.make_database()
    worker = cluster.job(acks_on_timeout=False, results="both")
    app, told = cluster.app(), []
    result = (app.signature("once").set(time_limit=2) | app.signature("add", (10,))).apply_async()
    assert result.parent.get(timeout=60, on_message=told.append) == 5
    assert [meta["status"] for meta in told if meta["task_id"] == result.parent.id] == ["SUCCESS"]
    assert result.get(timeout=60) == 15
    assert cluster.app(url).AsyncResult(result.parent.id).get(timeout=60) == 5
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="failed"') >= 1
    assert worker.stop() == 0 and cluster.count("celery") == cluster.count("feed.jobs.dead") == 0


@pytest.mark.parametrize("acks", ["late", "early"])
@pytest.mark.parametrize("on_timeout", ["nothing said", True])
def test_timeouts_and_failures_are_told_apart(make_cluster, acks, on_timeout):
    """What took too long is rejected as what failed, unless a setting says that it is acknowledged. Early, each was acknowledged before."""
    cluster = make_cluster()
    cluster.api("PUT", f"policies/{cluster.vhost}/dead", {"pattern": "^celery$", "apply-to": "queues",
                                                          "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "own-dead"}})
    with cluster.channel() as channel:
        channel.queue_declare("own-dead", durable=True)
        worker = cluster.job(acks=acks, acks_on_failure=False, concurrency=1, **({"acks_on_timeout": True} if on_timeout is True else {}))
        app = cluster.app()
        assert app.control.inspect(destination=[worker.node], timeout=10).conf()[worker.node]["task_acks_on_timeout"] == (on_timeout is True)
        overdue = app.send_task("sleep", [600], time_limit=0.5)
        with pytest.raises(billiard.exceptions.TimeLimitExceeded):
            overdue.get(timeout=60)
        failed = app.send_task("fail", ["boom"])
        with pytest.raises(ValueError, match="boom"):
            failed.get(timeout=60)
        assert worker_value(worker, "feedmill_job_runs_total", 'outcome="failed"') == 2, "each ran once"
        assert worker.stop() == 0 and cluster.count("feed.jobs.dead") == 0
        dead = []
        rejected = [] if acks == "early" else [failed.id] if on_timeout is True else [overdue.id, failed.id]
        wait_for(lambda: cluster.count("own-dead") >= len(rejected), "they are rejected", 30)
        while (got := channel.basic_get("own-dead", auto_ack=True))[0]:
            dead.append(got[1].correlation_id)
    assert dead == rejected and cluster.count("celery") == 0


def test_a_hard_limit_holds_with_threads_too(make_cluster):
    """A thread can't be ended, so the job is in a child: by its message, by remote control, and by the settings, which is warned of."""
    cluster = make_cluster()
    worker = cluster.job(pool="threads", concurrency=1)
    app = cluster.app()
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        app.send_task("sleep", [60], time_limit=0.5).get(timeout=30)
    assert not worker.logged("threads can't be ended")
    app.control.time_limit("sleep", hard=0.5, destination=[worker.node], reply=True, timeout=10)
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        app.send_task("sleep", [60]).get(timeout=30)
    worker.stop()
    worker = cluster.job(pool="threads", concurrency=1, hard_time_limit_ms=500)
    assert worker.logged("threads can't be ended")
    with pytest.raises(billiard.exceptions.TimeLimitExceeded):
        app.send_task("sleep", [60]).get(timeout=30)


def test_a_soft_limit_holds_with_threads_too(make_cluster):
    """By remote control, until it is taken back; a message's own wins, and the settings' is what is left."""
    cluster = make_cluster()
    worker = cluster.job(pool="threads", concurrency=1, soft_time_limit_ms=3_600_000)
    app = cluster.app()
    app.control.time_limit("sleep", soft=0.5, destination=[worker.node], reply=True, timeout=10)
    with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded, match="0.5"):
        app.send_task("sleep", [60]).get(timeout=30)
    with pytest.raises(billiard.exceptions.SoftTimeLimitExceeded, match="0.25"):
        app.send_task("sleep", [60], soft_time_limit=0.25).get(timeout=30)
    assert app.send_task("sleep", [1], soft_time_limit=3600).get(timeout=30) == 1
