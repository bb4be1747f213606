"""What must hold when connections, queues, children and workers are lost: no late-ack job is lost, and none runs more often than the cap."""
import datetime
import json
import os
import signal
import socket
import time

import billiard.exceptions
import kombu.exceptions
import pika
import pytest
import requests

import flood
from conftest import wait_for
from flood import through_proxy, worker_value
from proxy import UP

JOBS = int(os.environ.get("FEED_TEST_JOBS", 50_000))
RECONNECTS = int(os.environ.get("FEED_TEST_RECONNECTS", 10))


def cut(cluster, purpose="job consumer"):
    """Ends the worker's connections for that purpose, as an operator would; how many there were."""
    names = cluster.connections(purpose)
    for name in names:
        cluster.api("DELETE", "connections/" + requests.utils.quote(name, safe=""))
    return len(names)


def test_fifty_thousand_jobs_and_ten_lost_connections(make_cluster):
    """All are done, none more often than the cap allows; memory stays where it was."""
    cluster = make_cluster()
    flood.check(flood.Flood(cluster, JOBS, RECONNECTS).run())


def test_ten_thousand_jobs_in_children(make_cluster):
    """The same in the default pool: what the worker has, the process that makes its children, and these, all together."""
    cluster = make_cluster()
    flood.check(flood.Flood(cluster, JOBS // 5, RECONNECTS // 3, is_whole=True).run(pool="children"), most_mib=64)


@pytest.mark.parametrize("is_back", ["before it ends", "after it ended"])
def test_job_that_runs_while_the_connection_is_lost(make_cluster, is_back):
    """It is not run again, and its delivery of the new connection is acknowledged."""
    cluster = make_cluster()
    proxy, url = through_proxy(cluster)
    try:
        worker = cluster.job(**{"amqp.url": url})
        result = cluster.app().send_task("sleep", [10 if is_back == "before it ends" else 1])
        wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") == 1, "it was delivered")
        proxy.cut()
        if is_back == "after it ended":
            wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 1, "it is done")
        proxy.restore()
        assert result.get(timeout=60) in (1, 10)
        wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") == 2, "it was delivered again")
        worker.stop()
        assert cluster.count("celery") == 0
        assert worker.logged("event=stop .*processed=1")
    finally:
        proxy.close()


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_kill_9_of_the_worker_loses_nothing(make_cluster, queue_type):
    cluster = make_cluster(**{"job.queue_type": queue_type})
    app = cluster.app(task_default_queue_type=queue_type)
    worker = cluster.job(delivery_limit=20)
    results = [app.send_task("sleep", [0.3]) for _ in range(20)]
    for _ in range(3):
        runs = worker_value(worker, "feedmill_job_deliveries_total")
        assert runs >= 0
        wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') >= 2, "some are done")
        worker.kill()
        worker = cluster.job(delivery_limit=20)
    assert [r.get(timeout=60) for r in results] == [0.3] * 20
    assert cluster.count("feed.jobs.dead") == 0


def test_job_that_takes_its_worker_along_ends_at_the_cap(make_cluster):
    """A worker that is killed each time its job runs: after the cap the job is dead, and others go on."""
    cluster = make_cluster()
    app = cluster.app()
    result = app.send_task("sleep", [30])
    for _ in range(3):
        worker = cluster.job(delivery_limit=3)
        inspect = app.control.inspect(destination=[worker.node], timeout=5)
        if not wait_for(lambda: (a := inspect.active()) and (a[worker.node] or cluster.count("feed.jobs.dead")), "it runs"):
            break
        worker.kill()
    cluster.job(delivery_limit=3)
    with pytest.raises(billiard.exceptions.WorkerLostError):
        result.get(timeout=60)
    assert len(cluster.dead(1)) == 1
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3


def test_cap_of_a_quorum_queue_adds_up_both_counts(make_cluster):
    """Its child is lost once, its worker twice: the first is counted by us, the others by the broker, and three is the end."""
    cluster = make_cluster(**{"job.queue_type": "quorum"})
    app = cluster.app(task_default_queue_type="quorum")
    result = app.send_task("sleep", [600])

    def running():
        worker = cluster.job(delivery_limit=3)
        inspect = app.control.inspect(destination=[worker.node], timeout=5)
        return worker, lambda: ((inspect.active() or {}).get(worker.node) or [{}])[0].get("worker_pid")
    worker, child = running()
    first = wait_for(child, "it runs", 60)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child() not in (None, first), "it runs again", 60)
    worker.kill()
    worker, child = running()
    wait_for(child, "it runs once more", 60)
    worker.kill()
    cluster.job(delivery_limit=3)
    with pytest.raises(billiard.exceptions.WorkerLostError, match="too often"):
        result.get(timeout=60)
    assert len(cluster.dead(1)) == 1


