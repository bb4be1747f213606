"""The faults of the list F1 to F16, each by itself, with its figures: posts accepted, effects checked, time to recover.

F1 and F2 (kill -9 at every point) are test_points.py; F9 (RabbitMQ) is test_relay_points.py and tests/system/test_relay.py; F12 (records that are wrong) is
tests/system/test_bad_records.py; F15 needs a second version. What needs servers that may be killed has some of its own, started
once for all of them."""
import contextlib
import http.server
import json
import os
import pathlib
import statistics
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest

from driver import Clock, Driver, HOUR_MS, build_clock_shim
from feedmill import wait_for
from private import PrivateServers, state_of
from proxy import DOWN, UP
from state import TOPICS, wait_quiet


@pytest.fixture(scope="module")
def servers():
    servers = PrivateServers()
    try:
        yield servers.up()
    finally:
        servers.down()


@pytest.fixture
def fire(make_rig, servers):
    """A rig on servers of its own, behind proxies; and its driver."""
    for proxy in servers.proxies().values():
        proxy.restore()
    rig = make_rig(servers=servers.addresses, **servers.settings()).start()
    return rig, Driver(rig, servers)


def under_load(rig, fault, before=1.0, after=1.0):
    """The fault in the middle of a load; how long posts and commands took to go through again."""
    with rig.load:
        time.sleep(before)
        fault()
        recovery = rig.recovered(60)
        time.sleep(after)
    return recovery


# ---- F3: a worker that is stopped, loses its partitions, and goes on

@pytest.mark.parametrize("worker", ["fanout", "command", "chunk"])
def test_f3_stopped_in_an_open_transaction(make_rig, worker, request):
    """Another replica takes the partitions over and does the work; the zombie wakes up before its COMMIT and changes nothing."""
    if worker != "fanout" and not request.config.getoption("--long"):
        pytest.skip("takes a session timeout: --long")
    rig = make_rig(replicas=2).start()
    rig.stop(f"{worker}/1")
    rig.start_slot(f"{worker}/1", env={"FAULT": "store.committing:2:stop"}, wait=False)
    with rig.load:
        rig.wait_stopped(f"{worker}/1")
    began = time.monotonic()
    wait_quiet(rig.feed, 60)
    taken_over = time.monotonic() - began
    rig.resume(f"{worker}/1")
    recovery = rig.recovered()
    rig.verdict(f"F3 {worker} stopped in its transaction, taken over after {taken_over:.1f} s", recovery)


def test_f3_goes_on_with_the_partitions_that_it_gets_back(make_rig):
    """Stopped a little longer than its session, while there is more to do: it is a member again, and reads all that is its own."""
    rig = make_rig(replicas=2).start()
    recovery = under_load(rig, lambda: Driver(rig).freeze_in_transaction("fanout/1", 8.0))
    rig.verdict("F3 stopped longer than its session", recovery)


@pytest.mark.long
def test_f3_stopped_for_a_minute(make_rig):
    rig = make_rig(replicas=2).start()

    def fault():
        for worker in ("fanout/1", "command/1", "index/1"):
            rig.pause(worker)
        time.sleep(60)
        for worker in ("fanout/1", "command/1", "index/1"):
            rig.resume(worker)
    rig.verdict("F3 stopped for 60 s", under_load(rig, fault))


# ---- F4, F7, F8: servers die, restart, refuse

@pytest.mark.long
@pytest.mark.parametrize("name", ["kafka", "mariadb", "elasticsearch"])
@pytest.mark.parametrize("how", ["server_kill", "server_restart", "server_freeze"])
def test_f4_f7_f8_server(fire, name, how):
    rig, driver = fire
    arguments = {"server_kill": (name, 2.0), "server_restart": (name,), "server_freeze": (name, 8.0)}[how]
    rig.verdict(f"{how} of {name}", under_load(rig, lambda: getattr(driver, how)(*arguments)))


@pytest.mark.long
def test_f4_kafka_away_for_two_minutes(fire):
    rig, driver = fire

    def fault():
        driver.servers.kill("kafka")
        answers = wait_for(lambda: [a for a in [rig.prober.post(rig.load.people[1])] if a.status == 503], "the gateway says 503", 30)
        assert answers[0].headers["Retry-After"]
        began = time.monotonic()
        assert rig.prober.post(rig.load.people[1]).status == 503 and time.monotonic() - began < 1, "quickly"
        time.sleep(120)
        driver.servers.start("kafka")
    rig.verdict("F4 Kafka away for 2 min", under_load(rig, fault))


