"""feed-worker: the table, records that are wrong, batches, the trace, and the stop."""
import json
import subprocess

import pytest

from feedmill import BUILD, wait_for

GOOD = {"v": 1, "id": 2**40, "from": 7, "posted_at": "2026-01-31T12:00:00.123Z", "subject": "s", "story": "s"}


def changed(**change):
    return json.dumps({key: value for key, value in {**GOOD, **change}.items() if value is not Ellipsis}).encode()


POISON = {
    "tombstone": None, "empty": b"", "no JSON": b"hello", "cut off": changed()[:-5], "array": b"[]", "double key": b'{"v":1,"v":1}', "invalid UTF-8": b'{"v":1,"id":"\xff"}',
    "no version": changed(v=...), "unknown version": changed(v=99), "version as text": changed(v="1"), "no id": changed(id=...), "id 0": changed(id=0), "id too large": changed(id=2**53),
    "id as text": changed(id="7"), "id 1.0": changed().replace(b'"id": 1099511627776', b'"id": 7.0'), "no author": changed(**{"from": ...}), "negative author": changed(**{"from": -1}),
    "no story": changed(story=...), "story null": changed(story=None), "story too long": changed(story="x" * 65536), "no time": changed(posted_at=...), "time as number": changed(posted_at=5),
    "no such day": changed(posted_at="2026-02-30T00:00:00Z"), "NUL": changed(story="x").replace(b'"story": "x"', b'"story": "\\u0000"'),
    "another schema": b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"product.delete","id":5,"data":{}}',
}


def dead_letters(feed, worker, count):
    return feed.records(f"{worker}.dlq", lambda records: len(records) >= count)


def test_list_and_unknown_name(feed):
    listed = subprocess.run([BUILD / "feed-worker", "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["command", "fanout", "chunk", "index"]
    unknown = subprocess.run([BUILD / "feed-worker", "fan-out"], capture_output=True, text=True)
    assert unknown.returncode == 2
    for name in ("fan-out", "command", "fanout", "chunk", "index"):
        assert name in unknown.stderr


def test_posts_that_are_wrong_are_dead_letters_and_the_partition_moves_on(feed, client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    places = {}
    for what, value in POISON.items():
        places[feed.produce("feed.posts", value, key=str(author), headers=[("x-what", what.encode()), ("x-binary", b"\x00\xff")])] = what
    post = client.say(author, "after the poison")
    wait_for(lambda: [row["id"] for row in client.inbound(reader)] == [post], "the post behind the poison")
    for worker in ("fanout", "index"):
        seen = {}
        for record in dead_letters(feed, worker, len(POISON)):
            headers = dict(record.headers())
            place = int(headers["feedmill-origin-partition"]), int(headers["feedmill-origin-offset"])
            assert headers["feedmill-origin-topic"].decode() == "feed.posts" and headers["feedmill-worker"].decode() == worker
            assert headers["feedmill-error"], "the reason"
            assert record.value() == POISON[places[place]] and record.key() == str(author).encode()
            assert headers["x-what"].decode() == places[place] and headers["x-binary"] == b"\x00\xff"
            seen[place] = seen.get(place, 0) + 1
        assert set(seen) == set(places) and set(seen.values()) == {1}
    assert feed.one("SELECT COUNT(*) FROM outbound WHERE participant_id = 7") == 0


def test_a_record_too_large_for_a_dead_letter_is_cut(make_feed):
    """As large as the topic takes: whole. Larger once it is unpacked: its first bytes, and how many there were."""
    feed = make_feed(kafka__partitions=1).prepare()
    whole, packed = b"w" * 2_096_000, b"p" * 9_000_000
    feed.produce("feed.posts", whole, key="7", headers=[("x-what", b"whole")], message_max_bytes=3_000_000)
    feed.produce("feed.posts", packed, key="7", headers=[("x-what", b"packed")], message_max_bytes=10_000_000, compression_type="gzip")
    feed.produce("feed.posts", changed(id=2**40 + 5), key="7")
    feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 1, "the post behind them")
    wait_for(lambda: feed.lag("fanout") == 0, "the offsets")
    first, second = dead_letters(feed, "fanout", 2)
    assert first.value() == whole and dict(first.headers())["x-what"] == b"whole"
    headers = dict(second.headers())
    assert second.value() == packed[:65536] and headers["feedmill-cut"] == b"9000000"
    assert headers["feedmill-origin-offset"] == b"1" and headers["feedmill-error"]


@pytest.mark.parametrize("value", [
    b"hello", b'{"v":1}', b'{"v":1,"command":"x","type":"product.create","id":5,"data":{"name":"n","price":1}}',
    b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"product.rename","id":5,"data":{}}',
    b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"product.create","id":5,"data":{"name":"n"}}',
    b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"product.create","id":5,"data":{"name":"n","price":1.234}}',
    b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"friend.create","id":5,"data":{"from":7,"to":7}}',
    b'{"v":1,"command":"0190163d-8694-739b-aea5-966c26f8ad91","type":"participant.create","id":5,"data":{"name":""}}',
])
def test_command_that_is_wrong(feed, client, value):
    place = feed.produce("feed.commands", value, key="5")

    def mine(records):
        return [r for r in records if (int(dict(r.headers())["feedmill-origin-partition"]), int(dict(r.headers())["feedmill-origin-offset"])) == place]
    record, = mine(feed.records("command.dlq", mine))
    assert record.value() == value
    assert client.ok("POST", "/products", {"name": "goes on", "price": 1})