def test_early_acks_lose_what_ran(make_cluster):
    """That is what they mean: acknowledged before it runs, gone with its worker."""
    cluster = make_cluster()
    app = cluster.app()
    worker = cluster.job(acks="early")
    app.send_task("sleep", [30])
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/celery").get("messages", 1) == 0, "it was taken and acknowledged", 30)
    worker.kill()
    cluster.job(acks="early")
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    assert cluster.count("celery") == 0


def test_deleted_queue_is_made_again(make_cluster):
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    cluster.api("DELETE", f"queues/{cluster.vhost}/celery")
    worker.wait_logged("its queue was deleted")
    wait_for(lambda: worker.logged("consuming again"), "the consumer is back", 60)
    assert cluster.app().send_task("add", [1, 2]).get(timeout=30) == 3


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_queue_is_deleted_under_its_jobs(make_cluster, queue_type):
    """One runs and one waits: both are done, their acknowledgements go nowhere and harm nobody; and the queue is there again, for later ones too."""
    cluster = make_cluster(**{"job.queue_type": queue_type})
    gate, script = cluster.folder / "gate", cluster.folder / "gated.sh"
    script.write_text(f"#!/bin/sh\ncat >/dev/null\nwhile [ ! -e {gate} ]; do sleep 0.02; done\necho 42\n")
    script.chmod(0o755)
    worker = cluster.job(concurrency=1, exec=f"gated={script}")
    app = cluster.app(task_default_queue_type=queue_type)
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    running, waiting = app.send_task("gated"), app.send_task("add", [1, 2])
    wait_for(lambda: [task["id"] for task in (inspect.reserved() or {}).get(worker.node, [])] == [waiting.id], "one runs, one waits", 60)
    cluster.api("DELETE", f"queues/{cluster.vhost}/celery")
    worker.wait_logged("its queue was deleted", 60)
    worker.wait_logged("consuming again", 60)
    gate.touch()
    assert running.get(timeout=60) == 42 and waiting.get(timeout=60) == 3
    assert [app.send_task("add", [n, 1], countdown=n % 2).get(timeout=60) for n in range(4)] == [1, 2, 3, 4]
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 6
    assert not worker.logged("connection.* lost") and worker.output().count("consuming again") == 1
    assert worker.stop() == 0 and cluster.count("celery") == 0


def test_lost_control_and_publishing(make_cluster):
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    for purpose in ("job control", "job publisher"):
        wait_for(lambda: cut(cluster, purpose), f"the connection of {purpose}", 30, every=0.1)
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=2).ping(), "it answers", 60)


def test_broker_that_is_away_and_silent(make_cluster):
    """Connections are cut, refused, held and given back: the worker lives, says that it is not ready, and goes on by itself."""
    cluster = make_cluster()
    proxy, url = through_proxy(cluster)
    try:
        worker = cluster.job(**{"amqp.url": url, "amqp.heartbeat_s": 5})
        app = cluster.app()
        assert app.send_task("add", [1, 2]).get(timeout=30) == 3
        proxy.cut()
        wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 503, "it is not ready", 60)
        assert requests.get(worker.admin + "/healthz", timeout=5).status_code == 200
        result = app.send_task("add", [2, 2])
        proxy.restore()
        assert result.get(timeout=60) == 4
        proxy.hold()
        result = app.send_task("add", [3, 3])
        wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 503, "silence is noticed", 60)
        proxy.cut()
        proxy.restore()
        assert result.get(timeout=60) == 6
    finally:
        proxy.close()


