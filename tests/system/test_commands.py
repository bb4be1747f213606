"""GET /commands/{id}, and what is answered when the result does not come in time."""
import signal
import time
import uuid

import pytest
import requests

from expect import problem
from feedmill import Client, wait_for


def uuid7(wall_ms):
    return str(uuid.UUID(int=(wall_ms << 80) | (7 << 76) | (uuid.uuid4().int & (0xfff << 64)) | (2 << 62) | (uuid.uuid4().int & ((1 << 62) - 1))))


@pytest.mark.parametrize("id", ["x", "1", "00000000-0000-0000-0000-000000000000", str(uuid.uuid4()), uuid.uuid4().hex],
                         ids=["letter", "digit", "zero", "random", "no dashes"])
def test_what_is_no_command_id(client, id):
    problem(client.get(f"/commands/{id}"), 404)


def test_command_that_nobody_has_seen(client):
    now = int(time.time() * 1000)
    fresh = uuid7(now - 1000)
    assert client.ok("GET", f"/commands/{fresh}") == {"id": fresh, "status": "pending"}
    problem(client.get(f"/commands/{uuid7(now - 30 * 86400 * 1000)}"), 404)
    problem(client.get(f"/commands/{uuid7(now + 86400 * 1000)}"), 404)


def test_no_worker_is_202_and_done_later(make_feed):
    """Nobody applies the command within the wait: 202, and it is applied once the worker is there."""
    feed = make_feed(gateway__wait_ms=500).prepare()
    client = Client(feed.gateway().url)
    answer = client.post("/products", {"name": "patient", "price": 3})
    assert answer.status_code == 202 and answer.json()["status"] == "pending"
    location = answer.headers["Location"]
    assert client.ok("GET", location)["status"] == "pending"
    waited = client.post("/products", {"name": "waited", "price": 4}, headers={"Prefer": "wait=1"})
    assert waited.status_code == 202
    feed.worker("command")
    done = wait_for(lambda: (c := client.ok("GET", location))["status"] == "done" and c, "the command is done")
    assert done["result"] == {"id": done["result"]["id"], "name": "patient", "price": 3}
    assert client.ok("POST", "/products", {"name": "now", "price": 5}, headers={"Prefer": "wait=20"})["name"] == "now"
    assert [p["name"] for p in client.ok("GET", "/products")] == ["patient", "waited", "now"]


def test_result_record_that_is_lost_is_read_from_the_ledger(make_feed):
    """The wake-up is a hint alone: without it the gateway looks once, at the end of its wait."""
    feed = make_feed(gateway__wait_ms=2000).prepare()
    gateway = feed.gateway()
    client = Client(gateway.url)
    feed.worker("command")
    assert client.ok("POST", "/products", {"name": "heard", "price": 1})["name"] == "heard"
    assert feed.metric(gateway, "feedmill_gateway_results_total") == 1
    feed.ctl("topics", "--check")
    with feed.without_topic("feed.results"):
        assert client.ok("POST", "/products", {"name": "unheard", "price": 1})["name"] == "unheard"
    wait_heard(feed, gateway, client)


def wait_heard(feed, gateway, client):
    """Until results wake the gateway again. The worker may take its time as well, while it can't send what it has done: till then 202."""
    def heard():
        before = feed.metric(gateway, "feedmill_gateway_results_total")
        answer = client.post("/products", {"name": "heard again", "price": 1})
        assert answer.status_code in (200, 202), answer.text
        return answer.status_code == 200 and feed.metric(gateway, "feedmill_gateway_results_total") > before
    wait_for(heard, "results are heard again", 120)


def test_results_that_are_gone_before_they_are_read(make_feed):
    """A gateway that was paused for longer than the topic keeps records goes on at the end."""
    feed = make_feed(gateway__wait_ms=2000).prepare()
    gateway = feed.gateway()
    client = Client(gateway.url)
    feed.worker("command")
    client.ok("POST", "/products", {"name": "heard", "price": 1})
    number = feed.one("SELECT number FROM gateway_lease WHERE holder <> ''")
    gateway.signal(signal.SIGSTOP)
    for _ in range(4):
        _, last = feed.produce("feed.results", b'{"v":1}', partition=number)
    feed.delete_records("feed.results", number, last + 1)
    gateway.signal(signal.SIGCONT)
    gateway.wait_logged("results missed")
    wait_heard(feed, gateway, client)
    assert requests.get(gateway.admin + "/readyz", timeout=10).status_code == 200


def test_fan_out_whose_result_is_lost_is_seen_in_the_store(make_feed):
    """A post that is waited for: the store is asked once, too, before the wait counts as vain."""
    feed = make_feed(gateway__wait_ms=2000).prepare()
    client = Client(feed.gateway().url)
    feed.worker("command")
    feed.worker("fanout")
    author = client.participant()
    with feed.without_topic("feed.results"):
        answer = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "s"}, headers={"Prefer": "wait=3"})
    assert answer.status_code == 200 and answer.headers["Preference-Applied"] == "wait=3"


def test_topic_that_was_not_made_is_named(make_feed):
    feed = make_feed(gateway__wait_ms=2000).prepare()
    gateway = feed.gateway()
    client = Client(gateway.url)
    with feed.without_topic("feed.commands"):
        wait_for(lambda: requests.get(gateway.admin + "/readyz", timeout=10).status_code == 503, "it is seen to be gone")
        problem(client.post("/products", {"name": "x", "price": 1}), 503)
        assert gateway.logged(rf'reason="[^"]*{feed.prefix}feed.commands[^"]*feedctl topics')
    wait_for(lambda: client.post("/products", {"name": "x", "price": 1}).status_code == 202, "it is found by itself")


def test_replayed_command_changes_nothing_and_tells_the_same(make_feed):
    feed = make_feed().prepare()
    gateway = feed.gateway()
    worker = feed.worker("command")
    client = Client(gateway.url)
    made = client.ok("POST", "/products", {"name": "once", "price": 1})
    client.ok("DELETE", f"/products/{made['id']}")
    kept = client.ok("POST", "/products", {"name": "kept", "price": 2})
    for record in feed.records("feed.commands", lambda rs: len(rs) >= 3):
        feed.produce("feed.commands", record.value(), record.key(), record.headers(), record.partition())
    events = feed.records("product_events", lambda rs: len(rs) >= 6)
    assert client.ok("GET", "/products") == [kept]
    assert feed.one("SELECT COUNT(*) FROM command") == 3

    def of(id):
        return [(dict(r.headers())["ce_id"], r.value()) for r in events if r.key() == str(id).encode()]
    assert of(made["id"])[:2] == of(made["id"])[2:] and len(of(made["id"])) == 4
    assert of(kept["id"])[0] == of(kept["id"])[1]
    assert worker.running()
