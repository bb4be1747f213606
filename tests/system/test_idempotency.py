"""Idempotency-Key: however often a request is sent, and whatever dies meanwhile, its effect comes once and the answer is the same."""
import concurrent.futures
import json
import signal
import uuid

import pytest
import requests

from expect import problem
from feedmill import Client, server, wait_for
from proxy import DOWN, Proxy
from wire import raw, status

@pytest.fixture
def two(make_feed):
    """Two gateways on one database and queue; no workers yet."""
    feed = make_feed().prepare()
    feed.gateways = [feed.gateway(wait=False) for _ in range(2)]
    for gateway in feed.gateways:
        gateway.wait_ready()
    return feed


def key(text=None):
    return {"Idempotency-Key": f'"{text or uuid.uuid4()}"'}


def clients(feed):
    return [Client(gateway.url) for gateway in feed.gateways]


def rows(feed):
    return list(feed.sql("SELECT command_id, entity_id, outcome FROM idempotency"))


def age(feed, what, seconds):
    """Moves all deadlines or expiries that far into the past."""
    feed.sql(f"UPDATE idempotency SET {what} = {what} - {seconds * 1000}")


def start(feed, *workers):
    started = [feed.worker(name, wait=False) for name in workers]
    for worker in started:
        worker.wait_ready()


def test_every_write_is_done_once(two):
    """Each operation, sent to one gateway and again to the other: the same answer, and one effect."""
    start(two, "command", "fanout", "chunk")
    one, other = clients(two)

    def twice(method, path, body=None, status=200):
        name = key()
        answers = [client.ask(method, path, body, headers=name) for client in (one, other, one)]
        assert {answer.status_code for answer in answers} == {status}, [answer.text for answer in answers]
        assert len({answer.text for answer in answers}) == 1
        assert len({answer.headers["Content-Type"] for answer in answers}) == 1
        return answers[0].json()
    ada, bob = (twice("POST", "/participant", {"name": name})["id"] for name in ("Ada", "Bob"))
    twice("POST", f"/participant/{ada}/friends", {"to": f"/participant/{bob}"})
    post = twice("POST", f"/participant/{ada}/outbound", {"subject": "s", "story": "once \U0001f438 'and' \\ again"})
    product = twice("POST", "/products", {"name": "Umbrella", "price": 12.50})
    assert product["price"] == 12.5
    wait_for(lambda: one.inbound(bob), "the post arrives")
    assert [row["id"] for row in other.inbound(bob)] == [post["id"]]
    assert one.ok("GET", "/products") == [product]
    twice("DELETE", f"/products/{product['id']}")
    twice("DELETE", f"/products/{product['id']}", status=404)
    assert one.ok("GET", "/products") == []
    assert len(one.ok("GET", f"/participant/{ada}/friends")) == 1
    assert len(two.sql("SELECT id FROM participant")) == 2
    assert len(rows(two)) == 7 and all(outcome for _, _, outcome in rows(two))


def test_one_key_from_all_sides(two):
    """Twenty attempts at once through two gateways: one is done, the others hear 409 until there is its answer."""
    start(two, "command")
    name, body = key(), {"name": "one of twenty", "price": 1}

    def attempt(n):
        client = Client(two.gateways[n % 2].url)
        answers = []

        def done():
            answers.append(client.post("/products", body, headers=name))
            return answers[-1].status_code != 409
        wait_for(done, "an answer that is not 409")
        return answers
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        all_answers = [job.result() for job in [pool.submit(attempt, n) for n in range(20)]]
    for answers in all_answers:
        assert answers[-1].status_code == 200, answers[-1].text
        for early in answers[:-1]:
            problem(early, 409, "under way")
            assert int(early.headers["Retry-After"]) >= 1
    assert len({answers[-1].text for answers in all_answers}) == 1
    assert len(clients(two)[0].ok("GET", "/products")) == 1
    assert sum(two.ends("feed.commands")) == 1, "one record was sent"


