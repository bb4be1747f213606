"""Records that are wrong, from whoever can write to the topics: each becomes a dead letter that keeps it and says why, the partition goes
on, and nothing is applied. Records that are odd and right take effect by what their value says.

docs/reliability.md tells what keys and headers count for, and why only Feedmill should be allowed to write to its topics.
"""
import itertools
import json
import time

import confluent_kafka.admin
import pytest
import requests

from feedmill import Worker, server, wait_for
from samples import COMMAND, chunk, command, command_id, post
from unharmed import rows, settle

MIB = 2**20
READERS = {"feed.posts": ("fanout", "index"), "feed.commands": ("command",), "feed.chunks": ("chunk",)}
SAMPLES = {"feed.posts": post, "feed.commands": command, "feed.chunks": chunk}
RESULT = b'{"v":1,"command":"%s","outcome":"done","body":{"id":5}}' % COMMAND.encode()
EVENT = b'{"action":"created","id":5,"name":"n"}'

# No topic's records look like this.
NOWHERE = {
    "tombstone": None, "empty": b"", "no JSON": b"hello", "array": b"[]", "null": b"null", "double key": b'{"v":1,"v":1}', "double key, right but for it": post()[:-1] + b',"from":8}', "invalid UTF-8": b'{"v":1,"id":"\xff"}', "no version": b'{"id":5}',
    "binary": bytes(range(256)), "NULs": bytes(1000), "deep": b"[" * 100000, "1 MiB + 1": b"x" * (MIB + 1), "just below what a topic takes": b" " * (2 * MIB - 2000), "result": RESULT, "event": EVENT, "text behind": b'{"v":1} x',
}
# Of each topic's own sample.
VERSIONS = {"unknown version": 99, "version 0": 0, "version -1": -1, "next version": 2, "version as text": "1", "version null": None, "no version": ..., "version 1.0": 1.0, "version 2^64": 2**64}
OWN = {
    "feed.posts": {
        **{f"id {value}": post(id=value) for value in (0, -1, 2**53, 2**63, 2**64 + 1, 7.5, 1e300, "7", None, True, [], ...)}, **{f"author {value}": post(**{"from": value}) for value in (0, -1, 2**53, "7", None, ...)},
        "no story": post(story=...), "story null": post(story=None), "story too long": post(story="x" * 65536), "subject too long": post(subject="x" * 4001), "story a list": post(story=["x"]), "NUL": post(story="\0"), "lone surrogate": post(story="\ud800"),
        "no time": post(posted_at=...), "time as number": post(posted_at=5), "no such day": post(posted_at="2026-02-30T00:00:00Z"), "year 10000": post(posted_at="10000-01-01T00:00:00Z"), "time without zone": post(posted_at="2026-01-31T12:00:00"),
    },
    "feed.chunks": {
        **{f"post {value}": chunk(post=value) for value in (0, -1, 2**53, "7", None, ...)}, **{f"chunk {value}": chunk(chunk=value) for value in (-1, 2**31, 2**63, "0", None, ...)}, "no author": chunk(**{"from": ...}), "post that nobody planned": chunk(post=2**40 + 999),
    },
    "feed.commands": {
        **{f"command id {value}": command(command=value) for value in ("x", "", COMMAND[:-1], COMMAND + "0", COMMAND.replace("-", ""), COMMAND.replace("739b", "439b"), "{" + COMMAND[1:], 5, None, ...)},
        **{f"type {value}": command(type=value) for value in ("product.rename", "PRODUCT.CREATE", "", None, 5)}, **{f"id {value}": command(id=value) for value in (0, -1, 2**53, "5", None, ...)},
        **{f"data {value}": command(data=value) for value in ([], "x", 5, {}, {"name": "n"}, {"price": 1}, {"name": "", "price": 1}, {"name": "x" * 256, "price": 1}, {"name": "n", "price": "1"}, {"name": "n", "price": -1}, {"name": "n", "price": 1.234}, {"name": "n", "price": 1e10})},
        "friend of oneself": command("friend.create", {"from": 7, "to": 7}), "friend of nobody": command("friend.create", {"from": 7}), "name too long": command("participant.create", {"name": "x" * 51}),
    },
}
KEYS = {"no key": None, "empty key": b"", "key that is not UTF-8": b"\xff\xfe\x00\x80", "key of 10 KB": b"k" * 10000, "key of another": b"4711"}
HEADERS = {
    "unknown": [("x-what", b"a")], "double": [("x-what", b"a"), ("x-what", b"b")], "binary": [("x-what", bytes(range(256)))], "null": [("x-what", None)], "empty name": [("", b"a")], "name that is not ASCII": [("é", b"a")], "forty": [(f"x-{n}", b"%d" % n) for n in range(40)],
    "of 10 KB": [("x-what", b"x" * 10000)], "reply to nobody": [("feedmill-reply", b"64")], "reply to -1": [("feedmill-reply", b"-1")], "reply to x": [("feedmill-reply", b"\xffx")], "null reply": [("feedmill-reply", None)],
    "trace that is none": [("traceparent", b"00-zz-\xff")], "null trace": [("traceparent", None)], "long trace": [("traceparent", b"0" * 10000)],
}
LETTER = {"feedmill-origin-topic", "feedmill-origin-partition", "feedmill-origin-offset", "feedmill-origin-timestamp", "feedmill-attempts", "feedmill-error", "feedmill-worker"}


