"""F9: the relay dies between a subscriber's getting an event and its offset. Events come again with the same id, none is missing,
and the first of each are in order."""
import contextlib
import time
import uuid

import pytest

from feedmill import Feedmill, wait_for
from rabbit import Subscriber, VirtualHost
from rig import BUILD
from test_relay import event, id_of
from test_webhooks import Sink

PRODUCTS = 60


@contextlib.contextmanager
def events_to(folder, **settings):
    """A Feedmill with a product's two events, sixty times; and their ids in order."""
    feed = Feedmill(folder, build=BUILD, **{"kafka.partitions": 2, **settings})
    records = [event(product, action) for product in range(1, PRODUCTS + 1) for action in ("created", "deleted")]
    try:
        feed.prepare()
        yield feed, records
    finally:
        feed.stop()


def killed_and_started_again(feed, point, passage):
    relay = feed.worker("relay", env={"FAULT": f"{point}:{passage}:kill"}, wait=False)
    wait_for(lambda: not relay.running(), f"{point} is passed", 60)
    assert relay.popen.wait() == -9
    feed.worker("relay")
    return time.monotonic()


def verdict(label, records, ids, began):
    """What a subscriber got, as ids in order."""
    sent = [id_of(record) for record in records]
    wait_for(lambda: set(ids()) >= set(sent), "every event", 60)
    recovery, got = time.monotonic() - began, ids()
    assert set(got) == set(sent)
    first = {id: place for place, id in reversed(list(enumerate(got)))}
    for created, deleted in zip(sent[::2], sent[1::2]):
        assert first[created] < first[deleted], "created before deleted"
    assert recovery < 30, f"what the dead one had is somebody's again after {recovery:.1f} s"
    print(f"F9 {label}: {len(sent)} events, {len(got) - len(sent)} of them again, 0 lost, recovered in {recovery:.1f} s")


@pytest.mark.parametrize("point, passage", [("relay.published", 1), ("relay.confirmed", 5)])
def test_killed_while_it_publishes(folder, point, passage):
    with VirtualHost() as vhost:
        exchange = "pe-" + uuid.uuid4().hex[:8]
        with events_to(folder, **{"amqp.url": vhost.url, "relay.exchange": exchange}) as (feed, records):
            subscriber = Subscriber(vhost.url, exchange=exchange)
            feed.produce_all("product_events", records)
            began = killed_and_started_again(feed, point, passage)
            verdict(f"{point}, RabbitMQ", records, subscriber.ids, began)
            subscriber.close()


def test_killed_after_a_call(folder):
    sink = Sink()
    settings = {"relay.webhook_addresses": "any", "relay.webhook_retry_ms": 20, "relay.webhook_retry_max_ms": 200}
    with events_to(folder, **settings) as (feed, records):
        feed.ctl("webhook", "add", sink.url("/all"))
        feed.produce_all("product_events", records)
        began = killed_and_started_again(feed, "webhook.called", 5)
        verdict("webhook.called, webhooks", records, lambda: sink.ids("/all"), began)
    sink.close()
