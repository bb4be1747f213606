"""F9: the job worker dies at each step of a job: delivered, begun, run, what follows it confirmed, its result confirmed, acknowledged.
No late-ack job is lost, and none is run more often than the cap. The same when the process dies that makes its children."""
import collections
import json
import os
import pathlib
import signal
import urllib.parse
import uuid

import pika
import pytest

from feedmill import Feedmill, wait_for
from jobs import Jobs
from private import state_of
from proxy import Proxy
from rabbit import VirtualHost
from rig import BUILD

CAP = 5
RESULTS = "test.results"
POINTS = [("job.delivered", 5), ("job.started", 3), ("job.ran", 3), ("job.posted", 1), ("job.stored", 3), ("job.acked", 2)]


def publish(channel, task, *args, countdown=None):
    ident = str(uuid.uuid4())
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    headers = {"lang": "py", "task": task, "id": ident, "root_id": ident, "retries": 0, "timelimit": [None, None], "origin": "gen1@test"}
    if countdown:
        headers["eta"] = countdown
    channel.basic_publish("", "celery", body, pika.BasicProperties(content_type="application/json", content_encoding="utf-8", delivery_mode=2,
                                                                   correlation_id=ident, reply_to=RESULTS, headers=headers))
    return ident


def take_results(channel, got):
    while True:
        method, properties, body = channel.basic_get(RESULTS, auto_ack=True)
        if method is None:
            return got
        if json.loads(body)["status"] != "RETRY":
            got[properties.correlation_id] = json.loads(body)["status"]


@pytest.mark.parametrize("queue_type", ["classic", pytest.param("quorum", marks=pytest.mark.long)])
@pytest.mark.parametrize("point, passage", POINTS)
def test_killed_at_each_step_of_a_job(tmp_path, point, passage, queue_type):
    notes, script = tmp_path / "notes", tmp_path / "note.sh"
    script.write_text(f"#!/bin/sh\ncat >/dev/null\necho $FEED_JOB_ID >>{notes}\n")
    script.chmod(0o755)
    notes.touch()
    with VirtualHost() as vhost:
        feed = Feedmill(tmp_path, build=BUILD, **{
            "amqp.url": vhost.url, "job.exec": f"note={script}", "job.results": "rpc", "job.queue_type": queue_type, "job.concurrency": 2,
            "job.delivery_limit": CAP, "job.retry_first_ms": 10, "job.mingle": False})
        try:
            feed.worker("job").stop()       # its queues are there
            with vhost.connect() as connection:
                channel = connection.channel()
                channel.queue_declare(RESULTS, durable=True)
                ids = {publish(channel, "note") for _ in range(10)} | {publish(channel, "note", countdown="2020-01-01T00:00:00+00:00")}
                others = {publish(channel, "flaky", 1) for _ in range(3)}
            worker = feed.worker("job", env={"FAULT": f"{point}:{passage}:kill"}, wait=False)
            wait_for(lambda: not worker.running(), f"{point} is passed", 60)
            assert worker.popen.wait() == -9 and worker.logged(rf"event=fault point={point} ")
            worker, got = feed.worker("job"), {}
            with vhost.connect() as connection:
                channel = connection.channel()
                wait_for(lambda: set(take_results(channel, got)) >= ids | others, "all results", 90, every=0.1)
                assert worker.stop() == 0
            left = left_of(vhost)
            assert set(got) == ids | others and set(got.values()) == {"SUCCESS"} and set(left.values()) == {0}, (got, left)
            runs = collections.Counter(notes.read_text().split())
            assert set(runs) == ids and max(runs.values()) <= CAP, runs
            print(f"F9 {point}, {queue_type}: {len(ids)} jobs, {sum(runs.values()) - len(ids)} runs more than that, 0 lost")
        finally:
            feed.stop()


def make_redelivered(vhost, send):
    """A message that was delivered once, to somebody who did not acknowledge it: it goes round again with a count."""
    with vhost.connect() as connection:
        channel = connection.channel()
        result = send()
        wait_for(lambda: channel.basic_get("celery")[0], "it is delivered", 60)
    with vhost.connect() as connection:
        channel = connection.channel()
        wait_for(lambda: channel.queue_declare("celery", passive=True).method.message_count == 1, "it is in its queue", 60)
    return result


