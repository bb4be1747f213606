"""GET /products/events: many clients at once that are behind, near and far, and what they cost."""
import contextlib
import re
import selectors
import socket
from collections import Counter, defaultdict

import pytest

from feedmill import wait_for
from test_product_events import try_to_listen
from test_relay import event, id_of

PARTITIONS = 4


class Member:
    """One connection, and what came of it."""

    def __init__(self, url, last, window=None):
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.socket, self.raw, self.body, self.head, self.ended = socket.socket(), b"", bytearray(), None, False
        self.socket.settimeout(60)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.connect((host, int(port)))
        header = f"Last-Event-ID: {last}\r\n" if last else ""
        self.socket.sendall(f"GET /products/events HTTP/1.1\r\nHost: {host}\r\n{header}\r\n".encode())

    def read(self):
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self.socket.recv(1 << 18)
        self.ended = not data
        self.raw += data
        if self.head is None and b"\r\n\r\n" in self.raw:
            self.head, _, self.raw = self.raw.partition(b"\r\n\r\n")
            assert self.head.startswith(b"HTTP/1.1 200 "), self.head
        while self.head is not None and self.take_chunk():
            pass

    def take_chunk(self):
        size, found, _ = self.raw[:20].partition(b"\r\n")
        end = len(size) + 2 + int(size, 16) if found else 0
        if not found or len(self.raw) < end + 2:
            return False
        self.body += self.raw[len(size) + 2:end]
        self.raw = self.raw[end + 2:]
        return end > len(size) + 2

    def count(self):
        return self.body.count(b"\ndata: ")

    def places(self):
        """The ids of whole messages; the first one of who names no place is no event's."""
        return re.findall(r"^id: (\S+)\n(?:.+\n)*\n", self.body.decode(), re.M)

    def ids(self):
        """The events' own ids, in the order in which they came."""
        return [place.rpartition("/")[2] for place in self.places() if "/" in place]


class Crowd:
    """Many clients in one thread, each from a place of its own."""

    def __init__(self, url, places, window=None):
        self.selector, self.members = selectors.DefaultSelector(), []
        for place in places:
            member = Member(url, place, window)
            self.members.append(member)
            self.selector.register(member.socket, selectors.EVENT_READ, member)

    def read(self):
        for key, _ in self.selector.select(0.05):
            key.data.read()
            if key.data.ended:
                self.selector.unregister(key.fileobj)

    def until(self, condition, what):
        """Reads until it holds for each, one after another."""
        left = list(self.members)

        def holds():
            self.read()
            while left and condition(left[-1]):
                left.pop()
            return not left
        wait_for(holds, what, 90, every=0)

    def close(self):
        for member in self.members:
            member.socket.close()
        self.selector.close()


@pytest.fixture
def crowd():
    with contextlib.ExitStack() as stack:
        def make(*args, **options):
            crowd = Crowd(*args, **options)
            stack.callback(crowd.close)
            return crowd
        yield make


class Topic:
    """What was written, in the order of each partition."""

    def __init__(self, feed):
        self.feed, self.ids = feed, defaultdict(list)

    def write(self, count, name="x"):
        first = self.size()
        records = [event(first + n, name=name) for n in range(count)]
        written = zip(self.feed.produce_all("product_events", records), records)
        for (partition, offset), record in sorted(written, key=lambda pair: pair[0]):
            assert offset == len(self.ids[partition])
            self.ids[partition].append(id_of(record))
        return self

    def size(self):
        return sum(len(ids) for ids in self.ids.values())

    def place(self):
        """As the gateway names the end."""
        return "1-" + "-".join(str(len(self.ids[p])) for p in range(PARTITIONS))

    def behind(self, place):
        """What comes after the place, of each partition."""
        offsets = [int(offset) for offset in place.partition("/")[0].split("-")[1:]]
        return {p: self.ids[p][offset:] for p, offset in enumerate(offsets + [0] * (PARTITIONS - len(offsets)))}


def missing(topic, place):
    return sum(len(ids) for ids in topic.behind(place).values())


def check(topic, member, place):
    """It got all that comes after its place, none twice, and each partition in its order."""
    got, expected = member.ids(), topic.behind(place)
    of = {id: p for p, ids in expected.items() for id in ids}
    assert [id for id, times in Counter(got).items() if times > 1] == [], "came twice"
    assert set(got) == set(of)
    by = defaultdict(list)
    for id in got:
        by[of[id]].append(id)
    assert by == {p: ids for p, ids in expected.items() if ids}


def start(feed):
    gateway = feed.gateway()
    wait_for(lambda: try_to_listen(gateway.url), "somebody may listen")
    return gateway


def reads(feed, gateway):
    return feed.metric(gateway, "feedmill_gateway_catch_up_reads_total"), feed.metric(gateway, "feedmill_gateway_catch_up_records_total")


