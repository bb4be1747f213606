"""How a worker's process ends, and what it does while it can't go on: second signals, a drain that has a limit, a name that another has
taken, a stop in the middle of a transaction, a sink that is away with a long backlog."""
import signal
import time

import pytest
import requests

from feedmill import memory_kib, server, wait_for
from proxy import Proxy
from samples import post
from test_crash import copies, people, row_held, start, wait_blocked


@pytest.mark.servers("a row lock")
def test_the_first_signal_drains_the_second_leaves_at_once(make_feed):
    feed = make_feed(kafka__partitions=1, mysql__lock_wait_s=20)
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    slow = client.say(author, "slow")
    with row_held(feed, friends[1], slow, author):
        worker = feed.worker("fanout", wait=False)
        wait_blocked(feed)
        worker.signal(signal.SIGTERM)
        worker.wait_logged("event=draining")
        assert worker.running(), "it finishes what it has in hand"
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.popen.wait(10) == 130
        assert time.monotonic() - began < 5
        feed.processes.remove(worker)
    feed.worker("fanout")
    wait_for(lambda: copies(feed, slow) == {friend: 1 for friend in friends}, "the post that was in hand")


@pytest.mark.servers("a database that hangs")
def test_a_drain_has_a_limit(make_feed, request):
    """A call that does not come back within drain_timeout and what comes on top: the process leaves, and its records come again."""
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    feed = make_feed(kafka__partitions=1, mysql__read_timeout_ms=120000, worker__drain_timeout_ms=1000, instance="one")
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    worker = feed.worker("fanout", config=feed.write_config(feed.folder / "slow.cfg", **{"mysql.port": proxy.port}))
    proxy.hold()
    story = client.say(author, "held")
    wait_for(lambda: feed.metric(worker, "feedmill_worker_batch_records", worker="fanout") == 1, "the batch in hand")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.popen.wait(40) == 1
    assert 1 <= time.monotonic() - began < 30
    assert worker.logged("a thread does not end, leaving"), worker.output()
    feed.processes.remove(worker)
    feed.worker("fanout")
    wait_for(lambda: copies(feed, story) == {friend: 1 for friend in friends}, "the post that was in hand")


@pytest.mark.servers("Kafka's groups")
def test_a_name_that_another_has_taken_ends_the_older_process(make_feed):
    feed = make_feed(kafka__partitions=2, instance="one")
    client, (_, older) = start(feed, "command", "fanout")
    author, friends = people(client, 3)
    posts = [client.say(author, f"story {n}") for n in range(5)]
    newer = feed.worker("fanout")
    assert older.popen.wait(60) == 1
    assert older.logged(r'level=error .*event="worker can\'t go on" .*FENCED_INSTANCE_ID'), older.output()
    feed.processes.remove(older)
    posts += [client.say(author, f"story {n}") for n in range(5, 10)]
    for story in posts:
        wait_for(lambda story=story: copies(feed, story) == {friend: 1 for friend in friends}, "each friend once", 60)
    assert newer.running()


@pytest.mark.servers("a row lock")
def test_a_partition_that_is_lost_in_the_middle_of_a_batch_is_not_committed(make_feed):
    """A worker is stopped inside its transaction for longer than its session; another does its work. When it goes on it commits nothing."""
    feed = make_feed(kafka__partitions=1, kafka__session_timeout_ms=6000, mysql__idle_transaction_s=5, mysql__lock_wait_s=20)
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    posts = [client.say(author, f"story {n}") for n in range(4)]
    with row_held(feed, friends[1], posts[2], author):
        zombie = feed.worker("fanout", wait=False)
        wait_blocked(feed)
        zombie.signal(signal.SIGSTOP)
    other = feed.worker("fanout", wait=False)
    for story in posts:
        wait_for(lambda story=story: copies(feed, story) == {friend: 1 for friend in friends}, "the other worker does it", 90)
    wait_for(lambda: feed.lag("fanout") == 0, "and stores its offsets", 30)
    zombie.signal(signal.SIGCONT)
    after = client.say(author, "after")
    wait_for(lambda: copies(feed, after) == {friend: 1 for friend in friends}, "life goes on", 60)
    assert zombie.running() and other.running()
    for story in posts:
        assert copies(feed, story) == {friend: 1 for friend in friends}
    assert feed.one("SELECT COUNT(*) FROM outbound") == 5
    assert zombie.stop() == 0


