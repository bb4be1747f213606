"""The request log: a line on Kafka for each request, that never holds one up."""
import concurrent.futures
import datetime
import re
import time
import zoneinfo

import pytest

from feedmill import Client, wait_for
from wire import connect, next_status

LINE = re.compile(rb"(\d{4})\|(\d\d)\|(\d\d)\|(\d\d)\|(\d\d)\|(participant|friends|inbound|outbound)\|(get|post|search)\|(\d+)")
ZONE = "Asia/Kathmandu"  # 5 h 45 min from UTC: no other zone of ours could be taken for it


def lines(feed, enough):
    return [record.value() for record in feed.records("feed", lambda records: len(records) >= enough)]


def words(line):
    return b"|".join(line.split(b"|")[5:7]).decode()


def test_one_line_a_request(make_feed):
    feed = make_feed(gateway__request_log_topic="feed", gateway__zone=ZONE).start()
    assert "feed" in feed.ctl("topics", "--check").stdout
    client, before = feed.client, datetime.datetime.now(zoneinfo.ZoneInfo(ZONE)).replace(second=0, microsecond=0, tzinfo=None)
    one, other = client.participant("one"), client.participant("other")
    client.befriend(one, other)
    client.ok("GET", f"/participant/{one}")
    client.ok("GET", f"/participant/{one}/friends")
    client.say(one, "a story")
    assert client.post(f"/participant/{one}/outbound", {"subject": "s", "story": "t"}, headers={"Prefer": "respond-async"}).status_code == 202
    client.outbound(one)
    client.inbound(other)
    client.search("story")
    # what the log knows nothing of: products, documents, commands, and what was refused
    made = client.ok("POST", "/products", {"name": "n", "price": 1})["id"]
    client.ok("GET", "/products")
    client.ok("DELETE", f"/products/{made}")
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/participant/9999999999").status_code == 404
    assert client.post(f"/participant/{one}/outbound", {"subject": 1}).status_code == 400
    assert client.ask("OPTIONS", f"/participant/{one}").status_code == 204
    client.ok("GET", f"/participant/{other}")
    wanted = sorted(["participant|post"] * 2 + ["friends|post", "participant|get", "friends|get"] + ["outbound|post"] * 2 +
                    ["outbound|get", "inbound|get", "outbound|search", "participant|get"])
    gateway = next(p for p in feed.processes if p.name.startswith("gateway"))
    assert feed.metric(gateway, "feedmill_gateway_request_log_lines_total") == len(wanted)
    gateway.stop()  # what waits goes out on a clean stop, and no more comes
    got = lines(feed, len(wanted))
    assert sorted(map(words, got)) == wanted
    after = datetime.datetime.now(zoneinfo.ZoneInfo(ZONE)).replace(tzinfo=None)
    for line in got:
        match = LINE.fullmatch(line)
        assert match, line
        assert before <= datetime.datetime(*map(int, match.groups()[:5])) <= after
        assert int(match[8]) < 60000


def test_off_by_default(make_feed):
    feed = make_feed()
    assert "request_log" in feed.ctl("config", "show").stdout
    assert "\nfeed " not in feed.ctl("topics").stdout.replace(feed.prefix, "")


def test_a_topic_that_is_not_there_holds_up_nothing(make_feed):
    """Posts are taken as ever, and ready means ready; when the topic is made, lines go."""
    feed = make_feed()
    feed.prepare()
    feed.settings["gateway.request_log_topic"] = "late"
    feed.write_config()
    workers = [feed.worker(name) for name in ("command", "fanout")]
    gateway = feed.gateway()
    client = Client(gateway.url)
    author = client.participant()
    for n in range(20):
        client.say(author, f"story {n}")
    wait_for(lambda: feed.metric(gateway, "feedmill_gateway_request_log_dropped_total") >= 20, "lines are dropped and counted", 60, every=0.5)
    assert len(re.findall("event=\"request log drops lines\"", gateway.output())) == 1, "said once"
    assert "created" in feed.ctl("topics").stdout
    client.say(author, "the last")

    def more():
        client.outbound(author)
        return feed.metric(gateway, "feedmill_gateway_request_log_lines_total") - feed.metric(gateway, "feedmill_gateway_request_log_dropped_total")
    wait_for(more, "lines go", 60)
    records = feed.records("late", lambda got: len(got) > 0)
    assert LINE.fullmatch(records[0].value())
    assert all(p.running() for p in workers)


@pytest.mark.servers("one that is away")
def test_kafka_away_slows_no_answer(make_feed):
    """Reads need no Kafka: they are answered as ever while their lines fall away."""
    feed = make_feed(gateway__request_log_topic="feed").prepare()
    away = feed.write_config(feed.folder / f"{feed.name}-away.cfg", **{"kafka.brokers": "127.0.0.1:1"})
    gateway = feed.gateway(config=away, wait=False)
    client = Client(gateway.url)
    wait_for(lambda: client.get("/participant/1/inbound").status_code == 200, "reading needs no Kafka")
    began = time.monotonic()
    for _ in range(200):
        client.inbound(1)
    assert time.monotonic() - began < 5
    wait_for(lambda: feed.metric(gateway, "feedmill_gateway_request_log_dropped_total") >= 200, "dropped and counted", 60, every=0.5)


@pytest.mark.once
def test_a_full_log_takes_no_room_from_posts(make_feed):
    """More lines than the log's queue holds, to a topic that is not there: every request is answered at once, every post is stored."""
    feed = make_feed()
    feed.prepare()
    feed.settings["gateway.request_log_topic"] = "nowhere"
    feed.write_config()
    feed.worker("command")
    gateway = feed.gateway()
    author = Client(gateway.url).participant()
    slowest = []

    def hammer(seed):
        """Requests without waiting for each answer, fifty at a time: Python would take its time for so many."""
        client, worst = Client(gateway.url), 0.0
        with connect(client) as connection, connection.makefile("rb") as answers:
            for _ in range(80):
                began = time.monotonic()
                connection.sendall(b"GET /participant/%d HTTP/1.1\r\nHost: x\r\n\r\n" % author * 50)
                for _ in range(50):
                    assert next_status(answers) == 200
                worst = max(worst, time.monotonic() - began)
        slowest.append(worst)
        return [client.say(author, f"{seed} {n}") for n in range(50)]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        posts = [post for found in pool.map(hammer, range(6)) for post in found]
    written = feed.metric(gateway, "feedmill_gateway_request_log_lines_total")
    assert written >= 24000
    wait_for(lambda: feed.metric(gateway, "feedmill_gateway_request_log_dropped_total") > written - 20001, "what has no room is dropped", 30)
    assert max(slowest) < 2, slowest
    assert len(feed.records("feed.posts", lambda got: len(got) >= len(posts))) == len(posts)


def test_a_name_that_is_taken_or_none_is_refused(make_feed):
    for name in ("feed.posts", "a b", ".."):
        feed = make_feed(gateway__request_log_topic=name)
        for arguments in (("config", "check"), ("topics",)):
            done = feed.ctl(*arguments, check=False)
            assert done.returncode != 0 and "gateway.request_log_topic" in done.stderr, done.stderr
        gateway = feed.gateway(wait=False)
        assert gateway.popen.wait(20) == 2 and "gateway.request_log_topic" in gateway.output()
        feed.processes.remove(gateway)