def test_chunk_that_is_wrong(feed):
    for value in (b"hello", b'{"v":1,"post":5}', b'{"v":1,"post":5,"from":7,"chunk":-1}', b'{"v":1,"post":1099511627999,"from":7,"chunk":0}'):
        place = feed.produce("feed.chunks", value, key="5.0")
        feed.records("chunk.dlq", lambda rs: any(r.value() == value and int(dict(r.headers())["feedmill-origin-offset"]) == place[1] for r in rs))


def test_one_bad_record_does_not_hold_up_its_batch(make_feed):
    """Good and bad together in one batch: the good ones are done, the bad ones dead."""
    feed = make_feed(fanout__linger_ms=500, fanout__batch=100).prepare()
    for n in range(50):
        feed.produce("feed.posts", b"bad" if n % 7 == 0 else changed(id=2**40 + n), key="7", partition=0)
    feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 42, "the good ones")
    assert len(dead_letters(feed, "fanout", 8)) == 8


def test_trace_goes_from_request_to_last_effect(feed, client):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    made = client.ok("POST", "/products", {"name": "traced", "price": 1}, headers=headers)

    def traced(topic, key):
        records = feed.records(topic, lambda rs: any(r.key() == key for r in rs))
        record, = [r for r in records if r.key() == key]
        return dict(record.headers())["traceparent"].decode()
    key = str(made["id"]).encode()
    command, event = traced("feed.commands", key), traced("product_events", key)
    assert command.split("-")[1] == event.split("-")[1] == trace
    assert len({command.split("-")[2], event.split("-")[2], "b7ad6b7169203331"}) == 3, "a span each"
    feed.produce("feed.posts", b"bad", key="1", headers=[("traceparent", f"00-{trace}-b7ad6b7169203332-01".encode())])
    fanout = next(p for p in feed.processes if p.name.startswith("fanout"))
    fanout.wait_logged(rf'event="record rejected".*trace={trace}')
    broken = client.ok("POST", "/products", {"name": "untraced", "price": 1}, headers={"traceparent": "00-zz-xx-01"})
    assert traced("feed.commands", str(broken["id"]).encode()).split("-")[1] != trace


def test_stop_drains_and_starts_where_it_was(make_feed):
    feed = make_feed().prepare()
    worker = feed.worker("fanout")
    feed.produce("feed.posts", changed(id=2**40 + 1), key="7")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 1, "the first")
    assert worker.stop() == 0
    assert worker.logged("event=stop .*code=0"), worker.output()
    feed.produce("feed.posts", changed(id=2**40 + 2), key="7")
    again = feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 2, "the second")
    wait_for(lambda: feed.lag("fanout") == 0, "nothing is left")
    assert feed.metric(again, "feedmill_worker_records_total", worker="fanout", outcome="done") == 1, "the first did not come again"


def test_worker_without_tables_says_what_to_do(make_feed):
    feed = make_feed()
    feed.ctl("topics")
    feed.sql(f"CREATE DATABASE {feed.database}")
    worker = feed.worker("fanout", wait=False)
    assert worker.popen.wait(30) == 1
    assert worker.logged("feedctl migrate"), worker.output()
    feed.processes.remove(worker)
