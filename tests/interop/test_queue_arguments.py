"""Queues with arguments of their own: declared the same, whoever declares them and whenever."""
import kombu
import pika
import pytest
import requests

from conftest import wait_for
from test_control import ask
from test_protocol import headers, value
from test_remote import answers, cut_both

OWN = {
    "high": {"x-max-priority": 10, "x-message-ttl": 60000},
    "imports": {"x-queue-type": "quorum", "x-max-length": 1000, "x-overflow": "reject-publish", "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "feed.jobs.dead"},
    "alone": {},
    "added": {"x-max-priority": 5},
    "linked": {"x-expires": 3_600_000, "x-max-length-bytes": 1_000_000},
    "feed.jobs.dead": {"x-max-length": 500},
}
AS_TEXT = "; ".join(f"{queue}: " + ", ".join(f"{name}={value}" for name, value in arguments.items()) for queue, arguments in OWN.items())


@pytest.fixture
def cluster(make_cluster):
    """Priorities are for the queues that are not named."""
    return make_cluster(**{"job.queues": "celery,high,imports,alone", "job.max_priority": 3, "job.queue_arguments": AS_TEXT})


def declared(cluster):
    return {queue["name"]: queue["arguments"] for queue in cluster.api("GET", f"queues/{cluster.vhost}")
            if not queue["name"].startswith(("celery_delayed", "amq.gen")) and not queue["auto_delete"]}


def expected(*more):
    return {"celery": {"x-max-priority": 3}, **{queue: OWN[queue] for queue in ("high", "imports", "alone", "feed.jobs.dead", *more)}}


def test_a_client_that_declares_them_the_same_way(cluster):
    worker = cluster.job()
    wait_for(lambda: declared(cluster) == expected(), "they are declared")
    queues = [kombu.Queue("celery", kombu.Exchange("celery"), "celery", max_priority=3),
              kombu.Queue("high", kombu.Exchange("high"), "high", max_priority=10, message_ttl=60),
              kombu.Queue("imports", kombu.Exchange("imports"), "imports", queue_arguments=OWN["imports"]),
              kombu.Queue("alone", kombu.Exchange("alone"), "alone")]
    app = cluster.app(task_queues=queues)
    assert [app.send_task("add", [n, 1], queue=queue.name).get(timeout=60) for n, queue in enumerate(queues)] == [1, 2, 3, 4]
    assert app.send_task("add", [1, 2], queue="high", priority=9).get(timeout=60) == 3
    told = {queue["name"]: queue for queue in app.control.inspect(destination=[worker.node], timeout=10).active_queues()[worker.node]}
    assert {name: queue["queue_arguments"] for name, queue in told.items()} == {
        "celery": {"x-max-priority": 3}, "high": OWN["high"], "imports": OWN["imports"], "alone": None}
    assert told["high"]["max_priority"] == 10 and told["alone"]["max_priority"] is None
    assert not worker.logged("is there otherwise")


def test_they_are_the_same_on_each_way_to_be_declared(cluster):
    """By a second worker, add_consumer, on new connections, after a queue was deleted, and for a link to a queue that nobody has made."""
    worker = cluster.job()
    app = cluster.app()
    linked = app.signature("add", (1,), queue="linked")
    linked.freeze()
    value(cluster, [[1, 2], {}, {"callbacks": [linked], "errbacks": None, "chain": None, "chord": None}], headers(), queue="alone")
    wait_for(lambda: declared(cluster).get("linked") == OWN["linked"], "it is made for the link")
    assert "ok" in ask(app, worker.node, "add_consumer", queue="added")
    wait_for(lambda: declared(cluster).get("added") == OWN["added"], "it is added")
    cut_both(cluster, worker)
    answers(app, worker)
    for queue in ("high", "imports", "added"):
        cluster.api("DELETE", f"queues/{cluster.vhost}/{queue}")
    wait_for(lambda: declared(cluster) == expected("linked", "added"), "all are there again", 60)
    other = cluster.job()
    assert declared(cluster) == expected("linked", "added")
    assert value(cluster, [[1, 2], {}, None], headers(), queue="high") == 3
    assert not worker.logged("is there otherwise") and not other.logged("is there otherwise")


def test_a_queue_that_is_there_with_others_is_named(cluster):
    """With the argument that is not the same; it is used as it is."""
    with cluster.channel() as channel:
        channel.queue_declare("high", durable=True, arguments={"x-max-priority": 4, "x-message-ttl": 60000})
        channel.queue_declare("imports", durable=True)
    worker = cluster.job()
    assert worker.logged("is there otherwise.* queue=high argument=x-max-priority "), worker.output()
    assert worker.logged("is there otherwise.* queue=imports argument=x-"), worker.output()
    assert declared(cluster)["high"]["x-max-priority"] == 4
    for queue in ("high", "imports", "alone"):
        assert value(cluster, [[1, 2], {}, None], headers(), queue=queue) == 3


@pytest.mark.parametrize("text, words", [
    ("celery: x-max-priority=ten", 'queue celery: x-max-priority: .*ten.* is not a whole number from 0 to 255'),
    ("celery: x-queue-type=stream", "queue celery: x-queue-type: .*stream.* is not one of classic.quorum"),
    ("celery: max-length=5", "\\S*celery: max-length=5.* is not queue: name=value")], ids=["a number", "a choice", "a name"])
def test_a_value_that_is_none_ends_the_start(make_cluster, text, words):
    cluster = make_cluster()
    worker = cluster.job(queue_arguments=text, wait=False)
    assert worker.popen.wait(60) != 0
    assert worker.logged(f"setting job.queue_arguments: {words}"), worker.output()
    cluster.processes.remove(worker)  # that exit status is on purpose


def test_what_rabbitmq_refuses_whatever_is_there(make_cluster):
    """The worker is not ready, and says of which queue and argument; remote control may not bring such a queue in either."""
    cluster = make_cluster()
    worker = cluster.job(queues="celery,imports", queue_arguments="imports: x-queue-type=quorum, x-queue-mode=lazy", wait=False)
    assert worker.wait_logged("remote control lost.*imports.*PRECONDITION_FAILED.*x-queue-mode", 60)
    admin = f"http://127.0.0.1:{worker.wait_logged(r'admin_port=([0-9]+)', 60)[1]}"
    assert requests.get(admin + "/readyz", timeout=10).status_code == 503
    assert not worker.logged("is there otherwise")
    assert worker.stop() == 0
    worker = cluster.job(queue_arguments="imports: x-queue-type=quorum, x-queue-mode=lazy")
    app = cluster.app()
    assert "ok" in ask(app, worker.node, "add_consumer", queue="imports")
    worker.wait_logged("RabbitMQ refuses it.*queue=imports .*x-queue-mode", 60)
    answers(app, worker)
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    with cluster.channel() as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare("imports", passive=True)