@pytest.mark.long
@pytest.mark.parametrize("fault, arguments", [("database_read_only", (5,)), ("database_kills", (10,)), ("database_full", (5,)), ("database_locks", (6,))])
def test_f7_database(fire, fault, arguments):
    rig, driver = fire
    recovery = under_load(rig, lambda: getattr(driver, fault)(*arguments))
    wait_for(lambda: not driver.servers.administer("SELECT * FROM information_schema.innodb_trx WHERE trx_started < NOW() - INTERVAL 4 SECOND"),
             "no transaction is left open")
    rig.verdict(f"F7 {fault}", recovery)


class Refusing(http.server.BaseHTTPRequestHandler):
    """The search engine, but for what a test has put into `mode`."""
    protocol_version = "HTTP/1.1"
    mode, target, bulks = None, None, 0

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_bulk = "_bulk" in self.path
        if is_bulk:
            Refusing.bulks += 1
            if refusal := MODES.get(self.mode, lambda *_: None)(self, body):
                return self.answer(*refusal)
        request = urllib.request.Request(self.target + self.path, body or None, {"Content-Type": self.headers.get("Content-Type", "application/json")}, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return self.answer(error.code, error.read())
        except OSError:
            return self.answer(502, b"{}")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = forward


def each_busy(handler, body):
    items = [{"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}}] * (body.count(b'{"create"'))
    return 200, json.dumps({"errors": True, "items": items}).encode()


def silent(handler, body):
    time.sleep(8)       # longer than search.timeout_ms
    return 503, b"{}"


def too_large(handler, body):
    return (413, b"{}") if body.count(b'{"create"') > 1 else None


MODES = {"429": lambda *_: (429, b"{}"), "503": lambda *_: (503, b"{}"), "413": too_large, "429 each": each_busy, "silent": silent}


@pytest.mark.long
@pytest.mark.parametrize("mode", sorted(MODES))
def test_f8_search_refuses(make_rig, mode):
    """Other sinks go on meanwhile, and what was refused is indexed afterwards, all of it."""
    Refusing.mode, Refusing.bulks = None, 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Refusing.target = os.environ["SEARCH_URL"]
    rig = make_rig(**{"search.url": f"http://127.0.0.1:{server.server_port}"}).start()

    def fault():
        Refusing.mode = mode
        time.sleep(10)
        post = rig.prober.post(rig.load.people[1], wait=5)
        assert post.status == 200 and "Preference-Applied" in post.headers, "fan-out does not wait for search"
        assert mode == "413" or Refusing.bulks < 60, "no storm of requests: only a body that is too large goes again at once, halved"
        Refusing.mode = None
    try:
        rig.verdict(f"F8 search answers {mode}", under_load(rig, fault))
    finally:
        Refusing.mode = None
        rig.close()
        server.shutdown()


# ---- F5, F6: the network

def test_f5_replies_cut_in_the_middle(fire):
    """The server has done what it was asked, and its word is lost: COMMIT, Produce, _bulk, at several bytes."""
    rig, driver = fire

    def fault():
        for edge in ("mysql", "search", "kafka"):
            for left in (0, 3):
                driver.cut_reply(edge, left, 2)
                rig.recovered()
    recovery = under_load(rig, fault)
    cut = {edge: proxy.replies_cut for edge, proxy in driver.servers.proxies().items()}
    assert min(cut.values()) >= 2, cut
    rig.verdict(f"F5 replies cut: {cut}", recovery)


@pytest.mark.long
@pytest.mark.parametrize("edge", ["mysql", "search", "kafka"])
def test_f5_network(fire, edge):
    rig, driver = fire
    for how in ("refused", "reset", "silent", "slow", "sliced"):
        rig.verdict(f"F5 {edge} {how}", under_load(rig, lambda: driver.net(edge, how, 6)))


def processor_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
@pytest.mark.parametrize("edge", ["mysql", "kafka", "search"])
@pytest.mark.parametrize("way", [UP, DOWN])
def test_f6_one_way(fire, edge, way):
    """One direction is lost for 15 s: no loop that burns a processor, no log that grows without bound."""
    rig, driver = fire
    proxy = driver.servers.proxies()[edge]

    def fault():
        proxy.hold(way)
        time.sleep(5)
        before = {slot: (processor_s(p.pid), p.log.stat().st_size) for slot, p in rig.slots.items()}
        time.sleep(10)
        for slot, process in rig.slots.items():
            used, written = processor_s(process.pid) - before[slot][0], process.log.stat().st_size - before[slot][1]
            assert used < 2.0, f"{slot} has used {used} s of 10"
            assert written < 65536, f"{slot} has logged {written} bytes in 10 s"
        proxy.restore()
        proxy.drop()
    rig.verdict(f"F6 {edge}, {way} lost", under_load(rig, fault))


# ---- F10: disk and limits

@pytest.mark.long
@pytest.mark.parametrize("name", ["mariadb", "kafka"])
def test_f10_disk_full(make_rig, name):
    """The server's disk fills up under load; when there is room again, everything goes on."""
    servers = PrivateServers()
    if not servers.mount(name, 400 if name == "mariadb" else 100):
        pytest.skip("this user may not mount a small disk")
    try:
        servers.up()
        rig = make_rig(servers=servers.addresses, **servers.settings()).start()
        ballast = servers.folder / name / "ballast"

        def fault():
            with contextlib.suppress(OSError), open(ballast, "wb") as file:
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            for _ in range(40):
                rig.prober.post(rig.load.people[1], size=4000)
            time.sleep(8)
            ballast.unlink()
            if state_of(servers.pid(name)) == "Z":      # Kafka ends itself when its only disk fails
                servers.start(name)
        rig.verdict(f"F10 disk of {name} full", under_load(rig, fault))
        rig.close()
    finally:
        servers.down()


def test_f10_a_log_that_can_not_be_written_kills_nobody(make_rig):
    """Standard output is a device that is always full."""
    rig = make_rig().start()
    full = [subprocess.Popen([rig.feed.build / "feed-worker", "-c", str(rig.feed.config), worker], stdin=subprocess.DEVNULL, stdout=open("/dev/full", "w"),
                             stderr=subprocess.STDOUT, env={**os.environ, "FEEDMILL_INSTANCE": "full"}) for worker in ("fanout", "command")]
    try:
        for slot in ("fanout/1", "command/1"):
            rig.stop(slot)
        with rig.load:
            time.sleep(2)
        recovery = rig.recovered(60)
        assert [process.poll() for process in full] == [None, None]
        rig.verdict("F10 log full", recovery)
    finally:
        for process in full:
            process.terminate()
            process.wait(40)


@pytest.mark.long
def test_f10_few_descriptors(make_rig):
    rig = make_rig().start()
    rig.stop("gateway/1")
    gateway = rig.feed.gateway(descriptors="64:64")
    rig.gateways.add(gateway.name, gateway.url)
    rig.slots["gateway/1"] = gateway
    rig.verdict("F10 64 descriptors", under_load(rig, lambda: time.sleep(5)))


# ---- F11: the clock

@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, 2000, -2000])
def test_f11_clock(make_rig, folder, step_ms, request):
    """The clock of the only gateway steps under load, and back: ids stay unique and rise, waits keep their length."""
    if abs(step_ms) == HOUR_MS and step_ms > 0 and not request.config.getoption("--long"):
        pytest.skip("takes longer: --long")
    rig = make_rig()
    clock = Clock(rig.feed.folder, f"{rig.feed.name}-gateway/1")
    rig.environment["gateway/1"] = clock.environment(build_clock_shim(folder))
    rig.start()

    def fault():
        rig.note("clock", ms=step_ms)       # one gateway: its ids must rise whatever its clock does
        clock.set(step_ms)
        began = time.monotonic()
        answer = rig.prober.post(rig.load.people[1], wait=1)
        assert time.monotonic() - began < 10 and answer.status in (200, 503)
        time.sleep(3)
        clock.set(0)
    rig.verdict(f"F11 clock {step_ms / 1000:+.0f} s and back", under_load(rig, fault))


# ---- F13: everything twice

def reset(rig, group):
    """The group is empty, and begins again at 0."""
    topic = rig.feed.prefix + TOPICS[group]
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": rig.feed.server("KAFKA_BROKERS")})
    places = [confluent_kafka.TopicPartition(topic, p, 0) for p in admin.list_topics(timeout=30).topics[topic].partitions]

    def done():
        request = confluent_kafka.ConsumerGroupTopicPartitions(rig.feed.prefix + group, places)
        try:
            answer = next(iter(admin.alter_consumer_group_offsets([request]).values())).result(30)
        except confluent_kafka.KafkaException:      # a static member that was stopped counts until its session ends
            return False
        return all(place.error is None for place in answer.topic_partitions)
    wait_for(done, f"the offsets of {group} are set", 60, every=0.5)


def test_f13_every_group_from_the_beginning(make_rig):
    """No row, document or event id is new; results and events are told again."""
    rig = make_rig().start()
    with rig.load:
        time.sleep(3)
    wait_quiet(rig.feed)
    count = lambda: [rig.feed.one(f"SELECT COUNT(*) FROM {table}") for table in ("outbound", "inbound", "friend", "participant", "product", "command")]
    before = count(), rig.feed.documents()
    for group in TOPICS:
        rig.stop(f"{group}/1")
    for group in TOPICS:
        reset(rig, group)
    assert rig.feed.lag("fanout") > 0
    began = time.monotonic()
    for group in TOPICS:
        rig.start_slot(f"{group}/1")
    wait_quiet(rig.feed)
    assert (count(), rig.feed.documents()) == before
    rig.verdict("F13 all topics from 0", time.monotonic() - began)


def test_f13_a_command_id_with_another_body(make_rig):
    """The first stays. What another entity's command claims to be is refused."""
    rig = make_rig().start(people=4, clients=1)
    product = rig.prober.product().body
    rig.topics.catch_up()
    record, = [r for _, _, r in rig.topics.records["feed.commands"] if b"product.create" in r.value() and str(product["id"]).encode() in r.value()]
    other = json.loads(record.value())
    other["data"]["name"] = "another"
    rig.feed.produce("feed.commands", json.dumps(other).encode(), record.key(), record.headers(), record.partition())
    thief = {**json.loads(record.value()), "id": product["id"] + 1}
    rig.feed.produce("feed.commands", json.dumps(thief).encode(), record.key(), record.headers(), record.partition())
    wait_quiet(rig.feed)
    rig.verdict("F13 one command id, three bodies", poison=[thief["command"]])


# ---- F14: members come and go

@pytest.mark.parametrize("times", [2, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_f14_rebalance_storm(make_rig, times):
    rig = make_rig(replicas=1).start()
    driver = Driver(rig)

    def fault():
        for worker in rig.feed.workers:
            driver.storm(worker, max(1, times // 2))
    rig.verdict(f"F14 {times} members come and go", under_load(rig, fault))


# ---- F16: a huge author beside small ones

@pytest.mark.long
@pytest.mark.timeout(900)
def test_f16_a_million_friends(make_rig):
    """Posts of small authors go on while the huge list is written: their slowest 1 % at most three times as slow as in quiet."""
    rig = make_rig(**{"fanout.chunk": 5000}).start()
    huge = rig.prober.participant().body["id"]
    million = 1_000_000
    base = 1 << 52
    for at in range(0, million, 50_000):
        values = ",".join(f"({huge},{base + n},{base + n})" for n in range(at, at + 50_000))
        rig.feed.sql(f"INSERT INTO friend (participant_id, friend_id, id) VALUES {values}")

    def waits(seconds):
        took, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            answer = rig.prober.post(rig.load.people[1], wait=20)
            assert answer.status == 200 and "Preference-Applied" in answer.headers
            took.append(time.monotonic() - began)
        return statistics.quantiles(took, n=100)[98]
    quiet = waits(10)
    answer = rig.client().post(f"/participant/{huge}/outbound", {"subject": "to a million", "story": f"{uuid.uuid4().hex} story"})
    post = answer.json()["id"]
    wait_for(lambda: rig.feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s", post), "the plan", 60)
    beside = waits(10)
    wait_for(lambda: rig.feed.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", post) == million, "a million copies", 600, every=1)
    print(f"F16: a small author's p99 is {quiet * 1000:.0f} ms in quiet and {beside * 1000:.0f} ms beside a million friends")
    assert beside <= max(3 * quiet, 0.25)
    assert rig.feed.one("SELECT COUNT(DISTINCT participant_id) FROM inbound WHERE post_id = %s", post) == million
