"""What one request of remote control must not take along: the mailbox, the other queues, the worker itself."""
import json

import pika
import pika.exceptions
import pytest
import requests

from conftest import wait_for
from test_control import ask
from test_faults import cut
from test_protocol import headers, value


def answers(app, worker):
    return wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=2).ping(), "it answers", 60)


def queues(app, worker):
    return {q["name"] for q in app.control.inspect(destination=[worker.node], timeout=10).active_queues()[worker.node]}


def cut_both(cluster, worker):
    for purpose, words in (("job control", "connection for remote control lost"), ("job consumer", "connection for deliveries lost")):
        before = worker.output().count(words)
        wait_for(lambda: cut(cluster, purpose) and worker.output().count(words) > before, f"the connection of {purpose} is lost", 60, every=0.3)


def test_a_queue_that_is_there_otherwise_may_be_added(make_cluster):
    """RabbitMQ ends the channel over it, and with that connection the mailbox: it is opened again."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    with cluster.channel() as channel:
        channel.queue_declare("other", durable=True, arguments={"x-max-priority": 5})
    assert "ok" in ask(app, worker.node, "add_consumer", queue="other")
    worker.wait_logged("is there otherwise.*queue=other", 60)
    assert value(cluster, [[1, 2], {}, None], headers(), queue="other") == 3
    answers(app, worker)
    assert queues(app, worker) == {"celery", "other"}


@pytest.mark.parametrize("name, more", [("any", {"exchange_type": "foo"}), ("any", {"exchange": "x" * 256}), ("any", {"routing_key": "x" * 254}),
                                        ("amq.x", {}), ("somebodys-own", {}), ("for-one-alone", {})],
                         ids=["exchange type", "long exchange", "long key", "reserved name", "exclusive queue", "exclusive consumer"])
def test_a_queue_that_can_not_be_added_takes_nothing_along(make_cluster, name, more):
    """Neither now nor when connections are lost later, and all that is wanted is declared again."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    with cluster.channel() as channel:
        channel.queue_declare("somebodys-own", exclusive=True)
        channel.queue_declare("for-one-alone", durable=True)
        channel.basic_consume("for-one-alone", lambda *_: None, exclusive=True)
        answer = ask(app, worker.node, "add_consumer", queue=name, **more)
        if more:
            assert "exchange" in answer["error"]
        else:
            worker.wait_logged(f"RabbitMQ refuses it.*queue={name} ", 60)
        answers(app, worker)
        cut_both(cluster, worker)
        assert app.send_task("add", [1, 2]).get(timeout=60) == 3
        answers(app, worker)
        assert queues(app, worker) == {"celery"}


def test_queues_that_were_added_or_cancelled_stay_so(make_cluster):
    """When the connections are lost, and all is declared and consumed again."""
    cluster = make_cluster(**{"job.queues": "celery,quiet"})
    worker = cluster.job()
    app = cluster.app()
    assert "ok" in ask(app, worker.node, "add_consumer", queue="added")
    assert app.send_task("add", [1, 2], queue="added").get(timeout=60) == 3
    assert "no longer" in ask(app, worker.node, "cancel_consumer", queue="quiet")["ok"]
    cut_both(cluster, worker)
    wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 200, "it consumes again", 60)
    app.send_task("add", [2, 2], queue="quiet")
    for queue in ("added", "celery"):
        assert app.send_task("add", [3, 3], queue=queue).get(timeout=60) == 6
    answers(app, worker)
    assert queues(app, worker) == {"celery", "added"}
    assert cluster.count("quiet") == 1
    assert "ok" in ask(app, worker.node, "add_consumer", queue="quiet")
    wait_for(lambda: cluster.count("quiet") == 0, "what waited there is taken", 60)


def test_a_queue_is_added_with_an_exchange_of_its_own(make_cluster):
    """What is published there by a key that fits runs, also when it is tried again, or was delayed by a client; another key is nobody's."""
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    answer, = app.control.add_consumer("news-jobs", exchange="news", exchange_type="topic", routing_key="job.#", destination=[worker.node], reply=True, timeout=10)
    assert "ok" in answer[worker.node]
    worker.wait_logged("consuming again.*queue=news-jobs", 60)
    about, = [q for q in app.control.inspect(destination=[worker.node], timeout=10).active_queues()[worker.node] if q["name"] == "news-jobs"]
    assert (about["exchange"]["name"], about["exchange"]["type"], about["routing_key"]) == ("news", "topic", "job.#")
    for name, arguments, key in (("add", [1, 1], "job.add"), ("add", [1, 1], "job.deep.within"), ("flaky", [2], "job.flaky")):
        assert app.send_task(name, arguments, exchange="news", routing_key=key).get(timeout=60) == 2
    with cluster.channel() as channel:
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("news", "jobs.add", b"[[1, 2], {}, null]", mandatory=True)
        replies = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("celery_delayed_27", "0." * 27 + "1.job.add", b"[[20, 22], {}, null]", pika.BasicProperties(
            content_type="application/json", content_encoding="utf-8", headers=headers(), reply_to=replies))
        assert json.loads(wait_for(lambda: channel.basic_get(replies, auto_ack=True)[2], "what a client has delayed", 60))["result"] == 42


def test_a_question_for_no_id_while_an_unreadable_message_waits(make_cluster):
    """It has no id either, and nothing that could be told of it."""
    cluster = make_cluster(**{"log.level": "debug"})
    with cluster.channel() as channel:
        channel.queue_declare("feed.jobs.dead", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    worker = cluster.job()
    app = cluster.app()
    cluster.publish("the only one that there is room for", queue="feed.jobs.dead")
    wait_for(lambda: cluster.count("feed.jobs.dead") == 1, "it is full", 60)
    cluster.publish("{", headers={"task": "add", "id": "unreadable"})
    worker.wait_logged("can't keep a message", 60)
    for ids in ("", [""], [7], [None, {}]):
        assert ask(app, worker.node, "query_task", ids=ids) == {}
    answers(app, worker)
    cluster.api("DELETE", f"queues/{cluster.vhost}/feed.jobs.dead/contents")
    assert cluster.dead(1)[0][1] == b"{"
