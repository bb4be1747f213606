"""Clients that are slow, silent, or do not read: they are shut in time, and do not delay the others.

What is compared is measured in the same run, with and without them; no time is absolute.
"""
import contextlib
import http.client
import resource
import select
import subprocess
import sys
import time

import pytest

from feedmill import Client, wait_for
from test_bad_http import BODY, CHUNK, chunked, get, sized
from unharmed import Unharmed, descriptors
from wire import connect, rest_of, status

pytestmark = pytest.mark.once

SLOW = 2000
IDLE = 10000

# In a process of its own, so that the honest clients are measured and not Python's lock: a byte a second on each connection, half
# of them in a header, half in a body. Prints how many there are, then each second how many the gateway has not shut.
SLOW_CLIENTS = r"""
import select, socket, sys, time

port, count = int(sys.argv[1]), int(sys.argv[2])
heads = [b"GET /products HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /products HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"]
open_ = []
for n in range(count):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(heads[n % 2])
    open_.append(connection)
print("open", flush=True)
while open_:
    began = time.monotonic()
    for n, connection in enumerate(list(open_)):
        try:
            connection.sendall(b" ")
        except OSError:
            open_.remove(connection)
        if n % 100 == 0:
            time.sleep(max(0, began + n / len(open_ or [0]) - time.monotonic()))
    print(len(open_), flush=True)
"""


@pytest.fixture(scope="module")
def descriptors_for_clients():
    """As many as one test needs, of those that the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def hasty(folder, kind):
    """A Feedmill whose gateway has little patience."""
    feed = kind(folder, **{"gateway.header_timeout_ms": 1000, "gateway.idle_timeout_ms": 1000, "gateway.body_min_rate": 100000})
    try:
        feed.prepare()
        feed.workers = ()
        feed.client = Client(feed.gateway().url)
        yield feed
    finally:
        feed.stop()


SHUT = {
    "nothing": (b"", None), "empty lines": (b"\r\n" * 50, None), "half a request line": (b"GET /pro", None), "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
    "request line": (b"GET /products HTTP/1.1\r\n", 408), "headers": (get()[:-2], 408), "body": (sized(b"%d" % (len(BODY) + 1)), 408), "no body": (sized(b"100", b"Expect: 100-continue")[:-len(BODY)], 100),
    "last CRLF": (chunked(CHUNK + b"0\r\n"), 408), "last chunk": (chunked(CHUNK), 408), "rest of a chunk": (chunked(CHUNK[:-9]), 408), "chunk of 2^64-1": (chunked(b"ffffffffffffffff\r\n" + BODY), 408),
    "next request": (get().replace(b"Connection: close\r\n", b""), 200),
}


@pytest.mark.parametrize("half_close", [False, True], ids=["silent", "cut off"])
def test_what_stops_in_the_middle_is_shut(hasty, half_close):
    """Without an effect; who has begun a request hears why."""
    unharmed = Unharmed(hasty)
    connections = {what: connect(hasty.client) for what in SHUT}
    for what, connection in connections.items():
        connection.sendall(SHUT[what][0])
        if half_close:
            connection.shutdown(1)
    for what, connection in connections.items():
        answer = rest_of(connection)
        assert status(answer) == SHUT[what][1] or (half_close and answer == b""), (what, answer)
        connection.close()
    unharmed.check_all()


def test_byte_by_byte_is_shut(hasty):
    """What comes a byte at a time buys no time in a header, and too little in a body."""
    unharmed = Unharmed(hasty)
    for request in (b"GET /products HTTP/1.1\r\nHost: x\r\nX-Slow: ", sized(b"100000")):
        with connect(hasty.client) as connection:
            connection.sendall(request)
            while not select.select([connection], [], [], 0.05)[0]:
                connection.sendall(b" ")
            assert status(rest_of(connection)) == 408
    unharmed.check_all()


def test_who_does_not_read_is_shut(hasty):
    unharmed = Unharmed(hasty)
    with connect(hasty.client) as connection:
        connection.setblocking(False)
        request = get(target=b"/openapi.json").replace(b"Connection: close\r\n", b"") * 100

        def is_shut():
            try:
                connection.send(request)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return False
        wait_for(is_shut, "the connection is shut")
    unharmed.check_all()


def test_idle_connections_hold_nobody_up(make_feed, descriptors_for_clients):
    """As many as max_connections has room for; the gateway raises its own limit of descriptors for them."""
    count = min(IDLE, descriptors_for_clients - 1000)
    patient = {"gateway__header_timeout_ms": 300000, "gateway__idle_timeout_ms": 300000}  # none is shut before the last has come
    feed = make_feed(gateway__max_connections=count + 100, **patient).prepare()
    gateway = feed.gateway(descriptors="256:")
    before = descriptors(gateway)
    with contextlib.ExitStack() as idle:
        for _ in range(count):
            idle.enter_context(connect(Client(gateway.url)))
        wait_for(lambda: descriptors(gateway) >= before + count, "all are accepted", 90)
        assert Client(gateway.url).get("/products").status_code == 200
    wait_for(lambda: descriptors(gateway) <= before + 10, "all are gone", 90)
    assert not gateway.logged("fewer connections"), gateway.output()


def test_descriptors_that_are_not_to_be_had(make_feed, descriptors_for_clients):
    """Fewer connections are accepted then, so that the gateway's own are still to be had; the log says what to raise."""
    feed = make_feed(gateway__max_connections=IDLE).prepare()
    gateway = feed.gateway(descriptors="256:600")
    accepted = int(gateway.logged(r'event="fewer connections than set" max_connections=10000 accepted=(\d+) descriptors=600 remedy=".*LimitNOFILE')[1])
    assert 256 <= accepted < 600
    with contextlib.ExitStack() as idle:
        mine = idle.enter_context(contextlib.closing(http.client.HTTPConnection(gateway.url.removeprefix("http://"))))
        mine.connect()
        for _ in range(700):
            idle.enter_context(connect(Client(gateway.url)))
        wait_for(lambda: feed.metric(gateway, "feedmill_gateway_connections") == accepted, "all that are accepted")
        mine.request("GET", "/products")
        assert mine.getresponse().status == 200, "its readers got theirs"
    wait_for(lambda: Client(gateway.url).get("/products").status_code == 200, "the others are gone")