@pytest.mark.timeout(300)
def test_broker_that_stops_reading(make_cluster):
    """What is published fills the sockets and gets no further, with no word from the other side: the worker gives that connection up, says so,
    goes on when it can, and stops in time when it can't."""
    cluster = make_cluster(**{"amqp.heartbeat_s": 600, "amqp.answer_timeout_ms": 2000, "amqp.connect_timeout_ms": 2000, "worker.drain_timeout_ms": 2000})
    proxy, url = through_proxy(cluster)
    proxy.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # more would take what is published
    large = "x" * 4_000_000
    try:
        worker, app = cluster.job(**{"amqp.url": url}), cluster.app()

        def is_stuck(done):
            """Results that are on their way."""
            proxy.hold(UP)
            results = [app.send_task("echo", [large]) for _ in range(4)]
            wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') >= done, "all have run", 60)
            return results

        def checks(which):
            answer = requests.get(f"{worker.admin}/{which}", timeout=10)
            return answer.status_code, answer.json()["checks"]
        results = is_stuck(4)
        wait_for(lambda: checks("readyz")[1]["publisher"] == "no connection to RabbitMQ", "it says why it is not ready", 60)
        assert checks("readyz")[0] == 503 and checks("healthz")[0] == 200
        proxy.restore()
        assert [r.get(timeout=60) for r in results] == [large] * 4
        wait_for(lambda: checks("readyz")[0] == 200, "it is ready again", 60)
        results = is_stuck(8)
        assert worker.stop(60) == 0
        proxy.restore()
        cluster.job()
        assert [r.get(timeout=60) for r in results] == [large] * 4
    finally:
        proxy.close()


# ---- shutdown

def on(app, worker):
    """What remote control says of the job that runs there."""
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    return wait_for(lambda: (inspect.active() or {}).get(worker.node), "it runs", 60)[0]


def runs_again(cluster, app, result):
    """It is in its queue, and a next worker has it."""
    wait_for(lambda: cluster.count("celery") == 1, "the job is back", 60)
    worker = cluster.job()
    assert on(app, worker)["id"] == result.id
    worker.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_warm_shutdown_finishes_and_returns_the_rest(make_cluster, number):
    cluster = make_cluster()
    worker = cluster.job(concurrency=2)
    app = cluster.app()
    results = [app.send_task("sleep", [2]) for _ in range(6)]
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    wait_for(lambda: len(inspect.active()[worker.node]) == 2, "two run")
    worker.signal(number)
    assert worker.popen.wait(60) == 0
    assert [r.get(timeout=10) for r in results[:2]] == [2, 2]
    assert cluster.count("celery") == 4
    cluster.job(concurrency=4)
    assert [r.get(timeout=30) for r in results] == [2] * 6


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_jobs_that_were_never_started_use_nothing_of_the_cap(make_cluster, queue_type):
    """One worker after another takes it ahead, is busy, and stops."""
    cluster = make_cluster(**{"job.queue_type": queue_type})
    app = cluster.app(task_default_queue_type=queue_type)
    cluster.job(queues="celery,busy").stop()  # all is declared
    result = app.send_task("add", [1, 2])
    for _ in range(4):
        worker = cluster.job(queues="busy", concurrency=1, delivery_limit=2)
        inspect = app.control.inspect(destination=[worker.node], timeout=10)
        cluster.publish("[[600], {}, null]", queue="busy", headers={"task": "sleep", "id": "busy"})
        wait_for(lambda: (inspect.active() or {}).get(worker.node), "it is busy", 60)
        app.control.add_consumer("celery", destination=[worker.node], reply=True, timeout=10)
        wait_for(lambda: (inspect.reserved() or {}).get(worker.node), "the job is taken ahead", 60)
        worker.ask_to_stop()
        worker.wait_logged("event=draining")
        wait_for(lambda: cluster.count("celery") == 1, "it is back", 60)
        wait_for(lambda: not worker.running() or app.control.terminate("busy", signal="KILL") or not worker.running(), "it ends", 60)
        assert worker.stop() == 0
        assert cluster.count("celery") == 1
    cluster.job(delivery_limit=2)
    assert result.get(timeout=60) == 3


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_waits_behind_a_job_that_takes_its_worker_along(make_cluster, queue_type):
    """It is given up alone: what was taken ahead of it, killed with it as often, runs."""
    cluster = make_cluster(**{"job.queue_type": queue_type})
    app = cluster.app(task_default_queue_type=queue_type)
    cluster.job().stop()  # its queue is there
    deadly = app.send_task("sleep", [600])
    behind = [app.send_task("add", [n, 1]) for n in range(10)]
    for times in range(5):
        worker = cluster.job(concurrency=1, delivery_limit=5)
        inspect = app.control.inspect(destination=[worker.node], timeout=5)

        def ids(word):
            return [task["id"] for task in (getattr(inspect, word)() or {}).get(worker.node, [])]
        wait_for(lambda: ids("active") == [deadly.id] and (times < 2 or ids("reserved") == []), "it runs, and in the end alone", 60)
        worker.kill()
    cluster.job(concurrency=1, delivery_limit=5)
    with pytest.raises(billiard.exceptions.WorkerLostError, match="too often"):
        deadly.get(timeout=60)
    assert [r.get(timeout=60) for r in behind] == [n + 1 for n in range(10)]
    assert [properties.correlation_id for properties, _ in cluster.dead(1)] == [deadly.id] and cluster.count("feed.jobs.dead") == 0


