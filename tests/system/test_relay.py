"""feed-worker relay: product events to subscribers on RabbitMQ and Redis."""
import json
import threading
import time
import urllib.parse
import uuid
from collections import defaultdict

import pika
import pytest
import redis
import requests

from feedmill import Client, server, wait_for
from rabbit import Subscriber, VirtualHost


def event(product, action="created", id=None, name="x"):
    """A product event as the worker command sends it."""
    body = {"action": action, "id": product, **({"name": name} if action == "created" else {})}
    id = id or str(uuid.uuid4())
    headers = [("ce_specversion", b"1.0"), ("ce_id", id.encode()), ("ce_source", b"/feedmill/products"), ("ce_type", f"product.{action}".encode()),
               ("ce_subject", str(product).encode()), ("ce_sequence", b"1" if action == "created" else b"2"), ("content-type", b"application/json")]
    return {"value": json.dumps(body, separators=(",", ":")).encode(), "key": str(product).encode(), "headers": headers}


def id_of(record):
    return dict(record["headers"])["ce_id"].decode()


class Channel:
    """A subscriber on Redis: what came to the channel, in order."""

    def __init__(self, name):
        self.link = redis.Redis.from_url(server("REDIS_URL"))
        self.pubsub = self.link.pubsub(ignore_subscribe_messages=False)
        self.pubsub.subscribe(name)
        wait_for(lambda: self.pubsub.get_message(timeout=1), "the subscription")
        self.bodies = []

    def take(self):
        while (message := self.pubsub.get_message(timeout=0.01)) is not None:
            self.bodies.append(message["data"])
        return self.bodies

    def close(self):
        self.pubsub.close()
        self.link.close()


@pytest.fixture(scope="module")
def vhost():
    with VirtualHost() as vhost:
        yield vhost


@pytest.fixture
def place(make_feed, vhost):
    """A Feedmill without programs whose relay goes to an exchange and a channel of the test's own."""
    name = "pe-" + uuid.uuid4().hex[:8]
    feed = make_feed(amqp__url=vhost.url, redis__url=server("REDIS_URL"), relay__exchange=name, relay__channel=name).prepare()
    feed.exchange = name
    return feed


def test_a_products_life_reaches_every_subscriber(place, vhost):
    """Through the gateway; the body is the same, byte for byte, as on Kafka."""
    every, deleted = Subscriber(vhost.url, exchange=place.exchange), Subscriber(vhost.url, "product.deleted", place.exchange)
    channel = Channel(place.exchange)
    place.worker("command")
    relay = place.worker("relay")
    assert relay.logged(r'event=start .*sinks="rabbitmq redis\b'), relay.output()
    client = Client(place.gateway().url)
    trace = "0af7651916cd43dd8448eb211c80319c"
    made = client.ok("POST", "/products", {"name": "Umbrella \u2602", "price": 3}, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})["id"]
    client.ok("DELETE", f"/products/{made}")
    wait_for(lambda: len(every.take()) == 2, "both events on RabbitMQ")
    wait_for(lambda: len(channel.take()) == 2, "both events on Redis")
    records = sorted(place.records("product_events", lambda records: len(records) == 2), key=lambda record: record.offset())
    assert [body for _, _, body in every.messages] == channel.bodies == [record.value() for record in records]
    for (method, properties, body), record in zip(every.messages, records):
        kafka = {name: value.decode() for name, value in record.headers()}
        assert properties.message_id == kafka["ce_id"] and properties.content_type == "application/json"
        assert properties.delivery_mode == 2 and properties.app_id == "feedmill" and properties.timestamp > 1700000000
        assert method.routing_key == kafka["ce_type"]
        attributes = {name.replace("ce_", "cloudEvents:"): value for name, value in kafka.items() if name.startswith("ce_")}
        assert {name: value for name, value in properties.headers.items() if name.startswith("cloudEvents:")} == attributes
    assert trace in every.messages[0][1].headers["traceparent"]
    assert [body for _, _, body in deleted.take()] == [records[1].value()]
    for subscriber in (every, deleted, channel):
        subscriber.close()