def send_to_move(jobs, vhost, what, countdown):
    """A job whose message the worker sends on as a copy: with a count of its deliveries, or to the delay."""
    return make_redelivered(vhost, lambda: jobs.app.send_task("note")) if what == "redelivered" else jobs.app.send_task("note", countdown=countdown)


def left_of(vhost):
    with vhost.connect() as connection:
        channel = connection.channel()
        return {queue: channel.queue_declare(queue, passive=True).method.message_count for queue in ("celery", "feed.jobs.dead")}


KILLS = 6


@pytest.mark.parametrize("what, deduplicates", [("redelivered", False), ("redelivered", True), ("delayed", False), ("delayed", True)])
def test_killed_again_and_again_between_a_copy_and_its_acknowledgement(tmp_path, what, deduplicates):
    """The copy has its confirm, and the worker dies: both stay. Each kill there leaves one more, which runs; where the results are asked, none does."""
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, **{"job.deduplicate_successful": deduplicates, "job.prefetch_multiplier": 1, "job.delivery_limit": CAP})
        try:
            jobs.worker("job").stop()       # its queues are there
            result = send_to_move(jobs, vhost, what, 10)
            for _ in range(KILLS):
                jobs.killed_at("job.posted")
            worker = jobs.worker("job")
            assert result.get(timeout=90) == 42
            wait_for(lambda: jobs.metric(worker, "feedmill_job_deliveries_total") >= KILLS + 2, "each copy has come", 90)
            wait_for(lambda: left_of(vhost)["celery"] == 0, "none waits", 60)
            assert worker.stop() == 0 and set(left_of(vhost).values()) == {0}
            runs = collections.Counter(jobs.runs())
            assert set(runs) == {result.id} and runs[result.id] == (1 if deduplicates else KILLS + 1), runs
            print(f"F9 killed {KILLS} times between a copy and its acknowledgement, {what}: {runs[result.id]} runs, 0 lost")
        finally:
            jobs.stop()


@pytest.mark.parametrize("what, point", [("redelivered", "job.stored"), ("delayed", "job.posted")])
def test_killed_again_and_again_on_a_quorum_queue(tmp_path, what, point, cap=3):
    """RabbitMQ counts there: killed before its acknowledgement, or between its copy and that, a job does not run more often than the cap. Then the
    message is a dead letter, each time that the worker is killed before it has said so."""
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, **{"job.queue_type": "quorum", "job.prefetch_multiplier": 1, "job.delivery_limit": cap})
        jobs.app.conf.task_default_queue_type = "quorum"
        try:
            jobs.worker("job").stop()       # its queues are there
            if what == "redelivered":
                result, before, copies = make_redelivered(vhost, lambda: jobs.app.send_task("note")), 1, 0
            else:
                result, before, copies = jobs.app.send_task("note", countdown=10), 0, cap
            for _ in range(cap + 1):
                jobs.killed_at(point)
            worker = jobs.worker("job")
            wait_for(lambda: jobs.app.AsyncResult(result.id).state == "SUCCESS", "it is done", 90)
            wait_for(lambda: jobs.metric(worker, "feedmill_job_deliveries_total") >= 1 + copies, "each copy has come", 90)
            wait_for(lambda: left_of(vhost) == {"celery": 0, "feed.jobs.dead": 2 + before}, "nothing is left but its dead letters", 90)
            assert worker.stop() == 0
            runs = collections.Counter(jobs.runs())
            assert set(runs) == {result.id} and runs[result.id] == cap - before, runs
            print(f"F9 killed {cap + 1} times at {point}, {what}, quorum: {runs[result.id]} runs, 0 lost")
        finally:
            jobs.stop()


