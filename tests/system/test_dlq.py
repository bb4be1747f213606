"""feedctl dlq: what an operator does with dead letters; replays that are killed, done twice, or can't be."""
import base64
import json
import subprocess
import time

import pytest

from feedmill import BUILD, ROOT, wait_for
from samples import chunk, command, command_id, post

MIB = 2**20


@pytest.fixture(scope="module")
def place(folder, kind):
    """A Feedmill with its workers and no gateway."""
    feed = kind(folder)
    try:
        feed.prepare()
        for worker in ("command", "fanout", "chunk"):
            feed.worker(worker)
        yield feed
    finally:
        feed.stop()


def letters(feed, worker="all", *more):
    return [json.loads(line) for line in feed.ctl("dlq", "list", worker, "--json", *more).stdout.splitlines()]


def origin(letter):
    return letter["origin"] and (letter["origin"]["topic"], letter["origin"]["partition"], letter["origin"]["offset"])


def letter_of(feed, worker, topic, place):
    """The letter of a record, once it is there."""
    return wait_for(lambda: next((x for x in letters(feed, worker) if origin(x) == (topic, *place)), None), f"the letter of {topic} {place}", every=0.1)


def products(feed, id):
    return [name for name, in feed.sql("SELECT name FROM product WHERE id = %s", id)]


def wrong_command(feed, id, name="the command's"):
    """A command whose product's id is taken: it is right once the other product is gone."""
    feed.sql("INSERT INTO product (id, name, price) VALUES (%s, 'in the way', '1.00')", id)
    return feed.produce("feed.commands", command(command=command_id(), id=id, data={"name": name, "price": 2}), key=str(id))


def mend(feed, id):
    feed.sql("DELETE FROM product WHERE id = %s AND name = 'in the way'", id)


def test_list_and_show(place):
    before = time.time()
    places = [place.produce("feed.posts", value, key=key) for value, key in ((b"{\"v\":1,\"text\":[1,{\"a\":\"\xc3\xa4\"}]}", "listed-1"), (b"\xff\x00raw", "listed-2"), (None, "listed-3\x1b[2J"))]
    found = [letter_of(place, "fanout", "feed.posts", at) for at in places]
    table = place.ctl("dlq", "list", "fanout").stdout.splitlines()
    assert table[0].split() == ["topic", "offset", "when", "origin", "tries", "key", "reason"]
    row = next(line for line in table if "listed-1" in line)
    assert row.split()[:2] == ["fanout.dlq", str(found[0]["offset"])] and f"feed.posts/{places[0][0]}/{places[0][1]}" in row and found[0]["reason"] in row
    assert r"listed-3\x1b[2J" in "\n".join(table)
    assert [x["key"] for x in found] == ["listed-1", "listed-2", "listed-3\x1b[2J"] and all(x["tries"] == 1 and x["reason"] and not x["replayed"] for x in found)
    shown = place.ctl("dlq", "show", "fanout", found[0]["offset"]).stdout
    assert '  "text": [\n    1,\n    {\n      "a": "ä"\n    }\n  ]' in shown and found[0]["reason"] in shown and "listed-1" in shown
    assert r"\xff\x00raw" in place.ctl("dlq", "show", "fanout.dlq", found[1]["offset"]).stdout
    whole = [json.loads(place.ctl("dlq", "show", "fanout", x["offset"], "--json").stdout) for x in found]
    assert json.loads(whole[0]["value"])["text"][0] == 1 and base64.b64decode(whole[1]["value_base64"]) == b"\xff\x00raw" and whole[2]["value"] is None
    assert {"feedmill-error", "feedmill-origin-offset"} <= {header["name"] for header in whole[0]["headers"]}
    # filters
    assert [x["offset"] for x in letters(place, "fanout", "--key", "listed-2")] == [found[1]["offset"]]
    assert letters(place, "fanout", "--key", "listed-2", "--error", found[1]["reason"][5:20].upper()) and not letters(place, "fanout", "--key", "listed-2", "--error", "no such words")
    second = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before - 2))
    assert letters(place, "fanout", "--since", second, "--key", "listed-1") and not letters(place, "fanout", "--until", second, "--key", "listed-1")
    assert letters(place, "fanout", "--since", "1h", "--key", "listed-1") and not letters(place, "fanout", "--until", "1d", "--key", "listed-1")
    assert place.ctl("dlq", "show", "fanout", 10**6, check=False).returncode == 1