def test_order_per_product_and_no_repeats(place, vhost):
    subscriber, channel = Subscriber(vhost.url, exchange=place.exchange), Channel(place.exchange)
    records = []
    for product in range(1, 151):
        made, gone = event(product), event(product, "deleted")
        records += [made, made, gone, made] if product % 3 == 0 else [made, gone]
    place.produce_all("product_events", records)
    relay = place.worker("relay")
    wait_for(lambda: len(subscriber.take()) >= 300, "all events")
    wait_for(lambda: len(channel.take()) >= 300, "all events on Redis")
    wait_for(lambda: all(place.lag(f"relay.{sink}", "product_events") == 0 for sink in ("rabbitmq", "redis")), "offsets")
    for bodies in ([body for _, _, body in subscriber.take()], channel.take()):
        actions = defaultdict(list)
        for body in map(json.loads, bodies):
            actions[body["id"]].append(body["action"])
        assert len(bodies) == 300 and all(seen == ["created", "deleted"] for seen in actions.values()), actions
    assert place.metric(relay, "feedmill_relay_repeats_total", sink="rabbitmq") == 100
    subscriber.close()
    channel.close()


def test_an_event_that_no_queue_wants_is_no_error(place, vhost):
    place.produce_all("product_events", [event(n) for n in range(5)])
    relay = place.worker("relay")
    wait_for(lambda: place.lag("relay.rabbitmq", "product_events") == 0, "the events are done")
    assert place.metric(relay, "feedmill_relay_unroutable_total") == 5
    subscriber = Subscriber(vhost.url, exchange=place.exchange)
    last = event(9)
    place.produce_all("product_events", [last])
    wait_for(lambda: subscriber.ids() == [id_of(last)], "the event that somebody wants")
    subscriber.close()


def test_what_is_no_product_event_goes_to_the_dead_letters(place, vhost):
    subscriber = Subscriber(vhost.url, exchange=place.exchange)
    good = event(1)
    bad = [{"value": b"not json", "key": b"1"}, {**event(1), "headers": []}, {**event(1), "value": b'{"action":"painted","id":1}'},
           {**event(1), "value": b'{"action":"created"}'}, {**event(1), "value": None}, {**event(1), "value": b"[1]"}, {**event(1), "value": b"{}"}, {**event(1, id="x" * 300)},
           {**event(1, id="x\r\nX-More: 1")}]
    place.produce_all("product_events", [*bad, good])
    place.worker("relay")
    wait_for(lambda: subscriber.ids() == [id_of(good)], "the good one")
    for sink in ("rabbitmq", "redis"):
        assert len(place.records(f"relay.{sink}.dlq", lambda records: len(records) >= len(bad))) == len(bad)
    subscriber.close()


def test_headers_that_no_frame_takes_go_to_the_dead_letters(place, vhost):
    """Kafka takes a megabyte, RabbitMQ 128 KiB. What is around the event, and what comes behind it, arrives."""
    subscriber = Subscriber(vhost.url, exchange=place.exchange)
    large = event(2)
    large["headers"] = [*large["headers"], ("ce_big", b"x" * 140_000)]
    sent = [event(1), event(2), event(3), large, event(2, "deleted"), event(4)]
    place.produce_all("product_events", sent)
    relay = place.worker("relay")
    wait_for(lambda: set(subscriber.ids()) >= {id_of(record) for record in sent} - {id_of(large)}, "all others", 60)
    letter, = place.records("relay.rabbitmq.dlq", lambda records: len(records) >= 1)
    assert dict(letter.headers())["ce_id"].decode() == id_of(large)
    wait_for(lambda: place.lag("relay.rabbitmq", "product_events") == 0, "it is not tried again")
    assert id_of(large) not in subscriber.ids() and state(relay, "rabbitmq") == "ok"
    last = event(9)
    place.produce_all("product_events", [last])
    wait_for(lambda: id_of(last) in subscriber.ids(), "the next event")
    subscriber.close()


def test_a_sink_that_is_not_configured_is_off(make_feed):
    feed = make_feed().prepare()
    relay = feed.worker("relay")
    assert relay.logged(r'event=start .*sinks="rabbitmq=off redis=off\b'), relay.output()


def test_one_sink_down_does_not_hold_up_the_others(make_feed):
    """RabbitMQ is away from the start: Redis gets its events, and the process is ready."""
    name = "pe-" + uuid.uuid4().hex[:8]
    feed = make_feed(amqp__url="amqp://feed:feed@127.0.0.1:1", redis__url=server("REDIS_URL"), relay__channel=name).prepare()
    channel = Channel(name)
    relay = feed.worker("relay")
    sent = [event(n) for n in range(20)]
    feed.produce_all("product_events", sent)
    wait_for(lambda: len(channel.take()) == 20, "events on Redis")
    wait_for(lambda: "127.0.0.1:1" in state(relay, "rabbitmq"), "it says why")
    assert state(relay, "redis") == "ok"
    assert feed.lag("relay.rabbitmq", "product_events") == 20
    assert relay.stop() == 0
    channel.close()