def wrong_records(topic):
    """What to send, with a name for each."""
    right = SAMPLES[topic]
    values = {**NOWHERE, **OWN[topic], **{name: right(v=version) for name, version in VERSIONS.items()}, "cut off": right()[:-5], "cut at the start": right()[5:],
              **{f"of {other}": sample() for other, sample in SAMPLES.items() if other != topic}}
    records = {name: {"value": value, "key": b"7"} for name, value in values.items()}
    records.update({name: {"value": b"wrong", "key": key} for name, key in KEYS.items()})
    records.update({"headers: " + name: {"value": b"wrong", "key": b"7", "headers": headers} for name, headers in HEADERS.items()})
    return records


def place(letter):
    headers = dict(letter.headers())
    return int(headers["feedmill-origin-partition"]), int(headers["feedmill-origin-offset"])


def letters_of(feed, worker, places):
    """The dead letters of these records."""
    letters = feed.records(f"{worker}.dlq", lambda letters: set(places) <= {place(letter) for letter in letters})
    letters = [letter for letter in letters if place(letter) in places]
    assert len(letters) == len(places), "each once"
    return {place(letter): letter for letter in letters}


@pytest.fixture(autouse=True)
def still_there(feed):
    """The same workers, without an error, and all records done."""
    workers = {process: len(process.output()) for process in feed.processes if isinstance(process, Worker)}
    yield
    settle(feed)
    for worker, logged in workers.items():
        assert worker.running() and "level=error" not in worker.output()[logged:], worker.output()[-3000:]


@pytest.mark.parametrize("topic", READERS)
def test_wrong_records_are_dead_letters(feed, client, topic):
    records, before = wrong_records(topic), rows(feed)
    places = dict(zip(feed.produce_all(topic, records.values(), **{"message.max.bytes": 3 * MIB}), records))
    for worker in READERS[topic]:
        for at, letter in letters_of(feed, worker, places).items():
            name, sent, headers = places[at], records[places[at]], dict(letter.headers())
            assert letter.value() == sent["value"] and letter.key() == sent["key"], name
            assert [header for header in letter.headers() if header[0] not in LETTER] == sent.get("headers", []), name
            assert LETTER <= set(headers) and headers["feedmill-error"], name
            assert headers["feedmill-origin-topic"].decode() == topic and headers["feedmill-worker"].decode() == worker
    settle(feed)
    assert rows(feed) == before
    assert client.ok("POST", "/products", {"name": "goes on", "price": 1})


@pytest.mark.parametrize("topic", READERS)
def test_letter_that_does_not_fit_is_cut(feed, topic):
    """Kafka counts compressed bytes: a record can be fetched that is too long to be sent. Its letter says where it is."""
    before = rows(feed)
    records = [{"value": b"x" * (5 * MIB), "key": b"7"}, {"value": b"wrong", "key": b"k" * (5 * MIB)}, {"value": b"wrong", "key": b"7", "headers": [(f"x-{n}", b"x" * MIB) for n in range(30)]}]
    places = feed.produce_all(topic, records, **{"compression.type": "gzip", "message.max.bytes": 40 * MIB, "queue.buffering.max.kbytes": 100000})
    for worker in READERS[topic]:
        letters = letters_of(feed, worker, places)
        for at, record in zip(places, records):
            assert (letters[at].value(), letters[at].key()) == (record["value"][:65536], record["key"][:65536])
            headers = dict(letters[at].headers())
            assert LETTER | {"feedmill-cut"} == set(headers) and int(headers["feedmill-cut"]) == len(record["value"])
    settle(feed)
    assert rows(feed) == before


