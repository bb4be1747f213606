"""Properties of AMQP that no client of Celery sends: none at all, encodings, timestamps, thousands of headers."""
import datetime
import gzip

import pytest

from conftest import wait_for
from flood import worker_value
from test_protocol import headers, value


@pytest.mark.parametrize("encoding", ["gzip", "utf-16", "x-of-nobody"])
def test_an_encoding_that_is_not_known_is_refused(cluster, send, encoding):
    cluster.publish(gzip.compress(b"[[1, 2], {}, null]"), headers=headers(), content_encoding=encoding)
    properties, _ = cluster.dead(1)[0]
    assert f'content encoding "{encoding}"' in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


@pytest.mark.parametrize("body, reason", [
    (b"", "empty"), (b"[[1, 2], {}, null]", "no header task"), (b'{"task": "add", "args": [1, 2], "kwargs": {}}', "no task id")])
def test_a_message_without_any_property(cluster, send, body, reason):
    publish_bare(cluster, body)
    properties, dead = cluster.dead(1)[0]
    assert dead == body and reason in properties.headers["x-feed-reason"]
    assert send("add", 1, 2) == 3


def publish_bare(cluster, body):
    with cluster.channel() as channel:
        channel.basic_publish("", "celery", body)


def test_all_that_version_1_needs_is_its_body(cluster, worker, send):
    def done():
        return worker_value(worker, "feedmill_job_runs_total", 'outcome="done"')
    before = done()
    publish_bare(cluster, b'{"task": "add", "id": "bare", "args": [1, 2], "kwargs": {}}')
    wait_for(lambda: done() == before + 1, "it has run")
    assert send("add", 1, 2) == 3


@pytest.mark.parametrize("seconds", [0, 2**63, 2**64 - 1])
def test_a_timestamp_is_nothing_to_us(cluster, worker, seconds):
    """None, or one that is negative: also of a job that is sent on."""
    assert value(cluster, [[1, 2], {}, None], headers(), timestamp=seconds) == 3
    assert value(cluster, [[1, 2], {}, None], headers(eta=soon()), timestamp=seconds) == 3


def soon():
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat()


def test_thousands_of_headers(cluster, worker):
    """Most of a frame of them: it runs, also after it was sent on."""
    many = {f"header-{n}": n for n in range(4000)}
    assert value(cluster, [[1, 2], {}, None], headers(**many)) == 3
    assert value(cluster, [[1, 2], {}, None], headers(**many, eta=soon())) == 3
