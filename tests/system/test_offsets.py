"""feedctl lag and feedctl offsets: what is behind and at risk, and where a group goes on."""
import signal
import subprocess
import time

import pytest

from feedmill import BUILD, ROOT, wait_for
from samples import post

DAY = 86400


@pytest.fixture
def place(folder, kind):
    """A Feedmill without processes, its topics in one partition."""
    feed = kind(folder, **{"kafka.partitions": 1})
    try:
        yield feed.prepare()
    finally:
        feed.stop()


def lag(feed, *arguments, code=0):
    done = feed.ctl("lag", *arguments, check=False)
    assert done.returncode == code, done
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()[0] != "group" and ".retry." not in line}


def posts(feed, first, count, age_s=0):
    feed.produce_all("feed.posts", [{"value": post(id=2**40 + n), "key": b"7", "timestamp": int((time.time() - age_s) * 1000)} for n in range(first, first + count)])


def stored(feed):
    return [id - 2**40 for id, in feed.sql("SELECT id FROM outbound ORDER BY id")]


def test_lag_tells_what_is_at_risk(place):
    """feed.posts keeps 7 days: a record of 4 days ago, that nobody has done, is past half of it."""
    assert lag(place)["fanout"] == ["feed.posts", "1", "-", "0", "0", "-", "0%"]
    posts(place, 0, 1, age_s=DAY)
    assert lag(place)["fanout"] == ["feed.posts", "1", "-", "1", "1", "1d00h", "14%"]
    place.produce_all("feed.chunks", [{"value": b"x", "timestamp": int((time.time() - 4 * DAY) * 1000)}])
    found = lag(place, code=3)
    assert found["chunk"] == ["feed.chunks", "1", "-", "1", "1", "4d00h", "57%", "AT", "RISK"] and len(found["index"]) == 7
    assert lag(place, "--partitions", code=3)["chunk"] == ["feed.chunks", "0", "-", "1", "1", "4d00h", "57%", "AT", "RISK"]
    worker = place.worker("chunk")
    wait_for(lambda: place.lag("chunk") == 0, "the worker has done it")
    worker.stop()
    assert lag(place)["chunk"][2:6] == ["1", "1", "0", "-"]
    # a sink that nobody has switched on has nothing to lose
    place.produce_all("product_events", [{"value": b"x", "timestamp": int((time.time() - 4 * DAY) * 1000)}])
    assert lag(place)["relay.redis"][4:] == ["1", "4d00h", "57%", "never", "ran"] and lag(place, "--partitions")["relay.redis"][-2:] == ["never", "ran"]
    place.ctl("offsets", "relay.redis", "set", "beginning")
    assert lag(place, code=3)["relay.redis"][-2:] == ["AT", "RISK"]