# ---- replays: see `feedctl dlq` in docs/operations.md for what mends which

def letters(feed, worker, *more):
    return [json.loads(line) for line in feed.ctl("dlq", "list", worker, "--json", *more).stdout.splitlines()]


def replay_one(feed, worker, at):
    """The letter of the record at that place is sent again; its reason."""
    letter = wait_for(lambda: next((x for x in letters(feed, worker) if (x["origin"]["partition"], x["origin"]["offset"]) == at), None), "the letter", every=0.1)
    feed.ctl("dlq", "replay", worker, letter["offset"])
    return letter["reason"]


@pytest.mark.parametrize("topic", READERS)
def test_replayed_and_still_wrong(make_feed, topic):
    """Nothing that is written wrong gets right by itself: each letter dies again, once, for the same reason, and nothing is applied."""
    feed, worker = make_feed().prepare(), READERS[topic][0]
    feed.worker(worker)
    records = list(wrong_records(topic).values())
    feed.produce_all(topic, records, **{"message.max.bytes": 3 * MIB})
    before = rows(feed)

    def there():
        found = letters(feed, worker)
        return found if len(found) == len(records) else None
    first = wait_for(there, "all letters", 60, every=0.2)
    assert feed.ctl("dlq", "replay", worker, "--rate", 1000).stdout == f"{worker}.dlq: {len(records)} replayed, 0 refused\n"
    again = wait_for(there, "all letters once more", 60, every=0.2)
    def told(letters):
        return sorted((x["reason"], str(x.get("key")), str(x.get("key_base64"))) for x in letters)
    assert told(again) == told(first)
    assert not {x["offset"] for x in first} & {x["offset"] for x in again} and len(letters(feed, worker, "--replayed")) == 2 * len(records)
    wait_for(lambda: feed.lag(worker) == 0, "all is done")
    assert rows(feed) == before


def test_replay_when_the_plan_is_there_again(make_feed):
    feed, id = make_feed().prepare(), 2**40 + 5
    feed.worker("chunk")
    reason = replay_one(feed, "chunk", feed.produce("feed.chunks", chunk(post=id), key="7"))
    assert "no planned chunk" in reason
    wait_for(lambda: len(letters(feed, "chunk", "--replayed")) == 2, "it died again", every=0.1)
    feed.sql("INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends) VALUES (%s, 0, 11, 12, x'0B01')", id)
    for _ in range(2):
        feed.ctl("dlq", "replay", "chunk", "--replayed")
        wait_for(lambda: feed.lag("chunk") == 0 and len(feed.sql("SELECT * FROM inbound")) == 2, "both friends have it, once")
    assert feed.sql("SELECT participant_id, post_id, from_id FROM inbound ORDER BY participant_id") == ((11, id, 7), (12, id, 7))
    assert letters(feed, "chunk") == []


@pytest.mark.servers("a column that is too narrow")
def test_replay_when_the_database_takes_it(make_feed):
    """The database refuses a post that is right; the index has it, and sees it twice."""
    feed, id = make_feed().prepare(), 2**40 + 6
    feed.sql("INSERT INTO friend (participant_id, friend_id, id) VALUES (7, 8, 1)")
    feed.sql("ALTER TABLE outbound MODIFY subject VARCHAR(3) NOT NULL")
    workers = [feed.worker("fanout"), feed.worker("index")]
    good, wrong = (feed.produce("feed.posts", post(id=id + n, subject="long" * n), key="7") for n in (0, 1))
    reason = wait_for(lambda: letters(feed, "fanout"), "the letter", every=0.1)[0]["reason"]
    assert "subject" in reason and [row[0] for row in feed.sql("SELECT id FROM outbound")] == [id], good
    feed.sql("ALTER TABLE outbound MODIFY subject VARCHAR(4000) NOT NULL")
    for worker in workers[:1]:
        assert worker.stop() == 0
    feed.worker("fanout")   # prepared statements know the table anew
    assert replay_one(feed, "fanout", wrong) == reason
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("index") == 0, "all is done")
    assert feed.sql("SELECT post_id FROM inbound WHERE participant_id = 8 ORDER BY post_id") == ((id,), (id + 1,))
    assert feed.documents() == 2 and letters(feed, "fanout") == [] and letters(feed, "index") == []


