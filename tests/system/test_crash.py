"""kill -9 in the middle of a transaction: nobody misses a post, nobody gets it twice.

The middle is found with a lock: a rival connection holds the inbound row that the worker is about to write, so the worker's
transaction stands still, and is killed there.
"""
import contextlib

import pytest

from feedmill import Client, wait_for


@contextlib.contextmanager
def row_held(feed, participant, post, author):
    """The inbound row (participant, post) is written by a rival who does not commit."""
    rival = feed.connect()
    rival.select_db(feed.database)
    rival.begin()
    with rival.cursor() as cursor:
        cursor.execute("INSERT INTO inbound (participant_id, post_id, from_id) VALUES (%s, %s, %s)", (participant, post, author))
    try:
        yield
    finally:
        rival.rollback()
        rival.close()


def wait_blocked(feed):
    """Somebody of this Feedmill's database waits for a lock. InnoDB answers from a cache that it renews only when nobody has
    read it for 100 ms, so it must not be asked more often."""
    query = ("SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
             "WHERE t.trx_state = 'LOCK WAIT' AND p.db = %s")
    wait_for(lambda: feed.one(query, feed.database) >= 1, "the worker stands at the held row", every=0.25)


def copies(feed, post):
    return dict(feed.sql("SELECT participant_id, COUNT(*) FROM inbound WHERE post_id = %s GROUP BY participant_id", post))


def people(client, count):
    author, friends = client.participant(), sorted(client.participant() for _ in range(count))
    for friend in friends:
        client.befriend(author, friend)
    return author, friends


def start(feed, *workers):

    feed.prepare()
    gateway = feed.gateway()
    started = [feed.worker(worker) for worker in workers]
    feed.client = Client(gateway.url)
    return feed.client, started


@pytest.mark.servers("a row that another holds")
def test_fanout_killed_in_mid_batch(make_feed):
    feed = make_feed(kafka__partitions=1)
    client, _ = start(feed, "command")
    author, friends = people(client, 20)
    posts = [client.say(author, f"story {n}") for n in range(10)]
    with row_held(feed, friends[10], posts[5], author):
        worker = feed.worker("fanout")
        wait_blocked(feed)
        worker.kill()
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND command = 'Query' AND info LIKE 'INSERT%%'", feed.database) == 0, "the dead transaction is gone")
    assert feed.one("SELECT COUNT(*) FROM inbound") == 0, "no half of a batch"
    late = client.participant()
    client.befriend(author, late)
    feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 10, "all posts")
    wait_for(lambda: feed.lag("fanout") == 0, "the offsets")
    for post in posts:
        assert copies(feed, post) == {friend: 1 for friend in friends + [late]}, "friends at the commit of the fan-out"


def test_fanout_killed_after_the_commit(make_feed):
    """Replay of what was fanned out: a friend who came after it gets nothing."""
    feed = make_feed(kafka__partitions=1)
    client, (_, worker) = start(feed, "command", "fanout")
    author, friends = people(client, 5)
    posts = [client.say(author, f"story {n}", headers={"Prefer": "wait=20"}) for n in range(3)]
    worker.kill()
    late = client.participant()
    client.befriend(author, late)
    for record in feed.records("feed.posts", lambda rs: len(rs) >= 3):
        feed.produce("feed.posts", record.value(), record.key(), record.headers(), record.partition())
    after = client.say(author, "after")
    feed.worker("fanout")
    wait_for(lambda: copies(feed, after) == {friend: 1 for friend in friends + [late]}, "the post after")
    for post in posts:
        assert copies(feed, post) == {friend: 1 for friend in friends}


@pytest.mark.servers("a row that another holds")
def test_chunk_killed_between_two_chunks(make_feed):
    feed = make_feed(kafka__partitions=1, fanout__chunk=10, chunk__threads=1)
    client, _ = start(feed, "command", "fanout")
    author, friends = people(client, 35)
    post = client.say(author, "to many")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s", post) == 4, "the plan")
    with row_held(feed, friends[25], post, author):
        worker = feed.worker("chunk")
        wait_blocked(feed)
        worker.kill()
    done = feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s AND done", post)
    assert 1 <= done < 4 and feed.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", post) == done * 10
    late = client.participant()
    client.befriend(author, late)
    feed.worker("chunk")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s AND NOT done", post) == 0, "all chunks")
    assert copies(feed, post) == {friend: 1 for friend in friends}, "the friends of the plan, each once"
    command = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "next"}, headers={"Prefer": "wait=30"})
    assert copies(feed, command.json()["id"]) == {friend: 1 for friend in friends + [late]}