@pytest.mark.servers("a database that is away")
def test_memory_stays_flat_while_the_store_is_away_with_a_long_backlog(make_feed, request):
    """100,000 posts are waiting, and the database goes: nothing is fetched that nobody takes."""
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    feed = make_feed(kafka__partitions=4).prepare()
    feed.produce("feed.posts", post(id=2**40), key="7")
    worker = feed.worker("fanout", config=feed.write_config(feed.folder / "proxied.cfg", **{"mysql.port": proxy.port}))
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 1, "it works")
    before = memory_kib(worker.pid, "Rss")
    proxy.cut()
    backlog = 100_000
    feed.produce_all("feed.posts", ({"value": post(id=2**40 + n, story="x" * 300), "key": str(n % 500)} for n in range(1, backlog + 1)))
    worker.wait_logged("dependency is down, waiting")
    levels, until = [], time.monotonic() + 10
    while time.monotonic() < until:
        levels.append(memory_kib(worker.pid, "Rss"))
        assert requests.get(worker.admin + "/healthz", timeout=10).status_code == 200, "waiting is not being stuck"
        time.sleep(0.5)
    print(f"RSS: {before} KiB before, {min(levels)} to {max(levels)} KiB with {backlog} records waiting")
    assert feed.one("SELECT COUNT(*) FROM outbound") < backlog
    assert max(levels) < before + 16 * 1024, levels
    assert max(levels[-5:]) <= max(levels[:10]) + 1024, "it grows"
    proxy.restore()
    worker.wait_logged("dependency is back")
    done = feed.one("SELECT COUNT(*) FROM outbound")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") > done + 2000, "it goes on by itself", 60)
    assert memory_kib(worker.pid, "Rss") < before + 24 * 1024


@pytest.mark.servers("Kafka's responses")
def test_a_worker_behind_records_that_came_one_by_one_stays_small(make_feed):
    """Each of them was fetched alone, and keeps the whole response in memory that it came in: what is fetched ahead is bounded in records too. And
    when they are done, what they took is given back."""
    feed = make_feed(kafka__partitions=12, mysql__lock_wait_s=120, mysql__read_timeout_ms=130000, fanout__batch=100, worker__backlog_ms=0).prepare()
    worker = feed.worker("fanout")
    producer = feed.producer(**{"linger.ms": 0})
    with feed.held():
        for n in range(100):
            feed_one(feed, producer, n)
        waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND state LIKE 'Waiting for table%%'"
        wait_for(lambda: feed.one(waiting, feed.database), "the worker stands at the table")
        before = memory_kib(worker.pid, "Anonymous")
        for n in range(100, 6000):
            feed_one(feed, producer, n)
        most = memory_kib(worker.pid, "Anonymous")
    grown = most - before
    print(f"{grown} KiB more with 6,000 records behind")
    assert grown < 8192, f"{grown} KiB more: all 6,000 have been fetched"
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 6000, "all of them", 120, every=0.2)
    wait_for(lambda: memory_kib(worker.pid, "Anonymous") < most - grown / 2, f"memory is given back: {most} KiB", 90, every=0.5)


def feed_one(feed, producer, n):
    """Of an author of its own, and stored before the next."""
    producer.produce(feed.prefix + "feed.posts", post(id=2**40 + n, **{"from": n + 1}), key=str(n + 1))
    assert producer.flush(30) == 0