def test_a_key_of_another_request(two):
    start(two, "command")
    one, other = clients(two)
    name, body = key("orders-17"), {"name": "p", "price": 1}
    first = one.post("/products", body, headers=name)
    assert first.status_code == 200
    problem(other.post("/products", {"name": "q", "price": 1}, headers=name), 422, "another request")
    problem(other.post("/participant", {"name": "p"}, headers=name), 422)
    problem(one.delete(f"/products/{first.json()['id']}", headers=name), 422)
    assert one.ok("GET", "/products") == [first.json()]
    author = one.participant()
    assert one.post(f"/participant/{author}/outbound", {"subject": "s", "story": "s"}, headers=name).status_code == 200, \
        "keys of a participant are its own"
    again = other.post("/products", body, headers={"Idempotency-Key": "orders-17"})
    assert again.text == first.text, "with or without quotes it is the same key"
    assert [row[2] for row in rows(two)] == [200, 200]


@pytest.mark.parametrize("value", ['"', '""', '"a" ', "a b", '"a b"', "a,b", '"a\\b"', "x" * 256, '"a";b=1', "[a]"])
def test_what_is_no_key(client, value):
    answer = client.post("/products", {"name": "p", "price": 1}, headers={"Idempotency-Key": value})
    if value.strip() == '"a"':
        assert answer.status_code == 200
    else:
        problem(answer, 400)


def test_two_keys(client):
    answer = raw(client, b"POST /products HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: a\r\n"
                         b"idempotency-key: b\r\nContent-Length: 22\r\nConnection: close\r\n\r\n" + b'{"name":"p","price":1}')
    assert status(answer) == 400 and b"Idempotency-Key" in answer


def test_a_request_that_is_wrong_takes_no_key(two):
    """It is refused each time, and its key is free for the right one."""
    start(two, "command")
    one, other = clients(two)
    author, name = one.participant(), key("mine")
    problem(one.post(f"/participant/{author}/friends", {"to": f"/participant/{author}"}, headers=name), 400)
    problem(one.post(f"/participant/{author}/friends", {"to": "/participant/4711"}, headers=name), 404)
    problem(one.post(f"/participant/{author}/outbound", {"subject": "s", "story": "s", "occurred": "never"}, headers=name), 400)
    problem(one.post("/participant/4711/outbound", {"subject": "s", "story": "s"}, headers=name), 404)
    problem(one.post("/products", {"name": "p", "price": -1}, headers=name), 400)
    assert rows(two) == []
    friend = other.participant()
    assert other.post(f"/participant/{author}/friends", {"to": f"/participant/{friend}"}, headers=name).status_code == 200


def test_not_waited_for(two):
    """202 is an answer too; the command that it names is one."""
    one, other = clients(two)
    name, body = key(), {"name": "later", "price": 1}
    first = one.post("/products", body, headers={**name, "Prefer": "respond-async"})
    again = other.post("/products", body, headers=name)
    assert first.status_code == again.status_code == 202 and first.text == again.text
    assert first.headers["Location"] == again.headers["Location"] == f"/commands/{first.json()['id']}"
    start(two, "command")
    done = wait_for(lambda: (c := other.ok("GET", first.headers["Location"]))["status"] == "done" and c, "it is applied")
    assert one.ok("GET", "/products") == [done["result"]]


def sent(feed, topic):
    return [record.value() for record in feed.records(topic, lambda records: len(records) >= sum(feed.ends(topic)))]


