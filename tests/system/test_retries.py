"""A record that can't be done while others can: it comes again by retry topics, never before it is due, and is a dead letter in the end;
where order counts its partition waits for it."""
import contextlib
import http.server
import json
import re
import threading
import time
from datetime import datetime

import pytest
import requests

from feedmill import Client, server, wait_for
from test_asyncapi import DESCRIPTION, faults
from test_crash import copies, people, row_held, start

pytestmark = pytest.mark.servers("a search engine that refuses, and row locks")
RETRY = DESCRIPTION["components"]["messages"]["retry"]


@contextlib.contextmanager
def busy_engine(is_busy):
    """The search engine, but that it refuses the documents for which is_busy(id, count of requests for it) is true."""
    asked = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def forward(self, body):
            headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
            answer = requests.request(self.command, server("SEARCH_URL") + self.path, data=body, headers=headers, timeout=60)
            return answer.status_code, answer.content

        def bulk(self, body):
            lines = body.decode().splitlines()
            wanted, passed = [], []
            for action, document in zip(lines[::2], lines[1::2]):
                name = next(iter(json.loads(action).values()))["_id"]
                asked[name] = asked.get(name, 0) + 1
                wanted.append((name, is_busy(name, asked[name])))
                if not wanted[-1][1]:
                    passed += [action, document]
            items = []
            if passed:
                status, content = self.forward("\n".join(passed).encode() + b"\n")
                if status != 200:
                    return status, content
                items = json.loads(content)["items"]
            items = iter(items)
            busy = {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}}
            answers = [busy if refused else next(items) for _, refused in wanted]
            return 200, json.dumps({"took": 1, "errors": True, "items": answers}).encode()

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = (self.bulk if "_bulk" in self.path else self.forward)(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{engine.server_address[1]}", asked
    finally:
        engine.shutdown()
        engine.server_close()


def header(record, name):
    return dict(record.headers())[name].decode()


def done_at_ms(worker, topic, offset):
    match = worker.wait_logged(rf'time=(\S+) level=debug .*event="record done" topic={re.escape(topic)} partition=0 offset={offset}\b')
    return datetime.fromisoformat(match[1].replace("Z", "+00:00")).timestamp() * 1000


def test_a_document_that_is_refused_as_busy_comes_again_when_it_is_due(make_feed):
    """Twice refused, then taken: the others are not held up, and it is searchable once."""
    with busy_engine(lambda name, count: name == busy and count <= 2) as (url, asked):
        feed = make_feed(kafka__partitions=1, worker__retry_delays="1s, 2s", index__linger_ms=1000, log__level="debug")
        client, _ = start(feed, "command")
        author = client.participant()
        first, busy, last = (str(client.say(author, f"walrus {n}")) for n in range(3))
        index = feed.worker("index", config=feed.write_config(feed.folder / "busy.cfg", **{"search.url": url}))
        retries = feed.records("index.retry.1s", lambda records: records)
        wait_for(lambda: feed.documents() == 2, "the others")
        again = feed.records("index.retry.2s", lambda records: records)
        wait_for(lambda: feed.documents() == 3, "the one that was refused")
        assert asked == {first: 1, busy: 3, last: 1}
        for record, topic, tries in ((*retries, "index.retry.1s", "1"), (*again, "index.retry.2s", "2")):
            assert faults(RETRY, record) == []
            assert json.loads(record.value())["id"] == int(busy) and record.key() == str(author).encode()
            assert header(record, "feedmill-attempts") == tries and "queue is full" in header(record, "feedmill-error")
            assert header(record, "feedmill-origin-topic").endswith("feed.posts") and header(record, "feedmill-origin-offset") == "1"
        assert done_at_ms(index, "index.retry.2s", 0) >= int(header(again[0], "feedmill-due")), "before it was due"
        wait_for(lambda: feed.lag("index", "index.retry.1s") + feed.lag("index", "index.retry.2s") + feed.lag("index") == 0, "all offsets")
        metrics = requests.get(index.admin + "/metrics", timeout=10).text
        assert 'feedmill_worker_retries_total{worker="index"} 2' in metrics
        assert 'feedmill_worker_held_partitions{worker="index"} 0' in metrics
        assert re.search(r"^index +\S*index\.retry\.1s +1 +1 +1 +0 ", feed.ctl("lag").stdout, re.M)


def test_what_is_refused_to_the_end_is_a_dead_letter_and_can_be_sent_again(make_feed):
    is_healed = threading.Event()
    with busy_engine(lambda name, count: name == busy and not is_healed.is_set()) as (url, asked):
        feed = make_feed(kafka__partitions=1, worker__retry_delays="100ms, 200ms", index__linger_ms=1000)
        client, _ = start(feed, "command")
        author = client.participant()
        busy, _ = (str(client.say(author, f"walrus {n}")) for n in range(2))
        companion = [0]

        def keep_company(records):
            """Alone in its request it would be the engine that is busy."""
            companion[0] += 1
            client.say(author, f"another {companion[0]}")
            return records
        feed.worker("index", config=feed.write_config(feed.folder / "busy.cfg", **{"search.url": url}))
        letter, = feed.records("index.dlq", keep_company, 90)
        assert header(letter, "feedmill-origin-offset") == "0" and header(letter, "feedmill-origin-topic").endswith("feed.posts")
        assert "given up after 3 tries" in header(letter, "feedmill-error")
        wait_for(lambda: feed.documents() == 1 + companion[0], "all others")
        is_healed.set()
        feed.ctl("dlq", "replay", "index")
        wait_for(lambda: feed.documents() == 2 + companion[0], "the one that was given up")


def test_a_record_waits_in_its_topic_also_when_its_worker_is_restarted(make_feed):
    """Held records are neither lost nor early when the worker stops or dies meanwhile."""
    feed = make_feed(kafka__partitions=1, worker__retry_delays="8s", log__level="debug")
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    post = client.say(author, "later")
    record, = feed.records("feed.posts", lambda records: records)
    due_ms = int(time.time() * 1000) + 8000
    place = feed.produce("fanout.retry.8s", record.value(), record.key(), [("feedmill-due", str(due_ms).encode())], 0)
    worker = feed.worker("fanout")
    wait_for(lambda: copies(feed, post) == {friend: 1 for friend in friends}, "the post itself")
    metric = 'feedmill_worker_held_partitions{worker="fanout"} 1'
    wait_for(lambda: metric in requests.get(worker.admin + "/metrics", timeout=10).text, "the hold")
    assert worker.stop() == 0
    worker = feed.worker("fanout")
    worker.kill()
    worker = feed.worker("fanout")
    assert done_at_ms(worker, "fanout.retry.8s", place[1]) >= due_ms
    wait_for(lambda: feed.lag("fanout", "fanout.retry.8s") == 0, "its offset")
    assert copies(feed, post) == {friend: 1 for friend in friends}, "each friend once"


def test_a_post_whose_row_is_locked_does_not_hold_up_the_others(make_feed):
    """It loses its race alone, goes to a retry topic, and arrives when the lock is gone."""
    feed = make_feed(kafka__partitions=1, worker__retry_delays="2s, 1m", mysql__lock_wait_s=1)
    client, _ = start(feed, "command")
    author, friends = people(client, 3)
    other, others = people(client, 2)
    locked = client.say(author, "locked")
    with row_held(feed, friends[1], locked, author):
        feed.worker("fanout")
        free = client.say(other, "free")
        record, = feed.records("fanout.retry.2s", lambda records: records, 90)
        assert faults(RETRY, record) == []
        wait_for(lambda: copies(feed, free) == {friend: 1 for friend in others}, "the other post")
        assert copies(feed, locked) == {}
    wait_for(lambda: copies(feed, locked) == {friend: 1 for friend in friends}, "the post that was locked", 90)
    wait_for(lambda: feed.lag("fanout") + feed.lag("fanout", "fanout.retry.2s") == 0, "the offsets")


def test_where_order_counts_the_partition_waits(make_feed):
    """A command whose row is locked: later commands of its partition come after it, those of others go on."""
    feed = make_feed(kafka__partitions=2, worker__retry_delays="2s, 1m", mysql__lock_wait_s=1)
    feed.prepare()
    client = Client(feed.gateway().url)
    command = feed.worker("command")
    products = {}
    while len(products) < 2:  # one in each partition
        product = client.ok("POST", "/products", {"name": "Umbrella", "price": 1})["id"]
        record = next(r for r in feed.records("feed.commands", lambda rs: any(r.key() == str(product).encode() for r in rs)) if r.key() == str(product).encode())
        products.setdefault(record.partition(), product)
    rival = feed.connect()
    rival.select_db(feed.database)
    rival.begin()
    with rival.cursor() as cursor:
        cursor.execute("SELECT * FROM product WHERE id = %s FOR UPDATE", (products[0],))
    pending = client.delete(f"/products/{products[0]}", headers={"Prefer": "respond-async"}).headers["Location"]
    metric = 'feedmill_worker_held_partitions{worker="command"} 1'
    wait_for(lambda: metric in requests.get(command.admin + "/metrics", timeout=10).text, "the hold", 90)
    assert client.delete(f"/products/{products[1]}", headers={"Prefer": "wait=30"}).status_code == 200, "the other partition goes on"
    assert client.get(pending).json()["status"] == "pending"
    rival.rollback()
    rival.close()
    wait_for(lambda: client.get(pending).json()["status"] == "done", "the command that was locked", 90)
    wait_for(lambda: feed.lag("command") == 0, "the offsets")
    assert not any("retry" in line.split()[1] for line in feed.ctl("lag").stdout.splitlines() if line.startswith("command"))