def state(relay, sink):
    return requests.get(relay.admin + "/readyz", timeout=5).json()["checks"][f"relay.{sink}.{sink}"]


def subscribe_durably(rabbit):
    return Subscriber(rabbit.url, queue="audit")


def check_all(messages, sent):
    """Each event at least once, first occurrences in order."""
    first = list(dict.fromkeys(messages))
    assert len(first) == len(sent) and set(first) == {id_of(record) for record in sent}


def test_rabbitmq_is_killed_and_comes_back(make_feed, rabbit):
    """kill -9 of the server, again and again, while events flow: none is lost."""
    feed = make_feed(amqp__url=rabbit.url, kafka__partitions=1).prepare()
    subscribe_durably(rabbit).close()
    rabbit.keep_bindings()
    relay = feed.worker("relay")
    sent, stop = [], threading.Event()

    def flow():
        while not stop.is_set():
            more = [event(n) for n in range(len(sent), len(sent) + 10)]
            feed.produce_all("product_events", more)
            sent.extend(more)
            time.sleep(0.02)
    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        for _ in range(2):
            done = feed.metric(relay, "feedmill_worker_records_total", worker="relay.rabbitmq", outcome="done")
            wait_for(lambda: feed.metric(relay, "feedmill_worker_records_total", worker="relay.rabbitmq", outcome="done") > done + 100, "events flow", 60)
            rabbit.kill()
            relay.wait_logged(r'event="dependency is down, waiting" dependency=rabbitmq')
            rabbit.start()
    finally:
        stop.set()
        flowing.join()
    wait_for(lambda: feed.lag("relay.rabbitmq", "product_events") == 0, "all events are done", 90)
    assert feed.metric(relay, "feedmill_relay_unroutable_total") == 0, "RabbitMQ has kept the binding"
    subscriber = subscribe_durably(rabbit)
    check_all(subscriber.ids(), sent)
    ids = list(dict.fromkeys(subscriber.ids()))
    assert ids == [id_of(record) for record in sent], "in order: one partition"
    subscriber.close()
    assert relay.stop() == 0


def test_memory_alarm_blocks_nobody_else_and_passes(make_feed, rabbit):
    name = "pe-" + uuid.uuid4().hex[:8]
    feed = make_feed(amqp__url=rabbit.url, redis__url=server("REDIS_URL"), relay__channel=name).prepare()
    subscriber, channel = Subscriber(rabbit.url), Channel(name)
    relay = feed.worker("relay")
    first = [event(n) for n in range(10)]
    feed.produce_all("product_events", first)
    wait_for(lambda: len(subscriber.ids()) == 10, "before the alarm")
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    later = [event(n) for n in range(10, 30)]
    feed.produce_all("product_events", later)
    wait_for(lambda: len(channel.take()) == 30, "Redis goes on")
    wait_for(lambda: "RabbitMQ" in state(relay, "rabbitmq"), "it says why", 60)
    assert requests.get(relay.admin + "/healthz", timeout=5).status_code == 200
    rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: set(subscriber.ids()) >= {id_of(record) for record in later}, "after the alarm", 90)
    wait_for(lambda: feed.lag("relay.rabbitmq", "product_events") == 0, "offsets", 60)
    assert relay.stop() == 0
    channel.close()


def test_stop_during_a_memory_alarm(make_feed, rabbit):
    """A publisher that is blocked does not keep the process."""
    feed = make_feed(amqp__url=rabbit.url, worker__drain_timeout_ms=3000).prepare()
    relay = feed.worker("relay")
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    feed.produce_all("product_events", [event(n) for n in range(10)])
    wait_for(lambda: state(relay, "rabbitmq") != "ok", "blocked", 60)
    assert relay.stop() == 0


def test_exchange_is_deleted_meanwhile(place, vhost):
    """It is made again; what was published meanwhile goes there."""
    place.produce_all("product_events", [event(1)])
    place.worker("relay")
    wait_for(lambda: place.lag("relay.rabbitmq", "product_events") == 0, "the first")
    connection = vhost.connect()
    connection.channel().exchange_delete(place.exchange)
    connection.close()
    last = event(2)
    place.produce_all("product_events", [last])
    wait_for(lambda: place.lag("relay.rabbitmq", "product_events") == 0, "the second", 60)
    subscriber = Subscriber(vhost.url, exchange=place.exchange)
    third = event(3)
    place.produce_all("product_events", [third])
    wait_for(lambda: subscriber.ids() == [id_of(third)], "the third")
    subscriber.close()