@pytest.mark.servers("a mapping of Elasticsearch")
def test_replay_when_the_search_engine_takes_it(make_feed):
    """An index that somebody made by hand, with the right types: it reads other dates."""
    feed, id, index = make_feed().prepare(), 2**40 + 7, f"{server('SEARCH_URL')}/"
    index += feed.index
    for name in ("fanout", "index"):
        feed.worker(name)
    mappings = requests.get(f"{index}/_mapping", timeout=30).json()[feed.index]["mappings"]
    mappings["properties"]["posted_at"]["format"] = "epoch_millis"
    assert requests.delete(index, timeout=30).ok and requests.put(index, json={"mappings": mappings}, timeout=30).ok
    at = feed.produce("feed.posts", post(id=id), key="7")
    assert "posted_at" in wait_for(lambda: letters(feed, "index"), "the letter", every=0.1)[0]["reason"] and feed.documents() == 0
    assert requests.delete(index, timeout=30).ok
    feed.ctl("migrate")
    replay_one(feed, "index", at)
    wait_for(lambda: feed.documents() == 1 and feed.lag("fanout") == 0 and feed.lag("index") == 0, "it is found")
    assert feed.sql("SELECT COUNT(*) FROM outbound") == ((1,),) and letters(feed, "index") == []


def test_odd_records_take_effect_by_their_value(feed, client):
    """The key, headers and timestamps of a post or command are no part of what it says; an unknown field is none either."""
    author, friend = client.participant(), client.participant()
    client.befriend(author, friend)
    oddities = [{"key": key} for key in KEYS.values()] + [{"key": b"%d" % author, "headers": headers} for headers in HEADERS.values()]
    oddities += [{"key": b"%d" % author, "timestamp": at} for at in (1, int(time.time() * 1000) + 400 * 86400 * 1000, 253402300799999)]
    ids = [2**41 + client.participant() % 2**30 * 1000 + n for n in range(len(oddities) + 1)]
    posts = [{"value": post(id=id, **{"from": author}, pad="x", Story=5), **odd} for id, odd in zip(ids, oddities)]
    posts.append({"value": post(id=ids[-1], **{"from": author}, pad="x" * (MIB + 1)), "key": b"7"})
    feed.produce_all("feed.posts", posts, **{"message.max.bytes": 2 * MIB})
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM inbound WHERE participant_id = %s AND from_id = %s", friend, author) == len(ids), "every post in the friend's inbound")
    assert {row[0] for row in feed.sql("SELECT id FROM outbound WHERE participant_id = %s", author)} == set(ids)
    wait_for(lambda: feed.lag("index") == 0, "the index has them too")
    fanout = next(process for process in feed.processes if process.name.startswith("fanout"))
    assert feed.metric(fanout, "feedmill_worker_oldest_unprocessed_seconds", worker="fanout") >= 0
    commands = [{"value": command(command=command_id(), id=id), **odd} for id, odd in zip(ids, oddities)]
    feed.produce_all("feed.commands", commands)
    between = min(ids), max(ids)
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM product WHERE id BETWEEN %s AND %s", *between) == len(commands), "every product")
    feed.sql("DELETE FROM product WHERE id BETWEEN %s AND %s", *between)


def test_key_of_another_author(feed, client):
    """The value counts: its author's friends get the post, in nobody's name but his; the key has chosen a partition, no more."""
    author, friend, other, others_friend = (client.participant() for _ in range(4))
    client.befriend(author, friend)
    client.befriend(other, others_friend)
    id = 2**42 + author % 2**40
    feed.produce("feed.posts", post(id=id, **{"from": author}), key=str(other))
    wait_for(lambda: [row["id"] for row in client.inbound(friend)] == [id], "the author's friend has it")
    assert client.inbound(others_friend) == [] and client.outbound(other) == []


def test_forged_command_ids(feed, client):
    """The first of an id is what happened. Whatever else comes under it is refused, or changes nothing."""
    made, mine = client.ok("POST", "/products", {"name": "first", "price": 1}), command_id()
    known = next(r for r in feed.records("feed.commands", lambda rs: any(r.key() == b"%d" % made["id"] for r in rs)) if r.key() == b"%d" % made["id"])
    theirs = json.loads(known.value())["command"]
    fresh = made["id"] + 1000
    refused = [command(command=theirs, id=fresh), command("product.delete", {}, command=theirs, id=made["id"]), command("participant.create", {"name": "n"}, command=theirs, id=fresh),
               command(command=theirs.upper(), id=fresh), command(command=mine, id=made["id"])]
    before = rows(feed)
    places = [feed.produce("feed.commands", value, key=known.key()) for value in refused]
    reasons = [dict(letter.headers())["feedmill-error"].decode() for _, letter in sorted(letters_of(feed, "command", places).items())]
    assert [("something else" in reason, "belongs to another" in reason) for reason in reasons] == [(True, False)] * 4 + [(False, True)], reasons
    feed.produce("feed.commands", command(command=theirs, id=made["id"], data={"name": "second", "price": 2}), key=known.key())
    wait_for(lambda: feed.lag("command") == 0, "the replay is done")
    assert rows(feed) == before
    (name, price), = feed.sql("SELECT name, price FROM product WHERE id = %s", made["id"])
    assert (name, int(price)) == ("first", 1)
    assert client.ok("GET", f"/commands/{theirs}")["result"] == made


