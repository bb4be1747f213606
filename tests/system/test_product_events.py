"""GET /products/events: server-sent events, from now on, and from where a client stopped."""
import json
import re
import socket
import threading
import time

import pytest
import requests
import sseclient

from feedmill import Client, wait_for
from test_relay import event, id_of


class Listener:
    """A client that listens with a library of other people's; what came, in order."""

    def __init__(self, url, last=None):
        self.answer = requests.get(url + "/products/events", headers={"Last-Event-ID": last} if last else {}, stream=True, timeout=60)
        self.events, self.last, self.ended = [], last, False
        if self.answer.status_code == 200:
            threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        try:
            for message in sseclient.SSEClient(self).events():
                self.last = message.id
                self.events.append(message)
        except (requests.RequestException, AttributeError, OSError, ValueError):
            pass
        self.ended = True

    def __iter__(self):
        """The bytes; the library passes over an id without data, which a browser keeps."""
        for chunk in self.answer.iter_content(None):
            if self.last is None and (match := re.search(rb"^id: (\S+)$", chunk, re.M)):
                self.last = match[1].decode()
            yield chunk

    def ids(self):
        return [message.id.rpartition("/")[2] for message in self.events]

    def close(self):
        """By the socket: what reads it holds the lock of all else."""
        self.answer.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: self.ended, "the reader's end")


@pytest.fixture
def listening(make_feed):
    feed = make_feed().prepare()
    feed.client = Client(feed.gateway().url)
    wait_for(lambda: try_to_listen(feed.client.url), "somebody may listen")
    return feed


def try_to_listen(url):
    return requests.head(url + "/products/events", timeout=60).status_code == 200


def test_events_come_as_they_happen(listening):
    one, two = Listener(listening.client.url), Listener(listening.client.url)
    assert one.answer.headers["Content-Type"] == "text/event-stream" and one.answer.headers["Cache-Control"] == "no-store"
    assert one.answer.headers["Access-Control-Allow-Origin"] == "*"
    listening.worker("command")
    made = listening.client.ok("POST", "/products", {"name": "Umbrella \u2602", "price": 3})["id"]
    listening.client.ok("DELETE", f"/products/{made}")
    for listener in (one, two):
        wait_for(lambda: len(listener.events) == 2, "both events")
        assert [message.event for message in listener.events] == ["product.created", "product.deleted"]
        records = sorted(listening.records("product_events", lambda records: len(records) == 2), key=lambda record: record.offset())
        assert [message.data.encode() for message in listener.events] == [record.value() for record in records]
        assert listener.ids() == [dict(record.headers())["ce_id"].decode() for record in records]
        listener.close()


def test_a_gateway_is_killed_and_nothing_is_missed(listening):
    """kill -9 while events come; the client comes back to another gateway with the last id it saw."""
    listener, sent, seen = Listener(listening.client.url), [], []
    gateway = listening.processes[0]
    for round_ in range(3):
        more = [event(len(sent) + n) for n in range(100)]
        before = len(listener.events)
        listening.produce_all("product_events", more)
        sent += more
        wait_for(lambda: len(listener.events) > before, "events come")
        gateway.kill()
        wait_for(lambda: listener.ended, "the connection ends")
        seen += listener.ids()
        while_away = [event(len(sent) + n) for n in range(50)]
        listening.produce_all("product_events", while_away)
        sent += while_away
        gateway = listening.gateway()
        wait_for(lambda: try_to_listen(gateway.url), "somebody may listen")
        listener = Listener(gateway.url, listener.last)
    wait_for(lambda: set(seen + listener.ids()) >= {id_of(record) for record in sent}, "all events", 60)
    first = list(dict.fromkeys(seen + listener.ids()))
    assert sorted(first) == sorted(id_of(record) for record in sent)
    listener.close()