@pytest.mark.parametrize("what", ["product", "post"])
def test_killed_before_the_answer(two, what):
    """The record is stored and the gateway dies: the next attempt sends the same record under the same ids."""
    start(two, "command")
    one, other = clients(two)
    author, reader = one.participant(), one.participant()
    one.befriend(author, reader)
    two.processes[-1].stop()
    name, topic = key(), "feed.commands" if what == "product" else "feed.posts"
    path, body = ("/products", {"name": "survivor", "price": 1}) if what == "product" else \
        (f"/participant/{author}/outbound", {"subject": "s", "story": "survivor"})
    before = sum(two.ends(topic))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(one.post, path, body, headers={**name, "Prefer": "wait=50"})
        wait_for(lambda: sum(two.ends(topic)) == before + 1, "it is stored")
        (command, entity, outcome), = rows(two)
        assert outcome is None
        two.gateways[0].kill()
        with pytest.raises(requests.ConnectionError):
            hanging.result()
    problem(other.post(path, body, headers=name), 409)
    problem(other.post(path, {**body, "name": "x", "subject": "x"}, headers=name), 422)
    age(two, "deadline", 60)
    start(two, "command", "fanout", "chunk")
    answer = other.post(path, body, headers={**name, "Prefer": "wait=30"})
    assert answer.status_code == 200 and answer.json()["id"] == entity
    assert other.post(path, body, headers=name).text == answer.text
    assert rows(two) == [(command, entity, 200)]
    if what == "product":
        assert other.ok("GET", "/products") == [answer.json()]
        assert other.ok("GET", f"/commands/{command}")["result"] == answer.json()
    else:
        assert [row["id"] for row in other.inbound(reader)] == [row["id"] for row in other.outbound(author)] == [entity]
    mine = [record for record in map(json.loads, sent(two, topic)) if record["id"] == entity]
    assert len(mine) == 2 and mine[0] == mine[1], mine


@pytest.mark.servers("one that is away")
def test_killed_between_reservation_and_record(make_feed, request):
    """The database has the reservation, and the gateway dies before it hears of it: nothing was sent yet."""
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    feed = make_feed(gateway__readers=1, gateway__wait_ms=3000, mysql__read_timeout_ms=30000).prepare()
    through = feed.write_config(feed.folder / f"{feed.name}-proxy.cfg", **{"mysql.port": proxy.port})
    feed.gateways = [feed.gateway(config=through), feed.gateway()]
    start(feed, "command")
    one, other = clients(feed)
    one.ok("POST", "/products", {"name": "warm", "price": 1}, headers=key())    # the statements are prepared
    before, name, body = sum(feed.ends("feed.commands")), key(), {"name": "survivor", "price": 1}
    proxy.hold(DOWN)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(one.post, "/products", body, headers=name)
        wait_for(lambda: len(rows(feed)) == 2, "it is reserved")
        feed.gateways[0].kill()
        with pytest.raises(requests.ConnectionError):
            hanging.result()
    assert sum(feed.ends("feed.commands")) == before
    (command, entity), = feed.sql("SELECT command_id, entity_id FROM idempotency WHERE outcome IS NULL")
    problem(other.post("/products", body, headers=name), 409)
    taken = wait_for(lambda: (a := other.post("/products", body, headers=name)).status_code != 409 and a, "the deadline passes")
    assert taken.status_code == 200 and taken.json()["id"] == entity
    assert feed.one("SELECT COUNT(*) FROM command WHERE id = %s", command) == 1
    assert [product["name"] for product in other.ok("GET", "/products")] == ["warm", "survivor"]
    assert sum(feed.ends("feed.commands")) == before + 1
    assert feed.metric(feed.gateways[1], "feedmill_gateway_keys_total", found="taken_over") == 1


def test_a_gateway_that_slept_past_its_deadline(make_feed):
    """It wakes when another has done it: its own record changes nothing, and its answer is the same."""
    feed = make_feed(gateway__wait_ms=3000).prepare()
    feed.gateways = [feed.gateway(), feed.gateway()]
    one, other = clients(feed)
    name, body = key(), {"name": "once", "price": 1}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(one.post, "/products", body, headers={**name, "Prefer": "wait=40"})
        wait_for(lambda: sum(feed.ends("feed.commands")) == 1, "it is sent")
        feed.gateways[0].signal(signal.SIGSTOP)
        age(feed, "deadline", 60)
        start(feed, "command")
        answer = other.post("/products", body, headers=name)
        feed.gateways[0].signal(signal.SIGCONT)
        assert slow.result().text == answer.text
    assert answer.status_code == 200
    assert one.ok("GET", "/products") == [answer.json()]
    assert [row[2] for row in rows(feed)] == [200]


