"""The job worker is killed between the result and the acknowledgement: what is delivered again does not run again where
job.deduplicate_successful says so, what follows it is there, by the same id. The client is an unmodified Celery."""
import json
import os
import signal
import urllib.parse

import celery
import pytest

from feedmill import server, wait_for
from jobs import Jobs, take
from private import state_of
from proxy import Proxy
from rabbit import VirtualHost


@pytest.fixture
def vhost():
    with VirtualHost() as vhost:
        yield vhost


@pytest.fixture
def make_jobs(tmp_path, vhost):
    made = []

    def make(**settings):
        made.append(Jobs(tmp_path, vhost.url, **{"job.deduplicate_successful": True, **settings}))
        return made[-1]
    yield make
    for jobs in made:
        jobs.stop()


@pytest.fixture
def proxies(vhost):
    """Of the database and of RabbitMQ, each with the settings that lead through it."""
    url = urllib.parse.urlsplit(vhost.url)
    database, rabbit = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT")), Proxy(url.hostname, url.port)
    through = {"mysql.host": "127.0.0.1", "mysql.port": database.port, "amqp.url": vhost.url.replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{rabbit.port}")}
    yield database, rabbit, through
    database.close()
    rabbit.close()


@pytest.mark.parametrize("follows", ["link", "chain"])
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest.mark.parametrize("deduplicates", [True, False])
def test_a_job_that_had_succeeded(make_jobs, vhost, deduplicates, queue_type, follows):
    """The first worker's message to the next one is thrown away, as if it had never been sent: it is sent, after one run of the body, or two."""
    jobs = make_jobs(**{"job.deduplicate_successful": deduplicates, "job.queue_type": queue_type})
    jobs.app.conf.task_default_queue_type = queue_type
    jobs.worker("job").stop()       # its queues are there
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("next", durable=True)
        s = jobs.app.signature
        after = s("add", (1,), queue="next")
        result = s("note").apply_async(link=after) if follows == "link" else celery.chain(s("note"), after, app=jobs.app).apply_async().parent
        jobs.killed_at("job.stored")
        assert jobs.runs() == [result.id] and result.state == "SUCCESS"
        (first, headers, arguments), = take(channel, "next")
        assert arguments == [42, 1] and "x-feed-again" not in headers
        worker = jobs.worker("job")
        wait_for(lambda: channel.queue_declare("next", passive=True).method.message_count == 1, "what follows is sent again", 60)
        assert worker.stop() == 0
        (second, headers, arguments), = take(channel, "next")
        assert second == first and arguments == [42, 1] and headers["parent_id"] == headers["root_id"] == result.id
        assert jobs.runs() == [result.id] * (1 if deduplicates else 2)
        assert headers.get("x-feed-again", False) == deduplicates and bool(worker.logged("it had succeeded")) == deduplicates
        assert channel.queue_declare("celery", passive=True).method.message_count == 0
    assert result.get(timeout=30) == 42 and jobs.sql("SELECT COUNT(*) FROM celery_taskmeta") == ((1,),)


def test_what_was_sent_twice_runs_once(make_jobs, vhost):
    """Both messages to the next job are there; the second is marked, and asked for."""
    jobs = make_jobs()
    jobs.worker("job").stop()
    result = jobs.app.signature("add", (1, 2)).apply_async(link=jobs.app.signature("note", queue="next"))
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("next", durable=True)
        jobs.killed_at("job.stored")
        worker = jobs.worker("job")
        wait_for(lambda: channel.queue_declare("next", passive=True).method.message_count == 2, "both are there", 60)
        assert worker.stop() == 0
        config = jobs.write_config(jobs.folder / "next.cfg", **{"job.queues": "next", "job.prefetch_multiplier": 1})
        worker = jobs.worker("job", config=config)
        wait_for(lambda: jobs.metric(worker, "feedmill_job_deliveries_total") == 2, "both are delivered", 60)
        wait_for(lambda: channel.queue_declare("next", passive=True).method.message_count == 0, "nothing waits", 60)
        assert worker.stop() == 0 and channel.queue_declare("next", passive=True).method.message_count == 0
    assert len(jobs.runs()) == 1 and result.get(timeout=30) == 3


@pytest.mark.parametrize("point, runs", [("job.ran", 2), ("job.acked", 1)])
def test_a_job_without_a_result_runs_again(make_jobs, point, runs):
    """Killed before its result is stored it did not succeed; killed after the acknowledgement was sent it may come again, and is asked for."""
    jobs = make_jobs()
    jobs.worker("job").stop()
    result = jobs.app.send_task("note")
    jobs.killed_at(point)
    worker = jobs.worker("job")
    assert result.get(timeout=60) == 42
    assert jobs.app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert worker.stop() == 0 and jobs.runs() == [result.id] * runs


@pytest.mark.parametrize("value, chained, runs", [
    (b"\x80\x04cbuiltins\nset\n(]\x8c\x01a\x94at\x94R.", False, 1), (b"\x80\x04cbuiltins\nset\n(]\x8c\x01a\x94at\x94R.", True, 2), (None, True, 1)])
def test_results_that_a_python_worker_left(make_jobs, vhost, value, chained, runs):
    """A Python object is not read: that is enough where nothing follows. NULL is None. An event ends it each time."""
    jobs = make_jobs(**{"job.events": True})
    jobs.worker("job").stop()
    s = jobs.app.signature
    result = s("note").apply_async(link=s("echo", queue="next")) if chained else s("note").apply_async()
    jobs.killed_at("job.stored")
    jobs.sql("UPDATE celery_taskmeta SET result = %s WHERE task_id = %s", value, result.id)
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_purge("next") if chained else None
        channel.queue_declare("events")
        channel.queue_bind("events", "celeryev", "task.succeeded")
        worker = jobs.worker("job")
        assert jobs.app.send_task("add", [1, 2]).get(timeout=60) == 3
        wait_for(lambda: channel.queue_declare("celery", passive=True).method.message_count == 0, "nothing waits", 60)
        assert worker.stop() == 0 and jobs.runs() == [result.id] * runs
        wait_for(lambda: json.loads(channel.basic_get("events", auto_ack=True)[2] or "{}").get("uuid") == result.id, "its event is sent", 60)
        if chained:
            assert [arguments for _, _, arguments in take(channel, "next")] == [[None if value is None else 42]]


def test_what_comes_out_of_a_delay_is_asked_for(make_jobs):
    """RabbitMQ that is killed while it moves a message may have it twice: the second is like this one, not marked in any way but that it was moved."""
    jobs = make_jobs()
    worker = jobs.worker("job")
    assert jobs.app.send_task("note", task_id="one", countdown=1).get(timeout=60) == 42
    jobs.app.send_task("note", task_id="one", countdown=1)
    worker.wait_logged("it had succeeded", 60)
    assert worker.stop() == 0 and jobs.runs() == ["one"]


def test_without_a_table_the_setting_says_that_it_does_nothing(make_jobs):
    jobs = make_jobs(**{"job.results": "rpc"})
    assert jobs.worker("job").logged("job.deduplicate_successful does nothing")


AGAIN = {"x-feed-again": True}  # it is asked for
ANSWERED = "job.answered"


def reserved(jobs):
    answer = jobs.app.control.inspect(timeout=10, limit=1).reserved() or {}
    return sorted(task["id"] for tasks in answer.values() for task in tasks)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_is_asked_about_when_its_connection_is_lost(make_jobs, proxies, tmp_path, queue_type):
    """The answer comes before RabbitMQ is back and delivers it again: it is there once, and runs once."""
    database, rabbit, through = proxies
    gate = tmp_path / "gate"
    jobs = make_jobs(body=f"while [ ! -e {gate} ]; do sleep 0.02; done; echo 42", **{**through, "job.queue_type": queue_type})
    jobs.app.conf.task_default_queue_type = queue_type
    worker = jobs.worker("job", env={"FAULT": f"{ANSWERED}:1:stop"})
    try:
        one = jobs.app.send_task("note", task_id="one")
        wait_for(jobs.runs, "the only child is busy", 60)
        database.cut()
        two = jobs.app.send_task("note", task_id="two", headers=AGAIN)
        worker.wait_logged("results can't be looked at", 60)
        rabbit.cut()
        worker.wait_logged("connection for deliveries lost", 60)
        database.restore()
        wait_for(lambda: state_of(worker.popen.pid) == "T", "the answer is there", 60)
        rabbit.restore()
        os.kill(worker.popen.pid, signal.SIGCONT)
        wait_for(lambda: jobs.metric(worker, "feedmill_job_deliveries_total") >= 4, "both are delivered again", 120)
        assert wait_for(lambda: reserved(jobs), "the worker answers", 60) == ["two"]
    finally:
        gate.touch()
    assert one.get(timeout=60) == two.get(timeout=60) == 42
    assert worker.stop() == 0 and sorted(jobs.runs()) == ["one", "two"]


@pytest.mark.parametrize("fault", ["cut", "hold"])
def test_what_is_asked_about_when_the_worker_stops(make_jobs, vhost, proxies, fault):
    """The database is away, or does not answer. What waits for it is reserved, and is in its queue at once when the worker stops, counted as often as it was delivered before."""
    database, _, through = proxies
    jobs = make_jobs(**{**through, "worker.drain_timeout_ms": 600000})
    jobs.worker("job").stop()
    with vhost.connect() as connection:
        channel = connection.channel()
        jobs.app.send_task("note", task_id="one")
        wait_for(lambda: channel.basic_get("celery")[0], "one is delivered, and given back", 60)
    with vhost.connect() as connection:
        channel = connection.channel()
        wait_for(lambda: channel.queue_declare("celery", passive=True).method.message_count == 1, "it is in its queue", 60)
        jobs.app.send_task("note", task_id="two", headers=AGAIN)
        getattr(database, fault)()
        worker = jobs.worker("job", config=jobs.write_config(jobs.folder / "more.cfg", **{"job.prefetch_multiplier": 4}), wait=False)
        wait_for(lambda: reserved(jobs) == ["one", "two"], "both wait for their answer", 60)
        answers = wait_for(lambda: jobs.app.control.inspect(timeout=10, limit=1).query_task("one", "two"), "the worker answers", 60)
        assert [{ident: word for ident, (word, _) in tasks.items()} for tasks in answers.values()] == [{"one": "reserved", "two": "reserved"}]
        worker.ask_to_stop()
        wait_for(lambda: channel.queue_declare("celery", passive=True).method.message_count == 2, "both are back", 60)
        assert worker.stop(120) == 0 and jobs.runs() == []
        back = {ident: headers for ident, headers, _ in take(channel, "celery")}
    assert {ident: headers.get("x-feed-deliveries", 0) for ident, headers in back.items()} == {"one": 1, "two": 0}
    assert back["two"]["x-feed-again"]