def all_that_is_missing(topic, crowd, places):
    for member, place in zip(crowd.members, places):
        member.wanted = missing(topic, place)
    crowd.until(lambda member: member.count() >= member.wanted, "what was missed")


def live_ones_follow(topic, crowds, count):
    """Each gets what is written from now on, and got exactly what it lacked before."""
    topic.write(count)
    for members, places in crowds:
        all_that_is_missing(topic, members, places)
    for members, places in crowds:
        for member, place in zip(members.members, places):
            check(topic, member, place)


def test_many_come_back_after_a_restart(make_feed, crowd):
    """200 that are a few events behind, not all at one place: nothing is read for them."""
    feed = make_feed().prepare()
    gateway, topic = start(feed), Topic(feed)
    before = crowd(gateway.url, [None] * 200)
    before.until(lambda member: member.places(), "a place")
    topic.write(40)
    before.until(lambda member: member.count() == 40, "all events")
    gateway.kill()
    before.until(lambda member: member.ended, "the end")
    places = [member.places()[-1 - n % 20] for n, member in enumerate(before.members)]
    topic.write(30)
    gateway = start(feed)
    after = crowd(gateway.url, places)
    all_that_is_missing(topic, after, places)
    live_ones_follow(topic, [(after, places)], 20)
    assert reads(feed, gateway) == (0, 0)


def test_far_and_near_after_a_restart(make_feed, crowd):
    """Those who lack thousands share their reads; those who lack a few do not wait for them, nor for some who read nothing."""
    feed = make_feed().prepare()
    topic = Topic(feed)
    beginning, some = "1", topic.write(700).place()
    half = topic.write(1000).place()
    near = topic.write(1800).place()
    topic.write(10)
    gateway = start(feed)
    far_places, near_places = [beginning] * 30 + [some] * 30 + [half] * 30, [near] * 100
    far, quick = crowd(gateway.url, far_places), crowd(gateway.url, near_places)
    all_that_is_missing(topic, quick, near_places)      # nobody reads what the others get
    live_ones_follow(topic, [(quick, near_places)], 5)
    all_that_is_missing(topic, far, far_places)
    live_ones_follow(topic, [(far, far_places), (quick, near_places)], 20)
    delivered = sum(missing(topic, place) for place in far_places)
    times, records = reads(feed, gateway)
    assert 0 < records < delivered / 10, f"{records} records were read in {times} reads, to deliver {delivered}"


def test_a_crowd_further_behind_than_is_kept(make_feed, crowd):
    """100 at one place that lack more than the gateway remembers: few reads in all, and events that are written meanwhile come, too."""
    feed = make_feed().prepare()
    topic = Topic(feed)
    place = topic.write(50).place()
    topic.write(1500)
    gateway = start(feed)
    places = [place] * 100
    members = crowd(gateway.url, places)
    for _ in range(5):
        topic.write(50)
    all_that_is_missing(topic, members, places)
    live_ones_follow(topic, [(members, places)], 20)
    times, records = reads(feed, gateway)
    assert 0 < records < 100 * 1500 / 10, f"{records} records were read in {times} reads"


def test_who_does_not_read_holds_up_nobody_and_misses_nothing(make_feed, crowd):
    """Some take nothing for a while, and more waits for them than fits; others who need reads as well get all, and then they do."""
    feed = make_feed().prepare()
    topic = Topic(feed)
    for _ in range(8):
        topic.write(500, "n" * 2000)
    gateway = start(feed)
    half = "1-" + "-".join(str(len(topic.ids[p]) // 2) for p in range(PARTITIONS))
    slow_places, quick_places = ["1"] * 12, ["1"] * 6 + [half] * 6
    slow = crowd(gateway.url, slow_places, window=4096)
    wait_for(lambda: reads(feed, gateway)[0] > 0, "a read for them")
    quick = crowd(gateway.url, quick_places)
    all_that_is_missing(topic, quick, quick_places)
    live_ones_follow(topic, [(quick, quick_places)], 20)
    all_that_is_missing(topic, slow, slow_places)
    live_ones_follow(topic, [(slow, slow_places), (quick, quick_places)], 20)
    assert feed.metric(gateway, "feedmill_gateway_listeners_dropped_total") == 0
    assert reads(feed, gateway)[0] > 2, "there was no need to leave anybody behind"


def test_what_is_not_kept_any_more_is_passed_over(make_feed, crowd):
    """In one partition; of the others nothing is passed over."""
    feed = make_feed().prepare()
    topic = Topic(feed).write(2000)
    feed.delete_records("product_events", 1, 300)
    gateway = start(feed)
    kept = "1-0-300-0-0"
    members = crowd(gateway.url, ["1"] * 20)
    all_that_is_missing(topic, members, [kept] * 20)
    live_ones_follow(topic, [(members, [kept] * 20)], 20)
