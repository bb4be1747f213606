"""What follows a task: links, errbacks, chains and groups, as an unmodified client builds them."""
import datetime
import json

import billiard.exceptions
import celery.exceptions
import kombu.exceptions
import pytest
from celery import chain, chord, group

from conftest import wait_for


@pytest.fixture
def s(app):
    return app.signature


def test_chain(s):
    result = chain(s("add", (1, 2)), s("add", (10,)), s("add", (100,))).apply_async()
    assert result.get(timeout=30) == 113
    assert result.parent.get(timeout=30) == 13 and result.parent.parent.get(timeout=30) == 3


def test_immutable_steps_take_no_result(s):
    assert chain(s("add", (1, 2)), s("add", (5, 5), immutable=True)).apply_async().get(timeout=30) == 10


def test_long_chain(s):
    assert chain(s("add", (0, 0)), *(s("add", (1,)) for _ in range(50))).apply_async().get(timeout=60) == 50


def test_failing_step_fails_all_later_ones(s):
    result = chain(s("fail", ("broken",)), s("add", (1,)), s("add", (2,))).apply_async()
    with pytest.raises(ValueError, match="broken"):
        result.get(timeout=30, propagate=True)
    wait_for(lambda: result.state == "FAILURE", "the last one failed too", 10)


def test_chain_with_countdown_and_its_queue(cluster, app, s, worker):
    app.control.add_consumer("other", reply=True, destination=[worker.node])
    result = chain(s("add", (1, 2)), s("add", (10,), countdown=1), s("add", (100,), queue="other")).apply_async()
    assert result.get(timeout=30) == 113
    app.control.cancel_consumer("other", reply=True, destination=[worker.node])


def test_group(s):
    result = group(s("add", (i, i)) for i in range(20)).apply_async()
    assert result.get(timeout=30) == [2 * i for i in range(20)]


def test_link(s, app):
    linked = s("add", (100,))
    linked.freeze()
    result = s("add", (1, 2)).apply_async(link=linked)
    assert result.get(timeout=30) == 3
    assert [child.id for child in result.children] == [linked.id]
    assert result.children[0].get(timeout=30) == 103


def test_two_links_and_a_group_as_link(s):
    first, second = s("add", (10,)), s("add", (20,))
    result = s("add", (1, 2)).apply_async(link=[first, second, group(s("add", (30,)), s("add", (40,)))])
    assert result.get(timeout=30) == 3
    assert [[member.get(timeout=30) for member in child.results] for child in result.children] == [[33, 43], [13, 23]]  # what is no group is one, as Celery sends it


def test_a_chain_in_a_linked_group(s):
    """Its last step is the group's member, which a client waits for; a group is also what several links are."""
    for link in (group(chain(s("add", (10,)), s("add", (100,)), s("add", (1000,))), s("add", (20,))),
                 [chain(s("add", (10,)), s("add", (100,)), s("add", (1000,))), s("add", (20,))]):
        result = s("add", (1, 2)).apply_async(link=link)
        assert result.get(timeout=30) == 3
        members, = result.children
        assert [member.get(timeout=30) for member in members.results] == [1113, 23]


def test_group_at_the_end_of_a_chain(s):
    result = chain(s("add", (1, 2)), group(s("add", (10,)), s("add", (20,)))).apply_async()
    assert sorted(result.get(timeout=30)) == [13, 23]


def test_errback_gets_the_failed_id(cluster, app, s, worker):
    """An errback is a task like any other; ours echoes what it was given to a queue that we read."""
    errback = s("echo")
    errback.freeze()
    result = s("fail", ("x",)).apply_async(link_error=errback)
    with pytest.raises(ValueError):
        result.get(timeout=30)
    assert app.AsyncResult(errback.id).get(timeout=30) == result.id


