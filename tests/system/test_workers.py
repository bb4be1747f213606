"""feed-worker: the table, batches, the trace, and the stop. Records that are wrong: test_bad_records.py."""
import re
import subprocess
import time

from feedmill import BUILD, Client, wait_for
from samples import post


def test_list_and_unknown_name(feed):
    listed = subprocess.run([BUILD / "feed-worker", "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["command", "fanout", "chunk", "index", "relay"]
    unknown = subprocess.run([BUILD / "feed-worker", "fan-out"], capture_output=True, text=True)
    assert unknown.returncode == 2
    for name in ("fan-out", "command", "fanout", "chunk", "index"):
        assert name in unknown.stderr


def test_one_bad_record_does_not_hold_up_its_batch(make_feed):
    """Good and bad together in one batch: the good ones are done, the bad ones dead."""
    feed = make_feed(fanout__linger_ms=500, fanout__batch=100).prepare()
    for n in range(50):
        feed.produce("feed.posts", b"bad" if n % 7 == 0 else post(id=2**40 + n), key="7", partition=0)
    feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 42, "the good ones")
    assert len(feed.records("fanout.dlq", lambda records: len(records) >= 8)) == 8


def test_a_record_that_comes_alone_waits_for_no_other(make_feed):
    """Only a batch that follows one of several waits."""
    feed = make_feed(fanout__linger_ms=10000).prepare()
    feed.worker("fanout")
    began = time.monotonic()
    for n in range(6):
        feed.produce("feed.posts", post(id=2**40 + n), key="7", partition=0)
        wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == n + 1, "the post", 60)
    assert time.monotonic() - began < 50, "each has waited for ten seconds"


def test_trace_begins_in_the_gateways_log(make_feed):
    """One line a request at debug; none above it."""
    feed = make_feed(gateway__wait_ms=500).prepare()
    trace = "0af7651916cd43dd8448eb211c80319c"
    for level, lines in (("debug", 1), ("info", 0)):
        gateway = feed.gateway(env={"FEEDMILL_LOG_LEVEL": level})
        client = Client(gateway.url)
        answer = client.post("/products", {"name": "x", "price": 1}, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert answer.status_code == 202
        assert gateway.stop() == 0
        line = rf'level=debug .*event="request answered" operation=add_product status=202 ms=\d+ command={answer.json()["id"]} trace={trace}$'
        assert len(re.findall(line, gateway.output(), re.M)) == lines, gateway.output()


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
    feed.produce("feed.posts", post(id=2**40 + 1), key="7")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 1, "the first")
    assert worker.stop() == 0
    assert worker.logged("event=stop .*code=0"), worker.output()
    feed.produce("feed.posts", post(id=2**40 + 2), key="7")
    again = feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 2, "the second")
    wait_for(lambda: feed.lag("fanout") == 0, "nothing is left")
    assert feed.metric(again, "feedmill_worker_records_total", worker="fanout", outcome="done") == 1, "the first did not come again"


def test_worker_without_tables_says_what_to_do(make_feed):
    feed = make_feed()
    feed.ctl("topics")
    feed.make_empty_database()
    worker = feed.worker("fanout", wait=False)
    assert worker.popen.wait(30) == 1
    assert worker.logged("feedctl migrate"), worker.output()
    feed.processes.remove(worker)