def test_expiry(two):
    """After its time a key is as if it had never been."""
    start(two, "command")
    one, other = clients(two)
    name = key()
    first = one.ok("POST", "/products", {"name": "p", "price": 1}, headers=name)
    age(two, "expires", 86000)
    assert other.ok("POST", "/products", {"name": "p", "price": 1}, headers=name) == first
    age(two, "expires", 500)
    second = other.ok("POST", "/products", {"name": "q", "price": 2}, headers=name)
    assert second["id"] != first["id"] and second["name"] == "q"
    assert one.ok("POST", "/products", {"name": "q", "price": 2}, headers=name) == second
    assert one.ok("GET", "/products") == [first, second]


@pytest.mark.servers("one that is away")
def test_database_away(make_feed, request):
    """503 for requests with a key; the others go on."""
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    feed = make_feed(mysql__port=proxy.port, gateway__wait_ms=2000).prepare()
    client = Client(feed.gateway().url)
    feed.worker("command")
    author = client.participant()
    client.say(author, "known from now on", headers=key())
    proxy.cut()
    name, body = key(), {"subject": "s", "story": "with a key"}
    problem(client.post(f"/participant/{author}/outbound", body, headers=name), 503, "nothing was stored")
    client.say(author, "without")
    proxy.restore()
    wait_for(lambda: client.get("/products").status_code == 200, "the database is back")
    assert client.post(f"/participant/{author}/outbound", body, headers=name).status_code == 200
    assert sum(feed.ends("feed.posts")) == 3


@pytest.mark.servers("one that is away")
@pytest.mark.parametrize("how", ["cut", "hold"])
def test_an_answer_that_can_not_be_kept(make_feed, request, how):
    """The database goes away, or falls silent, between reservation and answer: the answer is true all the same, and the next attempt gets it too."""
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    feed = make_feed(gateway__wait_ms=2000).prepare()
    through = feed.write_config(feed.folder / f"{feed.name}-proxy.cfg", **{"mysql.port": proxy.port})
    gateway = feed.gateway(config=through)
    client = Client(gateway.url)
    feed.worker("command").stop()
    name, body = key(), {"name": "kept or not", "price": 1}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/products", body, headers={**name, "Prefer": "wait=50"})
        wait_for(lambda: feed.metric(gateway, "feedmill_gateway_pending") == 1, "it is sent")
        getattr(proxy, how)()
        feed.worker("command")
        answer = waiting.result()
    assert answer.status_code == 200
    assert [row[2] for row in rows(feed)] == [None]
    assert feed.metric(gateway, "feedmill_gateway_keys_total", found="not_kept") == 1
    proxy.restore()
    age(feed, "deadline", 60)
    wait_for(lambda: client.get("/products").status_code == 200, "the database is back")
    again = client.post("/products", body, headers=name)
    assert again.status_code == 200 and again.json() == answer.json()
    assert client.ok("GET", "/products") == [answer.json()]
    assert [row[2] for row in rows(feed)] == [200]


@pytest.mark.servers("one that is away")
def test_what_was_certainly_not_stored_leaves_no_reservation(make_feed):
    """503 gives the key back at once; of an attempt that took over, nobody knows: 504."""
    feed = make_feed(gateway__wait_ms=2000).prepare()
    away = feed.write_config(feed.folder / f"{feed.name}-away.cfg", **{"kafka.brokers": "127.0.0.1:1"})
    feed.gateways = [feed.gateway(config=away, wait=False), feed.gateway()]
    feed.worker("command")
    one, other = clients(feed)
    name, body = key(), {"name": "p", "price": 1}
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM gateway_lease WHERE holder <> ''") == 2, "both have numbers")
    problem(one.post("/products", body, headers=name), 503, "nothing was stored")
    assert rows(feed) == []
    first = other.ok("POST", "/products", body, headers=name)
    age(feed, "deadline", 60)
    feed.sql("UPDATE idempotency SET outcome = NULL, body = NULL")
    answer = one.post("/products", body, headers=name)
    problem(answer, 504, "/commands/")
    (command, entity, outcome), = rows(feed)
    assert (entity, outcome) == (first["id"], None) and answer.headers["Location"] == f"/commands/{command}"
    assert other.ok("POST", "/products", body, headers=name) == first, "at once: 504 lets the key go"
    assert other.ok("GET", "/products") == [first]
