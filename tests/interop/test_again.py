"""Retries: what goes with a job from try to try, how long it waits between them, and what follows the last one."""
import datetime
import json
import time

import celery.exceptions
import pytest
from celery import chain, group

from conftest import wait_for

KEPT = ("correlation_id", "reply_to", "priority", "delivery_mode", "content_type", "content_encoding")


def test_a_retry_changes_nothing_but_its_count(make_cluster):
    """Everything that a client can say of a job is in the message of each try; link and chain follow the last one."""
    cluster = make_cluster()
    with cluster.traced() as published:
        cluster.job()
        app = cluster.app()
        linked, errback, step, last = app.signature("add", (100,)), app.signature("echo"), app.signature("add", (10,)), app.signature("add", (1000,))
        for signature in (linked, errback, step, last):
            signature.freeze()
        result = app.send_task(
            "flaky", [2], link=linked, link_error=errback, chain=[last, step], group_id="of-four", group_index=3, priority=7, shadow="shown",
            expires=600, time_limit=60, soft_time_limit=50, root_id="root", parent_id="parent", replaced_task_nesting=1,
            headers={"traceparent": "00-1", "nested": {"list": [1, None, "ü"], "yes": True}}, stamped_headers=["customer"], customer=["7", "8"])
        assert result.get(timeout=60) == 2
        assert [app.AsyncResult(s.id).get(timeout=60) for s in (linked, step, last)] == [102, 12, 1012]

        def tries():
            return [message for message in published() if message.headers.get("id") == result.id]
        first, *again = wait_for(lambda: len(tries()) >= 3 and tries(), "two tries more")

    def rest(message):
        return {name: value for name, value in message.headers.items() if name not in ("retries", "eta", "lang", "ignore_result")}
    assert [message.headers["retries"] for message in again] == [1, 2]
    assert first.headers["stamps"] == {"customer": ["7", "8"]} and first.headers["traceparent"] == "00-1" and first.properties["priority"] == 7
    for message in again:
        assert rest(message) == rest(first)
        assert json.loads(message.body) == json.loads(first.body)
        assert {name: message.properties.get(name) for name in KEPT} == {name: first.properties.get(name) for name in KEPT}


def test_headers_that_are_no_json_go_from_try_to_try(make_cluster):
    """A NUL, and bytes that are no text: of a job that is for later, of one that is tried again, and of a dead letter."""
    cluster = make_cluster()
    with cluster.traced() as published:
        cluster.job()
        app = cluster.app()
        odd = {"nul": "a\0b", "bytes": b"\xff\x00", "nested": {"list": ["\0", b"\xfe", 1]}}
        assert app.send_task("add", [1, 2], countdown=1, headers={"nul": "a\0b"}).get(timeout=60) == 3
        assert app.send_task("flaky", [2], headers={"nul": "a\0b"}).get(timeout=60) == 2
        cluster.publish("[[1], {}, null]", headers={"task": "flaky", "id": "odd", **odd})

        def tries():
            return [message.headers for message in published() if message.headers.get("id") == "odd" and message.key != "feed.jobs.dead"]
        for sent in wait_for(lambda: len(tries()) == 2 and tries(), "its second try"):
            assert {name: sent[name] for name in odd} == odd
        cluster.publish("{", headers={"task": "add", "id": "dead", **odd})
    (properties, _), = cluster.dead(1)
    assert {name: properties.headers[name] for name in ("id", *odd)} == {"id": "dead", **odd}


def test_chains_and_groups_of_jobs_that_are_tried_again(app):
    s = app.signature
    result = chain(s("flaky", (2,)), s("add", (10,)), s("flaky", (1,), immutable=True), s("add", (5,))).apply_async()
    assert result.get(timeout=60) == 6 and result.parent.parent.get(timeout=60) == 12
    assert group(s("flaky", (n,)) for n in (1, 3, 2, 0)).apply_async().get(timeout=60) == [1, 3, 2, 0]


def test_after_the_last_try_the_errback_is_called_and_the_chain_fails(app):
    s = app.signature
    errback, failing = s("echo"), s("flaky", (9,))
    errback.freeze()
    failing.link_error(errback)
    result = chain(failing, s("add", (1,)), s("add", (1,))).apply_async()
    first = result.parent.parent
    for ident in (first.id, result.parent.id, result.id):
        with pytest.raises(celery.exceptions.MaxRetriesExceededError):
            app.AsyncResult(ident).get(timeout=60)
    assert app.AsyncResult(errback.id).get(timeout=60) == first.id


def wait_of(message):
    """Seconds that the levels of the delay will hold it."""
    if message.exchange == "":
        return 0
    assert message.exchange == "celery_delayed_27"
    return int("".join(message.key.split(".")[:28]), 2)


def test_waits_grow_to_their_limit_with_full_jitter(make_cluster):
    """Read from the messages of the next tries: nobody has to wait. Of a hundred, one is in the lowest and one in the highest quarter."""
    cluster = make_cluster(**{"job.retry_first_ms": 100_000, "job.retry_limit_ms": 300_000})
    with cluster.traced() as published:
        cluster.job()
        app = cluster.app()
        bounds = {0: 100, 1: 200, 2: 300}  # tries so far: seconds; 400 are more than the limit
        began = time.time()
        sent = {app.send_task("flaky", [1000], retries=tried).id: tried for tried in bounds for _ in range(100)}

        def again():
            """The next try of each; one that has hardly waited may have come to another already."""
            return [m for m in published() if m.headers.get("id") in sent and m.headers["retries"] == sent[m.headers["id"]] + 1]
        messages = wait_for(lambda: len(again()) >= len(sent) and again(), "each is sent again", 60)
        ended = time.time()
    for tried, bound in bounds.items():
        waits = [wait_of(m) for m in messages if sent[m.headers["id"]] == tried]
        assert len(waits) == 100 and 0 <= min(waits) < bound / 4 and bound * 3 / 4 < max(waits) <= bound, waits
        assert len(set(waits)) > 20, waits
    for m in messages:
        assert began - 0.01 <= datetime.datetime.fromisoformat(m.headers["eta"]).timestamp() - wait_of(m) <= ended