@pytest.mark.parametrize("arguments, words", [
    ([], "list, show"), (["lost"], "list, show"), (["list", "nobody"], "fanout"), (["list", "fanout", "1"], "unexpected 1"), (["list", "--rate", "5"], "does not take"), (["list", "--since", "yesterday"], "yesterday"),
    (["show"], "worker"), (["show", "fanout"], "one offset"), (["show", "all", "1"], "one worker"), (["show", "fanout", "x"], "no offset"), (["show", "fanout", "-1"], "dlq"), (["replay"], "worker"), (["replay", "all", "5"], "one worker"),
    (["replay", "fanout", "--rate", "0"], "--rate"), (["replay", "fanout", "--rate", "x"], "--rate"), (["purge", "fanout"], "--to"), (["purge", "--to", "5"], "worker"), (["list", "--nothing"], "dlq"), (["purge", "fanout", "--to"], "dlq"),
])
def test_bad_arguments(arguments, words):
    done = subprocess.run([BUILD / "feedctl", "dlq", *arguments], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_replay_applies_once_after_a_fix(place):
    id = 7 * 10**6 + time.time_ns() % 10**6
    letter = letter_of(place, "command", "feed.commands", wrong_command(place, id))
    assert "belongs to another command" in letter["reason"] and products(place, id) == ["in the way"]
    dry = place.ctl("dlq", "replay", "command", letter["offset"], "--dry-run").stdout
    assert "1 would be replayed" in dry and letter["reason"] in dry
    # not mended: it dies again, as a new letter, and the old one is done with
    assert "command.dlq: 1 replayed, 0 refused" in place.ctl("dlq", "replay", "command", letter["offset"]).stdout
    again = wait_for(lambda: next((x for x in letters(place, "command", "--key", str(id)) if x["offset"] != letter["offset"]), None), "the new letter", every=0.1)
    assert [x["offset"] for x in letters(place, "command", "--key", str(id))] == [again["offset"]]
    assert {x["offset"]: x["replayed"] for x in letters(place, "command", "--key", str(id), "--replayed")} == {letter["offset"]: True, again["offset"]: False}
    mend(place, id)
    place.ctl("dlq", "replay", "command", "--key", id)
    wait_for(lambda: products(place, id) == ["the command's"], "the product")
    assert letters(place, "command", "--key", str(id)) == []
    # all of them once more: the same records come again, and nothing changes
    ledger = place.one("SELECT COUNT(*) FROM command")
    assert "2 replayed" in place.ctl("dlq", "replay", "command", "--key", id, "--replayed").stdout
    wait_for(lambda: place.lag("command") == 0, "all is done")
    assert products(place, id) == ["the command's"] and place.one("SELECT COUNT(*) FROM command") == ledger and letters(place, "command", "--key", str(id)) == []


def test_replay_that_is_killed_and_done_again(place):
    """A letter is marked when its record is stored: one that was sent and not marked is sent again, and takes effect once."""
    first, count = 8 * 10**6 + time.time_ns() % 10**6 * 10, 30
    ids = range(first, first + count)
    last = [wrong_command(place, id) for id in ids][-1]
    letter_of(place, "command", "feed.commands", last)
    wait_for(lambda: len(letters(place, "command", "--error", "belongs to another")) == count, "all letters", every=0.1)
    for id in ids:
        mend(place, id)

    def done():
        return place.one("SELECT COUNT(*) FROM product WHERE id BETWEEN %s AND %s AND name <> 'in the way'", ids[0], ids[-1])
    running = subprocess.Popen([BUILD / "feedctl", "-c", place.config, "dlq", "replay", "command", "--error", "belongs to another", "--rate", "2"], cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: done() >= 3, "some of them")
    running.kill()
    running.wait(30)
    left = len(letters(place, "command", "--error", "belongs to another"))
    assert 0 < left < count, "it was killed in the middle, and what was done is marked"
    stopped = subprocess.Popen([BUILD / "feedctl", "-c", place.config, "dlq", "replay", "command", "--error", "belongs to another", "--rate", "5"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(letters(place, "command", "--error", "belongs to another")) < left, "some more", every=0.1)
    stopped.terminate()
    out, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 1 and "left: run it again" in out
    place.ctl("dlq", "replay", "command", "--error", "belongs to another", "--rate", "1000")
    wait_for(lambda: place.lag("command") == 0 and done() == count, "all of them")
    assert letters(place, "command", "--error", "belongs to another") == []
    assert place.one("SELECT COUNT(*) FROM command WHERE entity_id >= %s AND entity_id < %s", ids[0], ids[-1] + 1) == count


def test_purge(place):
    for n in range(3):
        at = place.produce("feed.chunks", b"wrong", key="purged")
        letter_of(place, "chunk", "feed.chunks", at)
    there = letters(place, "chunk")
    third = there[-1]
    refused = place.ctl("dlq", "purge", "chunk", "--to", third["offset"], check=False)
    assert refused.returncode == 1 and "[y/N]" in refused.stderr and letters(place, "chunk") == there
    assert f"{len(there) - 1} would be deleted" in place.ctl("dlq", "purge", "chunk", "--to", third["offset"], "--dry-run").stdout and letters(place, "chunk") == there
    for wrong, words in (("10000000", "ends at"), ("soon", "soon")):
        done = place.ctl("dlq", "purge", "chunk", "--to", wrong, "--yes", check=False)
        assert done.returncode == 1 and words in done.stderr
    asked = subprocess.run([BUILD / "feedctl", "-c", place.config, "dlq", "purge", "chunk", "--to", third["time"]], cwd=ROOT, input="yes\n", capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    left = letters(place, "chunk")
    assert third in left and len(left) < len(there)
    place.ctl("dlq", "purge", "chunk", "--to", "end", "--yes")
    assert letters(place, "chunk") == []
    letter_of(place, "chunk", "feed.chunks", place.produce("feed.chunks", b"wrong", key="after"))


# ---- with one worker

@pytest.fixture(scope="module")
def feed(folder, kind):
    feed = kind(folder)
    try:
        feed.prepare()
        feed.worker("fanout")
        yield feed
    finally:
        feed.stop()


def test_replay_keeps_key_value_and_headers(feed):
    headers = [(f"x-{n}", b"%d" % n) for n in range(30)] + [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("feedmill-reply", b"3"), ("null", None)]
    sent = {"value": b"\xff not json", "key": b"\xffkey", "headers": headers}
    at, = feed.produce_all("feed.posts", [sent])
    letter = letter_of(feed, "fanout", "feed.posts", at)
    feed.ctl("dlq", "replay", "fanout", letter["offset"])
    records = feed.records("feed.posts", lambda records: sum(r.key() == sent["key"] for r in records) == 2)
    again = [r for r in records if r.key() == sent["key"] and (r.partition(), r.offset()) != at]
    assert len(again) == 1 and again[0].value() == sent["value"] and sorted(again[0].headers(), key=repr) == sorted(headers, key=repr)
    assert again[0].partition() == at[0], "the key's partition"


@pytest.mark.servers("a table that is altered under its users")
def test_replay_of_cut_letters(feed):
    """The whole record is fetched from its origin, as long as it is there."""
    large = {"value": post(id=2**40 + 77, subject="too long for now", pad="x" * (5 * MIB)), "key": b"7"}
    feed.sql("ALTER TABLE outbound MODIFY subject VARCHAR(3) NOT NULL")
    at, lost = feed.produce_all("feed.posts", [large, {**large, "value": post(id=2**40 + 78, subject="too long for now", pad="y" * (5 * MIB))}], **{"compression.type": "gzip", "message.max.bytes": 40 * MIB, "queue.buffering.max.kbytes": 100000})
    letter, gone = letter_of(feed, "fanout", "feed.posts", at), letter_of(feed, "fanout", "feed.posts", lost)
    assert letter["cut"] == len(large["value"]) and "(cut)" in feed.ctl("dlq", "list", "fanout").stdout
    feed.sql("ALTER TABLE outbound MODIFY subject VARCHAR(4000) NOT NULL")
    feed.ctl("dlq", "replay", "fanout", letter["offset"])
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound WHERE id = %s", 2**40 + 77) == 1, "the post")
    feed.delete_records("feed.posts", lost[0], lost[1] + 1)
    refused = feed.ctl("dlq", "replay", "fanout", gone["offset"], check=False)
    assert refused.returncode == 1 and "1 refused" in refused.stdout and "not at its origin" in refused.stderr
    assert gone["offset"] in [x["offset"] for x in letters(feed, "fanout")], "it stays"
    assert feed.one("SELECT COUNT(*) FROM outbound WHERE id = %s", 2**40 + 78) == 0


def test_what_is_no_letter_is_refused(feed):
    bare = feed.produce("fanout.dlq", b"by hand", key="bare", partition=0)
    elsewhere = feed.produce_all("fanout.dlq", [{"value": b"x", "key": b"bare", "partition": 0, "headers": [("feedmill-origin-topic", b"product_eventz"), ("feedmill-origin-partition", b"0"), ("feedmill-origin-offset", b"0")]}])[0]
    refused = feed.ctl("dlq", "replay", "fanout", bare[1], elsewhere[1], check=False)
    assert refused.returncode == 1 and "does not say where it came from" in refused.stderr and "no topic of ours" in refused.stderr and "2 refused" in refused.stdout
    assert "by hand" in feed.ctl("dlq", "show", "fanout", bare[1]).stdout


def test_rate(feed):
    places = feed.produce_all("feed.posts", [{"value": b"paced", "key": b"paced"}] * 12)
    letter_of(feed, "fanout", "feed.posts", places[-1])
    wait_for(lambda: len(letters(feed, "fanout", "--key", "paced")) == 12, "all letters", every=0.1)
    began = time.monotonic()
    feed.ctl("dlq", "replay", "fanout", "--key", "paced", "--rate", "4")
    assert time.monotonic() - began >= 2.5, "twelve at four a second"


@pytest.mark.servers("one that is away")
def test_kafka_away(make_feed):
    feed = make_feed(**{"kafka__brokers": "127.0.0.1:1"})
    done = feed.ctl("dlq", "list", check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