def test_refused_messages_come_again(place, vhost):
    """A full queue that rejects publishes: nack. When there is room again, all come, in order."""
    connection = vhost.connect()
    channel = connection.channel()
    channel.exchange_declare(place.exchange, "topic", durable=True)
    channel.queue_declare("small", durable=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
    channel.queue_bind("small", place.exchange, "#")
    sent = [event(n // 2, ("created", "deleted")[n % 2]) for n in range(20)]
    place.produce_all("product_events", sent)
    place.worker("relay")
    bodies = []

    def take():
        connection.process_data_events()
        method, _, body = channel.basic_get("small", auto_ack=True)
        if method is not None:
            bodies.append(body)
        return set(bodies) >= {record["value"] for record in sent}
    wait_for(take, "all events, a few at a time", 90)
    first = list(dict.fromkeys(bodies))
    for product in range(10):
        assert [json.loads(body)["action"] for body in first if json.loads(body)["id"] == product] == ["created", "deleted"]
    channel.queue_delete("small")
    connection.close()


def test_killed_between_publish_and_confirm(place, vhost):
    """kill -9 of the worker while events flow: all of them arrive, some twice, first occurrences of a product in their order."""
    subscriber = Subscriber(vhost.url, exchange=place.exchange)
    sent = []
    for _ in range(2):
        sent += [event((len(sent) + n) // 2, ("created", "deleted")[n % 2]) for n in range(3000)]
        subscriber.take()
        relay = place.worker("relay", wait=False)
        place.produce_all("product_events", sent[-3000:])
        wait_for(lambda: subscriber.channel.queue_declare(subscriber.queue, passive=True).method.message_count, "events flow", 60)
        relay.kill()
    place.worker("relay")
    wait_for(lambda: set(subscriber.ids()) == {id_of(record) for record in sent}, "all events", 90)
    actions = defaultdict(list)
    for body in map(json.loads, dict.fromkeys(body for _, _, body in subscriber.messages)):
        actions[body["id"]].append(body["action"])
    assert all(actions[product] == ["created", "deleted"] for product in range(len(sent) // 2)), actions
    subscriber.close()


def test_redis_away_and_back(make_feed):
    """Events wait for Redis in Kafka."""
    name = "pe-" + uuid.uuid4().hex[:8]
    feed = make_feed(redis__url="redis://127.0.0.1:1", relay__channel=name).prepare()
    feed.produce_all("product_events", [event(1)])
    relay = feed.worker("relay", wait=False)
    relay.wait_logged(r'event="dependency is down, waiting" dependency=redis')
    assert relay.stop() == 0
    channel = Channel(name)
    feed.worker("relay", config=feed.write_config(feed.folder / f"{feed.name}-2.cfg", **{"redis.url": server("REDIS_URL")}))
    wait_for(lambda: len(channel.take()) == 1, "the event")
    channel.close()


def test_redis_with_an_account(make_feed):
    """Of the URL, where what is special in one is written as %XX; a wrong password is told, and not shown."""
    name, password = "pe-" + uuid.uuid4().hex[:8], "p@ss:w/\u00f6%"
    host = urllib.parse.urlsplit(server("REDIS_URL")).netloc.rpartition("@")[2]
    link = redis.Redis.from_url(server("REDIS_URL"))
    link.execute_command("ACL", "SETUSER", name, "on", ">" + password, "+@all", "allchannels")
    channel = Channel(name)
    try:
        feed = make_feed(redis__url=f"redis://{name}:not-{name}@{host}", relay__channel=name).prepare()
        feed.produce_all("product_events", [event(1)])
        relay = feed.worker("relay", wait=False)
        relay.wait_logged(r'event="dependency is down, waiting" dependency=redis .*WRONGPASS')
        assert relay.stop() == 0 and "not-" + name not in relay.output()
        right = urllib.parse.quote(password, safe="")
        relay = feed.worker("relay", config=feed.write_config(feed.folder / f"{feed.name}-2.cfg", **{"redis.url": f"redis://{name}:{right}@{host}"}))
        wait_for(lambda: len(channel.take()) == 1, "the event")
        assert relay.stop() == 0 and right not in relay.output() and password not in relay.output()
    finally:
        link.execute_command("ACL", "DELUSER", name)
        link.close()
        channel.close()


def test_wrong_urls_end_the_worker(make_feed):
    for setting in ("amqp__url", "redis__url"):
        feed = make_feed(**{setting: "http://127.0.0.1"}).prepare()
        relay = feed.worker("relay", wait=False)
        assert relay.popen.wait(60) == 1 and setting.replace("__", ".") in relay.output()
        feed.processes.remove(relay)