def test_forged_post_id(feed, client):
    """A post's id is in the ledger once: another post under it changes nothing."""
    author, friend, thief, reader = (client.participant() for _ in range(4))
    client.befriend(author, friend)
    client.befriend(thief, reader)
    id = client.say(author, "the first", headers={"Prefer": "wait=20"})
    feed.produce("feed.posts", post(id=id, **{"from": thief}, story="the second"), key=str(thief))
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("index") == 0, "both are done")
    assert [row["story"] for row in client.inbound(friend)] == ["the first"]
    assert client.inbound(reader) == [] and client.outbound(thief) == []


@pytest.mark.servers("transactions of Kafka")
def test_transactions_of_others(make_feed):
    """Aborted records and the marks of transactions are gaps in the offsets: passed over, whether they are first, between or last."""
    feed = make_feed(kafka__partitions=1).prepare()
    workers = [feed.worker("fanout"), feed.worker("index")]
    producer = feed.producer(**{"transactional.id": feed.name})
    producer.init_transactions(30)
    kept = []
    for n, keep in enumerate([False, True, False, False, True, True, False]):
        producer.begin_transaction()
        for id in (2**40 + 2 * n, 2**40 + 2 * n + 1):
            producer.produce(feed.prefix + "feed.posts", value=post(id=id), key="7")
        producer.flush(30)
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)
        kept += [2**40 + 2 * n, 2**40 + 2 * n + 1] if keep else []

    def stored():
        return [row[0] for row in feed.sql("SELECT id FROM outbound ORDER BY id")]
    wait_for(lambda: stored() == kept and feed.documents() == len(kept), "what was committed")
    for worker in workers:
        worker.stop()
    assert feed.lag("fanout") > 0, "what was aborted last counts until the next record"
    workers = [feed.worker("fanout"), feed.worker("index")]  # begins at a mark
    feed.produce("feed.posts", post(id=2**41), key="7")
    wait_for(lambda: stored() == kept + [2**41] and feed.documents() == len(kept) + 1, "what comes after")
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("index") == 0, "nothing is left")
    for worker in workers:
        assert feed.metric(worker, "feedmill_worker_records_total", outcome="done") == 1, "none came again"


@pytest.mark.servers("compaction of Kafka")
def test_records_that_were_compacted_away(make_feed):
    """Somebody has set the topic's policy: older records of a key go, and leave gaps in the offsets. What is left is done, in order."""
    feed = make_feed(kafka__partitions=1).prepare()
    admin, topic = confluent_kafka.admin.AdminClient({"bootstrap.servers": server("KAFKA_BROKERS")}), feed.prefix + "feed.posts"
    changes = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"}
    resource = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.ConfigResource.Type.TOPIC, topic, set_config=changes)
    for done in admin.alter_configs([resource]).values():
        done.result(30)
    feed.produce_all("feed.posts", [{"value": post(id=2**40 + n), "key": key} for n, key in enumerate(["one", "two", "two", "two", "three"])])
    last = itertools.count(5)

    def left():
        """The active file is never compacted: another record closes it."""
        feed.produce_all("feed.posts", [{"value": post(id=2**40 + next(last)), "key": "last"}])
        end = feed.ends("feed.posts")[0]
        offsets = [record.offset() for record in feed.records("feed.posts", lambda records: records and records[-1].offset() == end - 1)]
        return None if {1, 2} & set(offsets) else offsets
    offsets = wait_for(left, "gaps", 120, every=1)
    assert offsets[:2] == [0, 3] and 4 in offsets
    for name in ("fanout", "index"):
        feed.worker(name)
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("index") == 0, "all is done")
    stored = [id - 2**40 for id, in feed.sql("SELECT id FROM outbound ORDER BY id")]
    assert stored[:3] == [0, 3, 4] and feed.documents() == len(stored)