def test_plan_sent_again_after_a_kill(make_feed):
    """The plan is stored, its chunk records may be lost with the process: the replayed post sends those that are not done."""
    feed = make_feed(kafka__partitions=1, fanout__chunk=10)
    client, (_, worker) = start(feed, "command", "fanout")
    author, friends = people(client, 25)
    post = client.say(author, "to many")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s", post) == 3, "the plan")
    worker.kill()
    late = client.participant()
    client.befriend(author, late)
    record, = feed.records("feed.posts", lambda rs: rs)
    feed.produce("feed.posts", record.value(), record.key(), record.headers(), record.partition())
    feed.worker("fanout")
    feed.worker("chunk")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s AND NOT done", post) == 0, "all chunks")
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("chunk") == 0, "all records")
    assert copies(feed, post) == {friend: 1 for friend in friends}
    assert feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s", post) == 3, "not planned again"


@pytest.mark.servers("a row that another holds")
def test_command_killed_in_mid_batch(make_feed):
    """The batch stands at the ledger row of its fourth command, which a rival has written: nothing of it may be there afterwards."""
    feed = make_feed(kafka__partitions=1, gateway__wait_ms=200).prepare()
    client = Client(feed.gateway().url)
    places = [client.post("/products", {"name": f"p{n}", "price": n}).headers["Location"] for n in range(5)]
    rival = feed.connect()
    rival.select_db(feed.database)
    rival.begin()
    with rival.cursor() as cursor:
        cursor.execute("INSERT INTO command (id, type, entity_id, outcome, body) VALUES (%s, 'product.create', 1, 'done', '{}')", (places[3].rpartition("/")[2],))
    worker = feed.worker("command")
    wait_blocked(feed)
    worker.kill()
    rival.rollback()
    rival.close()
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND command = 'Query' AND info LIKE 'INSERT%%'", feed.database) == 0, "the dead transaction is gone")
    assert feed.one("SELECT COUNT(*) FROM product") == feed.one("SELECT COUNT(*) FROM command") == 0, "no half of a batch"
    feed.worker("command")
    for place in places:
        wait_for(lambda: client.ok("GET", place)["status"] == "done", "the command is done")
    assert [product["name"] for product in client.ok("GET", "/products")] == [f"p{n}" for n in range(5)]
    assert feed.one("SELECT COUNT(*) FROM command") == 5


def test_a_record_that_kills_its_worker_is_a_dead_letter(make_feed):
    """Whatever kills it (here: we, each time it is at that post): the others are found not to be the reason, the partition goes on, and
    when the reason is gone the post is sent again and arrives once."""
    feed = make_feed(kafka__partitions=1, instance="one")
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    posts = [client.say(author, f"story {n}") for n in range(10)]
    killer = posts[5]
    with row_held(feed, friends[1], killer, author):
        for deaths in range(5):
            worker = feed.worker("fanout", wait=False)
            wait_blocked(feed)
            done = feed.one("SELECT COUNT(*) FROM outbound")
            assert done == (0 if deaths < 2 else 5), "two times together, then one at a time"
            worker.kill()
            wait_for(lambda: feed.one("SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND command = 'Query' AND info LIKE 'INSERT%%'", feed.database) == 0, "the dead transaction is gone")
        feed.worker("fanout", wait=False)
        letter, = feed.records("fanout.dlq", lambda letters: letters, 60)
        headers = dict(letter.headers())
        assert headers["feedmill-origin-offset"] == b"5" and b"ended its worker's process: begun 5 times" in headers["feedmill-error"]
        wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 9, "all others")
        wait_for(lambda: feed.lag("fanout") == 0, "the offsets")
        assert copies(feed, killer) == {}
    feed.ctl("dlq", "replay", "fanout")
    for post in posts:
        wait_for(lambda post=post: copies(feed, post) == {friend: 1 for friend in friends}, "each friend once")
