"""Webhooks: subscriptions over the API and by feedctl, and what reaches a subscriber's server."""
import contextlib
import email.utils
import http.server
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections import defaultdict

import pytest
import requests
import standardwebhooks

from feedmill import Client, server, wait_for
from proxy import Proxy
from rabbit import Subscriber
from test_relay import Channel, event, id_of, state

HOOKS = {"relay__webhook_addresses": "any", "relay__webhook_retry_ms": 20, "relay__webhook_retry_max_ms": 200}


class Sink:
    """A subscriber's server. `answer(path, body)` gives the status, or the status and headers; what came is kept by path."""

    def __init__(self, answer=lambda path, body: 204):
        self.calls, self.answer, self.lock = defaultdict(list), answer, threading.Lock()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with sink.lock:
                    sink.calls[self.path].append((dict(self.headers), body))
                status, more = answer if isinstance(answer := sink.answer(self.path, body), tuple) else (answer, {})
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if status == 302:
                        self.send_header("Location", sink.url("/elsewhere"))
                    for name, value in more.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def ids(self, path):
        with self.lock:
            return [headers["webhook-id"] for headers, _ in self.calls[path]]

    def bodies(self, path):
        with self.lock:
            return [body for _, body in self.calls[path]]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def sink():
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def hooked(make_feed):
    feed = make_feed(**HOOKS).prepare()
    feed.client = Client(feed.gateway().url)
    return feed


def webhook(feed, id):
    return next(w for w in feed.client.ok("GET", "/webhooks") if w["id"] == id)


def test_events_reach_a_subscriber_signed(hooked, sink):
    """Through the gateway to a server that checks signatures with the standard's own library."""
    all_of_them = hooked.client.ok("POST", "/webhooks", {"url": sink.url("/all")})
    deletions = hooked.client.ok("POST", "/webhooks", {"url": sink.url("/gone"), "events": ["product.deleted"]})
    assert all_of_them["secret"].startswith("whsec_") and all_of_them["secret"] != deletions["secret"]
    hooked.worker("command")
    hooked.worker("relay")
    made = hooked.client.ok("POST", "/products", {"name": "Umbrella \u2602", "price": 3})["id"]
    hooked.client.ok("DELETE", f"/products/{made}")
    wait_for(lambda: len(sink.ids("/all")) == 2 and len(sink.ids("/gone")) == 1, "all calls")
    records = sorted(hooked.records("product_events", lambda records: len(records) == 2), key=lambda record: record.offset())
    assert sink.bodies("/all") == [record.value() for record in records] and sink.bodies("/gone") == [records[1].value()]
    assert sink.ids("/all") == [dict(record.headers())["ce_id"].decode() for record in records]
    for path, added in (("/all", all_of_them), ("/gone", deletions)):
        verifier = standardwebhooks.Webhook(added["secret"])
        for headers, body in sink.calls[path]:
            assert verifier.verify(body.decode(), headers) == json.loads(body)
            assert headers["Content-Type"] == "application/json" and headers["ce-type"] in ("product.created", "product.deleted")
            with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
                verifier.verify(body.decode() + " ", headers)
    wait_for(lambda: {w["waiting"] for w in hooked.client.ok("GET", "/webhooks")} == {0}, "nothing waits")


def test_secret_is_shown_once(hooked):
    added = hooked.client.ok("POST", "/webhooks", {"url": "https://example.com/hook"})
    key = added["secret"].removeprefix("whsec_")
    assert key not in hooked.client.get("/webhooks").text and key not in hooked.ctl("webhook", "list").stdout
    for process in hooked.processes:
        assert key not in process.output()


