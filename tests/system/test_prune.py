"""feedctl prune, and the command worker that does the same: rows that nobody asks for any more go, and no others."""
import subprocess
import time

import pytest

from feedmill import BUILD, ROOT, wait_for
from samples import command, command_id, post

DAY = 86400
EPOCH = 1704067200


@pytest.fixture
def place(folder, kind):
    feed = kind(folder, **{"fanout.chunk": 2, "kafka.partitions": 1})
    try:
        yield feed.prepare()
    finally:
        feed.stop()


def at(days_ago):
    return time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime(time.time() - days_ago * DAY))


def id_of(days_ago):
    return (int((time.time() - days_ago * DAY - EPOCH) * 1000) << 13) + 5


def add_command(feed, days_ago):
    id = command_id()
    feed.sql("INSERT INTO command (id, type, entity_id, outcome, body, applied_at) VALUES (%s, 'product.create', 5, 'done', '{}', %s)", id, at(days_ago))
    return id


def commands(feed):
    return {id for id, in feed.sql("SELECT id FROM command")}


def add_request(feed, key, seconds):
    """An answer that expires in so many seconds."""
    feed.sql("INSERT INTO idempotency (client, `key`, body_hash, command_id, entity_id, made_at, owner, deadline, expires) VALUES ('7', %s, 'h', 'c', 5, 0, 'o', 0, %s)", key, int((time.time() + seconds) * 1000))


def pruned(feed, *arguments):
    return {line.split()[0]: int(line.split()[-1]) for line in feed.ctl("prune", *arguments).stdout.splitlines()[1:]}


def test_old_rows_go_and_others_stay(place):
    """feed.commands and feed.chunks keep 7 days: rows go a day later."""
    old, young = [add_command(place, days) for days in (30, 8.1)], [add_command(place, days) for days in (7.9, 1, 0)]
    place.sql("INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends, done) VALUES (%s, 0, 1, 2, x'', 1)", id_of(9))
    place.sql("INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends, done) VALUES (%s, 1, 1, 2, x'', 0)", id_of(9))
    place.sql("INSERT INTO fanout_chunk (post_id, n, first_friend, last_friend, friends, done) VALUES (%s, 0, 1, 2, x'', 1)", id_of(7))
    add_request(place, "expired", -1)
    add_request(place, "good", 3600)
    assert pruned(place, "--dry-run") == {"commands": 2, "requests": 1, "chunks": 1}
    assert commands(place) == {*old, *young}
    assert pruned(place) == {"commands": 2, "requests": 1, "chunks": 1}
    assert commands(place) == set(young)
    assert sorted(done for done, in place.sql("SELECT done FROM fanout_chunk")) == [0, 1] and place.sql("SELECT `key` FROM idempotency") == (("good",),)
    assert pruned(place) == {"commands": 0, "requests": 0, "chunks": 0}


def test_rows_stay_as_long_as_their_records(place):
    """A topic may keep records for longer than its retention: what they could do again must be known."""
    ancient, old = add_command(place, 30), add_command(place, 15)
    place.produce_all("feed.commands", [{"value": b"x", "key": b"7", "timestamp": int((time.time() - days * DAY) * 1000)} for days in (20, 0)])
    assert pruned(place)["commands"] == 1
    assert commands(place) == {old} and ancient not in commands(place)


def test_a_chunk_that_was_pruned_was_done(place):
    """Its record may still come again: from the beginning of the topic, say. It is not taken for one that nobody planned."""
    author, id = 7, id_of(10)
    for friend in range(11, 16):
        place.sql("INSERT INTO friend (participant_id, friend_id, id) VALUES (%s, %s, %s)", author, friend, friend)
    workers = [place.worker("fanout"), place.worker("chunk")]
    place.produce("feed.posts", post(id=id, **{"from": author}), key=str(author))
    wait_for(lambda: place.lag("fanout") == 0 and place.ends("feed.chunks") == [3] and place.lag("chunk") == 0, "all chunks")
    assert pruned(place)["chunks"] == 3 and place.sql("SELECT * FROM fanout_chunk") == ()
    for worker in workers:
        worker.stop()
    for group in ("fanout", "chunk"):
        place.ctl("offsets", group, "set", "beginning")
    workers = [place.worker("fanout"), place.worker("chunk")]
    wait_for(lambda: place.lag("fanout") == 0 and place.lag("chunk") == 0, "all once more")
    assert place.ctl("dlq", "list", "--json").stdout == ""
    assert len(place.sql("SELECT * FROM inbound")) == 5
    # one that was never planned is still refused
    place.produce("feed.chunks", b'{"v":1,"post":%d,"from":7,"chunk":3}' % id, key="7")
    wait_for(lambda: "no planned chunk" in place.ctl("dlq", "list", "chunk").stdout, "the letter", every=0.1)


def test_many_rows_and_many_who_prune(place):
    rows = [(command_id(), "product.create", n, "done", "{}", at(30)) for n in range(3000)]
    for first in range(0, len(rows), 500):
        values = ",".join("('%s','%s',%d,'%s','%s','%s')" % row for row in rows[first:first + 500])
        place.sql("INSERT INTO command (id, type, entity_id, outcome, body, applied_at) VALUES " + values)
    kept = add_command(place, 1)
    running = [subprocess.Popen([BUILD / "feedctl", "-c", place.config, "prune"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = 0
    for one in running:
        out, complaints = one.communicate(timeout=60)
        assert one.returncode == 0, complaints
        told += int(next(line for line in out.splitlines() if line.startswith("commands")).split()[-1])
    assert commands(place) == {kept} and told == 3000, "each row was deleted by one of them"


def test_what_can_not_be_asked_is_not_pruned(place, make_feed):
    add_command(place, 30)
    nowhere = place.write_config(place.folder / "nowhere.cfg", **{"queue.type": "kafka", "kafka.brokers": "127.0.0.1:1"})
    done = place.ctl("prune", config=nowhere, check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr and len(commands(place)) == 1
    wrong = place.ctl("prune", "--all", check=False)
    assert wrong.returncode == 2 and "--dry-run" in wrong.stderr
    bare = make_feed()
    missing = bare.ctl("prune", check=False)
    assert missing.returncode == 1 and "feedctl migrate" in missing.stderr


def test_the_command_worker_prunes(place):
    old, young = add_command(place, 30), add_command(place, 1)
    add_request(place, "expired", -1)
    config = place.write_config(place.folder / f"{place.name}-prunes.cfg", **{"command.prune_s": 1})
    workers = [place.worker("command", config=config) for _ in range(2)]
    wait_for(lambda: old not in commands(place) and place.sql("SELECT * FROM idempotency") == (), "old rows are gone")
    assert commands(place) == {young}
    assert any(worker.logged('event="rows pruned" rows=commands count=1') for worker in workers)
    place.produce("feed.commands", command(command=command_id(), id=77), key="77")
    wait_for(lambda: place.sql("SELECT name FROM product WHERE id = 77"), "commands go on")
    for worker in workers:
        assert worker.stop() == 0 and "level=warn" not in worker.output(), worker.output()
