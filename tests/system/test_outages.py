"""What is answered while a server is away: 503 when nothing is stored, 504 when nobody knows, and work as usual after."""
import concurrent.futures
import os
import signal

import pytest
import requests

from expect import problem
from feedmill import Client, server, wait_for
from proxy import Proxy


@pytest.fixture
def database(request):
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    return proxy


def test_database_away(make_feed, database):
    feed = make_feed(mysql__port=database.port).prepare()
    gateway = feed.gateway()
    worker = feed.worker("command")
    client = Client(gateway.url)
    author = client.participant()
    database.cut()
    problem(client.get("/participant/4711"), 503)
    problem(client.post("/participant/4711/outbound", {"subject": "s", "story": "s"}), 503)
    problem(client.get("/products"), 503)
    post = client.say(author, "a known author needs Kafka alone")
    pending = client.post("/products", {"name": "waits", "price": 1}, headers={"Prefer": "wait=1"})
    assert pending.status_code == 202
    database.restore()
    wait_for(lambda: client.get("/products").status_code == 200, "lists are answered again")
    wait_for(lambda: client.ok("GET", pending.headers["Location"])["status"] == "done", "the command is done, unaided")
    feed.worker("fanout")
    wait_for(lambda: [row["id"] for row in client.outbound(author)] == [post], "the post is there")
    assert worker.running()


def test_database_that_is_silent_holds_no_http_thread(make_feed, database):
    feed = make_feed(mysql__port=database.port, mysql__read_timeout_ms=3000, mysql__lock_wait_s=2, gateway__readers=2, gateway__reader_queue=4).prepare()
    client = Client(feed.gateway().url)
    database.hold()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(Client(client.url).get, "/products") for _ in range(12)]
        assert client.get("/nothing").status_code == 404, "answered at once"
        for answer in asked:
            problem(answer.result(), 503)
    database.restore()
    wait_for(lambda: client.get("/products").status_code == 200, "lists are answered again")


def test_search_away(make_feed):
    proxy = Proxy(*server("SEARCH_URL").removeprefix("http://").split(":"))
    feed = make_feed(search__url=f"http://127.0.0.1:{proxy.port}").prepare()
    gateway = feed.gateway()
    workers = [feed.worker(name) for name in ("command", "fanout", "index")]
    client = Client(gateway.url)
    author = client.participant()
    proxy.cut()
    problem(client.get("/outbound?keywords=x"), 503)
    post = client.say(author, "phascogale")
    wait_for(lambda: [row["id"] for row in client.outbound(author)] == [post], "posts go on")
    ready = requests.get(gateway.admin + "/readyz", timeout=10)
    assert ready.status_code == 200, "search away is shown, not fatal"
    proxy.restore()
    wait_for(lambda: feed.documents() == 1, "indexed after the outage", 60)
    assert client.search("phascogale") == [f"/participant/{author}"]
    assert all(worker.running() for worker in workers)
    proxy.close()


def test_kafka_never_there_is_503(make_feed):
    feed = make_feed().prepare()
    away = feed.write_config(feed.folder / f"{feed.name}-away.cfg", **{"kafka.brokers": "127.0.0.1:1"})
    gateway = feed.gateway(config=away, wait=False)
    gateway.ready_line()
    client = Client(gateway.url)
    assert requests.get(gateway.admin + "/readyz", timeout=10).status_code == 503
    problem(client.post("/products", {"name": "x", "price": 1}), 503)
    wait_for(lambda: client.get("/products").status_code == 200, "reading needs no Kafka")


def test_kafka_silent_is_504_and_the_command_tells(make_feed):
    feed = make_feed(gateway__wait_ms=1000, kafka__session_timeout_ms=45000, mysql__idle_transaction_s=8).start()
    client = feed.client
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    broker = int(server("KAFKA_PID"))
    os.kill(broker, signal.SIGSTOP)
    try:
        post = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "unknown"})
        product = client.post("/products", {"name": "unknown", "price": 1})
    finally:
        os.kill(broker, signal.SIGCONT)
    for answer in (post, product):
        problem(answer, 504, "/commands/")
        assert answer.headers["Location"].startswith("/commands/") and "Retry-After" not in answer.headers
        wait_for(lambda: client.ok("GET", answer.headers["Location"])["status"] == "done", "it was stored after all", 60)
    assert [row["story"] for row in client.inbound(reader)] == ["unknown"]
    assert [row["name"] for row in client.ok("GET", "/products")] == ["unknown"]