def test_nothing_is_taken_ahead_beside_a_job_that_came_often(make_cluster):
    """What was goes back to its queue as if it had not been delivered; once that job has ended all is as before."""
    cluster = make_cluster()
    worker = cluster.job(concurrency=1, prefetch_multiplier=4)
    app = cluster.app()
    inspect = app.control.inspect(destination=[worker.node], timeout=5)

    def ids(word):
        return sorted(task["id"] for task in (getattr(inspect, word)() or {}).get(worker.node, []))
    busy = app.send_task("sleep", [600])
    wait_for(lambda: ids("active") == [busy.id], "it runs", 60)
    often = app.send_task("sleep", [600], headers={"x-feed-deliveries": 2})
    others = [app.send_task("add", [n, 1]) for n in range(10)]
    wait_for(lambda: len(ids("reserved")) == 3 and cluster.count("celery") == 8, "it waits, and others behind it", 60)
    app.control.terminate(busy.id, signal="KILL")
    wait_for(lambda: ids("active") == [often.id] and ids("reserved") == [] and cluster.count("celery") == 10, "it runs, and nothing else is here", 60)
    wait_for(lambda: worker_value(worker, "feedmill_job_queue_ready", 'queue="celery"') == 10, "its gauge has them although no consumer is there", 60)
    app.control.terminate(often.id, signal="KILL")
    assert [r.get(timeout=60) for r in others] == [n + 1 for n in range(10)]
    for _ in range(6):
        app.send_task("sleep", [600])
    wait_for(lambda: len(ids("reserved")) >= 3, "it takes ahead again", 60)
    worker.kill()


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_waits_while_connections_are_lost_uses_nothing_of_the_cap(make_cluster, queue_type):
    """A quorum queue counts each of them. What ran meanwhile has begun once, and what had not begun, never."""
    cluster = make_cluster(**{"job.queue_type": queue_type})
    proxy, url = through_proxy(cluster)
    try:
        worker = cluster.job(concurrency=1, delivery_limit=2, **{"amqp.url": url})
        app = cluster.app(task_default_queue_type=queue_type)
        inspect = app.control.inspect(destination=[worker.node], timeout=5)

        def ids(word):
            return [task["id"] for task in (getattr(inspect, word)() or {}).get(worker.node, [])]
        busy = app.send_task("sleep", [600])
        wait_for(lambda: ids("active") == [busy.id], "the only slot is taken", 60)
        waits = app.send_task("add", [1, 2])
        for times in range(1, 5):
            wait_for(lambda: ids("reserved") == [waits.id] or waits.ready(), "it waits here", 60)
            before = worker_value(worker, "feedmill_job_deliveries_total")
            proxy.drop()
            wait_for(lambda: worker_value(worker, "feedmill_job_reconnects_total") >= times and flood.is_ready(worker), "it is connected again", 60)
            wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") >= before + 2, "both came again", 60)
        wait_for(lambda: ids("reserved") == [waits.id] or waits.ready(), "it still waits", 60)
        app.control.terminate(busy.id, signal="KILL")
        assert waits.get(timeout=60) == 3
        assert worker.stop() == 0 and cluster.count("celery") == cluster.count("feed.jobs.dead") == 0
    finally:
        proxy.close()