@pytest.mark.parametrize("what", ["redelivered", "delayed"])
def test_the_connection_is_lost_between_a_copy_and_its_acknowledgement(tmp_path, what):
    """The worker lives: it knows that it has sent it on, and acknowledges what comes again. One run."""
    with VirtualHost() as vhost:
        url = urllib.parse.urlsplit(vhost.url)
        proxy = Proxy(url.hostname, url.port)
        jobs = Jobs(tmp_path, vhost.url, **{"amqp.url": vhost.url.replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{proxy.port}")})
        try:
            jobs.worker("job").stop()       # its queues are there
            result = send_to_move(jobs, vhost, what, 5)
            worker = jobs.worker("job", env={"FAULT": "job.posted:1:stop"}, wait=False)
            wait_for(lambda: state_of(worker.popen.pid) == "T", "its copy is confirmed", 60)
            proxy.drop()
            os.kill(worker.popen.pid, signal.SIGCONT)
            worker.wait_logged("it was done here", 60)
            assert result.get(timeout=60) == 42
            wait_for(lambda: left_of(vhost)["celery"] == 0, "none waits", 60)
            assert worker.stop() == 0 and set(left_of(vhost).values()) == {0} and jobs.runs() == [result.id]
        finally:
            jobs.stop()
            proxy.close()


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_killed_while_what_did_not_begin_goes_back(tmp_path, queue_type):
    """A worker that stops sends copies of what it had taken ahead; it is killed when the first has its confirm. None is lost, and none is given up."""
    gate = tmp_path / "gate"
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, f"while [ ! -e {gate} ]; do sleep 0.02; done\necho 42", **{"job.queue_type": queue_type, "job.delivery_limit": 2})
        jobs.app.conf.task_default_queue_type = queue_type
        try:
            worker = jobs.worker("job", env={"FAULT": "job.posted:1:kill"})
            results = [jobs.app.send_task("note") for _ in range(4)]
            wait_for(lambda: len(jobs.runs()) == 1 and jobs.metric(worker, "feedmill_job_deliveries_total") == 4, "one runs, three wait", 60)
            worker.ask_to_stop()
            wait_for(lambda: not worker.running(), "it is killed", 60)
            assert worker.popen.wait() == -9 and worker.logged("event=fault point=job.posted ")
            gate.touch()
            worker = jobs.worker("job")
            assert [result.get(timeout=60) for result in results] == [42] * 4
            wait_for(lambda: left_of(vhost)["celery"] == 0, "none waits", 60)
            assert worker.stop() == 0 and set(left_of(vhost).values()) == {0}
            runs = collections.Counter(jobs.runs())
            assert set(runs) == {result.id for result in results} and max(runs.values()) <= 2, runs
        finally:
            gate.touch()
            jobs.stop()


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_the_maker_of_children_is_killed(tmp_path, queue_type):
    """Children and their programs die with it. The worker says why it ends, and whoever looks after it starts the next one: what ran runs once
    more, what waited runs once."""
    pids, gate = tmp_path / "pids", tmp_path / "gate"
    pids.touch()
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, f"echo $$ >>{pids}\nwhile [ ! -e {gate} ]; do sleep 0.02; done\necho 42", **{
            "job.queue_type": queue_type, "job.concurrency": 2, "job.delivery_limit": CAP})
        jobs.app.conf.task_default_queue_type = queue_type
        try:
            worker = jobs.worker("job")
            results = [jobs.app.send_task("note") for _ in range(6)]
            programs = wait_for(lambda: len(found := pids.read_text().split()) == 2 and found, "two run", 60)
            nursery = parent(parent(parent(programs[0])))   # its child, and the leader of the program's group, are between
            assert parent(nursery) == worker.pid
            os.kill(nursery, signal.SIGKILL)
            wait_for(lambda: not worker.running(), "the worker ends", 60)
            assert worker.popen.wait() == 1 and worker.logged("level=error.*the process that makes child processes is gone")
            jobs.processes.remove(worker)       # that it failed is right
            wait_for(lambda: [state_of(pid) for pid in programs] == ["Z", "Z"], "nothing of it is left", 60)
            gate.touch()
            worker = jobs.worker("job")
            assert [result.get(timeout=60) for result in results] == [42] * 6
            assert worker.stop() == 0
            left, runs = left_of(vhost), collections.Counter(jobs.runs())
            assert set(left.values()) == {0} and set(runs) == {result.id for result in results}, (left, runs)
            assert sorted(runs.values()) == [1, 1, 1, 1, 2, 2]
        finally:
            gate.touch()
            jobs.stop()


# ---- kill -9 of a child

CHILD = "cut -d' ' -f4 /proc/$PPID/stat"    # of the program's guard: the child that runs the job
WAITS = "while [ ! -e {gate} ]; do sleep 0.02; done\necho 42"