def measure(url, author, seconds):
    """99th percentiles, in seconds, of one honest client's reads and of its posts."""
    connection, times = http.client.HTTPConnection(url.removeprefix("http://")), ([], [])
    body, end = b'{"subject":"s","story":"honest"}', time.monotonic() + seconds
    while time.monotonic() < end:
        for which, request in enumerate((("GET", f"/participant/{author}"), ("POST", f"/participant/{author}/outbound", body, {"Content-Type": "application/json"}))):
            began = time.monotonic()
            connection.request(*request)
            answer = connection.getresponse()
            answer.read()
            times[which].append(time.monotonic() - began)
            assert answer.status == 200
    connection.close()
    assert all(len(t) > 100 for t in times), "enough for a percentile"
    return [sorted(t)[len(t) * 99 // 100] for t in times]


@pytest.mark.alone
def test_slow_clients_do_not_delay_the_others(make_feed, descriptors_for_clients):
    """2,000 connections with a byte a second, on a gateway that lets them: it does not shut them while we measure."""
    feed = make_feed(gateway__header_timeout_ms=600000, gateway__body_min_rate=0).prepare()
    worker, gateway = feed.worker("command"), feed.gateway(descriptors="1024:")
    url = gateway.url
    author = Client(url).participant()
    worker.stop()
    measure(url, author, 1)
    quiet, crowded = [], []
    for _ in range(3):
        quiet.append(measure(url, author, 2))
        slow = subprocess.Popen([sys.executable, "-c", SLOW_CLIENTS, url.rsplit(":", 1)[1], str(SLOW)], stdout=subprocess.PIPE, text=True)
        try:
            assert slow.stdout.readline() == "open\n"
            crowded.append(measure(url, author, 2))
            assert slow.stdout.readline() == f"{SLOW}\n", "all are still there"
        finally:
            slow.kill()
            slow.communicate()
        wait_for(lambda: feed.metric(gateway, "feedmill_gateway_connections") < 10, "the slow ones are gone", 90)
    for which, what in enumerate(("reads", "posts")):
        without, with_them = (sorted(round_[which] for round_ in rounds)[1] for rounds in (quiet, crowded))
        print(f"{what}: p99 {without * 1000:.2f} ms, with {SLOW} slow clients {with_them * 1000:.2f} ms")
        assert with_them < 8 * without, (what, quiet, crowded)
    assert not gateway.logged("level=error")