def test_a_queue_that_nobody_can_ask_has_no_gauge(make_cluster):
    """Not before the first look, nor while the connection is away, nor when it is not consumed any more: the last value would be taken for the one of now."""
    cluster = make_cluster()
    proxy, url = through_proxy(cluster)

    def gauge():
        return [line.rsplit(" ", 1)[1] for line in requests.get(worker.admin + "/metrics", timeout=10).text.splitlines() if line.startswith("feedmill_job_queue_ready{")]
    try:
        worker = cluster.job(concurrency=1, prefetch_multiplier=1, **{"amqp.url": url})
        app = cluster.app()
        for _ in range(3):
            app.send_task("sleep", [600])
        wait_for(lambda: gauge() == ["2"], "one runs, two wait", 60)
        proxy.cut()
        wait_for(lambda: gauge() == [], "it is left out", 60)
        proxy.restore()
        wait_for(lambda: gauge() == ["2"], "it is there again", 60)
        app.control.cancel_consumer("celery", destination=[worker.node], reply=True, timeout=10)
        wait_for(lambda: gauge() == [], "it is left out again", 60)
        worker.kill()
    finally:
        proxy.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_that_mean_nothing_here_end_it_as_kill_does(make_cluster, number):
    """As docs/jobs.md says; its job comes again. Whoever runs the tests may have them ignore HUP (nohup), and programs inherit that."""
    cluster = make_cluster()
    worker = cluster.job(under=("env", "--default-signal=HUP,USR1"))
    app = cluster.app()
    result = app.send_task("sleep", [2])
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node], "it runs")
    worker.signal(number)
    assert worker.popen.wait(60) == -number
    cluster.job()
    assert result.get(timeout=60) == 2


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGQUIT],
                                     ["shutdown", signal.SIGQUIT]], ids=str)
def test_cold_shutdown_gives_running_jobs_back(make_cluster, signals):
    cluster = make_cluster(**{"worker.drain_timeout_ms": 300_000})
    worker = cluster.job()
    app = cluster.app()
    result = app.send_task("sleep", [600])
    child = on(app, worker)["worker_pid"]
    for number in signals:
        if number == "shutdown":
            app.control.shutdown(destination=[worker.node])
        else:
            worker.signal(number)
        wait_for(lambda: worker.logged("event=draining"), "it has heard")
    worker.popen.wait(60)
    cluster.processes.remove(worker)  # a second signal is 130 on purpose
    wait_for(lambda: not os.path.exists(f"/proc/{child}"), "its children are gone too")
    runs_again(cluster, app, result)


def test_where_a_term_is_a_quit(make_cluster):
    """As Celery takes it from the environment: for those who can send nothing else."""
    cluster = make_cluster(**{"worker.drain_timeout_ms": 300_000})
    worker = cluster.job(env={"REMAP_SIGTERM": "SIGQUIT"})
    app = cluster.app()
    result = app.send_task("sleep", [600])
    child = on(app, worker)["worker_pid"]
    assert worker.stop() == 0
    wait_for(lambda: not os.path.exists(f"/proc/{child}"), "its children are gone too")
    runs_again(cluster, app, result)


@pytest.mark.parametrize("number, drain_ms", [(signal.SIGQUIT, 300_000), (signal.SIGTERM, 2000)], ids=["cold", "past its drain time"])
def test_a_thread_that_does_not_end_does_not_keep_the_process(make_cluster, number, drain_ms):
    """It can't be killed: it ends with the process, and its job is back."""
    cluster = make_cluster(**{"worker.drain_timeout_ms": drain_ms})
    worker = cluster.job(pool="threads")
    app = cluster.app()
    result = app.send_task("sleep", [600])
    assert on(app, worker)["worker_pid"] == worker.pid, "it runs in a thread"
    worker.signal(number)
    assert worker.popen.wait(60) == 1 and worker.logged("leaving without waiting for jobs")
    cluster.processes.remove(worker)  # 1 says that not all has ended
    runs_again(cluster, app, result)