def test_added_listed_removed_by_the_api(hooked):
    client = hooked.client
    added = client.ok("POST", "/webhooks", {"url": "https://example.com/hook?a=b", "events": ["product.created"]})
    listed, = client.ok("GET", "/webhooks")
    assert listed == {"id": added["id"], "url": added["url"], "events": ["product.created"], "status": "active", "waiting": 0, "created_at": added["created_at"]}
    assert client.ok("DELETE", f"/webhooks/{added['id']}") == {"status": "deleted"}
    assert client.delete(f"/webhooks/{added['id']}").status_code == 404
    assert client.post(f"/webhooks/{added['id']}/test").status_code == 404
    assert client.ok("GET", "/webhooks") == []
    for wrong in ({}, {"url": 1}, {"url": "ftp://example.com"}, {"url": "https://u:p@example.com"}, {"url": "https://"}, {"url": "https://a b"},
                  {"url": "https://x", "events": ["product.painted"]}, {"url": "https://x/" + "y" * 2000}):
        assert client.post("/webhooks", wrong).status_code == 400, wrong
    refused = client.post("/webhooks", {"url": "https://example.com"}, headers={"Idempotency-Key": '"k"'})
    assert refused.status_code == 400 and "Idempotency-Key" in refused.json()["detail"], "a secret is not kept to be told again"
    assert client.ok("GET", "/webhooks", headers={"Idempotency-Key": '"k"'}) == [], "where it is of no use it is no harm"


def test_added_listed_tested_removed_by_feedctl(hooked, sink):
    hooked.worker("relay")
    out = hooked.ctl("webhook", "add", sink.url("/ctl"), "--events", "product.deleted").stdout.split()
    assert re.fullmatch(r"[0-9a-f-]{36}", out[0]) and out[1].startswith("whsec_")
    assert re.search(rf"{out[0]} +active +0 waiting +{re.escape(sink.url('/ctl'))} +product.deleted", hooked.ctl("webhook", "list").stdout)
    tried = hooked.ctl("webhook", "test", out[0]).stdout
    assert tried.split()[0] == "delivered:" and sink.ids("/ctl") == [tried.split()[1]]
    assert json.loads(sink.bodies("/ctl")[0]) == {"action": "test", "webhook": out[0]}
    hooked.ctl("webhook", "remove", out[0])
    assert hooked.ctl("webhook", "list").stdout == ""
    for wrong in (("remove", out[0]), ("test", out[0]), ("add", "nonsense")):
        done = hooked.ctl("webhook", *wrong, check=False)
        assert done.returncode == 1 and "webhook" in done.stderr
    for wrong in ((), ("add",), ("paint",), ("list", "x")):
        assert hooked.ctl("webhook", *wrong, check=False).returncode == 2


def test_tested_over_the_api(hooked, sink):
    """An event of its own comes to it, signed, and to no other."""
    one, other = (hooked.client.ok("POST", "/webhooks", {"url": sink.url(path)}) for path in ("/one", "/other"))
    hooked.worker("relay")
    tried = hooked.client.ok("POST", f"/webhooks/{one['id']}/test")
    wait_for(lambda: sink.ids("/one") == [tried["event"]], "it is called")
    headers, body = sink.calls["/one"][0]
    assert standardwebhooks.Webhook(one["secret"]).verify(body.decode(), headers) == {"action": "test", "webhook": one["id"]}
    wait_for(lambda: webhook(hooked, one["id"])["waiting"] == 0, "nothing waits")
    assert sink.ids("/other") == [] and webhook(hooked, other["id"])["status"] == "active"