def test_order_per_product_through_a_break(listening):
    sent = [event(n % 20, ("created", "deleted")[n // 20 % 2]) for n in range(400)]
    listener = Listener(listening.client.url)
    wait_for(lambda: listener.last, "its place")
    listener.close()
    listening.produce_all("product_events", sent)
    again = Listener(listening.client.url, listener.last)
    wait_for(lambda: len(again.events) == 400, "all events")
    for product in range(20):
        assert [id for id, message in zip(again.ids(), again.events) if json.loads(message.data)["id"] == product] == \
            [id_of(record) for record in sent if json.loads(record["value"])["id"] == product]
    again.close()


def test_all_that_is_kept(listening):
    """More than the gateway remembers by itself, from the beginning."""
    sent = [event(n, name="n" * 200) for n in range(5000)]
    listening.produce_all("product_events", sent)
    listener = Listener(listening.client.url, "1")
    wait_for(lambda: len(listener.events) >= 5000, "all events", 90)
    last = event(6000)
    listening.produce_all("product_events", [last])
    wait_for(lambda: listener.ids()[-1] == id_of(last), "the next one")
    assert listener.ids() == list(dict.fromkeys(listener.ids())) and len(listener.events) == 5001
    listener.close()


def test_a_wrong_id_is_refused(listening):
    for wrong in ("x", "2-0-0", "1--", "1-a", "1-0-0-0-0-0-0-0-0-x", "-1"):
        answer = requests.get(listening.client.url + "/products/events", headers={"Last-Event-ID": wrong}, timeout=30)
        assert answer.status_code == 400 and answer.headers["Content-Type"] == "application/problem+json", wrong
    assert requests.head(listening.client.url + "/products/events", timeout=30).headers["Content-Type"] == "text/event-stream"
    assert requests.delete(listening.client.url + "/products/events", timeout=30).status_code == 405


def test_one_who_reads_nothing_is_dropped_and_holds_up_nobody(make_feed):
    listening = make_feed(gateway__idle_timeout_ms=3000).prepare()
    listening.client = Client(listening.gateway().url)
    wait_for(lambda: try_to_listen(listening.client.url), "somebody may listen")
    port = int(listening.client.url.rpartition(":")[2])
    idle = socket.socket()
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    idle.connect(("127.0.0.1", port))
    idle.sendall(b"GET /products/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert idle.recv(15) == b"HTTP/1.1 200 OK"
    listener, gateway, produced = Listener(listening.client.url), listening.processes[0], 0
    wait_for(lambda: listening.metric(gateway, "feedmill_gateway_listeners") == 2, "two listen")
    while listening.metric(gateway, "feedmill_gateway_listeners") == 2:
        assert produced < 10000, "nobody is dropped"
        listening.produce_all("product_events", [event(produced + n, name="n" * 10000) for n in range(200)])
        produced += 200
        wait_for(lambda: len(set(listener.ids())) == produced, "the other one has all", 60)
    assert listening.metric(gateway, "feedmill_gateway_listeners_dropped_total") == 1
    idle.close()
    listener.close()


def test_those_who_leave_are_noticed_and_there_is_a_limit(make_feed):
    feed = make_feed(gateway__max_listeners=2).prepare()
    gateway = feed.gateway()
    wait_for(lambda: try_to_listen(gateway.url), "somebody may listen")
    listeners = [Listener(gateway.url), Listener(gateway.url)]
    third = requests.get(gateway.url + "/products/events", timeout=30)
    assert third.status_code == 503 and int(third.headers["Retry-After"]) > 0
    for listener in listeners:
        listener.close()

    def nobody_listens():
        feed.produce_all("product_events", [event(1)])
        return feed.metric(gateway, "feedmill_gateway_listeners") == 0
    wait_for(nobody_listens, "nobody listens", 60, every=0.2)
    assert gateway.stop() == 0


def test_a_stop_ends_the_streams(listening):
    listener, gateway = Listener(listening.client.url), listening.processes[0]
    before = time.monotonic()
    assert gateway.stop() == 0
    wait_for(lambda: listener.ended, "the end")
    assert time.monotonic() - before < 20
    assert re.fullmatch(r"1(-\d+){4}", listener.last), "an id also for one who saw no event"


def test_idle_connections_hold_no_thread(listening):
    """Ten times as many as there are HTTP threads, and requests are answered as ever."""
    listeners = [Listener(listening.client.url) for _ in range(40)]
    assert listening.client.ok("GET", "/products") == []
    listening.produce_all("product_events", [event(1)])
    for listener in listeners:
        wait_for(lambda: len(listener.events) == 1, "the event")
        listener.close()
