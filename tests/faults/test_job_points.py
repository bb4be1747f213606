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