def test_order_repeats_and_failures(hooked):
    """A server that fails now and then gets all, in order for each product, and repeats of a failure alone."""
    seen = defaultdict(int)

    def answer(path, body):
        seen[body] += 1
        return 500 if len(body) % 3 == 0 and seen[body] == 1 else 200
    sink = Sink(answer)
    hooked.client.ok("POST", "/webhooks", {"url": sink.url("/o")})
    sent = [event(n // 2, ("created", "deleted")[n % 2]) for n in range(100)]
    hooked.produce_all("product_events", [record for record in sent for _ in range(2)])
    hooked.worker("relay")
    wait_for(lambda: set(sink.ids("/o")) == {id_of(record) for record in sent}, "all events", 60)
    wait_for(lambda: webhook(hooked, hooked.client.ok("GET", "/webhooks")[0]["id"])["waiting"] == 0, "all done")
    first = list(dict.fromkeys(sink.bodies("/o")))
    for product in range(50):
        assert [json.loads(body)["action"] for body in first if json.loads(body)["id"] == product] == ["created", "deleted"]
    assert all(count == (2 if len(body) % 3 == 0 else 1) for body, count in seen.items())
    sink.close()


def test_a_failing_webhook_holds_up_no_other_and_is_disabled(make_feed):
    feed = make_feed(**HOOKS, relay__webhook_give_up_s=2).prepare()
    feed.client = Client(feed.gateway().url)
    sink = Sink(lambda path, body: {"/bad": 503, "/moved": 302, "/gone": 410}.get(path, 200))
    ids = {path: feed.client.ok("POST", "/webhooks", {"url": sink.url(path)})["id"] for path in ("/bad", "/moved", "/gone", "/good")}
    relay = feed.worker("relay")
    sent = [event(n) for n in range(30)]
    feed.produce_all("product_events", sent)
    wait_for(lambda: len(sink.ids("/good")) == 30, "the good one")
    wait_for(lambda: webhook(feed, ids["/gone"])["status"] == "disabled", "410")
    assert sink.ids("/gone") == [sink.ids("/good")[0]] and "410" in webhook(feed, ids["/gone"])["reason"]
    for path, status in (("/bad", "503"), ("/moved", "302")):
        wait_for(lambda: webhook(feed, ids[path])["status"] == "disabled", "given up", 60)
        state = webhook(feed, ids[path])
        assert status in state["reason"] and "no success for" in state["reason"] and state["disabled_at"] > state["failing_since"]
        assert len(sink.ids(path)) > 2 and set(sink.ids(path)) == {sink.ids("/good")[0]}, "the first, again and again"
    assert sink.ids("/elsewhere") == [], "redirects are not followed"
    relay.wait_logged(r'event="webhook disabled" ')
    calls = len(sink.ids("/bad"))
    last = event(99)
    feed.produce_all("product_events", [last])
    wait_for(lambda: id_of(last) in sink.ids("/good"), "the next event")
    assert len(sink.ids("/bad")) == calls
    assert feed.metric(relay, "feedmill_webhook_disabled_total") == 3
    sink.close()


def test_slow_ones_leave_the_others_their_turn(make_feed):
    """As many slow webhooks as there are senders, each with a backlog for minutes; they were there first."""
    feed = make_feed(**HOOKS, relay__webhook_senders=2).prepare()
    feed.client = Client(feed.gateway().url)

    def answer(path, body):
        if path != "/quick":
            time.sleep(0.4)
        return 200
    sink = Sink(answer)
    slow = ["/slow0", "/slow1", "/slow2"]
    for path in [*slow, "/quick"]:
        feed.client.ok("POST", "/webhooks", {"url": sink.url(path)})
    sent = [event(n) for n in range(150)]
    feed.produce_all("product_events", sent)
    feed.worker("relay")
    wait_for(lambda: len(set(sink.ids("/quick"))) == len(sent), "all events of the quick one", 120)
    assert all(len(set(sink.ids(path))) < len(sent) for path in slow), "the quick one had to wait until a slow one was done"
    wait_for(lambda: all(sink.ids(path) for path in slow), "the slow ones, too")
    sink.close()


@pytest.mark.servers("rows that are written by hand")
def test_time_that_nobody_tried_disables_nobody(hooked):
    """The relay was off for more than a day between two tries. It takes five; and where they all fail, so long after the first, no more. Less than a
    day is not long enough."""
    failures = {"/well": 10**6, "/ill": 10**6, "/young": 10**6}
    sink = Sink(lambda path, body: 503 if len(sink.ids(path)) <= failures[path] else 204)
    ids = {path: hooked.client.ok("POST", "/webhooks", {"url": sink.url(path)})["id"] for path in failures}
    relay = hooked.worker("relay")
    hooked.produce_all("product_events", [event(1)])
    wait_for(lambda: all("503" in webhook(hooked, id).get("reason", "") for id in ids.values()), "a first failure")
    assert relay.stop() == 0
    sink.calls.clear()
    failures["/well"] = 3
    hooked.sql(f"UPDATE webhook SET tries = 1, next_try = 0, failing_since = {int((time.time() - 25 * 3600) * 1000)}")
    hooked.sql(f"UPDATE webhook SET failing_since = {int((time.time() - 23 * 3600) * 1000)} WHERE id = %s", ids["/young"])
    hooked.worker("relay")
    wait_for(lambda: webhook(hooked, ids["/well"])["waiting"] == 0, "delivered, by the fifth try", 60)
    state = webhook(hooked, ids["/well"])
    assert state["status"] == "active" and "reason" not in state and len(sink.ids("/well")) == 4
    wait_for(lambda: webhook(hooked, ids["/ill"])["status"] == "disabled", "given up", 60)
    assert "no success for 90" in webhook(hooked, ids["/ill"])["reason"] and len(sink.ids("/ill")) == 4
    wait_for(lambda: len(sink.ids("/young")) >= 8, "it is tried on", 60)
    assert webhook(hooked, ids["/young"])["status"] == "failing"
    sink.close()


@pytest.mark.servers("rows that are written by hand")
def test_waits_grow_up_to_their_limit_and_are_spread(make_feed):
    """As they are written down at each failure, for two dozen webhooks. Hours, so that none is over meanwhile; the test ends them."""
    hour, count, tries, waits = 3600 * 1000, 24, 5, defaultdict(dict)
    feed = make_feed(**{**HOOKS, "relay__webhook_retry_ms": hour, "relay__webhook_retry_max_ms": 4 * hour}).prepare()
    feed.client = Client(feed.gateway().url)
    sink = Sink(lambda path, body: 503)
    for n in range(count):
        feed.client.ok("POST", "/webhooks", {"url": sink.url(f"/{n}")})
    feed.worker("relay")
    feed.produce_all("product_events", [event(1)])

    def failed(least):
        rows = feed.sql("SELECT id, tries, next_try - lease_until FROM webhook WHERE lease_holder = '' AND next_try > 0")
        for id, done, wait in rows:
            waits[done][id] = wait
        return len(rows) == count and all(done >= least for _, done, _ in rows)
    for n in range(1, tries + 1):
        wait_for(lambda: failed(n), f"failure {n} of each", 60)
        feed.sql("UPDATE webhook SET next_try = 0 WHERE tries = %s AND lease_holder = ''", n)
    for n in range(1, tries + 1):
        limit, seen = min(hour * 2 ** (n - 1), 4 * hour), waits[n].values()
        assert len(seen) >= count - 4, "a wait that was over at once is not seen, and is not often that short"
        assert 1 <= min(seen) < limit / 2 < max(seen) <= limit, (n, sorted(seen))
    sink.close()


@pytest.mark.servers("rows that are written by hand")
def test_old_deliveries_go_faster_than_they_come(hooked):
    """More than a minute's worth: a step's rows a minute would never catch up."""
    def rows(where):
        return hooked.sql(f"SELECT COUNT(*) FROM webhook_delivery WHERE {where}")[0][0]
    old, young = int(time.time() * 1000) - 25 * 3600 * 1000, int(time.time() * 1000) - 23 * 3600 * 1000
    for first in range(0, 12000, 1000):
        values = ",".join(f"('{'w' * 36}', 'e{n}', 't', '{{}}', {young if n % 100 == 0 else old + n})" for n in range(first, first + 1000))
        hooked.sql(f"INSERT INTO webhook_delivery (webhook_id, event_id, type, body, done_at) VALUES {values}")
    assert rows("done_at > 0") == 12000
    hooked.worker("relay")
    wait_for(lambda: rows(f"done_at < {young}") == 0, "the old ones gone", 60)
    assert rows("done_at > 0") == 120


def test_disabled_is_enabled_again(hooked, sink):
    """By feedctl, and over the API: what waited comes first, what happened meanwhile does not come."""
    client, gone = hooked.client, [True]
    sink.answer = lambda path, body: 410 if gone[0] else 204
    id = client.ok("POST", "/webhooks", {"url": sink.url("/again")})["id"]
    hooked.worker("relay")
    waits, missed = event(1), event(2)
    hooked.produce_all("product_events", [waits])
    wait_for(lambda: webhook(hooked, id)["status"] == "disabled", "410")
    assert client.post(f"/webhooks/{id}/test").status_code == 404
    other = client.ok("POST", "/webhooks", {"url": sink.url("/other")})["id"]
    hooked.produce_all("product_events", [missed])
    wait_for(lambda: webhook(hooked, other)["status"] == "disabled", "the event was seen")
    gone[0] = False
    hooked.ctl("webhook", "enable", id)
    wait_for(lambda: webhook(hooked, id)["waiting"] == 0, "what waited is delivered")
    state = webhook(hooked, id)
    assert state["status"] == "active" and not {"reason", "disabled_at", "failing_since"} & set(state)
    assert sink.ids("/again") == [id_of(waits)] * 2
    assert client.ok("POST", f"/webhooks/{other}/enable") == {"status": "active"}
    after = event(3)
    hooked.produce_all("product_events", [after])
    wait_for(lambda: sink.ids("/again")[2:] == [id_of(after)] and id_of(after) in sink.ids("/other"), "events from now on")
    assert id_of(missed) not in sink.ids("/again")
    assert client.ok("POST", f"/webhooks/{id}/enable") == {"status": "active"}, "one that is active stays it"
    unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert client.post(f"/webhooks/{unknown}/enable").status_code == 404
    done = hooked.ctl("webhook", "enable", unknown, check=False)
    assert done.returncode == 1 and unknown in done.stderr and hooked.ctl("webhook", "enable", check=False).returncode == 2


def http_date(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(make_feed, status):
    """In seconds and as a date; up to the longest wait of the settings; from servers that are busy alone."""
    feed = make_feed(**{**HOOKS, "relay__webhook_retry_ms": 1, "relay__webhook_retry_max_ms": 3000}).prepare()
    feed.client = Client(feed.gateway().url)
    asked = {"/seconds": lambda: "2", "/date": lambda: http_date(3), "/long": lambda: "86400", "/past": lambda: http_date(-60), "/nonsense": lambda: "soon"}
    times = defaultdict(list)

    def answer(path, body):
        times[path].append(time.monotonic())
        if len(times[path]) > 1:
            return 204
        return (status, {"Retry-After": asked[path]()}) if path in asked else (500, {"Retry-After": "600"})
    sink = Sink(answer)
    for path in (*asked, "/broken"):
        feed.client.ok("POST", "/webhooks", {"url": sink.url(path)})
    feed.worker("relay")
    feed.produce_all("product_events", [event(1)])
    wait_for(lambda: all(len(times[path]) == 2 for path in (*asked, "/broken")), "each was called again", 60)
    waited = {path: times[path][1] - times[path][0] for path in times}
    assert waited["/seconds"] >= 1.9 and waited["/date"] >= 1.5 and waited["/long"] >= 2.9, waited
    sink.close()


def test_private_addresses_are_not_called(make_feed, sink):
    feed = make_feed(relay__webhook_retry_ms=20).prepare()
    feed.client = Client(feed.gateway().url)
    port = sink.server.server_address[1]
    ids = [feed.client.ok("POST", "/webhooks", {"url": f"http://{host}:{port}/x"})["id"] for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]")]
    feed.worker("relay")
    feed.produce_all("product_events", [event(1)])
    for id in ids:
        wait_for(lambda: "must not be called" in webhook(feed, id).get("reason", ""), "refused")
    assert sink.ids("/x") == []


def test_slow_and_endless_answers_end(make_feed):
    """A server that does not answer in time is a failure, and does not stop the worker's stop."""
    feed = make_feed(**HOOKS, relay__webhook_timeout_ms=300).prepare()
    feed.client = Client(feed.gateway().url)
    stop = threading.Event()
    sink = Sink(lambda path, body: stop.wait(30) and 200 or 200)
    id = feed.client.ok("POST", "/webhooks", {"url": sink.url("/slow")})["id"]
    relay = feed.worker("relay")
    feed.produce_all("product_events", [event(1)])
    wait_for(lambda: "imed out" in webhook(feed, id).get("reason", ""), "too late")
    before = time.monotonic()
    assert relay.stop() == 0 and time.monotonic() - before < 30
    stop.set()
    sink.close()


def test_killed_workers_lose_nothing(hooked, sink):
    """kill -9 again and again, two replicas: each event comes to each webhook, first occurrences of a product in their order."""
    for n in range(3):
        hooked.client.ok("POST", "/webhooks", {"url": sink.url(f"/{n}")})
    sent = []
    hooked.worker("relay")
    for _ in range(2):
        more = [event((len(sent) + n) // 2, ("created", "deleted")[n % 2]) for n in range(200)]
        before = len(sink.ids("/0"))
        victim = hooked.worker("relay", wait=False)
        hooked.produce_all("product_events", more)
        sent += more
        wait_for(lambda: len(sink.ids("/0")) > before, "calls", 60)
        victim.kill()
    for n in range(3):
        wait_for(lambda: set(sink.ids(f"/{n}")) == {id_of(record) for record in sent}, "all events", 90)
        actions = defaultdict(list)
        for body in map(json.loads, dict.fromkeys(sink.bodies(f"/{n}"))):
            actions[body["id"]].append(body["action"])
        assert len(actions) == len(sent) // 2 and all(seen == ["created", "deleted"] for seen in actions.values()), actions


@pytest.mark.servers("a database and a Redis that go away")
@pytest.mark.parametrize("away", ["webhook", "redis"])
def test_a_database_or_redis_that_is_away_holds_up_no_other_sink(make_feed, sink, vhost, away):
    """In the middle of the work, behind a proxy. It says so; and what it had missed comes when it is back."""
    name, at = "pe-" + uuid.uuid4().hex[:8], urllib.parse.urlsplit(server("REDIS_URL"))
    feed = make_feed(**HOOKS, amqp__url=vhost.url, redis__url=server("REDIS_URL"), relay__exchange=name, relay__channel=name).prepare()
    feed.ctl("webhook", "add", sink.url("/x"))
    proxy = Proxy(feed.settings["mysql.host"], feed.settings["mysql.port"]) if away == "webhook" else Proxy(at.hostname, at.port or 6379)
    account, _, _ = at.netloc.rpartition("@")
    through = {"webhook": {"mysql.host": "127.0.0.1", "mysql.port": proxy.port},
               "redis": {"redis.url": at._replace(netloc=f"{account}{'@' * bool(account)}127.0.0.1:{proxy.port}").geturl()}}[away]
    subscriber, channel = Subscriber(vhost.url, exchange=name), Channel(name)
    bodies = {"rabbitmq": lambda: [body for _, _, body in subscriber.take()], "redis": channel.take, "webhook": lambda: sink.bodies("/x")}

    def wait_heard(sinks, count):
        for one in sinks:
            wait_for(lambda: {json.loads(body)["id"] for body in bodies[one]()} == set(range(count)), f"{count} events by {one}", 60)
    try:
        relay = feed.worker("relay", config=feed.write_config(feed.folder / f"{feed.name}-2.cfg", **through))
        feed.produce_all("product_events", [event(n) for n in range(10)])
        wait_heard(bodies, 10)
        proxy.cut()
        feed.produce_all("product_events", [event(n) for n in range(10, 40)])
        wait_heard(set(bodies) - {away}, 40)
        wait_for(lambda: state(relay, away) != "ok", "it says why", 60)
        wait_for(lambda: feed.lag(f"relay.{away}", "product_events") == 30, "it has done none of them", 60)
        assert all(state(relay, one) == "ok" for one in set(bodies) - {away})
        assert requests.get(relay.admin + "/healthz", timeout=5).status_code == 200
        proxy.restore()
        wait_heard(bodies, 40)
        wait_for(lambda: all(feed.lag(f"relay.{one}", "product_events") == 0 for one in bodies), "offsets", 60)
        assert relay.stop() == 0
    finally:
        proxy.close()
        subscriber.close()
        channel.close()


@pytest.mark.servers("a table that is renamed away")
def test_database_away(hooked):
    """503, not stored."""
    hooked.ctl("webhook", "list")
    hooked.sql(f"RENAME TABLE {hooked.database}.webhook TO {hooked.database}.webhook_away")
    assert hooked.client.get("/webhooks").status_code == 503
    assert hooked.client.post("/webhooks", {"url": "https://example.com"}).status_code == 503
    assert requests.get(hooked.processes[0].admin + "/healthz", timeout=5).status_code == 200