@pytest.mark.parametrize("point, passage, deaths, runs", [("child.begun", 3, 4, 9), ("child.ran", 3, 4, 13), ("child.answered", 1, 9, 9)])
def test_a_child_is_killed_at_each_step_of_its_own(tmp_path, point, passage, deaths, runs):
    """Each child, at its third job: what has no answer is done by the next child. Or after its first answer: that job does not run again."""
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, **{"job.delivery_limit": CAP})
        try:
            worker = jobs.worker("job", env={"FAULT": f"{point}:{passage}:kill"})
            results = []
            for _ in range(9):
                results.append(jobs.app.send_task("note"))
                assert results[-1].get(timeout=60, interval=0.1) == 42
            wait_for(lambda: left_of(vhost)["celery"] == 0, "none waits", 60)
            assert worker.stop() == 0 and set(left_of(vhost).values()) == {0}
            assert worker.output().count(f"event=fault point={point} ") == deaths
            assert set(jobs.runs()) == {result.id for result in results} and len(jobs.runs()) == runs
        finally:
            jobs.stop()


def test_a_child_is_killed_before_the_worker_says_that_it_runs(tmp_path):
    """The job is with its child, and the worker has not gone on: the child is killed in the middle of it, and the job runs once more."""
    gate, pids = tmp_path / "gate", tmp_path / "pids"
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, f"{CHILD} >>{pids}\n" + WAITS.format(gate=gate), **{"job.delivery_limit": CAP})
        try:
            worker = jobs.worker("job", env={"FAULT": "job.started:1:stop"})
            result = jobs.app.send_task("note")
            child = int(wait_for(lambda: pids.exists() and pids.read_text(), "it runs", 60))
            wait_for(lambda: state_of(worker.pid) == "T", "the worker stands still", 60)
            os.kill(child, signal.SIGKILL)
            wait_for(lambda: state_of(child) == "Z", "it is dead", 60)
            gate.touch()
            os.kill(worker.pid, signal.SIGCONT)
            assert result.get(timeout=60) == 42
            wait_for(lambda: left_of(vhost)["celery"] == 0, "none waits", 60)
            assert worker.stop() == 0 and set(left_of(vhost).values()) == {0} and jobs.runs() == [result.id] * 2
        finally:
            gate.touch()
            jobs.stop()


def test_the_last_words_of_a_child_are_heard(tmp_path):
    """It answers and dies while the worker looks elsewhere, which then reads of its death before its answer: the job does not run again.
    The death of another child is why it looks where deaths are told."""
    gate, pids = tmp_path / "gate", tmp_path / "pids"
    with VirtualHost() as vhost:
        jobs = Jobs(tmp_path, vhost.url, f"{CHILD} >>{pids}\n" + WAITS.format(gate=gate), **{"job.concurrency": 2})
        jobs.app.conf.broker_transport_options = {"confirm_publish": True}
        try:
            worker = jobs.worker("job", env={"FAULT": "child.answered:1:kill,job.delivered:2:stop"})
            inspect = jobs.app.control.inspect(timeout=2)

            def children():
                return [pid for stats in (inspect.stats() or {}).values() for pid in stats["pool"]["processes"]]
            both = wait_for(lambda: len(found := children()) == 2 and found, "both are there", 60)
            first = jobs.app.send_task("note")
            busy = int(wait_for(lambda: pids.exists() and pids.read_text(), "it runs", 60))
            idle, = set(both) - {busy}
            os.kill(worker.pid, signal.SIGSTOP)
            wait_for(lambda: state_of(worker.pid) == "T", "the worker stands still", 60)
            os.kill(idle, signal.SIGKILL)
            wait_for(lambda: not os.path.exists(f"/proc/{idle}"), "the idle child is dead", 60)
            second = jobs.app.send_task("note")
            wait_for(lambda: left_of(vhost)["celery"] == 0, "the second job is on its way", 60)
            os.kill(worker.pid, signal.SIGCONT)
            worker.wait_logged("event=fault point=job.delivered ", 60)
            wait_for(lambda: state_of(worker.pid) == "T", "it has the second job in hand", 60)
            gate.touch()
            wait_for(lambda: not os.path.exists(f"/proc/{busy}"), "the busy child has answered, is dead, and that was heard of", 60)
            os.kill(worker.pid, signal.SIGCONT)
            assert [first.get(timeout=60), second.get(timeout=60)] == [42, 42]
            assert worker.stop() == 0 and not worker.logged("a child was lost") and sorted(jobs.runs()) == sorted([first.id, second.id])
        finally:
            gate.touch()
            jobs.stop()