def test_soft_shutdown_waits_for_its_time(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(soft_shutdown_ms=20000)
    app = cluster.app()
    result = app.send_task("sleep", [2])
    inspect = app.control.inspect(destination=[worker.node], timeout=5)
    wait_for(lambda: inspect.active()[worker.node], "it runs")
    worker.signal(signal.SIGQUIT)
    assert worker.popen.wait(30) == 0
    assert result.get(timeout=5) == 2


@pytest.mark.parametrize("wait_ms", [3000, 300_000], ids=["its time passes", "a second QUIT"])
def test_soft_shutdown_has_an_end(make_cluster, wait_ms):
    """What still runs then is killed, and its job is back."""
    cluster = make_cluster(**{"worker.drain_timeout_ms": 600_000})
    worker = cluster.job(soft_shutdown_ms=wait_ms)
    app = cluster.app()
    result = app.send_task("sleep", [600])
    child, began = on(app, worker)["worker_pid"], time.monotonic()
    worker.signal(signal.SIGQUIT)
    worker.wait_logged("event=draining")
    if wait_ms > 3000:
        assert on(app, worker)["id"] == result.id, "it waits"
        worker.signal(signal.SIGQUIT)
    assert worker.popen.wait(60) == 0
    assert time.monotonic() - began > 2.9 or wait_ms > 3000
    wait_for(lambda: not os.path.exists(f"/proc/{child}"), "its children are gone too")
    runs_again(cluster, app, result)


# ---- messages that RabbitMQ does not take

def test_the_exchange_of_the_delay_is_made_again(make_cluster):
    """It was deleted while the worker ran: what is for later waits until it is there again, and others go on."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    cluster.api("DELETE", f"exchanges/{cluster.vhost}/celery_delayed_27")
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)).isoformat()
    results = [app.send_task("add", [n, 1], eta=later) for n in range(5)]
    assert app.send_task("add", [2, 2]).get(timeout=60) == 4
    assert [r.get(timeout=90) for r in results] == [1, 2, 3, 4, 5]
    assert worker.logged("declared again")


def test_the_exchange_of_events_is_made_again(make_cluster):
    """Deleted while jobs run and each says so: every result comes, and so do the events of later jobs."""
    cluster = make_cluster()
    worker = cluster.job(events=True)
    app = cluster.app()
    results = [app.send_task("sleep", [0.01]) for _ in range(200)]
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') >= 20, "they run", 60)
    cluster.api("DELETE", f"exchanges/{cluster.vhost}/celeryev")
    assert [r.get(timeout=60) for r in results] == [0.01] * 200
    worker.wait_logged("declared again", 60)

    def is_there():
        return "celeryev" in {exchange["name"] for exchange in cluster.api("GET", f"exchanges/{cluster.vhost}")}
    wait_for(is_there, "it is there", 60, every=0.2)
    with cluster.channel() as channel:
        queue, seen = channel.queue_declare("", exclusive=True).method.queue, []
        channel.queue_bind(queue, "celeryev", "task.succeeded")

        def heard():
            assert app.send_task("add", [1, 2]).get(timeout=60) == 3
            while (got := channel.basic_get(queue, auto_ack=True))[0]:
                seen.append(got[2])
            return seen
        wait_for(heard, "later events", 60, every=0.2)
    assert worker.stop() == 0 and cluster.count("celery") == 0


def test_the_exchange_of_mailboxes_is_made_again(make_cluster):
    """Deleted, and with it the binding of the mailbox: nobody is told. Each node looks after both."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    inspect = app.control.inspect(destination=[worker.node], timeout=2)
    wait_for(inspect.ping, "it answers", 60)
    cluster.api("DELETE", f"exchanges/{cluster.vhost}/celery.pidbox")
    wait_for(lambda: [b for b in cluster.api("GET", f"bindings/{cluster.vhost}") if b["source"] == "celery.pidbox"], "the mailbox is bound again", 60)
    wait_for(inspect.ping, "it answers again", 60)
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert not worker.logged("connection.* lost") and worker.stop() == 0


def test_headers_as_large_as_a_frame(make_cluster):
    """A job for later whose headers grow over a frame is dead, and so is one that can't be read; their dead letters say who they were."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    large = {"task": "add", "more": "x" * 130_700}
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)).isoformat()
    cluster.publish(json.dumps([[1, 2], {}, None]), headers={**large, "id": "grows", "eta": later})
    cluster.publish("{", headers={**large, "id": "unreadable"})
    dead = cluster.dead(2, 30)
    assert sorted(properties.headers["id"] for properties, _ in dead) == ["grows", "unreadable"]
    assert all("more" not in properties.headers and properties.headers["task"] == "add" for properties, _ in dead)
    assert app.send_task("add", [2, 2]).get(timeout=60) == 4
    assert not worker.logged("connection lost")
    assert worker.stop() == 0 and cluster.count("celery") == 0


def test_a_retry_that_can_not_be_sent_is_a_failure(make_cluster):
    """Its headers grew over a frame. It is said, the chain behind it fails as well, its delivery is the queue's own dead letters', and others go on."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    with cluster.channel() as channel:
        for queue in ("answers", "rejected"):
            channel.queue_declare(queue, durable=True)
    cluster.api("PUT", f"policies/{cluster.vhost}/dead", {
        "pattern": "^celery$", "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "rejected"}, "apply-to": "queues"})
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/celery").get("policy") == "dead", "the policy holds", 60)
    step = app.signature("echo").set(task_id="behind", reply_to="answers")
    cluster.publish(json.dumps([[1], {}, {"chain": [step]}]), headers={"task": "flaky", "id": "grows", "more": "x" * 130_800},
                    correlation_id="grows", reply_to="answers")
    told = []

    def failed():
        with cluster.channel() as channel:
            while (got := channel.basic_get("answers", auto_ack=True))[0]:
                told.append((got[1].correlation_id, json.loads(got[2])))
        return {ident for ident, meta in told if meta["status"] == "FAILURE"} == {"grows", "behind"}
    wait_for(failed, "both are failures", 60)
    assert [meta["status"] for ident, meta in told if ident == "grows"] == ["RETRY", "FAILURE"]
    wait_for(lambda: cluster.count("rejected") == 1, "the delivery is there", 60)
    assert app.send_task("flaky", [1]).get(timeout=60) == 1
    assert not worker.logged("connection lost")
    assert worker.stop() == 0 and cluster.count("celery") == cluster.count("feed.jobs.dead") == 0


def test_remote_control_that_wants_its_answer_elsewhere(make_cluster):
    """An exchange that is not there takes no connection along, and the next is answered."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).ping(), "it answers", 60)
    request = {"method": "ping", "arguments": {}, "destination": None, "reply_to": {"exchange": "nowhere", "routing_key": "k"}, "ticket": "t"}
    with cluster.channel() as channel:
        channel.basic_publish("celery.pidbox", "", json.dumps(request).encode(), pika.BasicProperties(content_type="application/json"))
    worker.wait_logged("exchange that is not for answers", 60)
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).ping(), "it answers", 60)
    assert app.send_task("add", [2, 2]).get(timeout=60) == 4
    assert not worker.logged("connection lost") and not worker.logged("connection for remote control lost")


def test_a_full_queue_is_asked_again_and_again_but_not_at_once(make_cluster):
    """It rejects what is published: the message waits, goes seldom, and is there when there is room."""
    cluster = make_cluster()
    worker = cluster.job(**{"log.level": "debug"})
    app = cluster.app()
    with cluster.channel() as channel:
        channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    cluster.publish("{}", queue="full")
    wait_for(lambda: cluster.count("full") == 1, "it is full", 60)
    result = app.send_task("add", [1, 2], link=app.signature("add", (5,), queue="full"))
    began = time.monotonic()
    worker.wait_logged("can't keep a message", 60)
    assert [app.send_task("add", [n, 2]).get(timeout=60) for n in range(20)] == [n + 2 for n in range(20)]
    wait_for(lambda: worker.output().count("can't keep a message") >= 4, "it is tried again", 60)
    assert worker.output().count("can't keep a message") <= 10 * (time.monotonic() - began) + 1
    cluster.api("DELETE", f"queues/{cluster.vhost}/full/contents")
    assert result.get(timeout=60) == 3
    wait_for(lambda: cluster.count("full") == 1, "it is there", 60)


def test_what_is_sent_again_is_known_by_its_id(make_cluster):
    """A queue takes nothing, and then it does: each try of a message has the same message id, and no other message has it, of no worker."""
    cluster = make_cluster()
    with cluster.channel() as channel:
        channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    cluster.publish("{}", queue="full")
    wait_for(lambda: cluster.count("full") == 1, "it is full", 60)
    with cluster.traced() as published:
        for _ in range(2):
            cluster.job(concurrency=1, prefetch_multiplier=2)  # both have work: what was not confirmed is not acknowledged
        app = cluster.app()
        linked = [app.signature("add", (5,), queue="full", task_id=f"linked-{n}") for n in range(4)]
        for signature in linked:
            app.send_task("add", [1, 2], link=signature)

        def sent():
            return [(message.headers["id"], message.properties["message_id"]) for message in published() if message.headers.get("id", "").startswith("linked-")]
        wait_for(lambda: len(told := sent()) >= 8 and len({ident for ident, _ in told}) == 4, "each is sent, and some again", 60)
        told = sent()
    assert len({ident for _, ident in told}) == len(set(told)) == 4, told


def test_a_body_that_is_too_large_is_rejected(make_cluster):
    """It is not read and not asked for again: a failure that says so, the queue's own dead letters have it, and the connection stays."""
    cluster = make_cluster()
    prints = cluster.folder / "prints.sh"
    prints.write_text("#!/bin/sh\ncat >/dev/null\nprintf '\"'\nhead -c 12000000 /dev/zero | tr '\\0' z\nprintf '\"'\n")
    prints.chmod(0o755)
    worker = cluster.job(exec=f"prints={prints}")
    app = cluster.app()
    with cluster.channel() as channel:
        channel.queue_declare("rejected", durable=True)
    cluster.api("PUT", f"policies/{cluster.vhost}/dead", {
        "pattern": "^celery$", "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "rejected"}, "apply-to": "queues"})
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/celery").get("policy") == "dead", "the policy holds", 60)
    results = [app.send_task("add", [n, 1]) for n in range(10)]
    large = app.send_task("echo", ["x" * (17 << 20)])
    results += [app.send_task("add", [n, 1]) for n in range(10, 20)]
    with pytest.raises(ValueError, match="the body has 178.* bytes; 16777216 are read"):
        large.get(timeout=40)
    assert [r.get(timeout=60) for r in results] == [n + 1 for n in range(20)]
    wait_for(lambda: cluster.count("rejected") == 1, "it is there for others", 60)
    assert not worker.logged("connection for deliveries lost")
    step = app.signature("echo", (["y" * (6 << 20)],))
    chained = (app.signature("prints") | step).apply_async()
    with pytest.raises(kombu.exceptions.OperationalError, match="could not be sent"):
        chained.get(timeout=60)
    assert worker.stop() == 0 and cluster.count("celery") == 0


def test_a_fixed_id_is_not_taken_for_its_last_run(make_cluster):
    """The connection is lost while a job waits whose id has just run: it comes again, and runs."""
    cluster = make_cluster()
    worker = cluster.job(concurrency=1)
    app = cluster.app()
    assert app.send_task("add", [1, 2], task_id="nightly").get(timeout=60) == 3
    busy = app.send_task("sleep", [6])
    wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") == 2, "it was delivered", 60)
    app.send_task("add", [2, 2], task_id="nightly")
    wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") == 3, "it waits", 60)
    wait_for(lambda: cut(cluster), "the connection is known", 60, every=0.1)
    assert busy.get(timeout=60) == 6
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 3, "all have run", 60)
    assert worker.stop() == 0 and cluster.count("celery") == 0


def test_a_fixed_id_runs_again_after_two_lost_connections(make_cluster):
    """One is lost after its run, so that its acknowledgement may be lost too; the other while its next message waits, which is no delivery of the
    first that came again."""
    cluster = make_cluster()
    proxy, url = through_proxy(cluster)
    try:
        worker, app = cluster.job(concurrency=1, **{"amqp.url": url}), cluster.app()
        inspect = app.control.inspect(destination=[worker.node], timeout=5)

        def lose(times):
            proxy.drop()
            wait_for(lambda: worker_value(worker, "feedmill_job_reconnects_total") >= times and flood.is_ready(worker), "it is connected again", 60)

        def ids(word):
            return [task["id"] for task in (getattr(inspect, word)() or {}).get(worker.node, [])]
        assert app.send_task("add", [1, 2], task_id="nightly").get(timeout=60) == 3
        lose(1)
        busy = app.send_task("sleep", [600])
        wait_for(lambda: ids("active") == [busy.id], "the only slot is taken", 60)
        app.send_task("add", [2, 2], task_id="nightly")
        wait_for(lambda: ids("reserved") == ["nightly"], "it waits", 60)
        lose(2)
        wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") >= 5, "both came again", 60)
        app.control.terminate(busy.id, signal="KILL")
        wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 2, "it has run", 60)
        assert worker.stop() == 0 and cluster.count("celery") == 0
    finally:
        proxy.close()


def test_queue_names_that_are_too_long_are_refused(make_cluster):
    """At start, with words that say which."""
    cluster = make_cluster()
    worker = cluster.job(queues="celery," + "q" * 200, wait=False)
    worker.wait_logged("job.queues.*has 200 bytes; 199 fit", 60)
    assert worker.popen.wait(60) != 0
    cluster.processes.remove(worker)
    name = "q" * 199
    cluster.job(queues=name)
    assert cluster.app().send_task("add", [1, 2], queue=name, countdown=1).get(timeout=60) == 3