def test_lag_watches_until_it_is_told_to_stop(place):
    watching = subprocess.Popen([BUILD / "feedctl", "-c", place.config, "lag", "--watch", "--every", "1"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = []

    def read_until(found):
        while not found():
            lines.append(watching.stdout.readline())
            assert lines[-1], f"it has ended: {lines}"
    read_until(lambda: sum("fanout" in line for line in lines) == 2)
    posts(place, 0, 3)
    read_until(lambda: "fanout" in lines[-1] and lines[-1].split()[5] == "3")
    assert "\033" not in "".join(lines)
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=30)
    assert watching.returncode == 0


@pytest.mark.parametrize("arguments, words", [
    (["lag", "--often"], "lag"), (["lag", "5"], "unexpected 5"), (["lag", "--every", "0"], "--every"), (["lag", "--every", "x"], "--every"), (["offsets"], "group"), (["offsets", "fanout"], "show, set"), (["offsets", "fanout", "move"], "no word move"),
    (["offsets", "nobody", "show"], "no group nobody"), (["offsets", "fanout", "set"], "one argument"), (["offsets", "fanout", "show", "5"], "nothing more"), (["offsets", "fanout", "to-time", "soon"], "soon"), (["offsets", "fanout", "show", "--topic", "feed.chunks"], "feed.posts"),
    (["offsets", "fanout", "show", "--partition", "-1"], "--partition"),
])
def test_bad_arguments(arguments, words):
    done = subprocess.run([BUILD / "feedctl", *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def shown(feed, *arguments):
    return [line.split() for line in feed.ctl("offsets", "fanout", *arguments).stdout.splitlines()[1:]]


def test_offsets_are_shown_and_set(place):
    posts(place, 0, 3, age_s=3600)
    posts(place, 3, 3)
    assert shown(place, "show")[0][:6] == ["feed.posts", "0", "-", "0", "6", "6"]
    worker = place.worker("fanout")
    wait_for(lambda: place.lag("fanout") == 0 and len(stored(place)) == 6, "all posts")
    refused = place.ctl("offsets", "fanout", "set", "beginning", check=False)
    assert refused.returncode == 1 and "has members" in refused.stderr and place.lag("fanout") == 0
    worker.stop()
    assert shown(place, "show")[0][:7] == ["feed.posts", "0", "6", "0", "6", "0", "-"]
    assert shown(place, "set", "beginning", "--dry-run") == [["feed.posts", "0", "6", "0", "6", "come", "again"]] and place.lag("fanout") == 0
    assert shown(place, "set", "beginning") == [["feed.posts", "0", "6", "0", "6", "come", "again"]] and place.lag("fanout") == 6
    worker = place.worker("fanout")
    wait_for(lambda: place.lag("fanout") == 0, "all once more")
    worker.stop()
    assert stored(place) == list(range(6)), "which changed nothing"
    assert shown(place, "to-time", "30m")[0][:4] == ["feed.posts", "0", "6", "3"] and place.lag("fanout") == 3
    assert shown(place, "to-time", "2h")[0][3] == "0" and shown(place, "to-time", "2100-01-01T00:00:00Z")[0][3] == "6"
    assert shown(place, "set", "2", "--partition", "0")[0][2:4] == ["6", "2"] and place.lag("fanout") == 4
    assert shown(place, "set", "end") == [["feed.posts", "0", "2", "6", "4", "skipped"]]
    for number, words in (("7", "offsets 0 to 6"), ("-1", "offsets"), ("x", "beginning, end or an offset")):
        wrong = place.ctl("offsets", "fanout", "set", "--", number, check=False)
        assert wrong.returncode == 1 and words in wrong.stderr, wrong
    wrong = place.ctl("offsets", "fanout", "set", "0", "--partition", "5", check=False)
    assert wrong.returncode == 1 and "partitions 0 to 0" in wrong.stderr
    assert place.lag("fanout") == 0


def test_a_partition_out_of_range_goes_on_when_it_is_told_where(place):
    """Records were deleted before the worker had done them: it stops there, says what to type, and that helps."""
    posts(place, 0, 2)
    worker = place.worker("fanout")
    wait_for(lambda: place.lag("fanout") == 0, "the first posts")
    worker.stop()
    posts(place, 2, 4)
    place.delete_records("feed.posts", 0, 4)
    found = lag(place, code=3)["fanout"]
    assert found[:5] == ["feed.posts", "1", "4", "6", "2"] and found[7:9] == ["LOST", "2:"], found
    assert "OUT" in shown(place, "show")[0]
    worker = place.worker("fanout", wait=False)
    assert "feedctl offsets" in worker.wait_logged(r'event="partition stopped".*')[0]
    worker.stop()
    assert stored(place) == [0, 1]
    place.ctl("offsets", "fanout", "set", "beginning")
    worker = place.worker("fanout")
    wait_for(lambda: place.lag("fanout") == 0, "what is left")
    worker.stop()
    assert stored(place) == [0, 1, 4, 5] and len(lag(place)["fanout"]) == 7


def test_an_offset_of_one_of_many_partitions(make_feed):
    feed = make_feed(kafka__partitions=3).prepare()
    for partition in range(3):
        for n in range(2):
            feed.produce("feed.posts", b"x", partition=partition)
    wrong = feed.ctl("offsets", "index", "set", "1", check=False)
    assert wrong.returncode == 1 and "--partition" in wrong.stderr
    feed.ctl("offsets", "index", "set", "1", "--partition", "2")
    assert [line.split()[2] for line in feed.ctl("offsets", "index", "show").stdout.splitlines()[1:]] == ["-", "-", "1"]
    retries = feed.ctl("offsets", "index", "show", "--topic", "index.retry.5s").stdout.splitlines()[1:]
    assert [line.split()[:3] for line in retries] == [["index.retry.5s", str(n), "-"] for n in range(3)], "retry topics by name only"
    assert feed.lag("index") == 5


@pytest.mark.servers("one that is away")
def test_kafka_away(make_feed):
    feed = make_feed(**{"kafka__brokers": "127.0.0.1:1"})
    done = feed.ctl("offsets", "fanout", "show", check=False)
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr


def test_a_worker_tells_of_records_that_it_has_not_seen(kind, folder):
    """One partition's record can't be done now; what waits in the other is in no hand, and counts."""
    feed = kind(folder, **{"kafka.partitions": 2, "worker.backlog_ms": 200, "fanout.batch": 1})
    try:
        worker = feed.prepare().worker("fanout")

        def oldest():
            return feed.metric(worker, "feedmill_worker_oldest_unprocessed_seconds")
        feed.produce_all("feed.posts", [{"value": post(id=2**40), "partition": 0}])
        wait_for(lambda: stored(feed) == [0] and feed.lag("fanout") == 0 and oldest() == 0, "nothing is left to do")
        with feed.held():
            feed.produce_all("feed.posts", [{"value": post(id=2**40 + 1), "partition": 0}])
            wait_for(lambda: oldest() > 0, "it is in hand")
            feed.produce_all("feed.posts", [{"value": post(id=2**40 + 2), "partition": 1, "timestamp": int((time.time() - 4 * DAY) * 1000)}])
            wait_for(lambda: oldest() > 4 * DAY - 60 and feed.metric(worker, "feedmill_worker_retention_used_ratio") > 0.5, "it tells of the other")
            worker.wait_logged("records are older than half of the topic's retention")
        wait_for(lambda: stored(feed) == [0, 1, 2] and feed.lag("fanout") == 0 and oldest() == 0, "all is done")
    finally:
        feed.stop()