def test_callback_to_an_unknown_task(s):
    unknown = s("no.such.task")
    unknown.freeze()
    result = s("add", (1, 2)).apply_async(link=unknown)
    assert result.get(timeout=30) == 3
    with pytest.raises(celery.exceptions.NotRegistered):
        result.children[0].get(timeout=30)


def test_unknown_step_of_a_chain(app, s):
    """What came before it is done, it and what would follow are not, and its errback hears of it."""
    errback = s("echo")
    errback.freeze()
    result = chain(s("add", (1, 2)), s("no.such.task"), s("add", (1,))).apply_async(link_error=errback)
    for ident in (result.parent.id, result.id):
        with pytest.raises(celery.exceptions.NotRegistered):
            app.AsyncResult(ident).get(timeout=60)
    assert result.parent.parent.get(timeout=60) == 3
    assert app.AsyncResult(errback.id).get(timeout=60) == result.parent.id


@pytest.mark.parametrize("name, arguments, options, error", [
    ("sleep", [600], {"time_limit": 0.5}, billiard.exceptions.TimeLimitExceeded), ("crash", [], {}, billiard.exceptions.WorkerLostError)],
    ids=["hard limit", "lost child"])
def test_what_follows_a_job_whose_child_is_gone(cluster, app, s, worker, name, arguments, options, error):
    """The rest of the chain has failed as it has, and the errback's message says whose it is."""
    with cluster.channel() as channel:
        channel.queue_declare("errbacks", durable=True)
    failing, errback = s(name, arguments).set(**options), s("echo").set(queue="errbacks")
    errback.freeze()
    failing.link_error(errback)
    result = chain(failing, s("add", (1,)), s("add", (2,))).apply_async()
    first = result.parent.parent
    for ident in (first.id, result.parent.id, result.id):
        with pytest.raises(error):
            app.AsyncResult(ident).get(timeout=60)

    def one():
        with cluster.channel() as channel:
            return channel.basic_get("errbacks", auto_ack=True)[1:] if cluster.count("errbacks") else None
    properties, body = wait_for(one, "the errback's message", 60)
    assert json.loads(body)[0] == [first.id]
    assert {name: properties.headers[name] for name in ("id", "parent_id", "root_id")} == {"id": errback.id, "parent_id": first.id, "root_id": first.id}
    if name == "crash":
        wait_for(lambda: cluster.dead(1)[0][0].headers["id"] == first.id, "its message is dead", 60)    # behind those of other tests


def test_group_behind_a_failing_step(app, s):
    result = chain(s("fail", ("broken",)), group(s("add", (1,)), s("add", (2,)))).apply_async()
    for member in result.results:
        with pytest.raises(ValueError, match="broken"):
            app.AsyncResult(member.id).get(timeout=60)


