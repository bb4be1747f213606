"""F9: the job worker dies at each step of a job: delivered, begun, run, what follows it confirmed, its result confirmed, acknowledged.
No late-ack job is lost, and none is run more often than the cap."""
import collections
import json
import uuid

import pika
import pytest

from feedmill import Feedmill, wait_for
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
                left = {queue: channel.queue_declare(queue, passive=True).method.message_count for queue in ("celery", "feed.jobs.dead")}
            assert set(got) == ids | others and set(got.values()) == {"SUCCESS"} and set(left.values()) == {0}, (got, left)
            runs = collections.Counter(notes.read_text().split())
            assert set(runs) == ids and max(runs.values()) <= CAP, runs
            print(f"F9 {point}, {queue_type}: {len(ids)} jobs, {sum(runs.values()) - len(ids)} runs more than that, 0 lost")
        finally:
            feed.stop()