def test_a_chord_is_a_failure_that_says_so(make_cluster):
    """However a client comes to one: itself, in a chain, in front of one, or as a link. Nobody waits for ever, and the header's jobs are done."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database())
    cluster.job(results="database")
    s = app.signature

    def numbers():
        return group(s("add", (1, 1)), s("add", (2, 2)))

    def fails(result, kind):
        with pytest.raises(kind, match="chords are not served by this worker"):
            app.AsyncResult(result.id).get(timeout=60)
    result = chord(numbers(), s("echo")).apply_async()
    fails(result, celery.exceptions.ChordError)
    assert result.parent.get(timeout=60) == [2, 4]
    fails(chain(numbers(), s("echo"), s("echo")).apply_async(), celery.exceptions.ChordError)
    result = chain(s("add", (1, 2)), group(s("add", (10,)), s("add", (20,))), s("echo"), s("echo")).apply_async()
    fails(result, RuntimeError)
    fails(result.parent, RuntimeError)
    fails(s("add", (1, 2)).apply_async(link=chord(numbers(), s("echo"))), RuntimeError)
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3


def test_headers_and_stamps_of_what_follows(cluster, s):
    """As its signature says; what belongs to the message itself stays as it is."""
    with cluster.channel() as channel:
        channel.queue_declare("headers", durable=True)
    linked = s("add", (5,), queue="headers").set(headers={"traceparent": "00-1", "nested": {"a": [1]}, "retries": 7}, expires=600)
    linked.stamp(customer="7", order="8")
    assert s("add", (1, 2)).apply_async(link=linked).get(timeout=60) == 3

    def one():
        with cluster.channel() as channel:
            return channel.basic_get("headers", auto_ack=True)[1]
    sent = wait_for(one, "the linked task's message").headers
    assert sent["traceparent"] == "00-1" and sent["nested"] == {"a": [1]} and sent["retries"] == 0
    assert sorted(sent["stamped_headers"]) == ["customer", "order"]
    assert sent["stamps"] == {name: linked.options[name] for name in ("customer", "order")}
    assert 0 < (datetime.datetime.fromisoformat(sent["expires"]) - datetime.datetime.now(datetime.timezone.utc)).total_seconds() <= 600


def test_a_step_is_revoked_by_its_stamps(app, s, worker):
    app.control.broadcast("revoke_by_stamped_headers", arguments={"headers": {"order": ["stopped"]}}, reply=True, destination=[worker.node], timeout=10, limit=1)
    step, last = s("add", (10,)), s("add", (100,))
    step.stamp(order="stopped")
    last.stamp(order="another")
    with pytest.raises(celery.exceptions.TaskRevokedError):
        chain(s("add", (1, 2)), step).apply_async().get(timeout=60)
    assert chain(s("add", (1, 2)), last).apply_async().get(timeout=60) == 103


def test_times_of_steps(app, s):
    """Seconds, and datetimes as kombu writes them."""
    with pytest.raises(celery.exceptions.TaskRevokedError, match="expired"):
        chain(s("add", (1, 2)), s("add", (10,)).set(countdown=3, expires=1)).apply_async().get(timeout=60)
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=4)
    result = chain(s("add", (1, 2)), s("add", (10,)).set(eta=eta, expires=eta + datetime.timedelta(hours=1))).apply_async()
    assert result.get(timeout=60) == 13
    assert result.date_done >= eta


def test_parent_root_and_group_of_children(cluster, app, s, worker):
    """Ids of the family go with each message, as another worker's queue shows."""
    with cluster.channel() as channel:
        channel.queue_declare("looked-at", durable=True)
    result = s("add", (1, 2)).apply_async(link=s("add", (5,), queue="looked-at"))
    result.get(timeout=30)

    def one():
        with cluster.channel() as channel:
            return channel.basic_get("looked-at", auto_ack=True)[1:] if cluster.count("looked-at") else None
    properties, body = wait_for(one, "the linked task's message")
    headers = properties.headers
    assert body == b'[[3,5],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
    assert headers["root_id"] == headers["parent_id"] == result.id and headers["id"] == properties.correlation_id
    assert headers["task"] == "add" and headers["argsrepr"] == "[3, 5]" and headers["timelimit"] == [None, None]
    assert properties.reply_to and properties.delivery_mode == 2


@pytest.mark.parametrize("inherits", [True, False])
def test_priority_of_what_follows(make_cluster, inherits):
    """As Celery's task_inherit_parent_priority: the job's, along a chain, unless a signature has its own."""
    cluster = make_cluster(**{"job.inherit_priority": inherits})
    with cluster.traced() as published:
        cluster.job()
        app = cluster.app()
        s = app.signature
        errback, failing = s("echo", task_id="errback"), s("fail", ("boom",), priority=6)
        failing.link_error(errback)
        with pytest.raises(ValueError):
            failing.apply_async().get(timeout=60)
        steps = chain(s("add", (1, 2), priority=7), s("add", (1,), task_id="step", link=s("add", (2,), task_id="link")), s("add", (1,), priority=3, task_id="own"))
        assert steps.apply_async().get(timeout=60) == 5

        def told():
            return {m.headers["id"]: m.properties.get("priority") for m in published() if m.headers.get("id") in ("step", "link", "own", "errback")}
        priorities = wait_for(lambda: len(found := told()) == 4 and found, "all are sent", 60)
    assert priorities == ({"step": 7, "link": 7, "own": 3, "errback": 6} if inherits else {"step": None, "link": None, "own": 3, "errback": None})


def test_link_to_a_queue_that_nobody_made(cluster, s):
    result = s("add", (1, 2)).apply_async(link=s("add", (5,), queue="made-on-the-way"))
    assert result.get(timeout=30) == 3
    wait_for(lambda: cluster.api("GET", f"queues/{cluster.vhost}/made-on-the-way").get("messages") == 1, "the message waits there", 20)


def test_what_is_made_on_the_way_is_as_a_worker_would_make_it(make_cluster):
    """Else no client that wants priorities there could declare it. The queue of the dead letters has none, made again too."""
    cluster = make_cluster(**{"job.max_priority": 10})
    cluster.job()
    app = cluster.app(task_queue_max_priority=10)
    assert app.send_task("add", [1, 2], link=app.signature("add", (5,), queue="made-on-the-way")).get(timeout=60) == 3
    assert cluster.api("GET", f"queues/{cluster.vhost}/made-on-the-way")["arguments"] == {"x-max-priority": 10}
    app.send_task("add", [1, 2], queue="made-on-the-way", priority=9)
    wait_for(lambda: cluster.count("made-on-the-way") == 2, "both are there", 60)
    cluster.api("DELETE", f"queues/{cluster.vhost}/feed.jobs.dead")
    app.send_task("no.such.task")
    wait_for(lambda: "feed.jobs.dead" in [q["name"] for q in cluster.api("GET", f"queues/{cluster.vhost}")], "it is made again", 60)
    assert cluster.api("GET", f"queues/{cluster.vhost}/feed.jobs.dead")["arguments"] == {}
    assert len(cluster.dead(1)) == 1


@pytest.mark.parametrize("options, words", [
    ({"exchange": "nowhere", "routing_key": "k"}, "no exchange 'nowhere'"),
    ({"exchange": "inner", "routing_key": "k"}, "internal exchange"),
    ({"shadow": "x" * 200_000}, "headers of an AMQP message"),
    ({"exchange": "amq.direct", "routing_key": "nobody"}, "no queue takes"),
    ({"reply_to": "r" * 300}, "reply_to of an AMQP message"),
])
def test_what_can_not_be_sent_fails_alone(cluster, app, s, worker, options, words):
    """A link and a chain step that RabbitMQ refuses or that do not fit are failures, and so is what comes after them; others go on."""
    with cluster.channel() as channel:
        channel.exchange_declare("inner", durable=True, internal=True)
    linked = s("add", (100,)).set(**options)
    linked.freeze()
    others = [app.send_task("add", [n, 1], link=s("add", (n,))) for n in range(20)]
    result = s("add", (1, 2)).apply_async(link=linked)
    steps = chain(s("add", (1, 2)), s("add", (10,)).set(**options), s("add", (100,)), s("add", (1000,))).apply_async()
    others += [app.send_task("add", [n, 1], link=s("add", (n,))) for n in range(20, 40)]
    assert result.get(timeout=60) == 3
    if len(str(options)) < 1000 and "reply_to" not in options:
        with pytest.raises(kombu.exceptions.OperationalError, match="could not be sent"):
            app.AsyncResult(linked.id).get(timeout=60)
    for later in (steps.parent, steps):
        with pytest.raises(kombu.exceptions.OperationalError, match="could not be sent"):
            later.get(timeout=60)
    assert steps.parent.parent.parent.get(timeout=60) == 3
    assert [(r.get(timeout=60), r.children[0].get(timeout=60)) for r in others] == [(n + 1, 2 * n + 1) for n in range(40)]
    assert worker.logged(words)
